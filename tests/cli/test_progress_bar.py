"""Every command has one progress bar: its own, or the one that the user asks for."""

from __future__ import annotations

from pathlib import Path

import pytest

from core_lightning.callbacks import RescueProgressBar
from core_lightning.cli.main import build_cli


@pytest.mark.parametrize(
    ("asked", "steps"),
    [
        ([], [1]),
        (["--trainer.callbacks=RescueProgressBar", "--trainer.callbacks.every_n_steps=7"], [7]),
        (["--trainer.enable_progress_bar=false"], []),
    ],
)
def test_a_bar_of_the_users_own_takes_the_place_of_the_default_one(tmp_path: Path, asked: list[str], steps: list[int]) -> None:
    settings = ["--config=configs/nano.yaml", f"--trainer.default_root_dir={tmp_path}", *asked]
    bars = [c for c in build_cli(settings, run=False).trainer.callbacks if isinstance(c, RescueProgressBar)]
    assert [bar.every_n_steps for bar in bars] == steps
