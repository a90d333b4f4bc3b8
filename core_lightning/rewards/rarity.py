"""Being right where most are wrong: the paper's "trace accuracy" term (CORE, Eq. 5)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from core_lightning.records import Group
from core_lightning.rewards.term import RewardContext, RewardTerm


@dataclass(frozen=True)
class Rarity(RewardTerm):
    """A correct trace earns the share of wrong traces in its round (CORE, arXiv 2601.21600, Eq. 5)."""

    shaping = True

    def __call__(self, group: Group, context: RewardContext) -> Sequence[float | None]:
        """``1[correct] * (1 - mean correctness of the same round in the group)``, over all peers."""
        rates = {
            round_: sum(t.correct for t in traces) / len(traces)
            for round_ in ("cold", "rescue")
            if (traces := group.of(round=round_))
        }
        return [1.0 - rates[trace.round] if trace.correct else 0.0 for trace in group]
