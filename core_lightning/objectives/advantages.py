"""From rewards to advantages: each trace is compared with its own group."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, get_args

import torch
from torch import Tensor

from core_lightning.records import Group

GroupBy = Literal["problem", "peer", "round"]

SIGNAL_RESOLUTION = 1e-6
"""Rewards of a group that lie within this of each other count as equal: the rest is float residue, not signal."""


def group_ids(groups: Sequence[Group], by: GroupBy = "problem") -> Tensor:
    """Which traces share a baseline.

    Args:
        groups: All groups of a step.
        by: ``problem``: all peers and both rounds of a problem (published); ``peer``: each peer of a problem on its
            own, so that a weaker peer is not only handed negative advantages; ``round``: each peer and round.

    Returns:
        ``int64 Tensor[traces]``, the traces in the order of the groups.
    """
    if by not in get_args(GroupBy):
        raise ValueError(f"group_by must be one of {', '.join(get_args(GroupBy))}, got {by!r}")
    ids: dict[tuple[object, ...], int] = {}
    rows = []
    for problem, group in enumerate(groups):
        for trace in group:
            key = {"problem": (problem,), "peer": (problem, trace.peer), "round": (problem, trace.peer, trace.round)}[
                by
            ]
            rows.append(ids.setdefault(key, len(ids)))
    return torch.tensor(rows, dtype=torch.int64)


def group_advantages(rewards: Tensor, groups: Tensor, *, normalize_std: bool = True, std_floor: float = 1e-4) -> Tensor:
    """Reward minus the group's mean, over the group's population standard deviation (GRPO, arXiv 2402.03300).

    Args:
        rewards: ``Tensor[traces]``; NaN is "no opinion": the trace is left out of mean and deviation.
        groups: ``int Tensor[traces]``, equal for traces that share a baseline.
        normalize_std: Divide by the deviation; False is the advantage of Dr. GRPO (arXiv 2503.20783).
        std_floor: Smallest divisor, in units of reward, so that float residue is never blown up.

    Returns:
        ``float64 Tensor[traces]``, exactly 0 for traces without an opinion and for groups without signal.
    """
    if std_floor <= 0:
        raise ValueError(f"std_floor must be > 0, got {std_floor}")
    rewards = rewards.double()
    silent = no_signal(rewards, groups)
    known = ~rewards.isnan()
    mean = _group_mean(rewards, known, groups)
    centred = torch.where(known & ~silent, rewards - mean, 0.0)
    if normalize_std:
        # The second pass over centred values is exact where E[x^2] - E[x]^2 cancels.
        centred = centred / _group_mean(centred.square(), known, groups).sqrt().clamp_min(std_floor)
    return centred


def coverage_weights(groups: Sequence[Group], coverage: float) -> Tensor:
    """What a problem counts for each peer, by whether the others fail on it.

    The team has a right answer with probability ``1 - prod_m (1 - p_m)``, whose derivative with respect to one peer's own
    ``p`` is the probability that all others fail. So advantages weighted with that share follow the gradient of the
    team's success (with one answer of each), and those weighted with 1 that of each peer's own.

    Args:
        groups: All groups of a step.
        coverage: In [0, 1]; 0 weighs every problem with 1.

    Returns:
        ``float64 Tensor[traces]``, the traces in the order of the groups. A peer's probability is estimated by the share of
        its cold traces that are right.
    """
    rows = []
    for group in groups:
        failing = {}
        for peer in group.peers():
            cold = group.of(peer, "cold")
            failing[peer] = sum(not t.correct for t in cold) / len(cold) if cold else 1.0
        for trace in group:
            others = math.prod(share for peer, share in failing.items() if peer != trace.peer)
            rows.append((1 - coverage) + coverage * others)
    return torch.tensor(rows, dtype=torch.float64)


def no_signal(rewards: Tensor, groups: Tensor) -> Tensor:
    """Traces of groups whose known rewards are all equal, and traces without an opinion: ``bool Tensor[traces]``.

    Such a trace has advantage 0 and would feel nothing but the pull of the KL term: mask it to leave it out.
    """
    rewards = rewards.double()
    known, index = ~rewards.isnan(), groups.unique(return_inverse=True)[1]

    def extreme(reduce: Literal["amax", "amin"], unknown: float) -> Tensor:
        start = torch.full_like(rewards, unknown)
        return start.scatter_reduce(0, index, torch.where(known, rewards, unknown), reduce)[index]

    # Without any opinion the spread is -inf.
    spread = extreme("amax", -torch.inf) - extreme("amin", torch.inf)
    return ~known | (spread <= SIGNAL_RESOLUTION)


def _group_mean(values: Tensor, known: Tensor, groups: Tensor) -> Tensor:
    """Mean over the known values of each trace's group, spread back over the traces."""
    index = groups.unique(return_inverse=True)[1]
    total = torch.zeros_like(values).index_add_(0, index, torch.where(known, values, 0.0))
    count = torch.zeros_like(values).index_add_(0, index, known.to(values.dtype))
    return (total / count.clamp_min(1.0))[index]
