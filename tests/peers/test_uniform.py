from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from core_lightning.peers.sampling.drawing import uniform

MASK = (1 << 64) - 1


def splitmix64(state: int) -> int:
    """One output of SplitMix64 (Steele, Lea, Flood 2014) in plain integers."""
    z = (state + 0x9E3779B97F4A7C15) & MASK
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK
    return z ^ (z >> 31)


def stream(seed: int, counter: int) -> float:
    state = (seed + counter * 0x9E3779B97F4A7C15) & MASK
    return (splitmix64(state) >> 11) / 2**53


def test_splitmix64_gives_the_published_numbers() -> None:
    # First outputs of the reference implementation for seed 1234567.
    assert splitmix64(1234567) == 6457827717110365317
    assert stream(1234567, 1) == (3203168211198807973 >> 11) / 2**53


@given(
    st.lists(st.integers(0, (1 << 63) - 1) | st.integers(-(1 << 63), -1), min_size=1, max_size=5), st.integers(0, 10**9)
)
def test_uniform_is_splitmix64(seeds: list[int], counter: int) -> None:
    values = uniform(torch.tensor(seeds), counter)
    assert values.dtype == torch.float64
    assert values.tolist() == [stream(seed & MASK, counter) for seed in seeds]


@pytest.mark.parametrize("along", ["counter", "neighbouring seeds"])
def test_uniform_is_uniform_and_independent_along(along: str) -> None:
    n = 20_000
    if along == "counter":
        values = torch.cat([uniform(torch.tensor([99]), c) for c in range(n)])
    else:
        values = uniform(torch.arange(n), 3)
    # Five standard errors each: mean 1/2 (var 1/12), variance, lag-1 covariance (var 1/144), Kolmogorov-Smirnov.
    assert abs(values.mean() - 0.5) < 5 * math.sqrt(1 / 12 / n)
    assert abs(values.var() - 1 / 12) < 5 * math.sqrt(1 / 180 / n)
    centred = values - 0.5
    for lag in (1, 2, 9):
        assert abs((centred[lag:] * centred[:-lag]).mean()) < 5 / 12 / math.sqrt(n)
    grid = (torch.arange(n) + 0.5) / n
    assert (values.sort().values - grid).abs().max() < 1.95 / math.sqrt(n)  # p = 0.001


def test_streams_of_two_seeds_do_not_follow_each_other() -> None:
    n = 5_000
    one, other = (torch.cat([uniform(torch.tensor([s]), c) for c in range(n)]) - 0.5 for s in (7, 8))
    assert abs((one * other).mean()) < 5 / 12 / math.sqrt(n)
