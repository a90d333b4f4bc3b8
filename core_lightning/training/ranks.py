"""Sums over the processes of a run. With one process nothing is exchanged."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence

import torch
from torch import distributed, nn


def alone() -> bool:
    """Whether this is the only process."""
    return not (distributed.is_available() and distributed.is_initialized()) or distributed.get_world_size() == 1


def sum_over_ranks(values: Sequence[float], device: torch.device) -> list[float]:
    """Each value summed over all processes, which must all call this."""
    if alone():
        return list(values)
    sums = torch.tensor(values, device=device, dtype=torch.float64)
    distributed.all_reduce(sums)
    return sums.tolist()


def sum_gradients(parameters: Sequence[nn.Parameter], has_signal: bool, device: torch.device) -> None:
    """Sum gradients over all processes; a process without signal adds zeros, and where none has one they stay None.

    Losses are divided by the totals of the step over all processes, so gradients add up. DDP's own reduction would
    hang when a process has no signal.
    """
    if alone() or sum_over_ranks([float(has_signal)], device) == [0]:
        return
    flat = torch.cat([(torch.zeros_like(p) if p.grad is None else p.grad).flatten() for p in parameters])
    distributed.all_reduce(flat)
    for parameter, part in zip(parameters, flat.split([p.numel() for p in parameters]), strict=True):
        parameter.grad = part.view_as(parameter)


def combine_metrics(metrics: Mapping[str, float], counts: set[str], device: torch.device) -> dict[str, float]:
    """Metrics of the step over all processes, in one exchange: counts add up, all else is a mean.

    Args:
        metrics: This process's values; every process has the same names. NaN is no value and is left out of a mean.
        counts: Names that add up.
        device: Where the exchange takes place.
    """
    if alone():
        return dict(metrics)
    known = [not math.isnan(value) for value in metrics.values()]
    sums = sum_over_ranks(
        [*(v if k else 0.0 for k, v in zip(known, metrics.values(), strict=True)), *map(float, known)], device
    )
    having = dict(zip(metrics, sums[len(known) :], strict=True))
    return {
        name: total if name in counts else total / having[name] if having[name] else math.nan
        for name, total in zip(metrics, sums, strict=False)
    }


_LOST = re.compile(
    r"gloo.*(connection (closed|reset)|timed out)|nccl|connection (closed|reset) by peer|broken pipe",
    re.IGNORECASE | re.DOTALL,
)


def is_lost_rank(error: BaseException) -> bool:
    """Whether an error of an exchange says that another process of the run is gone, or never came."""
    if not distributed.is_available():
        return False
    return isinstance(error, distributed.DistError) or (
        isinstance(error, RuntimeError) and not alone() and _LOST.search(str(error)) is not None
    )
