"""Evaluating a run leaves it as it is: fit -> validate -> test -> predict -> resume -> fit in one folder."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from core_lightning.callbacks.metrics_csv import read_metrics
from core_lightning.cli.main import main

NANO = [
    "--config=configs/nano.yaml", "--data.batch_size=2", "--data.train_size=20", "--data.val_size=6", "--data.test_size=5",
    "--model.peers.a.generation.max_new_tokens=12", "--model.peers.b.generation.max_new_tokens=12",
    "--model.eval_samples=2", "--trainer.max_steps=2", "--trainer.val_check_interval=2",
    "--trainer.enable_progress_bar=false", "--checkpoint.every_n_batches=1", "--model.rounds.k_rescue=1",
    "--model.peers.a.self_test=false", "--model.peers.b.self_test=false",  # seven times the same models
]  # fmt: skip


def contents(run: Path) -> dict[str, str]:
    """Every file of a run and what is in it, its evaluations aside."""
    files = [f for f in run.rglob("*") if f.is_file() and "evaluations" not in f.parts]
    return {str(f.relative_to(run)): hashlib.sha256(f.read_bytes()).hexdigest() for f in files}


def test_the_walk(
    tmp_path: Path,
    refused: Callable[..., str],
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    run = tmp_path / "run"
    here = f"--trainer.default_root_dir={run}"
    main(["validate", *NANO, here])  # before there is a run
    assert contents(run) == {}
    main(["fit", *NANO, here])
    before = contents(run)
    assert {"config.yaml", "metrics.csv", "traces.jsonl", "checkpoints/last.ckpt", "report.html"} <= before.keys()
    capsys.readouterr()
    config, last = f"--config={run}/config.yaml", f"--ckpt_path={run}/checkpoints/last.ckpt"
    for command in ("validate", "test", "predict"):
        main([command, config, last])
        assert contents(run) == before
        printed = capsys.readouterr()
        (folder,) = (run / "evaluations").glob(f"{command}-step2-*")
        assert str(folder) in caplog.text
        assert yaml.safe_load((folder / "config.yaml").read_text())["model"]
        if command == "predict":
            assert (folder / "predictions.jsonl").is_file()
            continue
        result = json.loads((folder / "evaluation.json").read_text())
        assert (result["step"], len(result["ids"])) == (2, 6 if command == "validate" else 5)
        assert "Team Pass@2" in printed.out
        assert "Team Pass@2" in (folder / "table.txt").read_text()
        assert "Team Pass@2" in (folder / "report.html").read_text()
        lines = [json.loads(line) for line in (folder / "traces.jsonl").read_text().splitlines()]
        assert len(lines) == len(result["ids"]) * 2 * 2  # peers, samples
        for name in ("a", "b"):
            right = [t["correct"] for t in lines if t["peer"] == name]
            assert result["values"][f"{name}/pass_at_1"]["value"] == pytest.approx(sum(right) / len(right))
    main(["ask", "2*3", "--run", str(run)])
    assert contents(run) == before
    lines = capsys.readouterr().out.splitlines()
    start = lines.index("2*3")
    assert [line.split(":")[0].strip() for line in lines[start + 1 : start + 3]] == ["a", "b"]
    assert lines[start + 3].strip().startswith(("majority:", "no peer gave an answer"))
    main(["fit", config, last, "--trainer.max_steps=3"])
    rows = [row for row in read_metrics(run / "metrics.csv") if row["train/traces"]]
    assert [row["step"] for row in rows] == ["0", "1", "2"]
    assert yaml.safe_load((run / "config.yaml").read_text())["ckpt_path"] is None
    assert "already holds a run" in refused("fit", config)
