"""Every metric draws the value it has computed, without a screen."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import matplotlib
import pytest
import torch

matplotlib.use("Agg")

from core_lightning.metrics import AgreementGate, ErrorOverlap, MajorityVote, PassAtK, RescueRate, TeamPassAtK

N, C = torch.tensor([4, 4]), torch.tensor([1, 4])
CASES: list[tuple[Callable[[], Any], Callable[[Any], None]]] = [
    (lambda: PassAtK(k=2), lambda m: m.update(N, C)),
    (lambda: TeamPassAtK(k=2), lambda m: m.update(4, torch.tensor([[1, 0], [1, 1]]))),
    (MajorityVote, lambda m: m.update([["3", "3", "4"]], [[True, True, False]])),
    (AgreementGate, lambda m: m.update([[["3"], ["3"]], [["3"], ["4"]]], [[[True], [True]], [[True], [False]]])),
    (RescueRate, lambda m: m.update(torch.tensor([True, False]), torch.tensor([True, True]))),
    (ErrorOverlap, lambda m: m.update(torch.tensor([[True, True], [False, False], [True, False]]))),
]


def drawn(axes: Any) -> set[float]:
    """Heights of the points and lines."""
    return {round(float(y), 6) for line in axes.get_lines() for y in line.get_ydata()}


@pytest.mark.parametrize(("make", "update"), CASES, ids=lambda case: getattr(case, "__name__", ""))
def test_a_value_and_a_course_are_drawn(make: Callable[[], Any], update: Callable[[Any], None]) -> None:
    metric = make()
    update(metric)
    value = metric.compute()
    values = {round(float(v), 6) for v in (value.values() if isinstance(value, dict) else [value])}
    figure, axes = metric.plot()
    assert drawn(axes) >= values
    low, high = axes.get_ylim()
    assert low < min(values) <= max(values) < high
    own = figure.add_subplot()
    assert metric.plot([value, value, value], ax=own)[1] is own
    assert drawn(own) >= values
    matplotlib.pyplot.close("all")


def test_more_is_better_but_for_errors_that_overlap() -> None:
    assert [make().higher_is_better for make, _ in CASES] == [True] * 5 + [False]
