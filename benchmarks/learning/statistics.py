"""From lines of results to figures with intervals: by arm, and paired against another arm.

Every arm is measured on the same problems. A seed is a pretraining seed, whose RL seeds are averaged first; for a pair of
finished models, which have only one, it is an RL seed. An interval comes from resampling seeds and problems together (a
two-way bootstrap). With few seeds such intervals are somewhat too narrow, so a paired difference also carries the t interval
over seeds alone, which is the strict one.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import torch
from torch import Tensor

from core_lightning.metrics import error_overlap, pass_at_k, team_pass_at_k

Unit = Literal["pretraining_seed", "seed"]

RESAMPLES = 4000
#: Two-sided 95 % points of Student's t by degrees of freedom.
STUDENT = (math.nan, 12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228)


@dataclass(frozen=True)
class Estimate:
    """A mean, its bootstrap 95 % interval, and the mean of every seed."""

    value: float
    low: float
    high: float
    by_seed: tuple[float, ...]

    @property
    def student(self) -> tuple[float, float]:
        """95 % t interval over seeds; NaN for a single one."""
        seeds = torch.tensor(self.by_seed, dtype=torch.float64)
        if len(seeds) < 2:
            return math.nan, math.nan
        half = STUDENT[min(len(seeds) - 1, len(STUDENT) - 1)] * float(seeds.std()) / math.sqrt(len(seeds))
        return self.value - half, self.value + half


def columns(held_out: Mapping[str, Any]) -> dict[str, Tensor]:
    """Scores of every problem in one run, ``float64 Tensor[problems]`` each, by name of the figure."""
    n, names = held_out["samples"], list(held_out["correct"])
    c = torch.tensor([held_out["correct"][name] for name in names]).T  # [problems, peers]
    scores = {f"{name}/pass_at_{k}": pass_at_k(n, c[:, i], k) for i, name in enumerate(names) for k in (1, 2, 4)}
    for k in (1, 2, 4):
        scores[f"pass_at_{k}"] = torch.stack([scores[f"{name}/pass_at_{k}"] for name in names]).mean(0)
    scores["team_pass_at_2"] = team_pass_at_k(n, c, 2)
    scores["majority_vote"] = torch.tensor(held_out["vote"], dtype=torch.float64)
    scores["all_fail"] = (c == 0).all(1).double()
    # What two samples of each of two peers come to: both solve it, only one does, neither does.
    first, second = (scores[f"{name}/pass_at_2"] for name in names[:2])
    scores |= {
        "both_solve": first * second,
        "only_first": first * (1 - second),
        "only_second": (1 - first) * second,
        "neither": (1 - first) * (1 - second),
    }
    return scores


class Results:
    """Lines of one pair at one learning rate.

    Args:
        lines: Results of runs; those at other rates are left out.
        lr: The rate.
        unit: What counts as a seed.
    """

    def __init__(self, lines: Iterable[Mapping[str, Any]], lr: float, unit: Unit = "pretraining_seed") -> None:
        self.unit = unit
        self.runs: dict[str, dict[int, list[Mapping[str, Any]]]] = defaultdict(lambda: defaultdict(list))
        for line in lines:
            if line["lr"] == lr:
                self.runs[line["arm"]][line[unit]].append(line)

    @cached_property
    def peers(self) -> list[str]:
        """Names of the peers."""
        return list(next(iter(self.lines(next(iter(self.runs)))))["held_out"]["correct"])

    def seeds(self, arm: str) -> list[int]:
        """Seeds of an arm."""
        return sorted(self.runs[arm])

    def lines(self, arm: str) -> list[Mapping[str, Any]]:
        """All runs of an arm."""
        return [line for seed in self.seeds(arm) for line in self.runs[arm][seed]]

    def scores(self, arm: str, figure: str, seeds: Iterable[int] | None = None) -> Tensor:
        """``float64 Tensor[seeds, problems]``."""
        chosen = self.seeds(arm) if seeds is None else seeds
        return torch.stack(
            [torch.stack([columns(line["held_out"])[figure] for line in self.runs[arm][s]]).mean(0) for s in chosen]
        )

    def estimate(self, arm: str, figure: str) -> Estimate:
        """A figure of one arm."""
        return bootstrap(self.scores(arm, figure))

    def difference(self, arm: str, other: str, figure: str) -> Estimate:
        """An arm minus another, paired by seed and problem."""
        shared = [seed for seed in self.seeds(arm) if seed in self.runs[other]]
        return bootstrap(self.scores(arm, figure, shared) - self.scores(other, figure, shared))

    def ruined(self, arm: str, base: str = "base", margin: float = 0.02) -> tuple[int, int]:
        """How many runs left some peer below what it began with by more than ``margin`` of Pass@1, and of how many.

        A run counts if it is known what it began with: models that are pretrained anew for every seed need a run of the
        base with that seed, finished ones are the same for all.
        """
        ruined = known = 0
        for seed, lines in self.runs[arm].items():
            before = self.runs[base].get(seed) or (self.lines(base) if self.unit == "seed" else [])
            began = {name: _mean([_pass_at_1(line, name) for line in before]) for name in self.peers}
            if before:
                known += len(lines)
                ruined += sum(any(_pass_at_1(n, name) < began[name] - margin for name in self.peers) for n in lines)
        return ruined, known

    def phi(self, arm: str) -> Estimate:
        """Correlation of the peers' failures (all samples wrong), mean over seeds, with their range."""
        by_seed = []
        for seed in self.seeds(arm):
            values = []
            for line in self.runs[arm][seed]:
                failed = torch.tensor(list(line["held_out"]["correct"].values())).T == 0
                values.append(float(error_overlap(failed)["phi"]))
            by_seed.append(sum(values) / len(values))
        known = [value for value in by_seed if math.isfinite(value)]
        return Estimate(_mean(known), min(known, default=math.nan), max(known, default=math.nan), tuple(by_seed))

    def mean(self, arm: str, *path: str) -> float:
        """Mean over runs of a number in the lines; a mapping on the way counts as the mean of its values."""
        values = [_number(line, path) for line in self.lines(arm)]
        known = [value for value in values if math.isfinite(value)]
        return sum(known) / len(known) if known else math.nan

    def curve(self, arm: str, name: str) -> list[float]:
        """A training curve, mean over runs."""
        curves = [line["training"][name] for line in self.lines(arm) if name in line["training"]]
        return [_mean([c[i] for c in curves if c[i] is not None]) for i in range(min(map(len, curves), default=0))]

    def rescue_rate(self, arm: str) -> list[float]:
        """Rescues over hints along training, counts of all runs together."""
        rescues, hints = self.curve(arm, "rescues"), self.curve(arm, "hints")
        return [r / h if h else math.nan for r, h in zip(rescues, hints, strict=True)]


def bootstrap(scores: Tensor, resamples: int = RESAMPLES) -> Estimate:
    """Mean over ``Tensor[seeds, problems]`` with the two-way bootstrap interval (Owen 2007, the pigeonhole bootstrap)."""
    seeds, problems = scores.shape
    generator = torch.Generator().manual_seed(0)
    by_seed = _counts(seeds, resamples, generator)
    by_problem = _counts(problems, resamples, generator)
    means = ((by_seed @ scores) * by_problem).sum(1) / (seeds * problems)
    low, high = means.quantile(torch.tensor([0.025, 0.975], dtype=torch.float64)).tolist()
    return Estimate(float(scores.mean()), low, high, tuple(scores.mean(1).tolist()))


def _counts(items: int, resamples: int, generator: torch.Generator) -> Tensor:
    """How often every item is drawn, ``float64 Tensor[resamples, items]``."""
    drawn = torch.randint(items, (resamples, items), generator=generator)
    return torch.zeros(resamples, items, dtype=torch.float64).scatter_add_(1, drawn, torch.ones_like(drawn).double())


def _pass_at_1(line: Mapping[str, Any], peer: str) -> float:
    return float(columns(line["held_out"])[f"{peer}/pass_at_1"].mean())


def _number(line: Any, path: tuple[str, ...]) -> float:
    for name in path:
        line = line[name]
    return _mean(list(line.values())) if isinstance(line, Mapping) else float(line)


def _mean(values: list[float]) -> float:
    return sum(values) / len(values) if values else math.nan
