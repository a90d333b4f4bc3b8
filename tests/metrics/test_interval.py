"""Bootstrap intervals: against the normal approximation, and by what they must cover."""

from math import isnan

import pytest
import torch

from core_lightning.metrics import bootstrap_interval, bootstrap_ratio_interval


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
    with pytest.raises(ValueError, match="level"):
        bootstrap_interval(torch.ones(3), level=95)
    with pytest.raises(ValueError, match="two vectors"):
        bootstrap_ratio_interval(torch.ones(3), torch.ones(2))
