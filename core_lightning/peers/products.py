"""Products with a frozen weight that is as wide as the vocabulary.

The BLAS behind ``nn.functional.linear`` is made for many rows; decoding and scoring multiply such a weight by a few dozen
rows at a time, and there oneDNN reads a float32 weight on a CPU sooner.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


def frozen_linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """``x W^T + b`` for a weight that gets no gradient: ``nn.functional.linear``, or oneDNN where that is faster.

    Args:
        x: ``Tensor[..., in]``, of the weight's type.
        weight: ``Tensor[out, in]``.
        bias: ``Tensor[out]``.

    Returns:
        ``Tensor[..., out]``.
    """
    gradient = torch.is_grad_enabled() and x.requires_grad  # the kernel has no backward pass
    onednn = weight.device.type == "cpu" and weight.dtype == torch.float32 and torch.backends.mkldnn.is_available()
    if gradient or not onednn:
        return nn.functional.linear(x, weight, bias)
    product: Tensor = torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")
    return product
