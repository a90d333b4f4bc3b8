"""The pictures of a run, drawn off-screen: one for light pages and one for dark ones."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

from core_lightning.report.evaluation import Evaluation, sampled_k
from core_lightning.report.phases import phase_seconds
from core_lightning.report.plotting import (
    DARK,
    LIGHT,
    Axes,
    Figure,
    RunData,
    Theme,
    canvas,
    curve,
    peer_colors,
    percent_axis,
    smooth,
    step_axis,
    style,
    window_of,
)
from core_lightning.report.tables import peer_names, percent

Drawn = tuple[str, str, str, Figure]
"""Name, title, caption and picture."""

DPI = 150
PANEL = (4.2, 3.2)
"""Inches of a panel, which a phone shows whole."""
INTERVALS = "are 95 % intervals over problems"


@dataclass(frozen=True)
class Panel:
    """One picture of the report."""

    name: str
    """Its file is ``<name>.png``."""
    section: str
    title: str
    caption: str
    """What is there to see, in words and numbers."""


def draw_figures(run: RunData, folder: Path) -> list[Panel]:
    """Write ``<name>.png`` and ``<name>-dark.png`` for every panel that has something to show, in reading order."""
    from matplotlib import rc_context
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    folder.mkdir(parents=True, exist_ok=True)
    panels = []
    for section, draws in SECTIONS.items():
        for draw in draws:
            for theme, suffix in ((LIGHT, ""), (DARK, "-dark")):
                with rc_context(style(theme)):  # type: ignore[arg-type]
                    for name, title, caption, figure in draw(run, theme):
                        FigureCanvasAgg(figure)
                        _lay_out(figure)
                        figure.savefig(folder / f"{name}{suffix}.png", dpi=DPI)
                        if theme is LIGHT:
                            panels.append(Panel(name, section, title, caption))
    return panels


def _lay_out(figure: Figure) -> None:
    """Give every part its place now: a figure that still lays itself out is drawn twice when it is saved."""
    figure.set_dpi(DPI)
    figure.get_layout_engine().execute(figure)
    figure.set_layout_engine(None)


def failure_table(evaluation: Evaluation, first: str, second: str) -> list[list[float]]:
    """Shares of problems by ``[first solves, first fails][second solves, second fails]``."""
    failed = [[score == 0 for score in evaluation["per_problem"][f"{p}/pass_at_1"]] for p in (first, second)]
    pairs = list(zip(*failed, strict=True))
    return [[pairs.count((a, b)) / len(pairs) for b in (False, True)] for a in (False, True)]


def draw_solved(run: RunData, theme: Theme) -> Iterator[Drawn]:
    """Solved share in training."""
    steps = run.steps
    if not steps:
        return
    figure, (axes,) = canvas(*PANEL)
    said = []
    for peer, color in peer_colors(run, theme).items():
        values = run.columns[f"train/{peer}/accuracy"]
        curve(axes, steps, values, color, f"{peer}, traces", 100)
        said.append(f"{peer} {_ends(values)}")
    if len(run.peers) > 1:
        curve(axes, steps, run.columns["train/team_solved"], theme.team, "team, problems", 100)
        said.append(f"the team {_ends(run.columns['train/team_solved'])}")
    percent_axis(axes)
    step_axis(axes)
    axes.legend(loc="best")
    team = ", and problems that at least one peer solved" if len(run.peers) > 1 else ""
    caption = f"Right cold traces of each peer{team}. {_dots(steps)} {_said(said, steps)}"
    yield "solved", "Solved in training, without a hint", caption, figure


def draw_rescue_rate(run: RunData, theme: Theme) -> Iterator[Drawn]:
    """Rescued over hinted pairs in a moving window; a dot is one step, larger with more hints."""
    rates = [100 * rate for rate in run.columns.get("train/rescue_rate", [])]
    if not any(map(math.isfinite, rates)):
        return
    steps, hints = run.steps, run.columns["train/hints"]
    figure, (axes,) = canvas(*PANEL)
    most = max((n for n in hints if math.isfinite(n)), default=0) or 1
    axes.scatter(
        steps, rates, s=[60 * n / most for n in hints], color=theme.rescue, alpha=0.28, linewidths=0, clip_on=False
    )
    axes.plot(steps, smooth(rates, window_of(len(steps)), hints), color=theme.rescue, linewidth=2.2)
    percent_axis(axes)
    step_axis(axes)
    pairs = sum(n for n in hints if math.isfinite(n))
    rescued = sum(r * n / 100 for r, n in zip(rates, hints, strict=True) if math.isfinite(r) and math.isfinite(n))
    caption = (
        f"A peer that failed a problem tried again with a hint {pairs:.0f} times and was right {rescued:.0f} times "
        f"({percent(rescued / pairs)} %). {_dots(steps)} Larger dots are steps with more hints."
    )
    yield "rescue_rate", "Rescue rate", caption, figure


def draw_held_out(run: RunData, theme: Theme) -> Iterator[Drawn]:
    """Pass@1 of the peers and Team Pass@k at every evaluation."""
    if not run.history:
        return
    k, at = sampled_k(run.history[-1]), [e["step"] for e in run.history]
    figure, (axes,) = canvas(*PANEL)
    series = [(f"{peer}/pass_at_1", color, f"{peer} Pass@1") for peer, color in peer_colors(run, theme).items()]
    series += [(f"team_pass_at_{k}", theme.team, f"Team Pass@{k}")] * (len(run.peers) > 1)
    said = []
    for name, color, label in series:
        figures = [e["values"][name] for e in run.history]
        low, high = ([100 * f[bound] for f in figures] for bound in ("low", "high"))
        axes.fill_between(at, low, high, color=color, alpha=0.13, linewidth=0)
        values = [100 * f["value"] for f in figures]
        axes.plot(at, values, "o-", color=color, linewidth=2.2, markersize=4.5, label=label)
        said.append(f"{label} {_from_to([f['value'] for f in figures])}")
    percent_axis(axes)
    step_axis(axes)
    axes.legend(loc="best")
    size = len(run.history[-1]["ids"])
    caption = f"{size} problems nobody was trained on, without a hint; bands {INTERVALS}. {_said(said)}"
    yield "held_out", "Held-out problems", caption, figure


def _from_to(values: Sequence[float]) -> str:
    return f"from {percent(values[0])} to {percent(values[-1])} %" if len(values) > 1 else f"{percent(values[0])} %"


def _ends(values: Sequence[float]) -> str:
    """The means over the first and the last steps of a window, in words."""
    window = window_of(len(values))
    known = [v for v in values if math.isfinite(v)]
    ends = (known[:window], known[-window:])
    return _from_to([sum(end) / len(end) for end in ends]) if known else "unknown"


def _dots(steps: Sequence[float]) -> str:
    window = window_of(len(steps))
    return f"Dots are steps, lines a moving average over {window} of them." if window > 1 else "Dots are steps."


def _said(parts: Sequence[str], steps: Sequence[float] = ()) -> str:
    window = window_of(len(steps))
    when = f" (means of the first and the last {window} steps)" if steps and window > 1 else ""
    return f"In numbers: {', '.join(parts)}{when}." if parts else ""


def draw_before_after(run: RunData, theme: Theme) -> Iterator[Drawn]:
    """Every headline figure before and after, with intervals and the chance level."""
    if not run.history:
        return
    before, after = run.history[0], run.history[-1]
    k, peers, colors = sampled_k(after), peer_names(after), peer_colors(run, theme)
    budget = k * len(peers)
    lines = [
        (f"{p} Pass@{s}", f"{p}/pass_at_{s}", f"chance_pass_at_{s}", colors.get(p, theme.ink))
        for p in peers
        for s in dict.fromkeys((1, k))
    ]
    if len(peers) > 1:
        lines += [
            (f"Team Pass@{k}", f"team_pass_at_{k}", f"chance_pass_at_{budget}", theme.team),
            (f"Best peer Pass@{budget}", "equal_budget", f"chance_pass_at_{budget}", theme.faint),
            (f"Majority vote of {budget}", "majority_vote", "chance_pass_at_1", theme.faint),
        ]
    lines = [line for line in lines if math.isfinite(after["values"][line[1]]["value"])]
    figure, (axes,) = canvas(PANEL[0], 0.9 + 0.4 * len(lines))
    runs = [before, after] if before is not after else [after]
    for row, (_, name, chance, color) in enumerate(reversed(lines)):
        for evaluation in runs:
            value = evaluation["values"][name]
            y, face, width = (row - 0.14, color, 3.0) if evaluation is after else (row + 0.14, theme.page, 1.6)
            axes.plot([100 * value["low"], 100 * value["high"]], [y] * 2, color=color, linewidth=width, alpha=0.5)
            axes.plot(
                100 * value["value"], y, "o", color=color, markerfacecolor=face, markersize=7.5, markeredgewidth=1.8
            )
        level = 100 * after["values"][chance]["value"]
        if level > 0:
            axes.plot([level] * 2, [row - 0.36, row + 0.36], color=theme.faint, linewidth=1.4, linestyle=(0, (2, 2)))
    axes.set_yticks(range(len(lines)), [label for label, *_ in reversed(lines)], color=theme.ink)
    axes.set_ylim(-0.6, len(lines) - 0.4)
    axes.set_xlim(-2, 102)
    axes.grid(axis="y", visible=False)
    axes.spines["left"].set_visible(False)
    axes.set_xlabel("percent")
    marks = (
        f"Hollow: step {before['step']}; filled: step {after['step']}"
        if before is not after
        else f"Step {after['step']}"
    )
    chance_said = (
        " A dashed tick is what blind guessing reaches."
        if any(after["values"][chance]["value"] > 0 for _, _, chance, _ in lines)
        else ""
    )
    best = f" Best peer Pass@{budget} is one peer with the samples of the whole team." if len(peers) > 1 else ""
    caption = f"{marks}, of {len(after['ids'])} held-out problems. Bars {INTERVALS}.{chance_said}{best}"
    yield "before_after", "Before and after" if before is not after else "One evaluation", caption, figure


def draw_error_overlap(run: RunData, theme: Theme) -> Iterator[Drawn]:
    """Which problems each pair of peers solves, before and after, as areas."""
    if not run.history or len(run.peers) < 2:
        return
    ends = [run.history[0], run.history[-1]][: 1 + (len(run.history) > 1)]
    for (i, first), (j, second) in combinations(enumerate(run.peers), 2):
        for evaluation in ends:
            figure, (axes,) = canvas(PANEL[0], PANEL[0])
            axes.axis("off")
            shares = failure_table(evaluation, first, second)
            _draw_mosaic(axes, shares, first, second, run, theme)
            caption = (
                f"Held-out problems at step {evaluation['step']}: both solve {percent(shares[0][0])} %, only {first} "
                f"solves {percent(shares[0][1])} %, only {second} solves {percent(shares[1][0])} %, both fail "
                f"{percent(shares[1][1])} %. "
                "A peer fails where all its samples are wrong. Were failures independent, both columns would be cut alike."
            )
            title = f"Who solves what, step {evaluation['step']}: {first}, {second}"
            yield f"error_overlap_{i + 1}_{j + 1}_step{evaluation['step']}", title, caption, figure


def _draw_mosaic(
    axes: Axes, shares: Sequence[Sequence[float]], first: str, second: str, run: RunData, theme: Theme
) -> None:
    """Width is how often the first peer solves or fails, height how often then the second: equal cuts mean chance."""
    from matplotlib.patches import Rectangle

    colors = peer_colors(run, theme)
    fills = [[theme.grid, colors[first]], [colors[second], theme.rescue]]
    names = [["both solve", f"only {first} solves"], [f"only {second} solves", "both fail"]]
    left, gap = 0.0, 0.008
    for i, column in enumerate(shares):
        width, bottom = sum(column), 0.0
        for j, share in enumerate(column):
            height = share / width if width else 0.0
            if share:
                size = (max(width - gap, 0.002), max(height - gap, 0.002))
                axes.add_patch(Rectangle((left + gap / 2, bottom + gap / 2), *size, facecolor=fills[i][j], linewidth=0))
            _label_area(
                axes, (left, bottom, width, height), names[i][j], share, theme.ink if i + j == 0 else theme.page
            )
            bottom += height
        left += width
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1)
    axes.set_aspect("equal")


def _label_area(axes: Axes, area: tuple[float, float, float, float], name: str, share: float, color: str) -> None:
    """Name and share inside a rectangle, upright if it is narrow, the share alone if there is no room for both."""
    left, bottom, width, height = area
    per_letter, line = 0.033, 0.075
    room = width > per_letter * len(name) and height > 2 * line
    upright = not room and height > per_letter * len(name) and width > 2 * line
    if not room and not upright and (width < line * 1.6 or height < line):
        return
    axes.text(
        left + width / 2,
        bottom + height / 2,
        f"{name}\n{100 * share:.0f} %" if room or upright else f"{100 * share:.0f} %",
        ha="center",
        va="center",
        color=color,
        fontsize=9,
        fontweight="bold",
        rotation=90 if upright else 0,
    )


def draw_reward_terms(run: RunData, theme: Theme) -> Iterator[Drawn]:
    """Mean of each reward term."""
    terms = [n for n in run.columns if n.startswith("reward/") and n.endswith("/mean")]
    if not run.steps or not terms:
        return
    figure, (axes,) = canvas(*PANEL)
    for i, name in enumerate(terms):
        curve(axes, run.steps, run.columns[name], theme.terms[i % len(theme.terms)], name.split("/")[1])
    step_axis(axes)
    axes.set_ylabel("mean reward")
    axes.legend(loc="best")
    caption = f"Each term before it is weighted, over the traces it had an opinion on. {_dots(run.steps)}"
    yield "reward_terms", "Reward terms", caption, figure


def draw_rewards(run: RunData, theme: Theme) -> Iterator[Drawn]:
    """Mean reward of each peer."""
    rewards = {p: run.columns[f"train/{p}/reward"] for p in run.peers if f"train/{p}/reward" in run.columns}
    if not run.steps or not any(math.isfinite(v) for values in rewards.values() for v in values):
        return
    figure, (axes,) = canvas(*PANEL)
    colors = peer_colors(run, theme)
    for peer, values in rewards.items():
        curve(axes, run.steps, values, colors[peer], peer)
    step_axis(axes)
    axes.set_ylabel("mean reward")
    axes.legend(loc="best")
    yield (
        "rewards",
        "Reward of each peer",
        f"Weighted sum of the terms, mean over its traces. {_dots(run.steps)}",
        figure,
    )


def draw_time(run: RunData, theme: Theme) -> Iterator[Drawn]:
    """Seconds of a mean step by phase and peer."""
    seconds = phase_seconds(run.columns)
    if not seconds:
        return
    colors = {**peer_colors(run, theme), "": theme.faint}
    figure, (axes,) = canvas(PANEL[0], 1.2 + 0.3 * len(seconds))
    spent = {phase: sum(by_peer.values()) for phase, by_peer in seconds.items()}
    longest, total = max(spent.values()), sum(spent.values())
    for row, (phase, by_peer) in enumerate(reversed(seconds.items())):
        start = 0.0
        for owner in [peer for peer in [*run.peers, ""] if peer in by_peer]:
            axes.barh(row, by_peer[owner], left=start, height=0.62, color=colors[owner], edgecolor=theme.page)
            start += by_peer[owner]
        share = 100 * spent[phase] / total if total else 0.0
        axes.text(start + longest * 0.012, row, f"{share:.0f} %", va="center", color=theme.faint)
    axes.set_yticks(range(len(seconds)), list(reversed(seconds)), color=theme.ink)
    for owner in [*run.peers, ""]:
        if any(owner in by_peer for by_peer in seconds.values()):
            axes.barh(0, 0, color=colors[owner], label=owner or "all at once")
    figure.legend(loc="outside upper left", ncols=len(run.peers) + 1)
    axes.set_xlim(0, longest * 1.14 or 1)
    axes.set_xlabel("seconds of a mean step")
    axes.grid(axis="y", visible=False)
    axes.spines["left"].set_visible(False)
    first = max(spent, key=lambda phase: spent[phase])
    most = f"most of it is {first} ({spent[first]:.2f} s)"
    caption = f"A mean step has {total:.2f} s of work; {most}. Percentages are of the whole."
    yield "time", "Seconds of a step", caption, figure


SECTIONS: Mapping[str, Sequence[Callable[[RunData, Theme], Iterator[Drawn]]]] = {
    "Held-out problems": (draw_held_out, draw_before_after, draw_error_overlap),
    "Training": (draw_solved, draw_rescue_rate, draw_reward_terms, draw_rewards),
    "Time": (draw_time,),
}
