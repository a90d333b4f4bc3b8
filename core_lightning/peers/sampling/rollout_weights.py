"""Weights in the form that decoding reads fastest, for the length of a rollout.

Decoding runs every layer on a few rows at a time, so its time is that of reading the weights. A 4-bit layer would be
unpacked again for every token, a processor's library would arrange a weight anew in every call, and every adapter adds
products that cost more to start than to compute. A rollout runs from copies of the frozen weights, in which layers that
read the same input are one; the adapter is added to their output.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from core_lightning.peers.compute.adapter_layers import adapter_type
from core_lightning.peers.compute.products import arranged, half, has_half_kernel, pays

Forward = Callable[[Tensor], Tensor]

#: Layers of one module that are given the same input, one after the other.
SIBLINGS = (("q_proj", "k_proj", "v_proj"), ("gate_proj", "up_proj"))


class RolloutWeights:
    """Copies of the frozen weights of a network.

    Args:
        network: Its linear layers are run from copies.
        keep_half: Keep them, as float16 where the processor reads that faster; they are made at the first rollout. Otherwise
            every rollout makes its own in the type of the weights, and drops them.
    """

    def __init__(self, network: nn.Module, keep_half: bool) -> None:
        self._network = network
        self._keep_half = keep_half
        self._kept: dict[tuple[nn.Module, ...], Forward] = {}

    @contextmanager
    def running(self, adapter: str | None) -> Iterator[None]:
        """Run the network from the copies: the same function, up to the rounding of weights and the order of sums.

        Args:
            adapter: The adapter that is active, whose weights do not change before the context is left; ``None`` if it is
                off.
        """
        with torch.no_grad(), ExitStack() as stack:
            for layer, forward in self._copies(self._network, adapter):
                # An attribute of the instance stands before the method of its class.
                before = vars(layer).get("forward")
                setattr(layer, "forward", forward)  # noqa: B010
                stack.callback(
                    *((delattr, layer, "forward") if before is None else (setattr, layer, "forward", before))
                )
            yield

    def _copies(self, module: nn.Module, adapter: str | None) -> Iterator[tuple[nn.Module, Forward]]:
        """The linear layers below a module, and what runs each from a copy."""
        children = dict(module.named_children())
        for names in SIBLINGS:
            parts = [_described(children[name], adapter) for name in names if name in children]
            if len(parts) == len(names) and None not in parts and len({p.kind for p in parts if p}) == 1:
                together = _Together(self._joined([p for p in parts if p]), [p.base.out_features for p in parts if p])
                for i, name in enumerate(names):
                    yield children.pop(name), partial(together, i)
        for child in children.values():
            if (part := _described(child, adapter)) is not None:
                yield child, self._joined([part])
            else:
                yield from self._copies(child, adapter)

    def _joined(self, parts: Sequence[_Described]) -> Forward:
        """One forward for layers that read the same input, their outputs side by side."""
        product = self._product([p.base for p in parts])
        if parts[0].down is None:
            return lambda x: product(x).to(x.dtype)
        down = torch.cat([p.down for p in parts if p.down is not None], dim=1)
        up = torch.block_diag(*(p.up for p in parts if p.up is not None))
        base = parts[0].base
        kind = adapter_type(_dense_type(base) or down.dtype, base.weight.device)
        return partial(_adapted, product, down.to(kind), up.to(kind))

    def _product(self, layers: Sequence[nn.Module]) -> Forward:
        key = tuple(layers)
        if key in self._kept:
            return self._kept[key]
        weight = torch.cat([_dense(layer) for layer in layers])
        biases = [layer.bias for layer in layers if layer.bias is not None]
        bias = torch.cat(biases).to(weight.dtype) if biases else None  # type: ignore[arg-type]
        if self._keep_half:
            self._kept[key] = half(weight, bias) if has_half_kernel(weight) else _copied(weight, bias)
            return self._kept[key]
        return _copied(weight, bias)


def _copied(weight: Tensor, bias: Tensor | None) -> Forward:
    return arranged(weight, bias) if pays(weight) else partial(nn.functional.linear, weight=weight, bias=bias)


@dataclass(frozen=True)
class _Described:
    """A linear layer and its adapter: ``base(x) + (x down) up``."""

    base: Any
    down: Tensor | None
    """``Tensor[in, r]``; None without an adapter."""
    up: Tensor | None
    """``Tensor[r, out]``, scaled."""

    @property
    def kind(self) -> tuple[object, ...]:
        """Layers of one kind can be joined."""
        return self.base.in_features, _dense_type(self.base), self.base.bias is None, self.down is None


def _described(layer: Any, adapter: str | None) -> _Described | None:
    """A linear layer; None for other layers, and for unusual adapters, which are left to their own forward."""
    from peft.tuners.lora import LoraLayer

    adapted = isinstance(layer, LoraLayer)
    base = layer.get_base_layer() if adapted else layer
    if _dense_type(base) is None:
        return None
    if not adapted or adapter not in layer.lora_A:
        return _Described(base, None, None)
    down, up = layer.lora_A[adapter], layer.lora_B[adapter]
    if adapter in layer.lora_variant or up.bias is not None:
        return None
    return _Described(base, down.weight.t().contiguous(), up.weight.t() * layer.scaling[adapter])


def _dense_type(layer: Any) -> torch.dtype | None:
    """The type of :func:`_dense`; None for a layer that has no dense form."""
    from bitsandbytes.nn import Linear4bit

    if isinstance(layer, Linear4bit):
        return layer.compute_dtype
    return layer.weight.dtype if type(layer) is nn.Linear else None


def _dense(layer: Any) -> Tensor:
    """The weight of a linear layer, ``Tensor[out, in]``, a 4-bit one unpacked."""
    from bitsandbytes.functional import dequantize_4bit
    from bitsandbytes.nn import Linear4bit

    if isinstance(layer, Linear4bit):
        packed: Any = layer.weight
        return dequantize_4bit(packed.data, packed.quant_state).to(layer.compute_dtype)
    return layer.weight


def _adapted(product: Forward, down: Tensor, up: Tensor, x: Tensor) -> Tensor:
    result = product(x)  # float32 from a float16 copy: the sum is rounded to the type of the activations once
    low = x.to(down.dtype).flatten(0, -2) @ down
    result.flatten(0, -2).addmm_(low.to(result.dtype), up.to(result.dtype))
    return result.to(x.dtype)


class _Together:
    """The layers of a joined forward: the first to be given an input computes for all."""

    def __init__(self, forward: Forward, sizes: Sequence[int]) -> None:
        self._forward = forward
        self._sizes = list(sizes)
        self._input: Tensor | None = None
        self._outputs: Sequence[Tensor] = ()

    def __call__(self, i: int, x: Tensor) -> Tensor:
        if x is not self._input:
            self._input, self._outputs = x, self._forward(x).split(self._sizes, dim=-1)
        return self._outputs[i]
