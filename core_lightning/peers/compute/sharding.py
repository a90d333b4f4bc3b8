"""A frozen base in parts over the processes of a run (FSDP2, arXiv 2304.11277): each holds a part of every layer.

A layer is put together for the moment it is run, in the forward and again in the backward pass. What stands outside of the
layers stays whole, because scoring reads the output layer by tiles, and so do adapters: their gradients are summed by hand.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn
from torch.distributed.device_mesh import DeviceMesh


class ShardedLayers:
    """The layers of a model, sharded in place.

    Args:
        backbone: A transformers model without its head, adapters on it.
        mesh: The processes, in one dimension.

    Raises:
        ValueError: It has no layers that are known to run one after the other, shares weights between them, or packs them.
    """

    def __init__(self, backbone: nn.Module, mesh: DeviceMesh) -> None:
        from torch.distributed.fsdp import fully_shard

        whole = _kept_whole(backbone)
        self._layers: list[Any] = layers_of(backbone)
        _check(self._layers, whole)
        for layer in self._layers:
            fully_shard(layer, mesh=mesh, reshard_after_forward=True, ignored_params=whole)
        # Nothing of it is sharded: the root of the layers, which share one stream of exchanges.
        inside = {id(p) for layer in self._layers for p in layer.parameters()}
        rest = {p for p in backbone.parameters() if id(p) not in inside}
        fully_shard(backbone, mesh=mesh, ignored_params=whole | rest)

    @contextmanager
    def whole(self) -> Iterator[None]:
        """Put all layers together for a while, in all processes at the same time. Passes then exchange nothing."""
        for layer in self._layers:
            layer.set_reshard_after_forward(False, recurse=False)
            layer.unshard()
        try:
            yield
        finally:
            for layer in self._layers:
                layer.set_reshard_after_forward(True, recurse=False)
                layer.reshard()


def layers_of(backbone: nn.Module) -> list[nn.Module]:
    """The modules that a model runs one after the other, outermost ones only."""
    from transformers.modeling_layers import GradientCheckpointingLayer

    found = [m for m in backbone.modules() if isinstance(m, GradientCheckpointingLayer)]
    nested = {id(inner) for layer in found for inner in layer.modules() if inner is not layer}
    return [layer for layer in found if id(layer) not in nested]


def _kept_whole(backbone: nn.Module) -> set[nn.Parameter]:
    return {p for name, p in backbone.named_parameters() if "lora_" in name}


def _check(layers: list[Any], whole: set[nn.Parameter]) -> None:
    if not layers:
        raise ValueError("has no layers that are known to run one after the other")
    seen: set[int] = set()
    for layer in layers:
        own = [p for p in layer.parameters() if p not in whole]
        if any(id(p) in seen for p in own):
            raise ValueError("shares weights between its layers")
        if any(not p.dtype.is_floating_point or p.dtype.itemsize == 1 for p in own):
            raise ValueError("is stored packed")
        seen |= {id(p) for p in own}
