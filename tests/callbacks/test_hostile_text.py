"""What a model or a data file writes is shown as text: on a terminal, in the report, in the trace log, in a prompt's preview."""

from __future__ import annotations

import json
from html.parser import HTMLParser
from io import StringIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from core_lightning.callbacks import TraceLog
from core_lightning.records import Group, Problem, Trace
from core_lightning.report.page import render_report
from core_lightning.report.plotting import RunData
from core_lightning.report.tables import Table, rescues_table, to_rich
from core_lightning.report.visible import visible

HOSTILE = [
    "\x1b[2J\x1b]0;owned\x07\r\x9b31m",
    "[red]7[/red][link=file:///x]y[/link]",
    "</pre><script>alert(1)</script><img src=x onerror=alert(1)>",
    "\"' onmouseover='alert(1)",
    "&lt;b&gt; <!-- ]]> {{ question }} {question} corePlace0Ends",
    "\u202e7\u2066",
    "half \ud800 a pair",
    "=HYPERLINK('x')",
    "x" * 1_000_000,
]


class Tags(HTMLParser):
    """Elements and attributes of a page, and its text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, list[str]]] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, [name for name, _ in attrs]))

    def handle_data(self, data: str) -> None:
        self.text += data


def page_with(text: str) -> Tags:
    fields = (
        "problem",
        "question",
        "gold",
        "student",
        "wrong_answer",
        "wrong_text",
        "teacher",
        "hint",
        "answer",
        "text",
        "teacher_text",
    )
    rescue: Any = dict.fromkeys(fields, text) | {"step": 1, "leaks": True, "flaw": text, "truncated": True}
    table = Table(text, [text], [[text]], note=text)
    run: Any = RunData(columns={"step": [1]}, peers=[text], history=[])
    manifest = {"peers": {text: {"model": text}}, "data": {"source": text}, "versions": {text: text}}
    return Tags(render_report(text, run, [table], (), [rescue], [rescue], None, manifest, {text: text}, text, text))


@pytest.mark.parametrize("text", HOSTILE)
def test_the_report_holds_it_as_text(text: str) -> None:
    page = page_with(text)
    assert page.tags == page_with("quiet").tags
    assert visible(text) in page.text
    page.text.encode()  # can be written


@pytest.mark.parametrize("text", HOSTILE)
def test_a_terminal_is_not_steered(text: str) -> None:
    rescue: Any = dict.fromkeys(("question", "student", "wrong_answer", "gold", "teacher", "hint", "text"), text)
    console = Console(file=StringIO(), width=100, color_system=None)
    console.print(to_rich(rescues_table([rescue], width=80)))
    console.print(to_rich(Table("t", ["a"], [[text[:200]]], text=True)))
    shown = console.file.getvalue()  # type: ignore[attr-defined]
    assert all(c == "\n" or (c.isprintable() and c not in "\u202e\u2066") for c in shown)
    assert len(shown) < 20_000  # a long text is cut, and whoever looks at the terminal does not wait for it
    if text.startswith("["):
        assert "[red]7[/red]" in shown


@given(st.text(st.characters(codec=None)))
def test_what_is_shown_can_be_written_and_steers_nothing(text: str) -> None:
    shown = visible(text)
    shown.encode()
    assert not set(shown) & {*map(chr, (*range(9), *range(11, 32), *range(127, 160)))}
    assert visible(shown) == shown
    if text.isprintable():
        assert shown == text


@pytest.mark.parametrize("text", HOSTILE)
def test_a_line_of_the_trace_log_is_one_line_and_comes_back(text: str, tmp_path: Path) -> None:
    trace = Trace("a", "cold", 0, [1], [2], text, False, answer=text)
    record = SimpleNamespace(step=0, groups=[Group(Problem("p", text, text), [trace])])
    trainer: Any = SimpleNamespace(global_rank=0, default_root_dir=str(tmp_path), fast_dev_run=False)
    for _ in range(2):
        TraceLog().on_train_batch_end(trainer, SimpleNamespace(record=record), None, None, 0)
    lines = (tmp_path / "traces.jsonl").read_bytes().splitlines()
    assert len(lines) == 2
    for line in lines:
        read = json.loads(line)
        assert (read["text"], read["question"], read["answer"]) == (text, text, text)
