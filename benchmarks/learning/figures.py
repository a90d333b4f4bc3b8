"""The pictures: paired differences, training over time, and who fails where."""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.learning.statistics import Estimate, Results
from core_lightning.report.plotting import LIGHT

PEERS = LIGHT.peers
WIN, LOSS, OPEN = "#1a7f4b", "#b3261e", "#6b7684"


@contextmanager
def _figure(path: Path, rows: int, columns: int, size: tuple[float, float], **options: Any) -> Any:
    import matplotlib as mpl

    style: Any = {
        "font.size": 10,
        "axes.edgecolor": LIGHT.grid,
        "axes.labelcolor": LIGHT.ink,
        "text.color": LIGHT.ink,
        "xtick.color": LIGHT.faint,
        "ytick.color": LIGHT.ink,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.grid": True,
        "axes.axisbelow": True,
        "grid.color": LIGHT.grid,
        "figure.dpi": 150,
    }
    with mpl.rc_context(style):
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure

        figure = Figure(figsize=size, layout="constrained")
        FigureCanvasAgg(figure)
        yield figure, figure.subplots(rows, columns, squeeze=False, **options)
        figure.savefig(path)


def draw_differences(results: Results, arms: Sequence[str], baseline: str, path: Path) -> None:
    """A row per arm: the paired difference to the baseline with its interval, and a dot for every seed."""
    panels = {"pass_at_1": "mean Pass@1 of the peers", "team_pass_at_2": "Team Pass@2"}
    order = sorted(arms, key=lambda arm: results.difference(arm, baseline, "pass_at_1").value)
    with _figure(path, 1, 2, (10, 1.2 + 0.36 * len(arms)), sharey=True) as (figure, axes):
        for axis, (name, title) in zip(axes[0], panels.items(), strict=True):
            axis.axvline(0, color=LIGHT.ink, linewidth=1)
            for row, arm in enumerate(order):
                _difference(axis, row, results.difference(arm, baseline, name))
            axis.set_title(title, loc="left", fontsize=11)
            axis.set_xlabel("percentage points")
            axis.grid(axis="y", visible=False)
        axes[0][0].set_yticks(range(len(order)), order)
        axes[0][0].set_ylim(-0.5, len(order) - 0.5)
        axes[0][0].tick_params(left=False)
        figure.suptitle(
            f"Against {baseline} at an equal budget: mean, 95 % interval, and every seed", x=0.01, ha="left"
        )


def _difference(axis: Any, row: int, estimate: Estimate) -> None:
    colour = WIN if estimate.low > 0 else LOSS if estimate.high < 0 else OPEN
    axis.plot([100 * estimate.low, 100 * estimate.high], [row, row], color=colour, linewidth=3, solid_capstyle="round")
    axis.plot(100 * estimate.value, row, "o", color=colour, markersize=9, markeredgecolor="white")
    seeds = [100 * value for value in estimate.by_seed]
    axis.plot(seeds, [row + 0.22] * len(seeds), "o", color=colour, markersize=3.5, alpha=0.55, linewidth=0)


def draw_training(results: Results, arms: Sequence[str], path: Path) -> None:
    """A panel per arm: cold Pass@1 of each peer on fresh training problems, and Team Pass@2; held-out seeds as dots."""
    columns = min(4, len(arms))
    rows = math.ceil(len(arms) / columns)
    height = 0.6 + 2.1 * rows if columns == 4 else 3.6
    with _figure(path, rows, columns, (11, height), sharex=True, sharey=True) as (figure, axes):
        flat = [axis for line in axes for axis in line]
        for axis in flat[len(arms) :]:
            axis.set_visible(False)
        for axis, arm in zip(flat, arms, strict=False):
            _training(axis, results, arm)
        flat[0].set_ylim(0, 100)
        figure.legend(*flat[0].get_legend_handles_labels(), loc="outside lower center", ncols=3, frameon=False)
        figure.suptitle(
            "Percent over the share of training done. Lines: fresh training problems; dots: held-out, before and after, "
            "every seed",
            x=0.01,
            ha="left",
            fontsize=10,
        )


def _training(axis: Any, results: Results, arm: str) -> None:
    shown = [(f"{peer}/pass_at_1", f"{peer}, Pass@1", PEERS[i]) for i, peer in enumerate(results.peers)]
    for name, label, colour in (*shown, ("team_pass_at_2", "team, Pass@2", LIGHT.team)):
        curve = results.curve(arm, name)
        centres = [(i + 0.5) / len(curve) for i in range(len(curve))]
        axis.plot(centres, [100 * v for v in curve], color=colour, linewidth=1.8, label=label)
        for place, which in ((-0.03, "base"), (1.03, arm)):
            seeds = [100 * v for v in results.estimate(which, name).by_seed] if which in results.runs else []
            axis.plot([place] * len(seeds), seeds, "o", color=colour, markersize=3.2, alpha=0.7, linewidth=0)
    axis.set_title(arm, loc="left", fontsize=10)
    axis.set_xticks([0, 0.5, 1], ["0", "½", "1"])


def draw_overlap(results: Results, arms: Sequence[str], path: Path) -> None:
    """A bar per arm: the share of held-out problems that two samples of each peer solve: both, one, none."""
    first, second = results.peers[:2]
    parts = [
        ("both_solve", "both", "#2f9c8a"),
        ("only_first", f"only {first}", PEERS[0]),
        ("only_second", f"only {second}", PEERS[1]),
        ("neither", "neither", "#d5dae1"),
    ]
    with _figure(path, 1, 1, (10, 1.2 + 0.32 * len(arms))) as (figure, axes):
        axis = axes[0][0]
        for row, arm in enumerate(reversed(arms)):
            left = 0.0
            for name, _, colour in parts:
                share = 100 * results.estimate(arm, name).value
                axis.barh(row, share, left=left, color=colour, height=0.74)
                dark = colour != "#d5dae1"
                axis.text(
                    left + share / 2, row, f"{share:.0f}", ha="center", va="center", fontsize=8,
                    color="white" if dark else LIGHT.ink,
                )  # fmt: skip
                left += share
        axis.set_yticks(range(len(arms)), list(reversed(arms)))
        axis.set_xlim(0, 100)
        axis.grid(visible=False)
        axis.tick_params(left=False)
        handles = [axis.containers[i] for i in range(len(parts))]
        figure.legend(handles, [label for _, label, _ in parts], loc="outside upper right", ncols=4, frameon=False)
        axis.set_title("Who solves a held-out problem with two samples each, percent", loc="left", fontsize=11)
