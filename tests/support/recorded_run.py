"""A run with everything that records it, and all it leaves in its folder, to be compared."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

import torch

from core_lightning.callbacks import (
    AdapterCheckpoint,
    MetricsCsv,
    RescueRateCallback,
    RunFolder,
    RunReport,
    RunSummary,
    TeamPassAtKCallback,
    TraceLog,
)
from core_lightning.report import evaluation, figures
from scripted_team import ScriptedTeam, WrittenProblems, trainer_in


def train(folder: Path) -> None:
    """Eight steps in two epochs, saved every two, evaluated every three and before the first; resumed if there is a checkpoint."""
    evaluation.RESAMPLES = 50
    figures.SECTIONS = {"Time": figures.SECTIONS["Time"]}  # pictures are alike to a disk, and not compared
    last = folder / "checkpoints/last.ckpt"
    recorders = [RunFolder(), TeamPassAtKCallback(), RescueRateCallback(), TraceLog(), RunSummary(), RunReport()]
    trainer = trainer_in(
        folder,
        [*recorders, AdapterCheckpoint(every_n_batches=2)],
        logger=MetricsCsv(folder),
        val_check_interval=3,
        check_val_every_n_epoch=None,
        max_steps=8,
        max_epochs=-1,
    )
    trainer.fit(ScriptedTeam(), WrittenProblems(train=8), ckpt_path=str(last) if last.exists() else None)


def everything(folder: Path) -> dict[str, Any]:
    """Every file of a run with what is in it, times left out."""
    return {
        str(file.relative_to(folder)): contents(file)
        for file in sorted(folder.rglob("*"))
        if file.is_file() and file.suffix != ".png"
    }


def contents(file: Path) -> Any:
    if file.suffix in (".ckpt", ".bin"):
        return plain(torch.load(file, weights_only=True))
    text = file.read_text()
    text = re.sub(r"base64,[^\"')]+", "", text)  # pictures, some of them of times
    # How long it took: a table of its own, and a row.
    text = re.sub(r"<section><h2>Seconds per step.*?</section>", "", text, flags=re.DOTALL)
    return re.sub(r">\d+ min \d+ s[^<]*<", "><", text)


def plain(value: Any) -> Any:
    if isinstance(value, dict):
        # Seconds of a step and of evaluations, and folders, which have another name in every test.
        return {k: plain(v) for k, v in value.items() if k not in ("time/total", "evaluations", "best_model_path")}
    if isinstance(value, list | tuple):
        return [plain(v) for v in value]
    return value.tolist() if isinstance(value, torch.Tensor) else value


def same(one: Any, other: Any, where: str = "") -> list[str]:
    """Places where two values differ; NaN is like NaN."""
    if isinstance(one, dict) and isinstance(other, dict):
        odd = [f"{where}/{k} stands in one only" for k in one.keys() ^ other.keys()]
        return odd + [d for k in one.keys() & other.keys() for d in same(one[k], other[k], f"{where}/{k}")]
    if isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        return [d for i, (a, b) in enumerate(zip(one, other, strict=True)) for d in same(a, b, f"{where}[{i}]")]
    both_nan = isinstance(one, float) and isinstance(other, float) and math.isnan(one) and math.isnan(other)
    return [] if both_nan or one == other else [f"{where}: {str(one)[:300]} against {str(other)[:300]}"]
