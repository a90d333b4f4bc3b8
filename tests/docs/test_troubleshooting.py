"""Every line that the troubleshooting page quotes is one the program can print."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

from core_lightning.callbacks.learning_watch import why_nothing_is_learned
from core_lightning.callbacks.rescue_progress_bar import TROUBLES

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/troubleshooting.md").read_text(encoding="utf-8")
LINES = [line for block in re.findall(r"```text\n(.*?)```", PAGE, re.DOTALL) for line in block.splitlines()]


@cache
def templates() -> list[re.Pattern[str]]:
    """Every text of the code with three words or more, as a pattern: what is filled in may be anything."""
    found = set()
    for file in (ROOT / "core_lightning").rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            parts = node.values if isinstance(node, ast.JoinedStr) else [node]
            if not all(isinstance(p, ast.FormattedValue) or isinstance(getattr(p, "value", None), str) for p in parts):
                continue
            texts = [p.value if isinstance(p, ast.Constant) else None for p in parts]
            if len(re.findall(r"[a-z]{2,}", " ".join(filter(None, texts)))) >= 2:
                found.add("".join(".+" if t is None else re.escape(t) for t in texts))
    return [re.compile(f) for f in found]


@pytest.mark.parametrize("line", LINES)
def test_the_program_prints_this_line(line: str) -> None:
    assert any(template.fullmatch(line) for template in templates())


@pytest.mark.parametrize("wrong", ["run folder runs/x holds a run already", "the run is complete at step 60; go on", "a b c d e"])
def test_a_line_that_nobody_prints_is_found_out(wrong: str) -> None:
    assert not any(template.fullmatch(wrong) for template in templates())


@pytest.mark.parametrize(
    ("shares", "said"),
    [
        ({"truncated": 0.83}, "83 % of its completions are cut off; raise peers.a.generation.max_new_tokens (512)"),
        ({"no_answer": 0.67}, "67 % of its completions hold no answer; look at them in traces.jsonl, and change "
         "peers.a.prompt_style, model.prompt or generation.stop"),
        ({"accuracy": 1.0}, "it solves every problem; take harder ones"),
        ({"accuracy": 0.0}, "it solves none of the problems; take easier ones, or raise model.rounds.k"),
        ({"accuracy": 0.5}, "all traces of a problem earn the same; raise model.rounds.k or the sampling temperature"),
    ],
)  # fmt: skip
def test_the_reasons_why_nothing_is_learned(shares: dict[str, float], said: str) -> None:
    step = {"no_signal": 1.0, "imitated": 0.0, "truncated": 0.0, "no_answer": 0.0, "accuracy": 0.5} | shares
    reason = why_nothing_is_learned([step] * 5, 5)
    tokens, style = "peers.a.generation.max_new_tokens (512)", "peers.a.prompt_style"
    assert reason is not None
    assert reason.format(tokens=tokens, style=style) == said
    assert f"`{said}`" in PAGE


def test_the_words_of_the_progress_line() -> None:
    assert set(TROUBLES) == {"cut off", "no answer", "no signal"}
    assert "`cut off 83%`" in PAGE
    assert "`no answer 67%`" in PAGE
