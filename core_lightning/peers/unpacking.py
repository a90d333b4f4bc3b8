"""4-bit weights unpacked for the length of a rollout.

A packed layer is unpacked again in every forward pass. While scoring that is small beside the products; while decoding, a
pass is one token per row, and unpacking takes up to half of it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

from torch import Tensor, nn


@contextmanager
def unpacked(network: nn.Module) -> Iterator[None]:
    """Run the 4-bit layers of a network from dense copies of their weights: the same numbers, without the unpacking.

    The copies take as much memory as an unquantized model, until the context is left.
    """
    from bitsandbytes.functional import dequantize_4bit
    from bitsandbytes.nn import Linear4bit

    with ExitStack() as stack:
        for layer in network.modules():
            if not isinstance(layer, Linear4bit):
                continue
            packed: Any = layer.weight
            dense = dequantize_4bit(packed.data, packed.quant_state).to(layer.compute_dtype)
            # An attribute of the instance stands before the method of its class, and leaves no trace when deleted.
            setattr(layer, "forward", partial(_linear, dense, layer.bias))  # noqa: B010
            stack.callback(delattr, layer, "forward")
        yield


def _linear(weight: Tensor, bias: Tensor | None, x: Tensor) -> Tensor:
    bias = None if bias is None else bias.to(weight.dtype)
    return nn.functional.linear(x.to(weight.dtype), weight, bias).to(x.dtype)
