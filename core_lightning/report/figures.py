"""The pictures of a run, drawn off-screen: one for light pages and one for dark ones."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from itertools import combinations, product
from pathlib import Path

from core_lightning.report.evaluation import Evaluation
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
from core_lightning.report.tables import peer_names, sampled_k

DPI = 150


def draw_figures(run: RunData, folder: Path) -> dict[str, str]:
    """Write ``<name>.png`` and ``<name>-dark.png`` for every figure that has something to show.

    Returns:
        Captions by name, in reading order.
    """
    from matplotlib import rc_context
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    folder.mkdir(parents=True, exist_ok=True)
    captions = {}
    for name, (caption, draw) in FIGURES.items():
        for theme, suffix in ((LIGHT, ""), (DARK, "-dark")):
            with rc_context(style(theme)):  # type: ignore[arg-type]
                figure = draw(run, theme)
                if figure is None:
                    break
                FigureCanvasAgg(figure)
                figure.savefig(folder / f"{name}{suffix}.png", dpi=DPI)
                captions[name] = caption
    return captions


def failure_table(evaluation: Evaluation, first: str, second: str) -> list[list[float]]:
    """Shares of problems by ``[first solves, first fails][second solves, second fails]``."""
    failed = [[score == 0 for score in evaluation["per_problem"][f"{p}/pass_at_1"]] for p in (first, second)]
    pairs = list(zip(*failed, strict=True))
    return [[pairs.count((a, b)) / len(pairs) for b in (False, True)] for a in (False, True)]


def draw_learning(run: RunData, theme: Theme) -> Figure | None:
    """Solved share in training, rescue rate, and Pass@k on held-out problems."""
    steps, colors = run.columns["step"], peer_colors(run, theme)
    if not steps:
        return None
    rescues = run.columns.get("train/rescue_rate", [])
    hinted = any(map(math.isfinite, rescues))
    figure, panels = canvas(10.6, 3.5, 1 + hinted + bool(run.history))
    solved = panels.pop(0)
    solved.set_title("Solved in training, cold prompt")
    for peer in run.peers:
        curve(solved, steps, run.columns[f"train/{peer}/accuracy"], colors[peer], f"{peer}, traces", 100)
    if len(run.peers) > 1:
        curve(solved, steps, run.columns["train/team_solved"], theme.team, "team, problems", 100)
    percent_axis(solved)
    step_axis(solved)
    solved.legend(loc="best")
    if hinted:
        _draw_rescue_rate(panels.pop(0), run, theme)
    if run.history:
        _draw_held_out(panels[0], run, theme)
    return figure


def _draw_rescue_rate(axes: Axes, run: RunData, theme: Theme) -> None:
    """Rescued over hinted pairs in a moving window; a dot is one step, larger with more hints."""
    steps, hints = run.columns["step"], run.columns["train/hints"]
    rates = [100 * rate for rate in run.columns["train/rescue_rate"]]
    most = max((n for n in hints if math.isfinite(n)), default=0) or 1
    sizes = [60 * n / most for n in hints]
    axes.scatter(steps, rates, s=sizes, color=theme.rescue, alpha=0.28, linewidths=0, clip_on=False)
    axes.plot(steps, smooth(rates, window_of(len(steps)), hints), color=theme.rescue, linewidth=2.2)
    axes.set_title(f"Rescue rate ({sum(hints):.0f} hints)")
    percent_axis(axes)
    step_axis(axes)


def _draw_held_out(axes: Axes, run: RunData, theme: Theme) -> None:
    k = sampled_k(run.history[-1])
    series = [(f"{peer}/pass_at_1", color, f"{peer} Pass@1") for peer, color in peer_colors(run, theme).items()]
    series += [(f"team_pass_at_{k}", theme.team, f"Team Pass@{k}")] * (len(run.peers) > 1)
    at = [e["step"] for e in run.history]
    for name, color, label in series:
        figures = [e["values"][name] for e in run.history]
        low, high = ([100 * f[bound] for f in figures] for bound in ("low", "high"))
        axes.fill_between(at, low, high, color=color, alpha=0.13, linewidth=0)
        axes.plot(
            at, [100 * f["value"] for f in figures], "o-", color=color, linewidth=2.2, markersize=4.5, label=label
        )
    axes.set_title(f"Held-out problems ({len(run.history[-1]['ids'])})")
    percent_axis(axes)
    step_axis(axes, "steps trained")
    axes.legend(loc="best")


def draw_before_after(run: RunData, theme: Theme) -> Figure | None:
    """Every headline figure before and after, with intervals and the chance level."""
    if not run.history:
        return None
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
    figure, (axes,) = canvas(9.2, 0.9 + 0.52 * len(lines))
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
    axes.set_xlabel("percent of held-out problems")
    was = f"Step {before['step']} (hollow) and step" if before is not after else "Step"
    axes.set_title(f"{was} {after['step']}{' (filled)' if before is not after else ''}")
    return figure


def draw_error_overlap(run: RunData, theme: Theme) -> Figure | None:
    """Which problems each pair of peers solves, before and after, as areas."""
    from matplotlib.patches import Rectangle

    if not run.history or len(run.peers) < 2:
        return None
    pairs = list(combinations(run.peers, 2))
    ends = [run.history[0], run.history[-1]][: 1 + (len(run.history) > 1)]
    columns = len(ends) * (1 + (len(pairs) > 1))  # more than one pair: two of them in a row
    rows = math.ceil(len(pairs) * len(ends) / columns)
    size = 3.6 if len(pairs) == 1 else 2.6
    figure, panels = canvas(size * columns, (size + 0.3) * rows, columns, rows)
    for axes in panels:
        axes.axis("off")
    for axes, ((first, second), evaluation) in zip(panels, product(pairs, ends), strict=False):
        _draw_mosaic(axes, failure_table(evaluation, first, second), first, second, run, theme)
        axes.set_title(f"{first} and {second}, step {evaluation['step']}")
    colors = peer_colors(run, theme)
    areas = {"both solve": theme.grid, **{f"only {p}": colors[p] for p in run.peers}, "both fail": theme.rescue}
    handles = [Rectangle((0, 0), 1, 1, color=color) for color in areas.values()]
    figure.legend(handles, areas, loc="outside lower center", ncols=len(areas))
    return figure


def _draw_mosaic(
    axes: Axes, shares: Sequence[Sequence[float]], first: str, second: str, run: RunData, theme: Theme
) -> None:
    """Width is how often the first peer solves or fails, height how often then the second: equal cuts mean chance."""
    from matplotlib.patches import Rectangle

    colors = peer_colors(run, theme)
    fills = [[theme.grid, colors[first]], [colors[second], theme.rescue]]
    names = [["both solve", f"only {first}"], [f"only {second}", "both fail"]]
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


def draw_rewards(run: RunData, theme: Theme) -> Figure | None:
    """Mean of each reward term, and mean reward of each peer."""
    steps = run.columns["step"]
    terms = [n for n in run.columns if n.startswith("reward/") and n.endswith("/mean")]
    rewards = {peer: run.columns.get(f"train/{peer}/reward", []) for peer in run.peers}
    if not steps or not (terms or any(rewards.values())):
        return None
    figure, (left, right) = canvas(10.4, 3.7, 2)
    left.set_title("Reward terms, unweighted mean")
    for i, name in enumerate(terms):
        curve(left, steps, run.columns[name], theme.terms[i % len(theme.terms)], name.split("/")[1])
    right.set_title("Reward by peer")
    for peer, color in peer_colors(run, theme).items():
        if rewards[peer]:
            curve(right, steps, rewards[peer], color, peer)
    for axes in (left, right):
        step_axis(axes)
        if axes.get_legend_handles_labels()[0]:
            axes.legend(loc="best")
    return figure


def draw_time(run: RunData, theme: Theme) -> Figure | None:
    """Seconds of a mean step by phase and peer."""
    seconds = phase_seconds(run.columns)
    if not seconds:
        return None
    colors = {**peer_colors(run, theme), "": theme.faint}
    figure, (axes,) = canvas(9.2, 1.2 + 0.36 * len(seconds))
    longest = max(sum(by_peer.values()) for by_peer in seconds.values())
    total = sum(sum(by_peer.values()) for by_peer in seconds.values())
    for row, by_peer in enumerate(reversed(list(seconds.values()))):
        start = 0.0
        for owner in [peer for peer in [*run.peers, ""] if peer in by_peer]:
            spent = by_peer[owner]
            axes.barh(row, spent, left=start, height=0.62, color=colors.get(owner, theme.faint), edgecolor=theme.page)
            start += spent
        axes.text(start + longest * 0.012, row, f"{100 * start / total:.0f} %", va="center", color=theme.faint)
    axes.set_yticks(range(len(seconds)), list(reversed(seconds)), color=theme.ink)
    for owner in [*run.peers, ""]:
        if any(owner in by_peer for by_peer in seconds.values()):
            axes.barh(0, 0, color=colors[owner], label=owner or "all peers at once")
    figure.legend(loc="outside upper left", ncols=len(run.peers) + 1)
    axes.set_xlim(0, longest * 1.1 or 1)
    axes.set_xlabel("seconds of a mean step")
    axes.grid(axis="y", visible=False)
    axes.spines["left"].set_visible(False)
    return figure


FIGURES: Mapping[str, tuple[str, Callable[[RunData, Theme], Figure | None]]] = {
    "learning": (
        "Dots are steps, lines a moving average; bands are bootstrap 95 % intervals over problems.",
        draw_learning,
    ),
    "before_after": (
        "Bars are bootstrap 95 % intervals over problems; a dashed tick is what blind guessing reaches.",
        draw_before_after,
    ),
    "error_overlap": (
        "Every area is the share of held-out problems. A peer fails a problem when all its samples are wrong. Were the "
        "failures independent, the cut would be equally high in both columns.",
        draw_error_overlap,
    ),
    "rewards": ("Terms before weighting, over the traces they had an opinion on.", draw_rewards),
    "time": ("Percentages are shares of the step.", draw_time),
}
