"""GRPO done right: no length bias."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from core_lightning.objectives.grpo import GRPO
from core_lightning.objectives.normalization import Totals
from core_lightning.schedule import Schedule


@dataclass(frozen=True)
class DrGRPO(GRPO):
    """GRPO with a constant in place of each trace's own length (Dr. GRPO, arXiv 2503.20783).

    Its other half, no division by the standard deviation, is ``group_advantages(normalize_std=False)``.
    """

    beta: float | Schedule = 0.0
    max_tokens: int = 1024
    """Length every trace is divided by: the generation limit."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.max_tokens < 1:
            raise ValueError(f"DrGRPO.max_tokens must be >= 1, got {self.max_tokens}")

    def token_share(self, lengths: Tensor, total: Totals) -> Tensor:
        """``1 / (max_tokens * traces)`` for every token."""
        return torch.full_like(lengths, 1.0 / (self.max_tokens * max(total.traces, 1.0)))
