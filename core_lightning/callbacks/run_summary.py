"""What a run did, printed when it ends: before and after, rescues to read, where the time went, and what it cost."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from typing import Any

import torch
from lightning.pytorch import Trainer

from core_lightning.callbacks.rescue_rate import RescueRateCallback
from core_lightning.callbacks.siblings import find_callback
from core_lightning.callbacks.step_history import StepHistory
from core_lightning.callbacks.team_pass_at_k import TeamPassAtKCallback
from core_lightning.report.phases import phase_seconds
from core_lightning.report.tables import (
    Table,
    before_after_table,
    first_and_last,
    profile_table,
    rescue_rates_table,
    rescues_table,
    to_rich,
    with_rescue_table,
)

EVALUATIONS = "evaluations"


class RunSummary(StepHistory):
    """Prints the tables of a run at its end, also when it is interrupted with Ctrl-C.

    Args:
        rescues: How many rescues to show.

    Attributes:
        evaluations: Seconds of each evaluation so far by the step it was made after, 0 before training; saved in
            checkpoints but for one at the end of a training, which is no part of a run that goes on.
    """

    def __init__(self, rescues: int = 10) -> None:
        super().__init__()
        if rescues < 0:
            raise ValueError(f"summary.rescues is {rescues}; set it to 0 or more")
        self.rescues = rescues
        self._started = self._evaluation_began = 0.0
        self.evaluations: dict[int, float] = {}
        self._closed: int | None = None

    def on_validation_start(self, trainer: Trainer, pl_module: Any) -> None:
        """Start the clock of an evaluation."""
        self._evaluation_began = time.monotonic()

    def on_validation_end(self, trainer: Trainer, pl_module: Any) -> None:
        """Keep the seconds of an evaluation."""
        self.evaluations[pl_module.batches_done] = time.monotonic() - self._evaluation_began
        passes = find_callback(trainer, TeamPassAtKCallback)
        self._closed = pl_module.batches_done if passes is not None and passes.closing else None

    def setup(self, trainer: Trainer, pl_module: Any, stage: str) -> None:
        """Start the clock of the run, before any model is loaded."""
        self._started = time.monotonic()

    @property
    def seconds(self) -> float:
        """Wall time since the run began in this process, loading included."""
        return time.monotonic() - self._started

    def state_dict(self) -> dict[str, Any]:
        """The columns, and the seconds of the evaluations."""
        seconds = {step: taken for step, taken in self.evaluations.items() if step != self._closed}
        return {**super().state_dict(), EVALUATIONS: seconds}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue those of the run that is resumed."""
        columns = dict(state_dict)
        self.evaluations = dict(columns.pop(EVALUATIONS, {}))
        super().load_state_dict(columns)

    def on_fit_end(self, trainer: Trainer, pl_module: Any) -> None:
        """Print all tables."""
        if trainer.is_global_zero:
            from rich.console import Console

            console = Console()
            if not console.is_terminal:
                console.width = 120  # a log has no edge to wrap at
            for table in run_tables(trainer, self, list(pl_module.peer_configs), self.rescues):
                console.print(to_rich(table))
            console.print(cost(self.seconds), highlight=False)

    def on_exception(self, trainer: Trainer, pl_module: Any, exception: BaseException) -> None:
        """Print what there is when the user stops the run."""
        if isinstance(exception, KeyboardInterrupt) and trainer.state.fn == "fit":
            self.on_fit_end(trainer, pl_module)


def run_tables(trainer: Trainer, steps: StepHistory, peers: list[str], rescues: int) -> Iterator[Table]:
    """The tables of a run, those left out that have nothing to show."""
    evaluations = find_callback(trainer, TeamPassAtKCallback)
    if evaluations is not None and (ends := first_and_last(evaluations.history)):
        yield before_after_table(*ends)
        if "rescue_rate" in ends[1]["values"]:
            yield with_rescue_table(ends[1])
    counts = find_callback(trainer, RescueRateCallback)
    if counts is not None and any(counts.hinted.values()):
        yield rescue_rates_table(counts.figures(), counts.hinted, counts.rescued, counts.faithful)
        if counts.rescues and rescues:
            yield rescues_table(counts.rescues, rescues)
    if steps.columns["step"]:
        clock = find_callback(trainer, RunSummary)
        seconds = list(clock.evaluations.values()) if clock is not None else []
        rescues_made = counts.totals() if counts is not None else None
        yield profile_table(phase_seconds(steps.columns), peers, len(steps.columns["step"]), seconds, rescues_made)


def cost(seconds: float) -> str:
    """Wall time of a run and the most memory its process ever held, in one line; other ranks are not counted.

    Of a GPU that is what its tensors took; what its libraries and recordings hold besides is not counted.
    """
    minutes, rest = divmod(round(seconds), 60)
    took = f"took {minutes}:{rest:02d}"
    try:
        import resource
    except ImportError:  # Windows
        return took
    unit = 1 if sys.platform == "darwin" else 1024
    held = f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e9:.1f} GB of memory"
    if torch.cuda.is_initialized():
        peaks = [torch.cuda.max_memory_allocated(i) / 1e9 for i in range(torch.cuda.device_count())]
        held += f" and {' + '.join(f'{peak:.1f}' for peak in peaks)} GB of the GPU's"
    return f"{took}, {held} at the peak"
