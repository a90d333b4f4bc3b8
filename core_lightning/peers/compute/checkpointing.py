"""Layers that are run again in the backward pass instead of being remembered (arXiv 1604.06174).

Transformers does this in training mode only, which also turns on whatever dropout a layer has of its own. Here the mode of a
layer stays what it is.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from core_lightning.peers.compute.cache import CACHE


def checkpoint_layers(network: nn.Module) -> int:
    """Let the layers of a model be run again for their gradient, unless they fill a cache; returns how many there are."""
    from transformers.modeling_layers import GradientCheckpointingLayer

    layers = [layer for layer in network.modules() if isinstance(layer, GradientCheckpointingLayer)]
    for layer in layers:
        if "forward" not in vars(layer):  # several peers may share a base
            setattr(layer, "forward", partial(_forward, layer.forward))  # noqa: B010
    return len(layers)


def _forward(usual: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    caches = [kwargs.get(name) for name in (CACHE, "past_key_values", "layer_past")]
    if not torch.is_grad_enabled() or any(cache is not None for cache in caches):
        return usual(*args, **kwargs)
    return checkpoint(partial(usual, **kwargs), *args, use_reentrant=False)
