"""Rescue rate: of the peers that failed and were shown a hint, how many then succeeded."""

from __future__ import annotations

import torch
from torch import Tensor

from core_lightning.metrics.plotted import ShareMetric


def _count(rescued: Tensor, hinted: Tensor) -> tuple[Tensor, Tensor]:
    if (rescued & ~hinted).any():
        raise ValueError("a (problem, peer) pair without a hint cannot be rescued: rescue is success under a hint")
    return rescued.sum(dtype=torch.float64), hinted.sum(dtype=torch.float64)


def rescue_rate(rescued: Tensor, hinted: Tensor) -> Tensor:
    """Rescued (problem, peer) pairs over (problem, peer) pairs that had a hint.

    A pair is hinted when all cold traces of the peer failed and it was shown a hint, and rescued when one of its rescue
    traces is then correct.

    Args:
        rescued: Boolean tensor over (problem, peer) pairs, any shape.
        hinted: Boolean tensor of the same shape.

    Returns:
        float64 scalar, NaN when no pair had a hint.

    Raises:
        ValueError: If a pair is rescued that had no hint.

    Example:
        >>> rescue_rate(torch.tensor([[True, False]]), torch.tensor([[True, True]]))
        tensor(0.5000, dtype=torch.float64)
    """
    rescues, hints = _count(rescued, hinted)
    return rescues / hints


class RescueRate(ShareMetric):
    """Rescue rate over (problem, peer) pairs, see :func:`rescue_rate`.

    Example:
        >>> metric = RescueRate()
        >>> metric.update(rescued=torch.tensor([True, False, False]), hinted=torch.tensor([True, True, False]))
        >>> metric.compute()
        tensor(0.5000, dtype=torch.float64)
    """

    rescued: Tensor
    hinted: Tensor

    def __init__(self, **kwargs: object) -> None:
        super().__init__(**kwargs)
        self.add_state("rescued", torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("hinted", torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")

    def update(self, rescued: Tensor, hinted: Tensor) -> None:
        """Add (problem, peer) pairs, boolean tensors of one shape."""
        rescues, hints = _count(rescued, hinted)
        self.rescued += rescues
        self.hinted += hints

    def compute(self) -> Tensor:
        """Rescued over hinted pairs, NaN when no pair had a hint."""
        return self.rescued / self.hinted
