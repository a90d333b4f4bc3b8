"""What all pictures of a run share: colours on light and dark pages, axes and smoothed curves."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from core_lightning.report.evaluation import Evaluation

Axes = Any
Figure = Any


@dataclass(frozen=True)
class Theme:
    """Colours on one kind of page."""

    ink: str
    faint: str
    grid: str
    page: str
    peers: tuple[str, ...]
    team: str
    rescue: str
    terms: tuple[str, ...]
    """Of reward terms: none of them a peer's."""


LIGHT = Theme(
    ink="#1b2430",
    faint="#6b7684",
    grid="#e3e7ec",
    page="#ffffff",
    peers=("#2b6cd9", "#e07b2c", "#7a4fc4", "#2f9c8a"),
    team="#1b2430",
    rescue="#c2306b",
    terms=("#1a7f4b", "#8d6b00", "#0c8599", "#a63a9b", "#5c6773"),
)
DARK = Theme(
    ink="#e6ebf2",
    faint="#93a0b1",
    grid="#2c3644",
    page="#161c25",
    peers=("#6aa5ff", "#f5a15a", "#b395f5", "#5cc9b5"),
    team="#f2f5f9",
    rescue="#ff7eab",
    terms=("#6fd8a2", "#e3c565", "#66d9e8", "#e599f7", "#a9b4c0"),
)


@dataclass(frozen=True)
class RunData:
    """What the figures are drawn from."""

    peers: Sequence[str]
    columns: Mapping[str, Sequence[float]]
    """Metrics of every step, see :class:`core_lightning.callbacks.step_history.StepHistory`."""
    history: Sequence[Evaluation]
    """Evaluations in validation, oldest first."""

    @property
    def steps(self) -> list[float]:
        """Steps counted as everywhere in the report: 1 is the first one, and 0 is before it."""
        return [step + 1 for step in self.columns["step"]]


def smooth(values: Sequence[float], window: int, weights: Sequence[float] | None = None) -> list[float]:
    """Centred, weighted moving average over ``window`` values that leaves NaN out; at the ends over what is there."""
    half = window // 2
    pairs = list(zip(values, weights or [1.0] * len(values), strict=True))
    averaged = []
    for i in range(len(pairs)):
        near = [(v, w) for v, w in pairs[max(0, i - half) : i + half + 1] if math.isfinite(v)]
        weight = sum(w for _, w in near)
        averaged.append(sum(v * w for v, w in near) / weight if weight else math.nan)
    return averaged


def window_of(steps: int) -> int:
    """Odd window of the moving average in a run of so many steps."""
    return max(1, steps // 6) | 1


def style(theme: Theme) -> dict[str, Any]:
    """Settings of matplotlib for a theme."""
    return {
        "font.family": "sans-serif",
        "font.size": 10,
        "text.color": theme.ink,
        "axes.labelcolor": theme.faint,
        "axes.edgecolor": theme.grid,
        "axes.facecolor": theme.page,
        "axes.titlesize": 11,
        "axes.titleweight": "bold",
        "axes.titlelocation": "left",
        "axes.titlepad": 10,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.grid": True,
        "axes.axisbelow": True,
        "grid.color": theme.grid,
        "xtick.color": theme.faint,
        "ytick.color": theme.faint,
        "xtick.major.size": 0,
        "ytick.major.size": 0,
        "figure.facecolor": theme.page,
        "legend.facecolor": theme.page,
        "legend.edgecolor": theme.page,
        "legend.framealpha": 0.8,
        "legend.fontsize": 9,
        "lines.solid_capstyle": "round",
    }


def canvas(width: float, height: float, columns: int = 1, rows: int = 1) -> tuple[Figure, list[Axes]]:
    """A figure of a size in inches, and its axes row by row."""
    from matplotlib.figure import Figure as Canvas

    figure = Canvas(figsize=(width, height), layout="constrained")
    return figure, list(figure.subplots(rows, columns, squeeze=False).flat)


def peer_colors(run: RunData, theme: Theme) -> dict[str, str]:
    """A colour for every peer."""
    return {peer: theme.peers[i % len(theme.peers)] for i, peer in enumerate(run.peers)}


def percent_axis(axes: Axes) -> None:
    """Put 0 to 100 percent on the vertical axis."""
    axes.set_ylim(-3, 103)
    axes.set_yticks([0, 25, 50, 75, 100])
    axes.set_ylabel("percent")


def step_axis(axes: Axes, label: str = "training step") -> None:
    """Put whole steps on the horizontal axis."""
    from matplotlib.ticker import MaxNLocator

    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    axes.set_xlabel(label)


def curve(
    axes: Axes, steps: Sequence[float], values: Sequence[float], color: str, label: str, scale: float = 1
) -> None:
    """Faint dots for the values of the steps and a bold line for their moving average."""
    scaled = [scale * v for v in values]
    axes.plot(steps, scaled, ".", color=color, alpha=0.28, markersize=5, markeredgewidth=0)
    marker = "o" if len(steps) < 3 else ""  # a line through fewer points is hard to see
    averaged = smooth(scaled, window_of(len(scaled)))
    axes.plot(steps, averaged, color=color, linewidth=2.2, label=label, marker=marker)
