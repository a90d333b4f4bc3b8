"""The notebooks' code cells run, in order, as a newcomer would run them, only shorter; what is committed is clean."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from scripted_engine import nano, saying

FOLDER = Path(__file__).parents[2] / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))


def cells(notebook: Path) -> list[dict[str, Any]]:
    return [c for c in json.loads(notebook.read_text(encoding="utf-8"))["cells"] if c["cell_type"] == "code"]


@pytest.fixture
def names(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What a notebook's cells leave behind."""
    for variable in ("QUICKSTART_STEPS", "NOTEBOOK_STEPS"):
        monkeypatch.setenv(variable, "2")
    monkeypatch.setenv("QUICKSTART_PROBLEMS", "20")
    monkeypatch.setenv("NOTEBOOK_PROBLEMS", "10")
    monkeypatch.setenv("MPLBACKEND", "Agg")
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)  # where it was found before
    monkeypatch.chdir(FOLDER)
    left: dict[str, Any] = {"__name__": "__main__"}
    with saying(nano):
        for cell in cells(FOLDER / request.param):
            exec(compile("".join(cell["source"]), request.param, "exec"), left)
    return left


@pytest.mark.parametrize("names", ["01_quickstart.ipynb"], indirect=True)
def test_quickstart(names: dict[str, Any]) -> None:
    assert (names["before"]["step"], names["after"]["step"]) == (0, 2)
    assert len(names["before"]["ids"]) == 20
    assert set(names["story"]["round"]) == {"cold", "rescue"}
    assert {"report.html", "traces.jsonl", "metrics.csv"} <= {p.name for p in names["run"].iterdir()}


@pytest.mark.parametrize("names", ["02_your_own_peers_rewards_data.ipynb"], indirect=True)
def test_own_parts(names: dict[str, Any]) -> None:
    assert set(names["terms"].columns) == {"correctness", "brevity"}
    assert names["module"].batches_done == 2
    assert set(names["share"].columns) == {"a", "b"}


@pytest.mark.parametrize("names", ["03_reading_a_run.ipynb"], indirect=True)
def test_reading_a_run(names: dict[str, Any]) -> None:
    assert len(names["steps"]) == 2
    assert len(names["hinted"]) >= len(names["failed"]) + len(names["left_out"])
    assert "Team Pass@2" in names["card"]


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_outputs_are_there_and_clean(notebook: Path) -> None:
    outputs = [output for cell in cells(notebook) for output in cell["outputs"]]
    assert not [o for o in outputs if o["output_type"] == "error" or o.get("name") == "stderr"]  # red boxes
    assert any("image/png" in o.get("data", {}) for o in outputs)
    texts = [json.dumps({**o, "data": {k: v for k, v in o.get("data", {}).items() if k != "image/png"}}) for o in outputs]
    assert not [t for t in texts if re.search(r"/(home|root|work|Users|tmp|var)/", t)]  # no path of any machine
