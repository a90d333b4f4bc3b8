"""A run that is killed again and again, and started again each time, leaves what one leaves that was not.

The kill comes at a change the run is about to make in its folder; every such change has its turn with
``pytest -m kills``, a few of them here.
"""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest

from killed_runs import KILLED, count_changes, run_in_process
from recorded_run import everything, same, train


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, int]:
    folder = tmp_path_factory.mktemp("whole") / "run"
    return folder, count_changes(train, folder)


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
