"""Clipped importance-sampling weight policy optimisation."""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import Tensor

from core_lightning.objectives.normalization import Totals, token_mean_share
from core_lightning.objectives.objective import Objective, TokenBatch


@dataclass(frozen=True)
class CISPO(Objective):
    """REINFORCE with a clipped, constant weight: every token keeps a gradient (arXiv 2506.13585, Eq. 4-5)."""

    clip_low: float = 1.0
    """The weight is clipped at ``1 - clip_low`` from below; 1 leaves that side open, as in the paper."""
    clip_high: float = 4.0
    """The weight is clipped at ``1 + clip_high`` from above."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not (0.0 <= self.clip_low <= 1.0 and 0.0 <= self.clip_high < math.inf):
            raise ValueError(
                f"CISPO needs clip_low in [0, 1] and a finite clip_high >= 0, got {self.clip_low} and {self.clip_high}"
            )

    def surrogate(self, batch: TokenBatch) -> tuple[Tensor, Tensor]:
        """``stop_gradient(clip(r)) A log p`` per token; the weight, not the gradient, is what is held back."""
        ratio = batch.log_ratio.detach().exp()
        weight = ratio.clamp(1 - self.clip_low, 1 + self.clip_high)
        return weight * batch.advantages * batch.logprobs, weight != ratio

    def token_share(self, lengths: Tensor, total: Totals) -> Tensor:
        """One mean over all tokens of the step."""
        return token_mean_share(lengths, total)
