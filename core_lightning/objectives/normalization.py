"""Which tokens count and by what a loss is divided, so that splitting a step in micro-batches changes nothing."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Totals:
    """Size of a whole step, over all micro-batches and ranks: what every part of its loss is divided by.

    A loss that each micro-batch normalised by itself would give short micro-batches more weight.
    """

    traces: float
    """Traces with at least one token that counts."""
    tokens: float
    """Completion tokens that count."""

    @classmethod
    def of(cls, mask: Tensor) -> Totals:
        """Totals of one ``Tensor[traces, tokens]`` mask; add those of all parts to get the step's."""
        counted = mask.bool()
        return cls(traces=float(counted.any(1).sum()), tokens=float(counted.sum()))

    def __add__(self, other: Totals) -> Totals:
        return Totals(self.traces + other.traces, self.tokens + other.tokens)


def trace_mean_share(lengths: Tensor, total: Totals) -> Tensor:
    """Share of the loss that each token of a trace holds when it is a mean over traces of means over their tokens.

    Args:
        lengths: Counted tokens of every trace, ``Tensor[traces]``.
        total: Size of the whole step.

    Returns:
        ``Tensor[traces]``.
    """
    return 1.0 / (lengths.clamp_min(1.0) * max(total.traces, 1.0))


def token_mean_share(lengths: Tensor, total: Totals) -> Tensor:
    """Share of the loss that each token holds when it is one mean over all tokens of the step; arguments as above."""
    return torch.full_like(lengths, 1.0 / max(total.tokens, 1.0))
