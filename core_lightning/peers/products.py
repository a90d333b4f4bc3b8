"""Products with frozen float32 weights on a CPU, through oneDNN.

A decoding step multiplies every weight by a few rows only. The BLAS that ``nn.functional.linear`` calls is made for many
rows: with 8 rows and two threads it took up to 2.6 times as long as oneDNN for a head of 262k words.
Everywhere else (other types, other devices, gradients) the product is ``nn.functional.linear``.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


def frozen_linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """``x W^T + b`` for a weight that gets no gradient.

    Args:
        x: ``Tensor[..., in]``, of the weight's type.
        weight: ``Tensor[out, in]``.
        bias: ``Tensor[out]``.

    Returns:
        ``Tensor[..., out]``.
    """
    if has_kernel(weight) and not (torch.is_grad_enabled() and x.requires_grad):
        return _onednn(x, weight, bias)
    return nn.functional.linear(x, weight, bias)


def has_kernel(weight: Tensor) -> bool:
    """Whether oneDNN multiplies by this weight."""
    return weight.device.type == "cpu" and weight.dtype == torch.float32 and torch.backends.mkldnn.is_available()


def _onednn(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    product: Tensor = torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")
    return product
