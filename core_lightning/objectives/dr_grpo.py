"""GRPO done right: no length bias."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar, Self

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

    advantage: ClassVar[Mapping[str, bool]] = {"normalize_std": False}

    beta: float | Schedule = 0.0
    max_tokens: int | None = None
    """Length every trace is divided by; unset, the longest ``generation.max_new_tokens`` of the team."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.max_tokens is not None and self.max_tokens < 1:
            raise ValueError(f"DrGRPO.max_tokens must be >= 1, got {self.max_tokens}")

    def completed(self, max_tokens: int) -> Self:
        """With the generation limit as the length, unless there is another."""
        return self if self.max_tokens is not None else replace(self, max_tokens=max_tokens)

    def token_share(self, lengths: Tensor, total: Totals) -> Tensor:
        """``1 / (max_tokens * traces)`` for every token."""
        if self.max_tokens is None:
            raise ValueError("DrGRPO.max_tokens is unset; give it the generation limit")
        return torch.full_like(lengths, 1.0 / (self.max_tokens * max(total.traces, 1.0)))
