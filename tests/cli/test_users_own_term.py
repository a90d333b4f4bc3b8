"""A reward term in a user's own file: named in the config, found in the trace log and the metrics, without an opinion too."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from core_lightning.callbacks.metrics_csv import read_metrics
from core_lightning.cli.main import main
from scripted_engine import saying, sums

TERM = '''
from core_lightning.rewards import RewardTerm


class Vowels(RewardTerm):
    """Vowels in a trace; no opinion on every second one."""

    def __init__(self, letters: str) -> None:
        self.letters = letters

    def __call__(self, group, context):
        return [None if i % 2 else float(sum(c in self.letters for c in t.text)) for i, t in enumerate(group)]
'''


def test_it_appears_by_name(config: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my_terms.py").write_text(TERM)
    monkeypatch.syspath_prepend(tmp_path)
    own = {"term": {"class_path": "my_terms.Vowels", "init_args": {"letters": "aeiou"}}, "weight": 0.5}
    # Of two cold traces one has an opinion, so the baseline is that of the whole problem.
    file = config(advantage={"group_by": "problem"}, rewards={"diversity": None, "rescue": None, "vowels": own})
    with saying(sums):
        main(["fit", f"--config={file}"])
    lines = [json.loads(line) for line in (tmp_path / "run/traces.jsonl").read_text().splitlines()]
    by_step: dict[int, list[float]] = {}
    place: dict[tuple[int, str], int] = {}
    for line in lines:
        key = line["step"], line["problem"]
        i = place[key] = place.get(key, -1) + 1
        vowels = sum(c in "aeiou" for c in line["text"])
        assert line["terms"]["vowels"] == (None if i % 2 else vowels)
        if i % 2:
            assert line["reward"] is None  # unknown, so it is left out of the baseline and pushed nowhere
            assert line["advantage"] == 0
        else:
            assert line["reward"] == pytest.approx(line["terms"]["correctness"] + 0.5 * vowels)
            by_step.setdefault(line["step"], []).append(vowels)
    for row in read_metrics(tmp_path / "run/metrics.csv"):
        if row["train/traces"]:
            counted = by_step[int(row["step"])]
            assert float(row["reward/vowels/mean"]) == pytest.approx(sum(counted) / len(counted))
    # The baseline of a problem is made of the traces with an opinion alone: their advantages add up to nothing.
    for step, name in place:
        known = [x for x in lines if (x["step"], x["problem"]) == (step, name) and x["reward"] is not None]
        assert sum(x["advantage"] for x in known) == pytest.approx(0, abs=1e-6)
    assert any(line["advantage"] != 0 for line in lines)
