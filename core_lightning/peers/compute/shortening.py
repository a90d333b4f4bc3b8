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


def shown(backbone: Any) -> list[int]:
    """Which of a model's layers are enough to show what it does: the first of every kind, in their order.

    Args:
        backbone: A transformers model without its head.
    """
    config = backbone.config.get_text_config()
    count = config.num_hidden_layers
    if getattr(config, "num_kv_shared_layers", 0):
        return list(range(count))  # the last layers read the cache of earlier ones
    kinds = getattr(config, "layer_types", None) or [None] * count
    first: set[int] = set()
    for layers in (child for _, _, child in _stacks(backbone, count)):
        seen: dict[object, int] = {}
        for i, layer in enumerate(layers):
            seen.setdefault((kinds[i], _kind(layer)), i)
        first |= set(seen.values())
    others = (i for i in range(count) if i not in first)
    while len(first) < min(_LAYERS, count):
        first.add(next(others))
    return sorted(first)


@contextmanager
def shortened(backbone: Any, output: Any) -> Iterator[None]:
    """Run a model with some of its layers and the first rows of its output layer only, for a while.

    Args:
        backbone: A transformers model without its head.
        output: Its output layer, or one without a plain weight, which is left as it is.
    """
    config = backbone.config.get_text_config()
    count, kept = config.num_hidden_layers, shown(backbone)
    kinds = getattr(config, "layer_types", None)
    stacks = _stacks(backbone, count)
    weight, bias = output.weight, getattr(output, "bias", None)
    numbered: list[tuple[Any, int, int]] = [
        (module, i, now)
        for _, _, layers in stacks
        for now, i in enumerate(kept)
        for module in layers[i].modules()
        if getattr(module, "layer_idx", None) == i
    ]
    try:
        if len(kept) < count and stacks:
            for parent, name, layers in stacks:
                setattr(parent, name, nn.ModuleList(layers[i] for i in kept))
            for module, _, now in numbered:  # a layer finds its part of the cache by its number
                module.layer_idx = now
            config.num_hidden_layers = len(kept)
            if kinds:
                config.layer_types = [kinds[i] for i in kept]
        if type(output) is nn.Linear and weight.is_floating_point():
            output.weight = nn.Parameter(weight.detach()[:VOCABULARY], requires_grad=False)
            if bias is not None:
                output.bias = nn.Parameter(bias.detach()[:VOCABULARY], requires_grad=False)
        yield
    finally:
        for parent, name, layers in stacks:
            setattr(parent, name, layers)
        for module, i, _ in numbered:
            module.layer_idx = i
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
