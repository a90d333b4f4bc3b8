"""Attention by plain matrix products, for processors, and for decoding on a GPU.

The kernel torch offers on a CPU (``scaled_dot_product_attention``) is made for long float32 sequences. In bfloat16 it takes
several times as long as the two products it stands for, in a decoding step as in a backward pass, and it knows no shared
key-value heads: those are repeated for it. Here the queries that share a head are rows of one product.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor

from core_lightning.peers.compute.products import widened

NAME = "core_lightning_products"
#: Attention scores of one layer, in numbers: above this many, the memory the kernel saves counts for more than its time.
MOST_SCORES = 1 << 22


def attend_by_products(network: Any) -> None:
    """Let a transformers model on a CPU attend by products, if it would use the kernel."""
    from transformers import AttentionInterface, AttentionMaskInterface

    AttentionInterface.register(NAME, attention)
    AttentionMaskInterface.register(NAME, attention_bias)
    config = network.config.get_text_config()
    if network.device.type == "cpu" and config._attn_implementation == "sdpa":
        config._attn_implementation = NAME


def products_attention(network: Any) -> AbstractContextManager[None]:
    """Let a model attend by products for a while, on a GPU too: with one query a row, the kernel repeats shared heads."""
    return _swapped(network, "sdpa", NAME)


def library_attention(network: Any) -> AbstractContextManager[None]:
    """Let a model attend by the library's own kernel for a while."""
    return _swapped(network, NAME, "sdpa")


def leave_to_library(network: Any) -> None:
    """Let every layer of a model run as the library has it, from now on."""
    for module in network.modules():
        if is_replaced(module):
            del module.forward
    config = network.config.get_text_config()
    if config._attn_implementation == NAME:
        config._attn_implementation = "sdpa"


@contextmanager
def library_layers(network: Any) -> Iterator[None]:
    """Let every layer of a model run as the library has it, for a while."""
    ours = [(module, vars(module)["forward"]) for module in network.modules() if is_replaced(module)]
    for module, _ in ours:
        del module.forward
    try:
        with library_attention(network):
            yield
    finally:
        for module, forward in ours:
            module.forward = forward


def is_replaced(module: Any) -> bool:
    """Whether a layer is run in a way of this package."""
    forward: Any = vars(module).get("forward")
    return isinstance(forward, partial) and forward.func.__module__.startswith(__package__)


@contextmanager
def _swapped(network: Any, one: str, other: str) -> Iterator[None]:
    config = network.config.get_text_config()
    before = config._attn_implementation
    if before == one:
        config._attn_implementation = other
    try:
        yield
    finally:
        config._attn_implementation = before


def attention(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    **options: Any,
) -> tuple[Tensor, None]:
    """What transformers calls for every layer (its ``AttentionInterface``).

    Args:
        module: The layer.
        query: ``Tensor[rows, heads, queries, d]``.
        key: ``Tensor[rows, key-value heads, keys, d]``.
        value: ``Tensor[rows, key-value heads, keys, e]``.
        attention_mask: Added to the scores, ``Tensor[rows, 1, queries, keys]``; None if every query sees every key, or,
            with several queries, all keys up to its own.
        dropout: Of the attention weights.
        scaling: Of the scores; ``d ** -0.5`` if None.
        options: What else a model gives the kernel.

    Returns:
        ``Tensor[rows, queries, heads, e]``, and no weights.
    """
    from transformers.integrations.sdpa_attention import sdpa_attention_forward

    rows, heads, queries, size = query.shape
    shared, keys = key.shape[1:3]
    special = dropout or options.get("position_bias") is not None or (attention_mask is None and queries > 1)
    # A mask per head (Doge) or of other keys (Dory) is the kernel's own affair.
    special = special or (
        attention_mask is not None and (attention_mask.shape[1] != 1 or attention_mask.shape[-1] != keys)
    )
    if special or (queries > 1 and rows * heads * queries * keys > MOST_SCORES):
        return sdpa_attention_forward(
            module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, **options
        )
    scale = size**-0.5 if scaling is None else scaling
    values = widened(value)
    together = (rows, shared, heads // shared * queries, size)
    if query.device.type == "cuda" and query.dtype != torch.float32:
        scores = _float_scores(query.reshape(together), key).mul_(scale)
    else:
        scores = (widened(query) * scale).reshape(together) @ widened(key).transpose(2, 3)
    if attention_mask is not None:
        # In place, also under autograd: neither the product nor the softmax needs the scores again.
        scores.view(rows, shared, heads // shared, queries, keys).add_(attention_mask[:, :, None])
    mixed = torch.softmax(scores, dim=-1).to(values.dtype) @ values
    return mixed.view(rows, heads, queries, -1).transpose(1, 2).to(query.dtype).contiguous(), None


def _float_scores(query: Tensor, key: Tensor) -> Tensor:
    """Products of 16-bit queries and keys on a GPU, in float32 as they are summed up."""
    sums = torch.bmm(query.flatten(0, 1), key.flatten(0, 1).transpose(1, 2), out_dtype=torch.float32)
    return sums.unflatten(0, key.shape[:2])


def attention_bias(**options: Any) -> Tensor | None:
    """What is added to the scores; None in a decoding step that hides nothing (its ``AttentionMaskInterface``)."""
    from transformers.masking_utils import eager_mask, sdpa_mask

    if options.get("q_length") == 1 and sdpa_mask(**options) is None:
        return None
    return eager_mask(**options)
