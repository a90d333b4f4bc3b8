"""The interactive page: its data, its texts, and what a real browser makes of it."""

from __future__ import annotations

import json
import math
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from core_lightning.report.explore import OUTCOMES, outcome, render_explore, some_traces
from core_lightning.report.page import render_report
from core_lightning.report.plotting import RunData
from core_lightning.report.rescue import marked
from core_lightning.report.tables import Table

SETS = "document.documentElement.setAttribute('data-owned', '1')"
PAYLOAD = f"</pre></script><script>{SETS}</script><img src=x onerror=\"{SETS}\"><a href=\"javascript:{SETS}\">x</a>"
CHROMIUM = next((path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None)


def line(step: int = 0, problem: str = "p", **changes: Any) -> dict[str, Any]:
    values = {
        "step": step, "problem": problem, "question": "1 + 1?", "gold": "2", "source": "sums", "peer": "a", "round": "cold",
        "text": "2", "answer": "2", "correct": True, "hint": None, "teacher": None, "flaw": None, "reward": 1.0,
        "advantage": None, "tokens": 3,
    }  # fmt: skip
    return values | changes


def run_data() -> RunData:
    columns = {"step": [0.0, 1.0], "train/a/accuracy": [0.5, math.nan], "train/b/accuracy": [0.25, 1.0], "train/rescue_rate": [0, 1]}
    return RunData(["a", "b"], columns, [])


def data_of(page: str) -> Any:
    return json.loads(re.search(r'id="data">(.*?)</script>', page, re.DOTALL)[1])  # type: ignore[index]


def test_what_is_in_the_page() -> None:
    data = data_of(render_explore("run", run_data(), [line(), line(step=4, round="rescue", hint="1 +", correct=False)], of=9))
    assert [t["step"] for t in data["traces"]] == [1, 5]  # counted from 1, as everywhere
    assert [t["outcome"] for t in data["traces"]] == ["right", "wrong with hint"]
    (solved,) = [c for c in data["curves"] if c["title"] == "Solved in training"]
    assert solved["series"] == [
        {"name": "a", "x": [1, 2], "y": [50, None]}, {"name": "b", "x": [1, 2], "y": [25, 100]},
    ]  # fmt: skip
    assert solved["unit"] == "percent"


def test_every_outcome_has_a_name_and_a_colour() -> None:
    hinted = {"round": "rescue", "hint": "1 +"}
    found = [
        outcome(line()), outcome(line(correct=False)), outcome(line(**hinted)), outcome(line(**hinted, flaw="false")),
        outcome(line(**hinted, correct=False)), outcome(line(round="rescue")),
    ]  # fmt: skip
    assert found == [*("right", "wrong", "rescued", "rescued, left out", "wrong with hint"), "right"]
    assert set(found) == OUTCOMES.keys()


def test_whole_problems_are_drawn_from_a_long_log(tmp_path: Path) -> None:
    log = tmp_path / "traces.jsonl"
    assert some_traces(log) == ([], 0)
    lines = [line(step, f"p{p}", peer=peer) for step in range(20) for p in range(10) for peer in "ab"]
    log.write_text("".join(json.dumps(x) + "\n" for x in lines) + '{"step": 3, "prob')  # cut off by a crash
    assert some_traces(log, most=1000)[0] == lines
    some, count = some_traces(log, most=100)
    assert count == 401
    assert 40 < len(some) < 160
    assert all(len([x for x in some if (x["step"], x["problem"]) == (y["step"], y["problem"])]) == 2 for y in some)


def test_traces_of_all_processes_are_there(tmp_path: Path) -> None:
    for name, problem in (("traces.jsonl", "p"), ("traces.rank1.jsonl", "q"), ("traces.rank2.jsonl", "r")):
        (tmp_path / name).write_text("".join(json.dumps(line(step, problem)) + "\n" for step in range(2)))
    lines, count = some_traces(tmp_path / "traces.jsonl")
    assert ([(x["step"], x["problem"]) for x in lines], count) == ([(s, p) for s in (0, 1) for p in "pqr"], 6)


@pytest.mark.parametrize(
    ("trace", "hint", "pieces"),
    [
        ("9 * 2 = 18 dollars.\n#### 18", "9 * 2 = dollars.", [("9 * 2 = ", 0), ("18 ", 1), ("dollars.", 0), ("\n#### 18", 1)]),
        ("", "1 + 1 =", [("1 + 1 =", 0)]),
        ("all of it", "all of it", [("all of it", 0)]),
    ],
)
def test_what_was_removed_from_a_hint(trace: str, hint: str, pieces: list[tuple[str, int]]) -> None:
    assert marked(trace, hint) == [(text, bool(removed)) for text, removed in pieces]
    assert "".join(text for text, removed in marked(trace, hint) if not removed) == hint


def hostile_pages() -> dict[str, str]:
    run = RunData([PAYLOAD], {"step": [0.0], f"train/{PAYLOAD}/accuracy": [0.5]}, [])
    names = ("problem", "question", "gold", "source", "peer", "text", "answer", "hint", "teacher", "flaw")
    trace = line(round="rescue", **dict.fromkeys(names, PAYLOAD))
    fields = ("student", "wrong_answer", "wrong_text", "teacher_text", "problem", "question", "gold", "teacher", "hint", "answer", "text", "flaw")
    rescue: Any = dict.fromkeys(fields, PAYLOAD) | {"step": 1, "leaks": True, "truncated": True}
    table = Table(PAYLOAD, ["", PAYLOAD], [[PAYLOAD, PAYLOAD]], PAYLOAD)
    report = render_report(PAYLOAD, run, [table], (), [rescue], [rescue], None, {"peers": {}}, {PAYLOAD: PAYLOAD}, None, PAYLOAD)
    return {"explore": render_explore(PAYLOAD, run, [trace] * 3, of=3), "report": report}


def test_no_text_is_a_part_of_the_script() -> None:
    pages = hostile_pages()
    data = data_of(pages["explore"])
    assert data["traces"][0]["text"] == PAYLOAD
    from plotly.offline import get_plotlyjs

    rest = pages["explore"].replace(get_plotlyjs(), "")
    assert "onerror=" not in re.sub(r"(&lt;img|\\u003cimg) src=x onerror=", "", rest)
    for page in (rest, pages["report"]):
        assert "<img src=x" not in page
        assert not re.search(r"(src|href)=[\"']?(https?:)?//", page)  # nothing from outside


@pytest.mark.skipif(CHROMIUM is None, reason="no chromium on this machine")
@pytest.mark.parametrize("name", ["explore", "report"])
def test_in_a_browser_no_foreign_script_runs(name: str, tmp_path: Path) -> None:
    page = tmp_path / f"{name}.html"
    # Every trace is opened, as a reader would.
    opened = "<script>for (const d of document.querySelectorAll('details')) d.open = true</script></main></body>"
    page.write_text(hostile_pages()[name].replace("</main></body>", opened if name == "explore" else "</main></body>"))
    options = ["--headless=new", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'user'}", "--virtual-time-budget=4000"]
    dom = subprocess.run([str(CHROMIUM), *options, "--dump-dom", page.as_uri()], check=True, capture_output=True, text=True, timeout=60).stdout
    assert PAYLOAD.replace("<", "&lt;").replace(">", "&gt;")[:40] in dom
    if name == "explore":
        assert "3 of 3 traces" in dom  # its own script did run
        assert 'class="main-svg"' in dom
        assert dom.count('<article class="card rescue">') == 3
    assert not re.search(r"<html[^>]*data-owned", dom)
    assert "<img src" not in dom
