"""Products with a frozen weight.

The BLAS behind ``nn.functional.linear`` is made for many rows of float32. Decoding multiplies a few rows at a time, scoring
by a weight as wide as the vocabulary; there, and in bfloat16, a CPU is faster with other kernels.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from core_lightning.peers.compute.processor import native_bfloat16, onednn_types

#: Weights of fewer elements are left to the BLAS: a call of oneDNN takes 15 to 30 microseconds before it multiplies
#: (``python -m benchmarks.products``).
_SMALL = 2**18


def has_kernel(weight: Tensor) -> bool:
    """Whether oneDNN multiplies by this weight: on a CPU, in a type that products are made in and that it can."""
    same = product_type(weight.dtype, weight.device) == weight.dtype
    return weight.device.type == "cpu" and same and weight.dtype in onednn_types()


def pays(weight: Tensor) -> bool:
    """Whether oneDNN is to multiply by this weight: it can, and the weight is large enough to be worth the call."""
    return weight.numel() >= _SMALL and has_kernel(weight)


def product_type(dtype: torch.dtype, device: torch.device) -> torch.dtype:
    """The type products are made in: float32 for bfloat16 on a processor that has to emulate it.

    Emulation takes longer than converting and multiplying, and rounds its sums.
    """
    emulated = dtype == torch.bfloat16 and device.type == "cpu" and not native_bfloat16()
    return torch.float32 if emulated else dtype


def widened(x: Tensor) -> Tensor:
    """The tensor in the type its products are made in."""
    kind = product_type(x.dtype, x.device)
    return x if kind == x.dtype else x.to(kind)


def frozen_linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """``x W^T + b`` for a weight that gets no gradient: ``nn.functional.linear``, or oneDNN where that is faster.

    Args:
        x: ``Tensor[..., in]``, of the weight's type.
        weight: ``Tensor[out, in]``.
        bias: ``Tensor[out]``.

    Returns:
        ``Tensor[..., out]``.
    """
    if weight.device.type != "cpu":
        return nn.functional.linear(x, weight, bias)
    if torch.is_grad_enabled() and x.requires_grad:
        return _FrozenLinear.apply(x, weight, bias)
    return _product(x, weight, bias)


def float_product(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """``x W^T + b`` without gradient, in float32 as it was summed up.

    Rounded to bfloat16, a logit of 20 is off by up to 0.06 and its probability by as many hundredths. The only product that
    comes rounded is that of a processor with native bfloat16.

    Args:
        x: ``Tensor[n, in]``, of the weight's type.
        weight: ``Tensor[out, in]``.
        bias: ``Tensor[out]``.

    Returns:
        ``float32 Tensor[n, out]``.
    """
    if x.device.type == "cuda" and x.dtype != torch.float32:
        sums = torch.mm(x, weight.t(), out_dtype=torch.float32)
        return sums if bias is None else sums.add_(bias)
    wide = widened(weight)
    return _kernel(x.to(wide.dtype), wide, None if bias is None else bias.to(wide.dtype)).float()


class _FrozenLinear(torch.autograd.Function):
    """The kernel has no backward pass of its own, and a widened weight is not worth keeping for one."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.weight = weight  # frozen, so it cannot have changed by the time it is needed
        return _product(x, weight, bias)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        return _product(grad, ctx.weight.t(), None), None, None


def _product(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    wide = widened(weight)
    # This comes hundreds of times in a decoding step, where asking to convert takes time, too.
    if wide is weight and x.dtype == weight.dtype:
        return _kernel(x, weight, bias)
    bias = None if bias is None else bias.to(wide.dtype)
    return _kernel(x.to(wide.dtype), wide, bias).to(x.dtype)


def _kernel(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    return _onednn(x, weight, bias) if pays(weight) else nn.functional.linear(x, weight, bias)


def _onednn(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    product: Tensor = torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")
    return product


def arranged(weight: Tensor, bias: Tensor | None = None) -> Callable[[Tensor], Tensor]:
    """``x -> x W^T + b`` without gradient, from a copy of the weight in the order in which oneDNN reads it.

    Args:
        weight: ``Tensor[out, in]`` that :func:`has_kernel`.
        bias: ``Tensor[out]``.
    """
    # The number of rows is only a hint; decoding has few.
    copy = torch.ops.mkldnn._reorder_linear_weight(weight.detach().contiguous(), 8)
    return lambda x: _onednn(x, copy, bias)


def has_half_kernel(weight: Tensor) -> bool:
    """Whether :func:`half` multiplies by this weight: on an x86 processor, unless bfloat16 is native to it."""
    x86 = torch.backends.quantized.engine in ("x86", "fbgemm")
    return x86 and widened(weight).dtype == torch.float32 and weight.device.type == "cpu"


def half(weight: Tensor, bias: Tensor | None = None) -> Callable[[Tensor], Tensor]:
    """``x -> x W^T + b`` without gradient, from a float16 copy of the weight; sums and what is returned are float32.

    With few rows, reading the weight is all that takes time, and half of it is read in half the time. What was stored in 16
    bits stays what it was, down to the smallest float16 (6e-8).

    Args:
        weight: ``Tensor[out, in]`` that :func:`has_half_kernel`.
        bias: ``Tensor[out]``.
    """
    packed = torch.ops.quantized.linear_prepack_fp16(
        weight.detach().float().contiguous(), None if bias is None else bias.detach().float()
    )
    return lambda x: torch.ops.quantized.linear_dynamic_fp16(x.float(), packed)
