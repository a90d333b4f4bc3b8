"""The notebook's code cells run, in order, as a newcomer would run them, only shorter."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from scripted_engine import nano, saying

NOTEBOOK = Path(__file__).parents[2] / "notebooks" / "quickstart.ipynb"


def cells() -> list[dict]:
    return [c for c in json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"] if c["cell_type"] == "code"]


def test_the_code_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QUICKSTART_STEPS", "2")
    monkeypatch.setenv("QUICKSTART_PROBLEMS", "20")
    monkeypatch.setenv("MPLBACKEND", "Agg")
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)  # where it was found before
    monkeypatch.chdir(NOTEBOOK.parent)
    names: dict = {"__name__": "__main__"}
    with saying(nano):
        for cell in cells():
            exec(compile("".join(cell["source"]), str(NOTEBOOK), "exec"), names)
    assert (names["before"]["step"], names["after"]["step"]) == (0, 2)
    assert len(names["before"]["ids"]) == 20
    assert set(names["story"]["round"]) == {"cold", "rescue"}
    assert {"report.html", "traces.jsonl", "metrics.csv"} <= {p.name for p in names["run"].iterdir()}
