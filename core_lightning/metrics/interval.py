"""Intervals over problems: how far a figure would move had other problems been drawn."""

from __future__ import annotations

from statistics import NormalDist

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

    For a rate whose numerator and denominator both differ from problem to problem. Resamples without any denominator are
    left out.

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


def share_interval(numerator: Tensor, denominator: Tensor | None = None, level: float = 0.95) -> tuple[float, float]:
    """Wilson interval of a share, also where it is 0 or 1 and where few problems stand behind it.

    A percentile bootstrap says [1, 1] when all of two problems are solved, and covers less than it says near both ends.
    Wilson 1927 inverts the test of a share instead. Scores between 0 and 1 (Pass@1 of four samples), and several pairs of
    one problem, enter through the number of plain yes-or-no problems with the same variance: the residuals' variance,
    with one observation of full variance beside them, as in the adjusted intervals of survey samples (Dean and Pagano
    2015). For yes-or-no problems that is the Wilson interval itself.

    Args:
        numerator: ``Tensor[problems]``, in [0, denominator].
        denominator: ``Tensor[problems]``, what each problem counts; None for 1 each.
        level: Coverage, in (0, 1).

    Returns:
        ``(low, high)`` in [0, 1], NaN when the denominator is zero everywhere.

    Raises:
        ValueError: A value is out of range or not finite, or the shapes differ.

    Example:
        >>> low, high = share_interval(torch.tensor([1.0, 1.0]))
        >>> round(low, 3), high
        (0.342, 1.0)
    """
    denominator = torch.ones_like(numerator) if denominator is None else denominator
    if not 0 < level < 1:
        raise ValueError(f"need 0 < level < 1, got level={level}")
    if numerator.shape != denominator.shape or numerator.dim() != 1:
        raise ValueError(f"expected two vectors over problems, got {numerator.shape} and {denominator.shape}")
    part, whole = numerator.double(), denominator.double()
    if not bool((part.isfinite() & whole.isfinite() & (part >= 0) & (part <= whole + 1e-12)).all()):
        raise ValueError("a share needs finite numbers with 0 <= numerator <= denominator")
    total = float(whole.sum())
    if total == 0:
        return float("nan"), float("nan")
    share = min(1.0, float(part.sum()) / total)
    spread = share * (1 - share)
    residual = (float((part - share * whole).square().sum()) + spread) / (total + 1)
    n = total * spread / residual if spread > 0 else total
    z = NormalDist().inv_cdf((1 + level) / 2)
    centre, widening = (share + z * z / (2 * n)) / (1 + z * z / n), z / (1 + z * z / n)
    half = widening * (spread / n + (z / (2 * n)) ** 2) ** 0.5
    return max(0.0, centre - half), 1.0 if share == 1 else min(1.0, centre + half)


def difference_interval(differences: Tensor, level: float = 0.95) -> tuple[float, float]:
    """Interval of the mean of paired differences between shares, each in [-1, 1], by :func:`share_interval`.

    No difference on any problem is not certainty either: with n problems the bounds are about 2 / n away from 0.

    Args:
        differences: ``Tensor[problems]``.
        level: Coverage, in (0, 1).

    Example:
        >>> low, high = difference_interval(torch.zeros(100))
        >>> round(low, 2), round(high, 2)
        (-0.02, 0.02)
    """
    low, high = share_interval((differences.double() + 1) / 2, level=level)
    return 2 * low - 1, 2 * high - 1
