"""State space layers with a shortest time step, which transformers keeps to only when several tokens are read at once.

Nemotron-H and Zamba2 hold the time step above a limit. The update of the state by a single token leaves the limit out (of
transformers 5.24; its kernel has no such argument), so what is sampled would be another model than what is scored. The limit
is put on the projection that the time step is made of instead.
"""

from __future__ import annotations

from math import expm1, inf, log
from typing import Any

import torch
from torch import Tensor

_MARK = "_core_lightning_time_steps"


def limit_time_steps(network: Any) -> None:
    """Keep the time steps of single tokens within a model's limits; other models stay as they are."""
    for mixer in network.modules():
        low, high = getattr(mixer, "time_step_limit", None) or (0.0, inf)
        if (low <= 0 and high == inf) or hasattr(mixer, _MARK) or not hasattr(mixer, "dt_bias"):
            continue
        setattr(mixer, _MARK, True)
        mixer.in_proj.register_forward_hook(_Limit(mixer, low, high))


class _Limit:
    """softplus(projection + bias) stays within limits if the projection stays within theirs."""

    def __init__(self, mixer: Any, low: float, high: float) -> None:
        self.mixer = mixer
        self.low = log(expm1(low)) if low > 0 else -inf
        self.high = log(expm1(high)) if high < inf else inf

    def __call__(self, _: Any, __: Any, projected: Tensor) -> Tensor | None:
        """The projection of one token of each row, ``Tensor[rows, 1, features]``; the time steps are its last features."""
        if projected.shape[1] != 1:
            return None
        bias = self.mixer.dt_bias
        rest, steps = projected.split([projected.shape[-1] - len(bias), len(bias)], dim=-1)
        steps = torch.minimum(torch.maximum(steps, (self.low - bias).to(steps)), (self.high - bias).to(steps))
        return torch.cat([rest, steps], dim=-1)
