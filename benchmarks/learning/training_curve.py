"""What training looked like: solved problems, rescues, hints, lengths and loss, step by step, in a few numbers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from lightning.pytorch import Callback, Trainer

from core_lightning.metrics import pass_at_k, team_pass_at_k

BINS = 10
"""Points of a curve: steps are averaged over as many equal parts of the run."""


_PEER_METRICS = (
    *("rescues", "faithful_rescues", "hints", "imitated", "reliance"),
    *("no_signal", "completion_tokens", "entropy", "loss", "grad_norm"),
)


class TrainingCurve(Callback):
    """Notes every step; training problems are fresh, so their cold traces say how good the peers are at that step."""

    def __init__(self) -> None:
        self.steps: list[dict[str, float]] = []

    def on_train_batch_end(self, trainer: Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        groups = pl_module.record.groups
        metrics = pl_module.record.metrics
        names = list(pl_module.peer_configs)
        k = len(groups[0].of(names[0], "cold"))
        counts = torch.tensor([[sum(t.correct for t in g.of(name, "cold")) for name in names] for g in groups])
        row = {f"{name}/pass_at_1": float(counts[:, i].double().mean() / k) for i, name in enumerate(names)}
        if k > 1:
            row |= {f"{n}/pass_at_2": float(pass_at_k(k, counts[:, i], 2).mean()) for i, n in enumerate(names)}
        if k > 1 and len(names) > 1:
            row["team_pass_at_2"] = float(team_pass_at_k(k, counts, 2).mean())
        for name in ("rescues", "faithful_rescues", "hints", "hint_leakage", "traces"):
            row[name] = metrics[f"train/{name}"]
        for peer in names:
            for name in _PEER_METRICS:
                row[f"{peer}/{name}"] = metrics[f"train/{peer}/{name}"]
        row |= {name: value for name, value in metrics.items() if name.startswith("reward/")}
        self.steps.append(row)

    @staticmethod
    def joined(curves: Sequence[TrainingCurve]) -> dict[str, list[float | None]]:
        """The curves of modules that were trained side by side, ``BINS`` means each; None where there is no value."""
        merged: dict[str, list[float | None]] = {}
        for curve in curves:
            for name in curve.steps[0] if curve.steps else ():
                values = _binned([step[name] for step in curve.steps])
                # Counts of the team add up over its parts; the parts' own figures have names of their own.
                before = merged.get(name)
                merged[name] = values if before is None else [_sum(a, b) for a, b in zip(before, values, strict=True)]
        return merged


def _binned(values: Sequence[float]) -> list[float | None]:
    """Means over equal parts, leaving out what is undefined."""
    bins = min(BINS, len(values))
    parts = [values[i * len(values) // bins : (i + 1) * len(values) // bins] for i in range(bins)]
    known = [[v for v in part if math.isfinite(v)] for part in parts]
    return [round(sum(part) / len(part), 5) if part else None for part in known]


def _sum(a: float | None, b: float | None) -> float | None:
    return b if a is None else a if b is None else round(a + b, 5)
