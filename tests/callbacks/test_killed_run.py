"""A run that is killed again and again, and started again each time, leaves what one leaves that was not.

The kill comes at a change the run is about to make in its folder; every such change has its turn with
``pytest -m kills``, a few of them here.
"""

from __future__ import annotations

import math
import os
import random
import re
from pathlib import Path
from typing import Any

import pytest
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
from core_lightning.report import evaluation
from killed_runs import KILLED, count_changes, run_in_process
from scripted_team import ScriptedTeam, WrittenProblems, trainer_in


def train(folder: Path) -> None:
    """Eight steps in two epochs, saved every two, evaluated every three and before the first; resumed if there is a checkpoint."""
    evaluation.RESAMPLES = 50
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


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, int]:
    folder = tmp_path_factory.mktemp("whole") / "run"
    return folder, count_changes(train, folder)


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


def test_the_comparison_sees_a_difference(whole: tuple[Path, int], tmp_path: Path) -> None:
    one = everything(whole[0])
    assert {"checkpoints/last.ckpt", "checkpoints/best.ckpt", "checkpoints/step-8.ckpt", "metrics.csv"} <= one.keys()
    other = everything(whole[0])
    other["checkpoints/last.ckpt"]["state_dict"]["peers.a.weight"][0][0] += 1e-6
    assert len(same(one, other)) == 1
    assert "Team Pass@2" in one["report.html"]


def killed_at(change: int, folder: Path) -> None:
    assert run_in_process(train, folder, change=change) == KILLED
    assert run_in_process(train, folder) == 0


def chain(whole: tuple[Path, int], folder: Path, draw: random.Random) -> int:
    """Killed at random changes until a leg comes through; returns the number of kills."""
    kills = 0
    while run_in_process(train, folder, change=draw.randrange(whole[1] // 2)) == KILLED:
        kills += 1
    return kills


@pytest.mark.parametrize("share", [0.08, 0.6])
def test_one_kill(whole: tuple[Path, int], tmp_path: Path, share: float) -> None:
    folder = tmp_path / "run"
    killed_at(int(share * whole[1]), folder)
    assert same(everything(folder), everything(whole[0])) == []


@pytest.mark.kills
def test_every_change(whole: tuple[Path, int], tmp_path: Path) -> None:
    wrong = {}
    for change in range(int(os.environ.get("KILLS_FROM", "0")), whole[1], int(os.environ.get("KILLS_EVERY", "1"))):
        folder = tmp_path / str(change) / "run"  # the report has the name of the folder
        folder.parent.mkdir()
        killed_at(change, folder)
        if found := same(everything(folder), everything(whole[0])):
            wrong[change] = found
    assert wrong == {}


@pytest.mark.kills
def test_chains_of_kills(whole: tuple[Path, int], tmp_path: Path) -> None:
    draw, kills, number = random.Random(0), 0, 0
    while kills < 40:
        folder = tmp_path / str(number) / "run"
        folder.parent.mkdir()
        kills, number = kills + chain(whole, folder, draw), number + 1
        assert same(everything(folder), everything(whole[0])) == []
