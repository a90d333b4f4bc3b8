"""A progress bar that shows whether peers rescue each other, and plain lines where there is no terminal."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from typing import Any

from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import RichProgressBar
from lightning.pytorch.callbacks.progress.rich_progress import RichProgressBarTheme

from core_lightning.callbacks.rescue_rate import RescueRateCallback
from core_lightning.callbacks.siblings import find_callback
from core_lightning.callbacks.team_pass_at_k import TeamPassAtKCallback, problems_to_evaluate
from core_lightning.report.rescue import RescueCounts
from core_lightning.report.tables import percent

BETWEEN_LINES = 30.0
"""Seconds between the lines of one evaluation."""
TROUBLES = {"cut off": "truncated", "no answer": "no_answer", "no signal": "no_signal"}
"""Shares that are shown only when they are high."""
HIGH = 0.5


class RescueProgressBar(RichProgressBar):
    """Rescue rate, solved share of the team and of every peer, tokens per second, and where the step's time went.

    Args:
        refresh_rate: Redraws per second.
        every_n_steps: Steps between lines where the output is no terminal (a file, a CI log).
    """

    def __init__(self, refresh_rate: int = 2, every_n_steps: int = 1) -> None:
        super().__init__(refresh_rate=refresh_rate, theme=RichProgressBarTheme(metrics_text_delimiter=" · "))
        if every_n_steps < 1:
            raise ValueError(f"RescueProgressBar.every_n_steps is {every_n_steps}; set it to 1 or more")
        self.every_n_steps = every_n_steps
        self._lines = False
        self._began = 0.0
        self._evaluation_began = self._evaluation_took = self._told = 0.0
        self._evaluated = self._to_evaluate = 0

    def setup(self, trainer: Trainer, pl_module: Any, stage: str) -> None:
        """Choose between a live bar and lines."""
        super().setup(trainer, pl_module, stage)
        from rich import get_console

        self._lines = trainer.is_global_zero and not get_console().is_terminal
        if self._lines:
            self.disable()

    def on_train_batch_start(self, trainer: Trainer, pl_module: Any, batch: Any, batch_idx: int) -> None:
        """Start the clock."""
        self._began = time.perf_counter()

    def on_train_batch_end(self, trainer: Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Draw, or print a line."""
        super().on_train_batch_end(trainer, pl_module, outputs, batch, batch_idx)
        done = pl_module.batches_done
        if self._lines and (done % self.every_n_steps == 0 or trainer.is_last_batch):
            total = pl_module.total_batches()
            of = f"/{int(total)}" if math.isfinite(total) else ""
            parts = [f"{name} {value}" for name, value in self._parts(trainer, pl_module).items()]
            print(" · ".join([f"step {done}{of}", f"{time.perf_counter() - self._began:.1f} s", *parts]), flush=True)

    @property
    def sanity_check_description(self) -> str:
        """The evaluation before training is one like any other."""
        return "Evaluating"

    @property
    def validation_description(self) -> str:
        """Beside the bar of an evaluation."""
        return "Evaluating"

    def _get_train_description(self, current_epoch: int) -> str:
        return "step"  # of the whole run: one that ends by steps has no number of epochs

    @property
    def total_train_batches(self) -> int | float:
        """Steps of the whole run."""
        module: Any = self.trainer.lightning_module
        total = module.total_batches()
        return int(total) if math.isfinite(total) else total

    def on_train_epoch_start(self, trainer: Trainer, pl_module: Any) -> None:
        """Go on where the last epoch ended."""
        super().on_train_epoch_start(trainer, pl_module)
        self._update(self.train_progress_bar_id, pl_module.batches_done)

    def _update(self, progress_bar_id: Any, current: int, visible: bool = True, hard: bool = False) -> None:
        if progress_bar_id is not None and progress_bar_id == self.train_progress_bar_id:
            module: Any = self.trainer.lightning_module
            current = module.batches_done  # Lightning counts within the epoch
        super()._update(progress_bar_id, current, visible, hard)

    def on_validation_start(self, trainer: Trainer, pl_module: Any) -> None:
        """Say how large the evaluation is, and how long the one before it took."""
        super().on_validation_start(trainer, pl_module)
        self._evaluation_began, self._evaluated, self._told = time.perf_counter(), 0, 0.0
        self._to_evaluate = problems_to_evaluate(trainer)
        if self._lines and self._to_evaluate:
            samples = f"{pl_module.eval_samples} samples of each of {len(pl_module.peer_configs)} peers"
            before = f", {self._evaluation_took:.0f} s the last time" if self._evaluation_took else ""
            print(f"evaluating 0 of {self._to_evaluate} problems, {samples}{before}", flush=True)

    on_test_start = on_validation_start

    def on_validation_batch_end(
        self, trainer: Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """Draw, or print how far the evaluation is, about every half minute."""
        super().on_validation_batch_end(trainer, pl_module, outputs, batch, batch_idx, dataloader_idx)
        self._count(len(batch) * trainer.world_size)

    def on_test_batch_end(
        self, trainer: Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """As in validation."""
        super().on_test_batch_end(trainer, pl_module, outputs, batch, batch_idx, dataloader_idx)
        self._count(len(batch) * trainer.world_size)

    def _count(self, problems: int) -> None:
        self._evaluated = min(self._evaluated + problems, self._to_evaluate)
        spent = time.perf_counter() - self._evaluation_began
        if self._lines and spent - self._told >= BETWEEN_LINES and self._evaluated < self._to_evaluate:
            self._told = spent
            left = spent * (self._to_evaluate / self._evaluated - 1)
            print(f"evaluating {self._evaluated} of {self._to_evaluate}, about {left:.0f} s left", flush=True)

    def on_validation_end(self, trainer: Trainer, pl_module: Any) -> None:
        """Draw, or print a line with the new evaluation."""
        super().on_validation_end(trainer, pl_module)
        self._evaluation_took = time.perf_counter() - self._evaluation_began
        evaluations = find_callback(trainer, TeamPassAtKCallback)
        if self._lines and trainer.state.fn == "fit" and evaluations is not None and evaluations.history:
            latest = evaluations.history[-1]
            shown = [n for n in latest["values"] if n.endswith("/pass_at_1") or n.startswith("team_pass_at_")]
            parts = [f"{name} {percent(latest['values'][name]['value'])}" for name in shown]
            after = f"evaluation after {latest['step']} step{'s' * (latest['step'] != 1)}"
            print(" · ".join([after, *parts]), flush=True)

    def on_train_end(self, trainer: Trainer, pl_module: Any) -> None:
        """Leave the console to the tables."""
        self._stop_progress()

    def configure_columns(self, trainer: Trainer) -> list[Any]:
        """A short bar and no speed, so that the figures fit; steps take seconds to minutes."""
        description, bar, batches, clock, _ = super().configure_columns(trainer)
        bar.bar_width = 12
        return [description, bar, batches, clock]

    def get_metrics(self, trainer: Trainer, pl_module: Any) -> dict[str, Any]:
        """What stands behind the bar: what is logged with ``prog_bar=True``, and the team's figures."""
        items = super().get_metrics(trainer, pl_module)
        items.pop("v_num", None)
        return {**items, **self._parts(trainer, pl_module)}

    def _parts(self, trainer: Trainer, pl_module: Any) -> dict[str, str]:
        counts = find_callback(trainer, RescueRateCallback)
        so_far = counts.totals() if counts is not None else None
        return progress_parts(pl_module.record.metrics, list(pl_module.peer_configs), so_far)


def progress_parts(
    metrics: Mapping[str, float], peers: list[str], so_far: RescueCounts | None = None
) -> dict[str, str]:
    """Short texts about the last step, by name.

    Args:
        metrics: Of the step, as :func:`core_lightning.training.step_metrics.step_metrics` names them.
        peers: Names of the peers.
        so_far: Hinted and rescued pairs since the first step; all else is of the step alone.
    """
    if not metrics:
        return {}
    parts = {}
    if unused := metrics.get("train/unused_problems", 0.0):
        parts["problems"] = f"{metrics['train/drawn_problems']:.0f} drawn, {unused:.0f} without a signal"
    hints, rescues, faithful = (metrics.get(f"train/{n}", 0.0) for n in ("hints", "rescues", "faithful_rescues"))
    if hints:
        parts["rescued"] = f"{rescues:.0f} of {hints:.0f} hinted, {faithful:.0f} faithfully"
    if so_far is not None and so_far.hinted:
        parts["so far"] = f"{so_far.rescued} of {so_far.hinted}, {so_far.faithful} faithfully"
    parts["solved"] = _share(metrics.get("train/team_solved", math.nan))
    parts |= {peer: _share(metrics.get(f"train/{peer}/accuracy", math.nan)) for peer in peers}
    for label, name in TROUBLES.items():
        shares = [s for peer in peers if math.isfinite(s := metrics.get(f"train/{peer}/{name}", math.nan))]
        if shares and sum(shares) / len(shares) >= HIGH:
            parts[label] = _share(sum(shares) / len(shares))
    speeds = [metrics.get(f"train/{peer}/tokens_per_second", math.nan) for peer in peers]
    if speeds := [s for s in speeds if math.isfinite(s)]:
        parts["tokens/s"] = "+".join(f"{speed:.0f}" for speed in speeds)
    if times := busiest(metrics):
        parts["time"] = " ".join(f"{phase} {'+'.join(f'{100 * s:.0f}' for s in shares)}%" for phase, shares in times)
    return parts


def busiest(metrics: Mapping[str, float], count: int = 3) -> list[tuple[str, list[float]]]:
    """The phases that took most of a step's measured time, with every peer's share of it, in the peers' order."""
    spent: dict[str, list[float]] = {}
    for name, seconds in metrics.items():
        if name.startswith("time/"):
            spent.setdefault(name.split("/")[1], []).append(seconds)
    total = sum(map(sum, spent.values()))
    ranked = sorted(spent.items(), key=lambda item: -sum(item[1]))
    return [(phase, [s / total for s in seconds]) for phase, seconds in ranked[:count]] if total else []


def _share(value: float) -> str:
    return f"{100 * value:.0f}%" if math.isfinite(value) else "–"
