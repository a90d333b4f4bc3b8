"""What every training step measured, kept in memory and in checkpoints for tables and figures at the end."""

from __future__ import annotations

import math
import time
from typing import Any, ClassVar

import torch
from lightning.pytorch import Callback, Trainer


class StepHistory(Callback):
    """Base of callbacks that look back on the steps of a run.

    Attributes:
        columns: Metrics by name, one value per step in ``columns["step"]``, NaN where a step did not have one.
            ``time/total`` is the wall-clock time of the step.
    """

    prefixes: ClassVar[tuple[str, ...]] = ("time/",)
    """Beginnings of the metric names that are kept."""

    def __init__(self) -> None:
        self.columns: dict[str, list[float]] = {"step": []}
        self._began = 0.0

    def on_train_batch_start(self, trainer: Trainer, pl_module: Any, batch: Any, batch_idx: int) -> None:
        """Start the clock."""
        self._began = time.perf_counter()

    def on_train_batch_end(self, trainer: Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Keep the step's metrics."""
        metrics = {n: v for n, v in pl_module.record.metrics.items() if n.startswith(self.prefixes)}
        metrics |= {"step": float(pl_module.record.step), "time/total": time.perf_counter() - self._began}
        steps = len(self.columns["step"])
        for name in metrics:
            self.columns.setdefault(name, [math.nan] * steps)
        for name, column in self.columns.items():
            column.append(float(metrics.get(name, math.nan)))

    def state_dict(self) -> dict[str, Any]:
        """All columns."""
        return {name: torch.tensor(column, dtype=torch.float64) for name, column in self.columns.items()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue the columns of the run that is resumed."""
        self.columns = {name: column.tolist() for name, column in state_dict.items()}
