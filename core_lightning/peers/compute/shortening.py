"""A model cut down to what shows whether its paths are right: a layer of every kind, and part of its vocabulary."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

#: Rows of the head that are left, and layers at least.
VOCABULARY = 2048
_LAYERS = 2


def depth(backbone: Any) -> int:
    """How many of a model's first layers hold one of every kind.

    Args:
        backbone: A transformers model without its head.
    """
    config = backbone.config.get_text_config()
    count = config.num_hidden_layers
    if getattr(config, "num_kv_shared_layers", 0):
        return count  # the last layers read the cache of earlier ones
    kinds = getattr(config, "layer_types", None) or [None] * count
    reached = _LAYERS
    for layers in (child for _, _, child in _stacks(backbone, count)):
        seen: set[object] = set()
        for i, layer in enumerate(layers):
            if (kind := (kinds[i], _kind(layer))) not in seen:
                seen.add(kind)
                reached = max(reached, i + 1)
    return min(reached, count)


@contextmanager
def shortened(backbone: Any, output: Any) -> Iterator[None]:
    """Run a model with its first layers and the first rows of its output layer only, for a while.

    Args:
        backbone: A transformers model without its head.
        output: Its output layer, or one without a plain weight, which is left as it is.
    """
    config = backbone.config.get_text_config()
    count, kept = config.num_hidden_layers, depth(backbone)
    kinds = getattr(config, "layer_types", None)
    stacks = _stacks(backbone, count)
    weight, bias = output.weight, getattr(output, "bias", None)
    try:
        if kept < count and stacks:
            for module, name, child in stacks:
                setattr(module, name, nn.ModuleList(list(child)[:kept]))
            config.num_hidden_layers = kept
            if kinds:
                config.layer_types = list(kinds)[:kept]
        if type(output) is nn.Linear and weight.is_floating_point():
            output.weight = nn.Parameter(weight.detach()[:VOCABULARY], requires_grad=False)
            if bias is not None:
                output.bias = nn.Parameter(bias.detach()[:VOCABULARY], requires_grad=False)
        yield
    finally:
        for module, name, child in stacks:
            setattr(module, name, child)
        config.num_hidden_layers = count
        if kinds:
            config.layer_types = kinds
        output.weight = weight
        if bias is not None:
            output.bias = bias


def _stacks(backbone: Any, count: int) -> list[tuple[Any, str, nn.ModuleList]]:
    """Where the layers are."""
    return [
        (module, name, child)
        for module in backbone.modules()
        for name, child in module.named_children()
        if isinstance(child, nn.ModuleList) and len(child) == count and not hasattr(module, "lora_A")
    ]


def _kind(layer: nn.Module) -> object:
    """What tells a layer from others: its modules, and their settings apart from where they stand."""
    return tuple(
        (type(module).__name__, *sorted((k, str(v)) for k, v in vars(module).items() if _is_setting(k, v)))
        for module in layer.modules()
        if not isinstance(module, torch.nn.ParameterDict)
    )


def _is_setting(name: str, value: object) -> bool:
    return (
        isinstance(value, (bool, int, str)) and "idx" not in name and "index" not in name and not name.startswith("_")
    )
