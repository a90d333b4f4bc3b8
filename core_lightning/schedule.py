"""A number that changes over training: the weight of a reward term or of the KL divergence, by the share of it done."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass, fields


@dataclass(frozen=True)
class Schedule(ABC):
    """A value as a function of training progress in [0, 1]."""

    def __post_init__(self) -> None:
        for field in fields(self):
            if not math.isfinite(getattr(self, field.name)):
                raise ValueError(f"{type(self).__name__}.{field.name} must be a finite number")

    @abstractmethod
    def __call__(self, progress: float) -> float:
        """Value at ``progress``, the share of training done."""


@dataclass(frozen=True)
class Constant(Schedule):
    """The same value throughout."""

    value: float
    """The value."""

    def __call__(self, progress: float) -> float:
        """``value``, at any progress."""
        return self.value


@dataclass(frozen=True)
class Linear(Schedule):
    """A straight line from ``start`` to ``end``."""

    start: float
    """Value before the first step."""
    end: float
    """Value at the end of training."""

    def __call__(self, progress: float) -> float:
        """Value on the line; progress outside [0, 1] stays at the nearer end."""
        return self.start + (self.end - self.start) * min(max(progress, 0.0), 1.0)


@dataclass(frozen=True)
class Step(Schedule):
    """One value before a point of training and another from there on."""

    before: float
    """Value at the beginning of training."""
    after: float
    """Value from ``at`` on."""
    at: float = 0.5
    """Progress from which ``after`` holds; the published recipe switches halfway."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0.0 <= self.at <= 1.0:
            raise ValueError(f"Step.at is a share of training in [0, 1], got {self.at}")

    def __call__(self, progress: float) -> float:
        """``before`` while ``progress < at``, else ``after``."""
        return self.before if progress < self.at else self.after


def value_at(value: float | Schedule, progress: float) -> float:
    """A plain number as it is, a schedule's value when ``progress`` of training is done."""
    return value(progress) if isinstance(value, Schedule) else value
