"""Decoupled clip and dynamic sampling policy optimisation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from core_lightning.objectives.grpo import GRPO
from core_lightning.objectives.normalization import Totals, token_mean_share
from core_lightning.schedule import Schedule


@dataclass(frozen=True)
class DAPO(GRPO):
    """GRPO with clip-higher, no KL, and one mean over all tokens of the step (arXiv 2503.14476, Eq. 8).

    It leaves truncated traces and groups without a signal out of the loss (``advantage.mask_truncated``,
    ``mask_no_signal``). Its dynamic sampling is ``rollout.max_draws``, which is off unless it is set.
    """

    advantage: ClassVar[Mapping[str, bool]] = {"mask_truncated": True, "mask_no_signal": True}

    beta: float | Schedule = 0.0
    clip_high: float = 0.28

    def token_share(self, lengths: Tensor, total: Totals) -> Tensor:
        """One mean over all tokens of the step."""
        return token_mean_share(lengths, total)
