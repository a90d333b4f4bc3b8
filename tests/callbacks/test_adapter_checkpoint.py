from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from core_lightning.callbacks import AdapterCheckpoint, TeamPassAtKCallback
from core_lightning.protocol import Problem
from scripted_team import ScriptedTeam, WrittenProblems, trainer_in

pytestmark = pytest.mark.usefixtures("few_resamples")


def files(folder: Path) -> list[str]:
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())


def test_keeps_the_last_ones_and_the_adapters(tmp_path: Path) -> None:
    checkpoint, passes = AdapterCheckpoint(every_n_batches=3, keep=2), TeamPassAtKCallback()
    trainer_in(tmp_path, [checkpoint, passes]).fit(ScriptedTeam(), WrittenProblems(train=14))
    adapters = [f"adapters/{p}/adapter_model.bin" for p in "ab"]
    assert files(tmp_path) == [*adapters, *(f"checkpoints/{n}.ckpt" for n in ("best", "last", "step-12", "step-9"))]
    last = torch.load(tmp_path / "checkpoints/last.ckpt", weights_only=True)
    assert (last["batches_done"], last["state_dict"]["peers.a.weight"].item()) == (14, 14.0)
    assert torch.load(tmp_path / adapters[0]).item() == 14.0
    scores = [e["values"]["team_pass_at_2"]["value"] for e in passes.history[1:]]
    assert checkpoint.best_score == pytest.approx(max(scores), abs=1e-6)
    best = torch.load(tmp_path / "checkpoints/best.ckpt", weights_only=True)
    assert best["batches_done"] == passes.history[1 + scores.index(max(scores))]["step"]
    assert checkpoint.best_model_path == str(tmp_path / "checkpoints/best.ckpt")


class HalfStep(ScriptedTeam):
    """Fails after the weights have moved."""

    def training_step(self, batch: list[Problem], batch_idx: int) -> None:
        super().training_step(batch, batch_idx)
        if self.batches_done == 4:
            raise RuntimeError("too late")


def test_weights_in_mid_step_are_not_saved(tmp_path: Path) -> None:
    trainer = trainer_in(tmp_path, [AdapterCheckpoint(every_n_batches=2)], limit_val_batches=0)
    with pytest.raises(RuntimeError, match="too late"):
        trainer.fit(HalfStep(), WrittenProblems())
    assert torch.load(tmp_path / "checkpoints/last.ckpt", weights_only=True)["batches_done"] == 2


def test_an_unfinished_file_never_has_its_final_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trainer = trainer_in(tmp_path, [AdapterCheckpoint(every_n_batches=1)], limit_val_batches=0)
    seen: list[list[str]] = []
    save = trainer.save_checkpoint

    def save_and_look(path: Any, **kwargs: Any) -> None:
        save(path, **kwargs)
        seen.append(files(tmp_path / "checkpoints"))

    monkeypatch.setattr(trainer, "save_checkpoint", save_and_look)
    trainer.fit(ScriptedTeam(), WrittenProblems())
    assert seen[:2] == [["last.ckpt.new"], ["last.ckpt", "step-1.ckpt.new"]]
    assert not [f for f in files(tmp_path) if f.endswith(".new")]


@pytest.mark.parametrize(("setting", "value"), [("every_n_batches", 0), ("keep", 0)])
def test_wrong_settings(setting: str, value: int) -> None:
    with pytest.raises(ValueError, match=rf"checkpoint\.{setting} is 0"):
        AdapterCheckpoint(**{setting: value})
