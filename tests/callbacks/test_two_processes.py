"""Two processes that share every step leave the counts, evaluations and traces of one process."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch.strategies import DDPStrategy

from core_lightning.callbacks import (
    AdapterCheckpoint,
    EvaluationFolder,
    MetricsCsv,
    RescueRateCallback,
    RunFolder,
    TeamPassAtKCallback,
    TraceLog,
)
from core_lightning.training.prediction import prediction
from scripted_team import ScriptedTeam, WrittenProblems, trainer_in

pytestmark = pytest.mark.filterwarnings("ignore")


def fit(folder: Path, batch_size: int, val: int = 7, **settings: Any) -> dict[str, Any]:
    callbacks = [RunFolder(), TeamPassAtKCallback(), RescueRateCallback(), TraceLog(), AdapterCheckpoint()]
    # It ends between two evaluations, so one more follows.
    trainer = trainer_in(folder, callbacks, max_steps=3, max_epochs=2, logger=MetricsCsv(folder), **settings)
    trainer.fit(ScriptedTeam(), WrittenProblems(train=8, val=val, batch_size=batch_size))
    return torch.load(folder / "checkpoints/last.ckpt", weights_only=True)["callbacks"]


def traces(folder: Path) -> list[str]:
    lines = [line for file in folder.glob("traces*.jsonl") for line in file.read_text().splitlines()]
    return sorted(json.dumps(json.loads(line), sort_keys=True) for line in lines)


class Asked(ScriptedTeam):
    """Answers what is written down for a problem, as plain data."""

    def predict_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> list[dict[str, Any]]:
        return [prediction(group) for group in self.validation_step(batch, batch_idx)]


def predictions(folder: Path, **settings: Any) -> str:
    trainer = trainer_in(folder, [EvaluationFolder()], **settings)
    trainer.predict(Asked(), WrittenProblems(batch_size=4), return_predictions=False)
    (file,) = folder.glob("evaluations/*/*.jsonl")
    return file.read_text()


def test_predictions_of_two_processes_are_one_file(tmp_path: Path) -> None:
    alone = predictions(tmp_path / "one")
    assert len(alone.splitlines()) == 6
    assert predictions(tmp_path / "two", strategy=DDPStrategy(start_method="forkserver"), devices=2) == alone


def test_two_processes_equal_one(tmp_path: Path) -> None:
    alone = fit(tmp_path / "one", 4)
    together = fit(tmp_path / "two", 2, strategy=DDPStrategy(start_method="forkserver"), devices=2)
    for name in ("TeamPassAtKCallback", "RescueRateCallback"):
        expected = alone[name]
        if name == "RescueRateCallback":
            assert sum(expected["hinted"].values()) > 0
        assert repr(together[name]) == repr(expected)
    assert [(e["step"], e.get("closing", False)) for e in together["TeamPassAtKCallback"]["history"]][-2:] == [(2, False), (3, True)]
    assert (tmp_path / "two/traces.rank1.jsonl").exists()
    assert traces(tmp_path / "two") == traces(tmp_path / "one")
    one, two = ((tmp_path / n / "metrics.csv").read_text().splitlines() for n in ("one", "two"))
    assert len(one) == len(two)


def test_fewer_problems_than_processes(tmp_path: Path) -> None:
    alone = fit(tmp_path / "one", 4, val=1)
    together = fit(tmp_path / "two", 2, val=1, strategy=DDPStrategy(start_method="forkserver"), devices=2)
    assert repr(together["TeamPassAtKCallback"]) == repr(alone["TeamPassAtKCallback"])
    assert traces(tmp_path / "two") == traces(tmp_path / "one")
