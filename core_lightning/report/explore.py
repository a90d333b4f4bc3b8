"""``explore.html``: curves to zoom and traces to filter, in one file that asks nothing of the network.

Drawn in the browser by plotly, whose code is put into the page. It comes with the extra ``report``.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from core_lightning.report.evaluation import sampled_k
from core_lightning.report.page import page_environment
from core_lightning.report.phases import PHASES
from core_lightning.report.plotting import LIGHT, RunData, peer_colors
from core_lightning.report.style import STYLE
from core_lightning.report.visible import visible

MISSING = "For a page with every trace and curve, to filter and to zoom: pip install 'core-lightning[report]'"
MAX_TRACES = 4000
"""More make a page that phones cannot open."""
MAX_TEXT = 4000
OUTCOMES = {
    "right": "#1a7f4b",
    "wrong": "#b3261e",
    "rescued": "#2b6cd9",
    "rescued, left out": "#e0a72c",
    "wrong with hint": "#c2306b",
}


def can_explore() -> bool:
    """Whether plotly is installed."""
    return importlib.util.find_spec("plotly") is not None


def render_explore(title: str, run: RunData, traces: Iterable[Mapping[str, Any]], of: int) -> str:
    """The page as one string.

    Args:
        title: Heading.
        run: Steps and evaluations.
        traces: Lines of a trace log, see :func:`some_traces`.
        of: How many there were before some of them were chosen.
    """
    from plotly.offline import get_plotlyjs

    shown = [_trace(line) for line in traces]
    curves = list(_curves(run))
    note = f"{len(shown)} of {of} traces, whole problems drawn at random." if len(shown) < of else "All traces."
    data = {
        "traces": shown,
        "curves": curves,
        "colors": {**peer_colors(run, LIGHT), "team": "#8a94a3", **OUTCOMES},
    }
    page = page_environment().get_template("explore.html.j2")
    return page.render(
        title=title,
        style=STYLE,
        plotly=get_plotlyjs(),
        lead=f"{', '.join(run.peers)}: every number and every trace, to hover over, to zoom and to filter.",
        curves=curves,
        note=note,
        data=data,
    )


def some_traces(path: Path, most: int = MAX_TRACES) -> tuple[list[dict[str, Any]], int]:
    """Lines of a trace log, and how many it has: at most about ``most``, whole problems chosen by a hash.

    Args:
        path: ``traces.jsonl``, beside which other processes have written ``traces.rank<r>.jsonl``; without it there are
            none.
        most: Lines to aim at.
    """
    if not path.is_file():
        return [], 0
    paths = [path, *sorted(path.parent.glob(f"{path.stem}.rank*{path.suffix}"))]
    count = sum(map(_count, paths))
    share = min(1.0, most / max(count, 1))
    chosen: list[dict[str, Any]] = []
    for one in paths:
        with one.open(encoding="utf-8", errors="replace") as file:
            lines = (json.loads(line) for line in file if line.endswith("\n"))
            chosen += [line for line in lines if _drawn(line) < share]
    return sorted(chosen, key=lambda line: line["step"]), count


def _count(path: Path) -> int:
    with path.open("rb") as file:
        return sum(1 for _ in file)


def _drawn(line: Mapping[str, Any]) -> float:
    key = f"{line['step']}/{line['problem']}".encode("utf-8", "replace")
    return int.from_bytes(hashlib.blake2b(key, digest_size=4).digest()) / 2**32


def _trace(line: Mapping[str, Any]) -> dict[str, Any]:
    """A line as the page reads it: text that steers nothing and is not too long."""

    def shown(name: str) -> str:
        text = visible(str(line.get(name) or ""))
        return text if len(text) <= MAX_TEXT else text[:MAX_TEXT] + "…"

    names = ("problem", "question", "gold", "source", "peer", "text", "answer", "hint", "teacher", "flaw")
    return {
        **{name: shown(name) for name in names},
        "step": line["step"] + 1,
        "correct": bool(line["correct"]),
        "outcome": outcome(line),
        **{name: line.get(name) for name in ("reward", "advantage", "tokens")},
    }


def outcome(line: Mapping[str, Any]) -> str:
    """What became of a trace, in words: one of :data:`OUTCOMES`.

    >>> outcome({"round": "rescue", "hint": "9 * 2 =", "correct": True, "flaw": "false equation: 9*2=19"})
    'rescued, left out'
    """
    if line["round"] == "cold" or not line.get("hint"):
        return "right" if line["correct"] else "wrong"
    if not line["correct"]:
        return "wrong with hint"
    return "rescued, left out" if line.get("flaw") else "rescued"


def _curves(run: RunData) -> Iterator[dict[str, Any]]:
    """Everything that was measured, by title: one line for each peer, for the team, for each term."""
    if run.history:
        k, at = sampled_k(run.history[-1]), [e["step"] for e in run.history]
        names = {p: f"{p}/pass_at_1" for p in run.peers}
        for title, lines in (
            ("Held-out Pass@1", names),
            (f"Held-out Pass@{k}", {p: f"{p}/pass_at_{k}" for p in run.peers} | {"team": f"team_pass_at_{k}"}),
        ):
            series = []
            for name, figure in lines.items():
                values = [e["values"][figure] for e in run.history if figure in e["values"]]
                bounds = {b: [_number(100 * v[b]) for v in values] for b in ("value", "low", "high")}
                if len(values) == len(at) and None not in bounds["low"]:
                    series.append(
                        {"name": name, "x": at, "y": bounds["value"], "low": bounds["low"], "high": bounds["high"]}
                    )
            if series:
                yield {"title": title, "unit": "percent", "points": True, "series": series}
    if not run.columns["step"]:
        return
    of_peers = dict.fromkeys(n.split("/", 2)[2] for n in run.columns if n.count("/") >= 2 and n.startswith("train/"))
    for metric in of_peers:
        lines = {p: f"train/{p}/{metric}" for p in run.peers}
        scale = 100 if metric in _SHARES else 1
        team = {"team": "train/team_solved"} if metric == "accuracy" else {}
        yield from _plain(run, _TITLES.get(metric, metric.replace("_", " ")), lines | team, scale)
    yield from _plain(run, "Rescue rate", {"team": "train/rescue_rate"}, 100)
    terms = {n.split("/")[1]: n for n in run.columns if n.startswith("reward/") and n.endswith("/mean")}
    yield from _plain(run, "Reward terms", terms, 1)
    for phase in PHASES:
        yield from _plain(run, f"Seconds: {phase}", {p: f"time/{phase}/{p}" for p in run.peers}, 1)


_TITLES = {"accuracy": "Solved in training", "reward": "Reward of each peer", "lr": "Learning rate"}
_SHARES = {"accuracy", "truncated", "no_answer", "no_signal", "rescue_rate", "faithful_rate"}


def _plain(run: RunData, title: str, lines: Mapping[str, str], scale: float) -> Iterator[dict[str, Any]]:
    series: list[dict[str, Any]] = []
    for name, column in lines.items():
        values: Sequence[float | None] = [_number(scale * v) for v in run.columns.get(column, [])]
        if any(v is not None for v in values):
            series.append({"name": name, "x": run.steps, "y": values})
    if series:
        yield {"title": title, "unit": "percent" if scale == 100 else title.lower(), "points": False, "series": series}


def _number(value: float) -> float | None:
    return round(value, 6) if math.isfinite(value) else None
