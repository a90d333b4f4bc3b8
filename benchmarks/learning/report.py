"""Tables and figures of one file of results, written beside it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.learning.arms import ARMS
from benchmarks.learning.figures import draw_differences, draw_overlap, draw_training
from benchmarks.learning.pairs import PAIRS
from benchmarks.learning.statistics import Estimate, Results
from benchmarks.learning.sweep import read

BASELINE = "solo"
#: The default of today, and the one before it, with which every other arm is compared, too.
TODAY = ("default_derived", "default")
#: The default of the first release, and the arm that is the same in all but whose trace is imitated.
DEFAULT, CONTROL = "peer_trace_logdet_right", "own_trace_logdet_right"


def write_report(file: Path) -> Path:
    """Write ``<name>.md`` and its figures; returns the path of the text."""
    lines = list(read(file))
    pair = lines[0]["pair"]
    results = Results(lines, PAIRS[pair].lr, PAIRS[pair].unit)
    arms = [arm for arm in ARMS if arm in results.runs]
    trained = [arm for arm in arms if ARMS[arm].trained]
    draw_differences(results, [a for a in trained if a != BASELINE], BASELINE, _beside(file, "differences"))
    draw_training(results, trained, _beside(file, "training"))
    draw_overlap(results, arms, _beside(file, "overlap"))
    parts = [
        f"# Results of the {pair} pair",
        f"Made from `{file.name}` ({len(lines)} runs) by `python -m benchmarks.learning report`. Percent unless a unit is "
        "named; brackets are 95 % intervals.",
        "## Held-out problems, cold prompt",
        _table(_level_rows(results, arms)),
        f"## Paired differences to {BASELINE}",
        f"Bootstrap over {PAIRS[pair].unit.replace('_', ' ')}s and problems; in the last columns the t interval over seeds "
        "alone, and how many seeds lie above 0 by mean Pass@1 and by Team Pass@2.",
        _table(_difference_rows(results, [a for a in trained if a != BASELINE], BASELINE)),
        f"![differences]({_beside(file, 'differences').name})",
        *_against_today(results, trained),
        *_against_control(results),
        *_on_the_check(lines, pair),
        "## What it cost and what moved",
        _table(_cost_rows(results, arms)),
        f"![training]({_beside(file, 'training').name})",
        "## Who fails where",
        f"![overlap]({_beside(file, 'overlap').name})",
        *_rates(lines, pair),
    ]
    text = file.with_suffix(".md")
    text.write_text("\n\n".join(parts) + "\n")
    return text


def _beside(file: Path, name: str) -> Path:
    return file.with_name(f"{file.stem}_{name}.png")


def _level_rows(results: Results, arms: Sequence[str]) -> Iterable[Sequence[str]]:
    peers = results.peers
    figures = [f"{peer}/pass_at_{k}" for k in (1, 2) for peer in peers] + ["pass_at_1", "team_pass_at_2"]
    figures += [f"{peer}/pass_at_4" for peer in peers] + ["majority_vote", "neither", "all_fail"]
    titles = [f"{peer} Pass@{k}" for k in (1, 2) for peer in peers] + ["mean Pass@1", "Team Pass@2"]
    titles += [f"{peer} Pass@4" for peer in peers]
    yield ["arm", "seeds", *titles, "majority of 4", "neither in 2", "nobody in all", "phi", "runs that ruined a peer"]
    for arm in arms:
        cells = [_level(results.estimate(arm, figure)) for figure in figures]
        phi = results.phi(arm).value
        told = f"{phi:+.2f}" if math.isfinite(phi) else ""
        yield [arm, str(len(results.seeds(arm))), *cells, told, _ruined(results, arm)]


def _ruined(results: Results, arm: str) -> str:
    """Runs that left a peer more than two points below what it began with, of all."""
    if "base" not in results.runs or not ARMS[arm].trained:
        return ""
    ruined, known = results.ruined(arm)
    return f"{ruined} of {known}" if known else ""


def _against_today(results: Results, trained: Sequence[str]) -> list[str]:
    parts = []
    for today in (arm for arm in TODAY if arm in results.runs):
        others = [arm for arm in trained if arm != today]
        parts += [f"## Paired differences to {today}", _table(_difference_rows(results, others, today))]
    return parts


def _against_control(results: Results) -> list[str]:
    if not {DEFAULT, CONTROL} <= results.runs.keys():
        return []
    title = "## The default against imitating one's own traces"
    return [title, _table(_difference_rows(results, [DEFAULT], CONTROL))]


def _on_the_check(lines: Sequence[Mapping[str, Any]], pair: str) -> list[str]:
    """The same two tables for the problems of ``--check``, which no arm was trained on."""
    checked = [{**line, "held_out": line["check"]} for line in lines if "check" in line]
    if not checked:
        return []
    results = Results(checked, PAIRS[pair].lr, PAIRS[pair].unit)
    arms = [arm for arm in ARMS if arm in results.runs]
    others = [arm for arm in arms if arm != BASELINE]
    title = "## Problems of another kind (`--check`), cold prompt"
    return [title, _table(_level_rows(results, arms)), _table(_difference_rows(results, others, BASELINE))]


def _difference_rows(results: Results, arms: Sequence[str], beside: str) -> Iterable[Sequence[str]]:
    peers = results.peers
    figures = ["pass_at_1", "team_pass_at_2", *(f"{peer}/pass_at_1" for peer in peers), "majority_vote"]
    heads = ["mean Pass@1", "Team Pass@2", *(f"{peer} Pass@1" for peer in peers), "majority of 4"]
    yield ["arm", "seeds", *heads, "t: mean Pass@1", "t: Team Pass@2", "seeds above 0"]
    for arm in arms:
        found = [results.difference(arm, beside, figure) for figure in figures]
        above = " and ".join(str(sum(v > 0 for v in e.by_seed)) for e in found[:2])
        strict = [_interval(*e.student) for e in found[:2]]
        yield [arm, str(len(found[0].by_seed)), *map(_change, found), *strict, above]


def _cost_rows(results: Results, arms: Sequence[str]) -> Iterable[Sequence[str]]:
    spent = ("completions", "problems", "optimizer_steps", "training_cpu_seconds")
    moved = ("rescue rate first → last", "leakage", "KL, nats/token", "entropy, nats/token", "tokens", "truncated")
    yield ["arm", "what", *(name.replace("_", " ") for name in spent), *moved]
    for arm in arms:
        rate = results.rescue_rate(arm)
        leaks = [v for v in results.curve(arm, "hint_leakage") if math.isfinite(v)]
        yield [
            arm,
            ARMS[arm].about,
            *(f"{results.mean(arm, 'budget', name):.0f}" for name in spent),
            f"{100 * rate[0]:.0f} → {100 * rate[-1]:.0f}" if rate and math.isfinite(rate[0] + rate[-1]) else "",
            f"{100 * sum(leaks) / len(leaks):.1f}" if leaks else "",
            *(f"{results.mean(arm, 'held_out', name):.3f}" for name in ("kl", "entropy")),
            f"{results.mean(arm, 'held_out', 'tokens'):.1f}",
            f"{100 * results.mean(arm, 'held_out', 'truncated'):.1f}",
        ]


def _rates(lines: Sequence[dict], pair: str) -> list[str]:
    """Runs at other learning rates, beside those at the shared one on the same seeds."""
    unit = PAIRS[pair].unit
    others = sorted({line["lr"] for line in lines} - {PAIRS[pair].lr})
    if not others:
        return []
    rows = [["arm", "lr", "seeds", "mean Pass@1", "Team Pass@2"]]
    for arm in ARMS:
        seeds = {line[unit] for line in lines if line["arm"] == arm and line["lr"] in others}
        same = [line for line in lines if line["arm"] == arm and line[unit] in seeds]
        for lr in sorted([*others, PAIRS[pair].lr]):
            results = Results(same, lr, unit)
            if arm in results.runs:
                cells = [_level(results.estimate(arm, figure)) for figure in ("pass_at_1", "team_pass_at_2")]
                rows.append([arm, f"{lr:g}", ", ".join(map(str, results.seeds(arm))), *cells])
    return ["## Learning rates", _table(rows)]


def _table(rows: Iterable[Sequence[str]]) -> str:
    head, *body = rows
    return "\n".join(f"| {' | '.join(cells)} |" for cells in [head, ["---"] * len(head), *body])


def _level(estimate: Estimate) -> str:
    return f"{100 * estimate.value:.1f} [{100 * estimate.low:.1f}, {100 * estimate.high:.1f}]"


def _change(estimate: Estimate) -> str:
    return f"{100 * estimate.value:+.1f} {_interval(estimate.low, estimate.high)}"


def _interval(low: float, high: float) -> str:
    return f"[{100 * low:+.1f}, {100 * high:+.1f}]" if math.isfinite(low) else ""
