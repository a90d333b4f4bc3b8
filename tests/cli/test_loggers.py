"""Any logger by its name: its files lie in the run folder, and so do metrics.csv and config.yaml."""

from __future__ import annotations

import json
import socket
import sqlite3
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from lightning.pytorch.loggers import Logger

from core_lightning.callbacks.metrics_csv import read_metrics
from core_lightning.callbacks.tracker_media import COLUMNS, last_traces, markdown_table
from core_lightning.cli.logger_names import logger_config
from core_lightning.cli.main import main
from core_lightning.cli.tracker_check import TrackerError, begin_trackers


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
        ("trackio", "trackio", "trackio/*.db"),
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
    if find_spec(package) is None:  # importing it here would fix the places that its environment variables name
        pytest.skip(f"{package} is not installed")
    monkeypatch.setenv("WANDB_MODE", "offline")
    for variable in ("MLFLOW_TRACKING_URI", "TRACKIO_DIR"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setattr(sys, "argv", ["core_lightning"])
    monkeypatch.chdir(tmp_path)
    run = tmp_path / "named"
    fit(config(), run, f"--trainer.logger={name}")
    assert list(run.glob(left))
    assert {f.name for f in tmp_path.iterdir()} <= {"named", "config.yaml", "problems.jsonl"}
    shown = SHOWN[name](run) if name in SHOWN else None
    assert shown is None or {"report/time", "traces"} <= shown  # one_figure draws that one


def in_tensorboard(run: Path) -> set[str]:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(run / "tensorboard"))
    events.Reload()
    texts = [t.removesuffix("/text_summary") for t in events.Tags()["tensors"]]
    return {*events.Tags()["images"], *texts}


def in_wandb(run: Path) -> set[str]:
    media = next(run.glob("wandb/offline-run-*/files/media"))
    found = {f"{f.parent.relative_to(media / 'images')}/{f.name.split('_')[0]}" for f in media.glob("images/**/*.png")}
    return found | {f.name.split("_")[0] for f in media.glob("table/*.json")}


def in_mlflow(run: Path) -> set[str]:
    found = {f"report/{f.stem}" for f in run.glob("mlflow/**/report/*.png")}
    return found | {f.stem for f in run.glob("mlflow/**/traces.json")}


def in_trackio(run: Path) -> set[str]:
    (file,) = run.glob("trackio/*.db")
    with sqlite3.connect(file) as data:
        kept = [row[0] for row in data.execute("select metrics from metrics")]
    return {name for row in kept for name in json.loads(row)}


SHOWN = {"tensorboard": in_tensorboard, "wandb": in_wandb, "mlflow": in_mlflow, "trackio": in_trackio}


def test_foreign_text_is_text_in_a_table_of_markdown(tmp_path: Path) -> None:
    log = tmp_path / "traces.jsonl"
    lines = [{"step": i, "text": "<script>|\n[x](http://y) `z`", "hint": None, "correct": False} for i in range(5)]
    log.write_text("".join(json.dumps(line) + "\n" for line in lines))
    rows = last_traces(log, 2)
    assert [row[0] for row in rows] == ["3", "4"]
    assert [row[COLUMNS.index("hint")] for row in rows] == ["", ""]
    table = markdown_table(rows)
    assert table.count("\n") == 3
    assert not any(mark in table for mark in ("<script", "](", "`z`"))
    assert all(line.count("|") == len(COLUMNS) + 1 for line in table.splitlines())
    assert last_traces(tmp_path / "none", 2) == last_traces(log, 0) == []


def test_a_tracker_that_is_not_installed_is_one_line(
    config: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("core_lightning.callbacks.trackio_logger.find_spec", lambda name: None)
    with pytest.raises(SystemExit) as stop:
        main(["fit", f"--config={config()}", f"--trainer.default_root_dir={tmp_path / 'run'}", "--trainer.logger=trackio"])
    assert stop.value.code == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error")]
    assert "pip install trackio" in line


class NoKey(Logger):
    """A tracker that finds nobody to log in as."""

    name = version = "none"

    @property
    def experiment(self) -> Any:
        raise RuntimeError("No API key configured.\nUse a key.")

    def log_hyperparams(self, *args: Any, **settings: Any) -> None: ...

    def log_metrics(self, *args: Any, **settings: Any) -> None: ...


def test_a_tracker_that_cannot_begin_is_one_line(config: Callable[..., Path], tmp_path: Path, refused: Callable[..., str]) -> None:
    line = refused("fit", f"--config={config()}", f"--trainer.logger={__name__}.NoKey")
    assert line == "trainer.logger: NoKey cannot begin (No API key configured.); train without it: --trainer.logger true"
    assert not (tmp_path / "run").exists()


def test_a_tracker_whose_server_is_down_is_not_waited_for() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        begin_trackers([SimpleNamespace(_tracking_uri=f"http://127.0.0.1:{port}", experiment=None)])
    asked: Any = type("MLFlowLogger", (), {"_tracking_uri": f"http://127.0.0.1:{port}", "experiment": None})()
    with pytest.raises(TrackerError, match=rf"127\.0\.0\.1:{port} does not answer.*start its server"):
        begin_trackers([asked])


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
