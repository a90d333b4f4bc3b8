"""Other machines, played on this one: results of tests must not hang on which of them the suite runs on.

``TEST_SEED=7`` draws the tiny models anew, so that they say other things. ``TEST_ROUNDING=1e-6`` makes products round
otherwise: every output of every linear layer is off by up to that part of itself, always alike. The third switch is the
library's own, ``CORE_LIGHTNING_BFLOAT16`` (see core_lightning/peers/compute/processor.py).
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

#: Added to the seeds of the tiny models.
SEED = int(os.environ.get("TEST_SEED", "0"))
#: Largest error of a product, relative.
ROUNDING = float(os.environ.get("TEST_ROUNDING", "0"))


def round_otherwise() -> None:
    """Let linear layers be off by ``ROUNDING`` for the rest of the process."""
    if not ROUNDING:
        return
    from core_lightning.peers.compute import products

    def off(product: Callable[..., Tensor]) -> Callable[..., Tensor]:
        def rounded(*args: Any, **kwargs: Any) -> Tensor:
            out = product(*args, **kwargs)
            column = torch.arange(out.shape[-1], device=out.device)
            return out * (1 + ROUNDING * torch.sin(12.9898 * column + 78.233)).to(out.dtype)

        return rounded

    nn.functional.linear = off(nn.functional.linear)
    products._onednn = off(products._onednn)
