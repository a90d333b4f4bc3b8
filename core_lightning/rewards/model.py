"""The reward of a trace: a weighted sum of terms whose weights may change over training."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from functools import partial

from core_lightning.records import Group
from core_lightning.rewards.correctness import Correctness
from core_lightning.rewards.cross_distance import CrossDistance
from core_lightning.rewards.distance import StepDistances
from core_lightning.rewards.greedy_margin_diversity import GreedyMarginDiversity
from core_lightning.rewards.log_det_diversity import LogDetDiversity
from core_lightning.rewards.rarity import Rarity
from core_lightning.rewards.rescue_bonus import RescueBonus
from core_lightning.rewards.term import RewardContext, RewardTerm
from core_lightning.schedule import Schedule, Step, value_at


@dataclass(frozen=True)
class WeightedTerm:
    """A reward term and how much it counts."""

    term: RewardTerm
    """The term: a class of this project by its name, or one of your own by ``class_path``."""
    weight: float | Schedule = 1.0
    """A number, or a schedule over training progress. 0 is the same as leaving the term out."""

    def __post_init__(self) -> None:
        if not isinstance(self.weight, Schedule) and not math.isfinite(self.weight):
            raise ValueError(f"weight of a reward term must be a finite number or a schedule, got {self.weight}")

    def weight_at(self, progress: float) -> float:
        """Weight when ``progress`` (in [0, 1]) of training is done."""
        return value_at(self.weight, progress)


@dataclass(frozen=True)
class RewardModel:
    """Named, weighted reward terms that score every trace of a step."""

    terms: Mapping[str, WeightedTerm]
    """Terms by the name they have in configs, metrics and the trace log."""

    def __post_init__(self) -> None:
        for name in self.terms:
            if not name.isidentifier():
                raise ValueError(f"reward term name {name!r} must be an identifier: it names a metric")

    @property
    def needs_distance(self) -> bool:
        """Whether a term may ever ask for trace distances, so that an embedder is needed."""
        return any(t.term.needs_distance and t.weight != 0 for t in self.terms.values())

    def score(
        self, groups: Sequence[Group], progress: float = 0.0, distances: StepDistances | None = None
    ) -> dict[str, float]:
        """:meth:`assign` and then :meth:`statistics`."""
        self.assign(groups, progress, distances)
        return self.statistics(groups, progress)

    def assign(self, groups: Sequence[Group], progress: float = 0.0, distances: StepDistances | None = None) -> None:
        """Set ``terms``, ``reward`` and its ``shaping`` part of every trace of the groups, as they stand now.

        It may be called after the cold round, to choose teachers, and again on the full groups: the second call
        overwrites the first. A term whose weight is 0 at this point of training is neither computed nor recorded.

        Args:
            groups: Groups of one step, changed in place.
            progress: Share of training done, in [0, 1].
            distances: Trace distances of the step; only asked for by the terms that need them.

        Raises:
            ValueError: A term returned a wrong number of values or one that is not finite.
        """
        weights = {name: weight for name, t in self.terms.items() if (weight := t.weight_at(progress)) != 0}
        for group in groups:
            context = RewardContext(progress, partial(distances, group) if distances else None)
            columns = {name: _values(name, self.terms[name].term, group, context) for name in weights}
            for i, trace in enumerate(group):
                trace.terms = {name: column[i] for name, column in columns.items()}
                trace.reward = _weighted(trace.terms, weights)
                shades = {n: v for n, v in trace.terms.items() if self.terms[n].term.shaping}
                trace.shaping = _weighted(shades, weights)

    def statistics(self, groups: Sequence[Group], progress: float = 0.0) -> dict[str, float]:
        """What the terms gave, of groups that were scored at this point of training in one call or several.

        Returns:
            Per active term ``<name>/mean`` and ``<name>/nonzero`` (mean and share of non-zero values, over the traces
            it had an opinion on; NaN without any), and ``<name>/zero_groups``, the share of groups in which it gave
            nothing to anyone.
        """
        return {
            f"{name}/{statistic}": value
            for name, term in self.terms.items()
            if term.weight_at(progress) != 0
            for statistic, value in _statistics([[trace.terms[name] for trace in group] for group in groups]).items()
        }


def _weighted(values: Mapping[str, float | None], weights: Mapping[str, float]) -> float:
    """Weighted sum; NaN when a term had no opinion."""
    return sum((math.nan if value is None else weights[name] * value for name, value in values.items()), 0.0)


def _values(name: str, term: RewardTerm, group: Group, context: RewardContext) -> list[float | None]:
    values = list(term(group, context)) if len(group) else []
    if len(values) != len(group):
        raise ValueError(f"reward term {name!r} returned {len(values)} values for {len(group)} traces")
    if not all(value is None or math.isfinite(value) for value in values):
        raise ValueError(f"reward term {name!r} returned {values}: only finite numbers, or None for no opinion")
    return values


def _statistics(groups: Sequence[Sequence[float | None]]) -> dict[str, float]:
    values = [value for group in groups for value in group if value is not None]
    return {
        "mean": sum(values) / len(values) if values else math.nan,
        "nonzero": sum(value != 0 for value in values) / len(values) if values else math.nan,
        "zero_groups": sum(not any(group) for group in groups) / len(groups) if groups else math.nan,
    }


def published_terms() -> dict[str, WeightedTerm]:
    """All terms with the weights and schedules of the paper (CORE, arXiv 2601.21600)."""
    return {
        "correctness": WeightedTerm(Correctness(alpha=0.3), 1.0),
        "diversity": WeightedTerm(GreedyMarginDiversity(), Step(0.2, 0.05)),
        "rescue": WeightedTerm(RescueBonus(), 0.15),
        "rarity": WeightedTerm(Rarity(), 0.2),
        "cross": WeightedTerm(CrossDistance(), Step(0.0, 0.1)),
    }


def default_terms() -> dict[str, WeightedTerm]:
    """Correctness without partial credit, and diversity among right traces only (``benchmarks/learning``).

    A rescue is rewarded by being imitated, with the weight ``credit.rescue_imitation_weight``: a bonus on its reward would
    not act under the default credit.
    """
    return {
        "correctness": WeightedTerm(Correctness(), 1.0),
        "diversity": WeightedTerm(LogDetDiversity(), 0.1),
    }


def merged_terms(terms: Mapping[str, WeightedTerm | None]) -> dict[str, WeightedTerm]:
    """The default terms with some others beside them or, by name, in their place; None removes one.

    A published term may be removed whether or not it is there.

    Raises:
        ValueError: None for a name that no term has, which would leave the one that was meant.

    >>> list(merged_terms({"diversity": None, "correctness": WeightedTerm(Correctness(), 2.0)}))
    ['correctness']
    """
    known = list(default_terms() | published_terms())
    for name in terms:
        if terms[name] is None and name not in known:
            close = get_close_matches(name, [*known, *(n for n in terms if terms[n] is not None)], 1)
            mend = f"did you mean {close[0]}?" if close else f"terms to remove are {', '.join(known)}"
            raise ValueError(f"model.rewards.{name} is null, and there is no such term to remove; {mend}")
    return {name: term for name, term in {**default_terms(), **terms}.items() if term is not None}
