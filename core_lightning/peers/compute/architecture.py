"""What a language model has to have to be a peer: a body under its head, and a cache that goes on from keys and values."""

from __future__ import annotations

from inspect import signature
from typing import Any


def backbone_of(network: Any) -> Any:
    """The body of a transformers model, which gives the hidden states that its head reads.

    Args:
        network: A causal language model, or a conditional-generation model used text-only.
    """
    from transformers import PreTrainedModel

    body = network.base_model
    if body is not network:
        return body
    # Llama 4's causal model names no body.
    return next((child for child in network.children() if isinstance(child, PreTrainedModel)), network)


def why_not(network: Any) -> str | None:
    """Why a model cannot be a peer, as the rest of a sentence that its name begins; None if it can.

    Args:
        network: A transformers model, without an adapter.
    """
    from core_lightning.peers.compute.cache import CACHE, keeps_attention, new_cache

    if network.get_output_embeddings() is None:
        return "has no output layer over its vocabulary: it is no causal language model"
    try:
        backbone = backbone_of(network)
        cache = new_cache(backbone)
    except (AttributeError, KeyError, ValueError, TypeError) as error:
        return f"has layers whose cache transformers cannot make ({error!r:.100}); choose another model"
    parameters = signature(backbone.forward).parameters
    if "input_ids" in parameters and CACHE not in parameters:  # **kwargs would swallow a cache
        return "takes no key-value cache in transformers, and cannot be sampled in batches; choose another model"
    if not keeps_attention(cache):
        return "has state space layers alone, without attention beside them; choose a model that has both, or attention"
    return None
