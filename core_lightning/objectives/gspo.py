"""Group sequence policy optimisation."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from core_lightning.objectives.grpo import GRPO, clipped_surrogate
from core_lightning.objectives.objective import TokenBatch


@dataclass(frozen=True)
class GSPO(GRPO):
    """One length-normalised ratio for a whole trace, clipped as in GRPO (arXiv 2507.18071, Eq. 5 and 7).

    A geometric mean over hundreds of tokens stays close to 1, hence the narrow clip range.
    """

    clip_low: float = 3e-4
    clip_high: float = 4e-4

    def surrogate(self, batch: TokenBatch) -> tuple[Tensor, Tensor]:
        """``min(s A, clip(s) A)`` with ``s = exp(mean log ratio)`` of the trace."""
        mean_log_ratio = batch.log_ratio.sum(1) / batch.lengths.clamp_min(1.0)
        return clipped_surrogate(mean_log_ratio.exp()[:, None], batch.advantages, self.clip_low, self.clip_high)
