"""What a run prints step by step is what it writes down."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from core_lightning.cli.main import main
from scripted_engine import nano, saying


def test_a_step_prints_its_own_rescues(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with saying(nano):
        main([
            "fit", "--config=configs/nano.yaml", f"--trainer.default_root_dir={tmp_path / 'run'}", "--trainer.max_steps=2",
            "--trainer.limit_val_batches=0", "--data.batch_size=8",
        ])  # fmt: skip
    printed = [
        (int(found[1]), int(found[2]), int(found[3]))
        for line in capsys.readouterr().out.splitlines()
        if (found := re.match(r"step (\d)/2 .* rescued so far (\d+)/(\d+) ", line))
    ]
    traces = [json.loads(line) for line in (tmp_path / "run" / "traces.jsonl").read_text().splitlines()]
    expected = []
    for step in (1, 2):
        so_far = [t for t in traces if t["round"] == "rescue" and t["step"] < step]
        hinted = {(t["step"], t["problem"], t["peer"]) for t in so_far}
        rescued = {(t["step"], t["problem"], t["peer"]) for t in so_far if t["correct"]}
        expected.append((step, len(rescued), len(hinted)))
    assert printed == expected
    assert printed[0][1] > 0
