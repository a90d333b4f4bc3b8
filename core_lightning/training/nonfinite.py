"""What happens to a step whose loss or gradient is not finite: it is counted, its batch kept, and too many stop the run."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lightning.pytorch.utilities import rank_zero_warn

from core_lightning.records import Group


@dataclass
class NonfiniteGuard:
    """Watches over the updates of a run."""

    limit: int
    """Stop after so many steps in a row."""
    steps: int = 0
    """Steps so far in which a peer was left out."""
    in_a_row: int = 0

    def note(self, broken: Sequence[str], groups: Sequence[Group], file: Path) -> None:
        """Count one update.

        Args:
            broken: Names of the peers whose loss or gradient was not finite; they did not move.
            groups: The step's traces, written to ``file`` when there is such a peer.
            file: Where to.

        Raises:
            RuntimeError: ``limit`` updates in a row were not finite.
        """
        self.in_a_row = self.in_a_row + 1 if broken else 0
        if not broken:
            return
        self.steps += 1
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps([dataclasses.asdict(g) for g in groups], default=dict))
        rank_zero_warn(
            f"peer {', '.join(broken)}: loss or gradient is not finite, the step is skipped; batch in {file}"
        )
        if self.in_a_row >= self.limit:
            raise RuntimeError(
                f"{self.in_a_row} steps in a row were not finite (model.max_nonfinite); lower the learning "
                f"rate; the batches are in {file.parent}"
            )
