"""What a run did, printed when it ends: before and after, rescues to read, where the time went, and what it cost."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from typing import Any

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


class RunSummary(StepHistory):
    """Prints the tables of a run at its end, also when it is interrupted with Ctrl-C.

    Args:
        rescues: How many rescues to show.
    """

    def __init__(self, rescues: int = 10) -> None:
        super().__init__()
        if rescues < 0:
            raise ValueError(f"summary.rescues is {rescues}; set it to 0 or more")
        self.rescues = rescues
        self._started = self._evaluation_began = 0.0
        self.evaluations: list[float] = []

    def on_validation_start(self, trainer: Trainer, pl_module: Any) -> None:
        """Start the clock of an evaluation."""
        self._evaluation_began = time.monotonic()

    def on_validation_end(self, trainer: Trainer, pl_module: Any) -> None:
        """Keep the seconds of an evaluation, that before training included."""
        self.evaluations.append(time.monotonic() - self._evaluation_began)

    def setup(self, trainer: Trainer, pl_module: Any, stage: str) -> None:
        """Start the clock of the run, before any model is loaded."""
        self._started = time.monotonic()

    @property
    def seconds(self) -> float:
        """Wall time since the run began in this process, loading included."""
        return time.monotonic() - self._started

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
        seconds = clock.evaluations if clock is not None else []
        rescues_made = counts.totals() if counts is not None else None
        yield profile_table(phase_seconds(steps.columns), peers, len(steps.columns["step"]), seconds, rescues_made)


def cost(seconds: float) -> str:
    """Wall time of a run and the most memory its process ever held, in one line; other ranks are not counted."""
    minutes, rest = divmod(round(seconds), 60)
    took = f"took {minutes}:{rest:02d}"
    try:
        import resource
    except ImportError:  # Windows
        return took
    unit = 1 if sys.platform == "darwin" else 1024
    return f"{took}, {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e9:.1f} GB of memory at the peak"
