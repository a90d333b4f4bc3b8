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
        tuple(map(int, found.groups()))
        for line in capsys.readouterr().out.splitlines()
        if (found := re.match(r"step (\d)/2 .* rescued (\d+) of (\d+) hinted, \d+ faithfully · so far (\d+) of (\d+), ", line))
    ]
    traces = [json.loads(line) for line in (tmp_path / "run" / "traces.jsonl").read_text().splitlines()]
    expected = []
    for step in (1, 2):
        numbers = [step]
        for steps in ([step - 1], range(step)):  # of the step, and since the first one
            rescues = [t for t in traces if t["round"] == "rescue" and t["step"] in steps]
            hinted = {(t["step"], t["problem"], t["peer"]) for t in rescues}
            rescued = {(t["step"], t["problem"], t["peer"]) for t in rescues if t["correct"]}
            numbers += [len(rescued), len(hinted)]
        expected.append(tuple(numbers))
    assert printed == expected
    assert printed[0][1] > 0
