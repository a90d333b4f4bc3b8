"""The figures of the experiment: cases computed by hand, and the interval beside the one that theory gives."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from benchmarks.learning.statistics import Estimate, Results, bootstrap


def run(arm: str, correct: list[list[int]], pretraining_seed: int = 0, seed: int = 0) -> dict[str, Any]:
    """A line of results: how many of four samples of each problem were right, for peers a and b."""
    held_out = {"samples": 4, "correct": dict(zip("ab", correct, strict=True)), "vote": [0] * len(correct[0])}
    return {"arm": arm, "lr": 0.1, "pretraining_seed": pretraining_seed, "seed": seed, "held_out": held_out}


def results(*lines: dict[str, Any]) -> Results:
    return Results(lines, lr=0.1)


def test_two_samples_of_two_peers() -> None:
    # a solves 2 of 4, b 1 of 4: two samples of a miss with 2/4 * 1/3, of b with 3/4 * 2/3, all four with the product.
    found = results(run("solo", [[2], [1]]))
    assert found.estimate("solo", "team_pass_at_2").value == pytest.approx(1 - 1 / 6 * 1 / 2)
    assert found.estimate("solo", "neither").value == pytest.approx(1 / 12)
    assert found.estimate("solo", "both_solve").value == pytest.approx(5 / 6 * 1 / 2)
    assert found.estimate("solo", "pass_at_1").value == pytest.approx((2 / 4 + 1 / 4) / 2)
    assert found.estimate("solo", "all_fail").value == 0


def test_a_difference_is_of_shared_seeds_whose_runs_are_averaged_first() -> None:
    found = results(
        run("default", [[4, 4], [4, 4]], pretraining_seed=0, seed=0),
        run("default", [[0, 0], [4, 4]], pretraining_seed=0, seed=1),
        run("default", [[4, 0], [4, 4]], pretraining_seed=1),
        run("solo", [[1, 1], [1, 1]], pretraining_seed=0),
        run("solo", [[4, 4], [4, 4]], pretraining_seed=2),  # nothing to compare it with
    )
    difference = found.difference("default", "solo", "pass_at_1")
    assert difference.by_seed == pytest.approx((3 / 4 - 1 / 4,))
    assert found.estimate("default", "pass_at_1").by_seed == pytest.approx((3 / 4, 3 / 4))


def test_runs_at_another_rate_are_left_out() -> None:
    assert results(run("solo", [[4], [4]]), run("solo", [[0], [0]]) | {"lr": 0.2}).estimate("solo", "pass_at_1").value == 1


@pytest.mark.parametrize("shape", [(1, 400), (400, 1)])
def test_the_interval_over_problems_or_seeds_alone_is_that_of_the_normal_distribution(shape: tuple[int, int]) -> None:
    scores = (torch.arange(400) % 2).double().reshape(shape)  # half of them right: the mean's deviation is 0.5 / 20
    estimate = bootstrap(scores)
    assert estimate.value == 0.5
    assert estimate.high - estimate.low == pytest.approx(2 * 1.96 * 0.5 / 20, rel=0.08)
    assert estimate.low == pytest.approx(1 - estimate.high, abs=0.005)


def test_the_interval_of_scores_that_are_all_alike_is_a_point() -> None:
    assert bootstrap(torch.full((3, 5), 0.25, dtype=torch.float64)) == Estimate(0.25, 0.25, 0.25, (0.25,) * 3)


def test_the_interval_over_seeds_alone() -> None:
    low, high = Estimate(2.0, math.nan, math.nan, (1.0, 2.0, 3.0)).student  # deviation 1, two degrees of freedom
    assert (low, high) == pytest.approx((2 - 4.303 / 3**0.5, 2 + 4.303 / 3**0.5))
    assert all(map(math.isnan, Estimate(2.0, math.nan, math.nan, (2.0,)).student))


def test_a_run_that_left_one_peer_below_its_own_base_is_told() -> None:
    n = 100
    base = [run("base", [[2] * n, [1] * n], pretraining_seed=0), run("base", [[1] * n, [1] * n], pretraining_seed=1)]
    kept = run("default", [[2] * (n - 3) + [0] * 3, [4] * n], pretraining_seed=0)  # a point and a half below is let pass
    ruined = run("default", [[2] * (n - 5) + [0] * 5, [4] * n], pretraining_seed=0, seed=1)
    other = run("default", [[1] * n, [1] * n], pretraining_seed=1)  # its base was worse
    unknown = run("default", [[0] * n, [0] * n], pretraining_seed=2)  # nobody knows what it began with
    lines = [*base, kept, ruined, other, unknown]
    assert results(*lines).ruined("default") == (1, 3)
    # Finished models begin alike with every seed: Pass@1 of 0.375 and 0.25 here, which two runs fall below.
    assert Results(lines, 0.1, "seed").ruined("default") == (2, 4)
