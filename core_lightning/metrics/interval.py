"""Bootstrap intervals over problems: how far a figure would move had other problems been drawn."""

from __future__ import annotations

import torch
from torch import Tensor


def bootstrap_interval(
    per_problem: Tensor, level: float = 0.95, resamples: int = 2000, seed: int = 0
) -> tuple[float, float]:
    """Percentile bootstrap interval of a mean over problems.

    Efron and Tibshirani 1993, chapter 13. To compare two systems on the same problems, hand in their differences: the
    paired interval is narrower than two separate ones.

    Args:
        per_problem: One score per problem, ``Tensor[problems]``.
        level: Coverage, in (0, 1).
        resamples: Number of bootstrap samples.
        seed: Seed of the resampling.

    Returns:
        ``(low, high)``, NaN for no problems.

    Raises:
        ValueError: If a score is not finite, or a setting is out of range.

    Example:
        >>> low, high = bootstrap_interval(torch.tensor([0.0, 1.0] * 50))
        >>> 0.35 < low < 0.5 < high < 0.65
        True
    """
    return bootstrap_ratio_interval(per_problem, torch.ones_like(per_problem), level, resamples, seed)


def bootstrap_ratio_interval(
    numerator: Tensor, denominator: Tensor, level: float = 0.95, resamples: int = 2000, seed: int = 0
) -> tuple[float, float]:
    """Percentile bootstrap interval of sum(numerator) / sum(denominator), problems resampled as a whole.

    For the rescue rate: rescued and hinted pairs of each problem. Resamples without any denominator are left out.

    Args:
        numerator: ``Tensor[problems]``.
        denominator: ``Tensor[problems]``, not negative.
        level: Coverage, in (0, 1).
        resamples: Number of bootstrap samples.
        seed: Seed of the resampling.

    Returns:
        ``(low, high)``, NaN when the denominator is zero everywhere.

    Raises:
        ValueError: If a value is not finite, the shapes differ, or a setting is out of range.

    Example:
        >>> bootstrap_ratio_interval(torch.tensor([1.0, 2.0]), torch.tensor([2.0, 4.0]))
        (0.5, 0.5)
    """
    if not 0 < level < 1 or resamples < 1:
        raise ValueError(f"need 0 < level < 1 and resamples >= 1, got level={level}, resamples={resamples}")
    if numerator.shape != denominator.shape or numerator.dim() != 1:
        raise ValueError(f"expected two vectors over problems, got {numerator.shape} and {denominator.shape}")
    pairs = torch.stack([numerator, denominator]).to("cpu", torch.float64)
    if not bool(pairs.isfinite().all()):
        raise ValueError("a bootstrap needs finite scores: leave problems without a score out")
    problems = len(numerator)
    if problems == 0:
        return float("nan"), float("nan")
    generator = torch.Generator().manual_seed(seed)
    # One resample at a time: all indices at once would take resamples x problems x 8 bytes, 240 MB for 15,000 problems.
    sums = torch.stack(
        [pairs[:, torch.randint(problems, (problems,), generator=generator)].sum(1) for _ in range(resamples)]
    )
    tail = (1 - level) / 2
    low, high = (sums[:, 0] / sums[:, 1]).nanquantile(torch.tensor([tail, 1 - tail], dtype=torch.float64)).tolist()
    return low, high
