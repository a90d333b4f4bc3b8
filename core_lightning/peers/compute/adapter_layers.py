"""The adapter's part of a layer as one node of the gradient graph.

Written out in single operations, a low-rank update keeps its input in float32 and sweeps over its output again and again,
which counts on a small model. The arithmetic is that of mixed precision: weights, their gradients and the
optimizer are float32, the products with activations run in the type of the activations.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from core_lightning.peers.compute.products import frozen_linear, product_type


def merge_nodes(network: nn.Module) -> None:
    """Let the LoRA layers of a PEFT model run this way; unusual ones (DoRA, several adapters at once) keep their own."""
    from peft.tuners.lora import LoraLayer

    for layer in network.modules():
        if isinstance(layer, LoraLayer) and "forward" not in vars(layer):
            setattr(layer, "forward", partial(_forward, layer, layer.forward))  # noqa: B010


def _forward(layer: Any, usual: Any, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    names = [] if layer.disable_adapters else [name for name in layer.active_adapters if name in layer.lora_A]
    unusual = any(name in layer.lora_variant or layer.lora_B[name].bias is not None for name in names)
    if args or kwargs or layer.merged or len(names) > 1 or unusual:
        return usual(x, *args, **kwargs)
    base = layer.base_layer
    result = frozen_linear(x, base.weight, base.bias) if type(base) is nn.Linear else base(x)
    for name in names:
        down, up = layer.lora_A[name].weight, layer.lora_B[name].weight
        dropped, scaling = layer.lora_dropout[name](x), layer.scaling[name]
        if torch.is_grad_enabled():
            result = _AddAdapter.apply(result, dropped, down, up, scaling)
        else:
            result = _added(result, _low(dropped, down, scaling), up)
    return result


def _low(x: Tensor, down: Tensor, scaling: float) -> Tensor:
    """``scaling * D x``, in the type the products of the adapter are made in."""
    kind = adapter_type(x.dtype, x.device)
    return frozen_linear(x.to(kind), down.to(kind)).mul_(scaling)


def adapter_type(dtype: torch.dtype, device: torch.device) -> torch.dtype:
    """The type in which an adapter is multiplied with activations of a type."""
    # float16 has no room for small gradients
    return torch.float32 if dtype == torch.float16 else product_type(dtype, device)


def _added(result: Tensor, low: Tensor, up: Tensor) -> Tensor:
    """``result + U low``, in the type of the result."""
    return (result + frozen_linear(low, up.to(low.dtype))).to(result.dtype)


class _AddAdapter(torch.autograd.Function):
    """``result + scaling * U (D x)`` for ``D: Tensor[r, in]`` and ``U: Tensor[out, r]``."""

    @staticmethod
    def forward(ctx: Any, result: Tensor, x: Tensor, down: Tensor, up: Tensor, scaling: float) -> Tensor:
        low = _low(x, down, scaling)
        ctx.save_for_backward(x, low, down, up)
        ctx.scaling = scaling
        return _added(result, low, up)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, None]:
        x, low, down, up = ctx.saved_tensors
        kind = low.dtype
        g, rows, low = grad.to(kind).flatten(0, -2), x.to(kind).flatten(0, -2), low.flatten(0, -2)
        g_low = frozen_linear(g, up.to(kind).t()).mul_(ctx.scaling)
        g_x = frozen_linear(g_low, down.to(kind).t()).to(x.dtype).view(x.shape)
        return grad, g_x, (g_low.t() @ rows).to(down.dtype), (g.t() @ low).to(up.dtype), None
