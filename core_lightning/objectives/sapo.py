"""Soft adaptive policy optimisation."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from core_lightning.objectives.objective import Objective, TokenBatch
from core_lightning.schedule import Schedule


@dataclass(frozen=True)
class SAPO(Objective):
    """A smooth gate on the token ratio in place of a hard clip (arXiv 2511.20347).

    ``f(r) = sigmoid(temperature * (r - 1)) * 4 / temperature`` has slope 1 at ``r = 1`` and flattens with distance,
    sooner the higher the temperature. CORE (arXiv 2601.21600) gives rescue traces a wider gate, as their ratio starts
    further from 1.
    """

    beta: float | Schedule = 0.04
    temperature_positive: float = 1.0
    """Temperature where the advantage is positive."""
    temperature_negative: float = 1.05
    """Temperature elsewhere; higher, as pushing tokens down is what destabilises."""
    temperature_rescue: float = 0.5
    """Temperature of rescue traces, either sign. No value is published; 0.5 is a gate twice as wide as 1."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("temperature_positive", "temperature_negative", "temperature_rescue"):
            if getattr(self, name) <= 0:
                raise ValueError(f"SAPO.{name} must be > 0, got {getattr(self, name)}")

    def surrogate(self, batch: TokenBatch) -> tuple[Tensor, Tensor]:
        """``f(r) A`` per token; held back where the gate's slope is below one half."""
        temperature = torch.where(batch.advantages > 0, self.temperature_positive, self.temperature_negative)
        temperature = torch.where(batch.rescue, self.temperature_rescue, temperature)
        gate = torch.sigmoid(temperature * (batch.log_ratio.exp() - 1))
        return gate * 4 / temperature * batch.advantages, 4 * gate * (1 - gate) < 0.5
