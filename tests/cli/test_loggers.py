"""Any logger by its name: its files lie in the run folder, and so do metrics.csv and config.yaml."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from core_lightning.callbacks.metrics_csv import read_metrics
from core_lightning.cli.logger_names import logger_config
from core_lightning.cli.main import main


def fit(file: Path, run: Path, *arguments: str) -> None:
    main(["fit", f"--config={file}", "--trainer.max_steps=1", f"--trainer.default_root_dir={run}", *arguments])
    assert (run / "config.yaml").is_file()
    assert [r["step"] for r in read_metrics(run / "metrics.csv") if r["train/traces"]] == ["0"]


@pytest.mark.parametrize(
    ("name", "package", "left"),
    [
        ("csv", "csv", "csv/**/metrics.csv"),
        ("tensorboard", "tensorboard", "tensorboard/**/events.*"),
        ("mlflow", "mlflow", "mlflow.db"),
        ("wandb", "wandb", "wandb/*/run-*.wandb"),
    ],
)
def test_a_logger_by_its_name(
    name: str,
    package: str,
    left: str,
    config: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pytest.importorskip(package)
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setattr(sys, "argv", ["core_lightning"])
    monkeypatch.chdir(tmp_path)
    run = tmp_path / "named"
    fit(config(), run, f"--trainer.logger={name}")
    assert list(run.glob(left))
    assert {f.name for f in tmp_path.iterdir()} <= {"named", "config.yaml", "problems.jsonl"}


@pytest.mark.parametrize("name", ["tensorboard", "TensorBoardLogger", "lightning.pytorch.loggers.TensorBoardLogger"])
def test_names_of_one_logger(name: str) -> None:
    whole = {"save_dir": "runs/x", "name": "tensorboard", "version": ""}
    assert logger_config(name, "runs/x")["init_args"] == whole
    given = {"class_path": name, "init_args": {"save_dir": "elsewhere", "name": None}}
    assert logger_config(given, "runs/x")["init_args"] == whole | {"save_dir": "elsewhere"}


def test_a_logger_moves_with_the_run() -> None:
    first = logger_config("mlflow", "runs/x")
    assert logger_config(first, "runs/y", before="runs/x") == logger_config("mlflow", "runs/y") | {
        "init_args": logger_config("mlflow", "runs/y")["init_args"] | {"experiment_name": "x"}
    }


@pytest.mark.parametrize("value", [True, False, {"class_path": "my.Logger"}, "my.Logger"])
def test_what_is_no_known_name_stays(value: Any) -> None:
    assert logger_config(value, "runs/x") == value
