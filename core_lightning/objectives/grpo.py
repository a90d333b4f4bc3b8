"""Group relative policy optimisation."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from core_lightning.objectives.objective import Objective, TokenBatch
from core_lightning.schedule import Schedule


def clipped_surrogate(ratio: Tensor, advantages: Tensor, clip_low: float, clip_high: float) -> tuple[Tensor, Tensor]:
    """The pessimistic surrogate of PPO (arXiv 1707.06347, Eq. 7) and where it is flat.

    The minimum is taken for both signs of the advantage: a good token made likelier than ``1 + clip_high`` and a bad
    one made less likely than ``1 - clip_low`` earn nothing more, while a move in the wrong direction is always undone.
    """
    free, clipped = ratio * advantages, ratio.clamp(1 - clip_low, 1 + clip_high) * advantages
    return torch.minimum(free, clipped), clipped < free


@dataclass(frozen=True)
class GRPO(Objective):
    """Token-level clipped ratio, mean over the tokens of a trace, then over traces (arXiv 2402.03300, Eq. 3)."""

    beta: float | Schedule = 0.04
    clip_low: float = 0.2
    """The ratio is clipped at ``1 - clip_low`` from below."""
    clip_high: float = 0.2
    """The ratio is clipped at ``1 + clip_high`` from above."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not (0.0 <= self.clip_low <= 1.0 and self.clip_high >= 0.0):
            raise ValueError(
                f"{type(self).__name__} needs clip_low in [0, 1] and clip_high >= 0,"
                f" got {self.clip_low} and {self.clip_high}"
            )

    def surrogate(self, batch: TokenBatch) -> tuple[Tensor, Tensor]:
        """``min(r A, clip(r) A)`` per token."""
        return clipped_surrogate(batch.log_ratio.exp(), batch.advantages, self.clip_low, self.clip_high)
