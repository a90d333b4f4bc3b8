"""Bootstrap intervals: against the normal approximation, and by what they must cover."""

import math
from math import isnan

import pytest
import torch

from core_lightning.metrics import bootstrap_interval, bootstrap_ratio_interval, difference_interval, share_interval


def test_large_sample_interval_is_the_normal_one() -> None:
    scores = (torch.rand(2000, generator=torch.Generator().manual_seed(3)) < 0.3).double()
    mean, standard_error = scores.mean().item(), scores.std().item() / 2000**0.5
    low, high = bootstrap_interval(scores)
    assert low == pytest.approx(mean - 1.96 * standard_error, abs=0.1 * standard_error)
    assert high == pytest.approx(mean + 1.96 * standard_error, abs=0.1 * standard_error)


def test_level_and_seed() -> None:
    scores = torch.arange(20.0)
    assert bootstrap_interval(scores, seed=1) == bootstrap_interval(scores, seed=1)
    assert bootstrap_interval(scores, seed=1) != bootstrap_interval(scores, seed=2)
    wide, narrow = bootstrap_interval(scores, level=0.99), bootstrap_interval(scores, level=0.5)
    assert wide[0] < narrow[0] < 9.5 < narrow[1] < wide[1]


def test_two_problems_enumerated() -> None:
    """Means of two draws from {0, 1}: 0, 1/2, 1 with probability 1/4, 1/2, 1/4."""
    scores = torch.tensor([0.0, 1.0])
    assert bootstrap_interval(scores, level=0.95) == (0.0, 1.0)
    assert bootstrap_interval(scores, level=0.4) == (0.5, 0.5)


def test_paired_difference_is_tighter_than_two_intervals() -> None:
    generator = torch.Generator().manual_seed(0)
    difficulty = torch.rand(200, generator=generator)
    better = difficulty + 0.05 + 0.02 * torch.randn(200, generator=generator)
    low, high = bootstrap_interval(better - difficulty)
    assert 0.04 < low < high < 0.06
    one = bootstrap_interval(difficulty)
    assert one[1] - one[0] > 5 * (high - low)


def test_ratio_resamples_problems_whole() -> None:
    """Numerator always half the denominator: no spread, however uneven the problems are."""
    hinted = torch.tensor([0.0, 2.0, 4.0, 2.0])
    assert bootstrap_ratio_interval(hinted / 2, hinted) == (0.5, 0.5)


def test_nothing_to_resample_is_nan_and_nonsense_is_refused() -> None:
    assert all(isnan(bound) for bound in bootstrap_interval(torch.zeros(0)))
    assert all(isnan(bound) for bound in bootstrap_ratio_interval(torch.zeros(3), torch.zeros(3)))
    with pytest.raises(ValueError, match="finite"):
        bootstrap_interval(torch.tensor([1.0, float("nan")]))
    for level in (0.0, 1.0, 95):
        with pytest.raises(ValueError, match="level"):
            bootstrap_interval(torch.ones(3), level=level)
    with pytest.raises(ValueError, match="resamples"):
        bootstrap_interval(torch.ones(3), resamples=0)
    for numerator, denominator in ((torch.ones(3), torch.ones(2)), (torch.ones(2, 2), torch.ones(2, 2))):
        with pytest.raises(ValueError, match="two vectors"):
            bootstrap_ratio_interval(numerator, denominator)


def test_one_resample_is_one_draw() -> None:
    low, high = bootstrap_interval(torch.arange(5.0), resamples=1)
    assert low == high


def wilson(right: int, n: int) -> tuple[float, float]:
    """Bounds p0 with |p - p0| = z sqrt(p0 (1 - p0) / n), found by bisection."""
    p, z = right / n, 1.959963984540054

    def outside(p0: float) -> bool:
        return abs(p - p0) > z * math.sqrt(p0 * (1 - p0) / n)

    bounds = []
    for end in (0.0, 1.0):
        inner, outer = p, end
        for _ in range(200):
            middle = (inner + outer) / 2
            inner, outer = (inner, middle) if outside(middle) else (middle, outer)
        bounds.append(outer)
    return bounds[0], bounds[1]


@pytest.mark.parametrize(("right", "n"), [(0, 2), (2, 2), (1, 2), (31, 32), (32, 32), (7, 20), (60, 60), (1, 100)])
def test_yes_or_no_problems_have_the_wilson_interval(right: int, n: int) -> None:
    scores = torch.tensor([1.0] * right + [0.0] * (n - right))
    assert share_interval(scores) == pytest.approx(wilson(right, n), abs=1e-9)


def test_shares_near_both_ends_are_covered() -> None:
    """Exact coverage over the binomial distribution, where a percentile bootstrap has 77 to 87 percent."""
    n = 32
    intervals = [share_interval(torch.tensor([1.0] * c + [0.0] * (n - c))) for c in range(n + 1)]
    covered = []
    for p in (0.02, 0.03, 0.05, 0.08, 0.5, 0.92, 0.95, 0.97, 0.98):
        chances = [math.comb(n, c) * p**c * (1 - p) ** (n - c) for c in range(n + 1)]
        covered.append(sum(w for w, (low, high) in zip(chances, intervals, strict=True) if low <= p <= high))
    assert min(covered) > 0.9
    assert sum(covered) / len(covered) == pytest.approx(0.95, abs=0.025)


def test_partial_scores_and_pairs_narrow_and_widen_it() -> None:
    halves = share_interval(torch.full((50,), 0.5))
    coins = share_interval(torch.tensor([0.0, 1.0] * 25))
    assert coins[0] < halves[0] < 0.5 < halves[1] < coins[1]
    ones = torch.ones(40)
    right = torch.tensor([1.0, 0.0] * 20)
    assert share_interval(right, ones) == pytest.approx(wilson(20, 40), abs=1e-9)
    together = share_interval(2 * right, 2 * ones)  # two pairs of one problem that always agree: little more than one
    assert together == pytest.approx(wilson(20, 40), abs=0.01)
    assert all(math.isnan(bound) for bound in share_interval(torch.zeros(3), torch.zeros(3)))


def test_no_difference_is_not_certainty() -> None:
    low, high = difference_interval(torch.zeros(200))
    assert low == pytest.approx(-high)
    assert 0.005 < high < 0.015
    changes = torch.tensor([0.5, -0.25, 0.0, 0.25, 0.75, 0.0, 0.5, 0.25] * 20)
    bounds = difference_interval(changes)
    assert bounds == pytest.approx(bootstrap_interval(changes), abs=0.02)
    # Of 50 % the bounds lie at 0.674 deviations from the middle, of 95 % at 1.96.
    half = difference_interval(changes, level=0.5)
    assert (half[1] - half[0]) / (bounds[1] - bounds[0]) == pytest.approx(0.674 / 1.96, abs=0.02)


@pytest.mark.parametrize("score", [1.5, -0.1, math.nan])
def test_what_is_no_share_is_refused(score: float) -> None:
    for scores in ([score], [0.5, score, 0.5]):
        with pytest.raises(ValueError, match="0 <= numerator <= denominator"):
            share_interval(torch.tensor(scores))
    with pytest.raises(ValueError, match="0 <= numerator <= denominator"):
        share_interval(torch.tensor([0.5]), torch.tensor([math.inf]))


def test_settings_of_an_interval_of_shares_are_checked() -> None:
    for level in (0.0, 1.0, 95):
        with pytest.raises(ValueError, match="0 < level < 1"):
            share_interval(torch.ones(3), level=level)
    for numerator, denominator in ((torch.ones(3), torch.ones(2)), (torch.ones(2, 2), torch.ones(2, 2))):
        with pytest.raises(ValueError, match="two vectors"):
            share_interval(numerator, denominator)
