"""From a base model to what a peer runs: an adapter of its own, layers in the form they run in, and a head to score with."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from core_lightning.peers.adapters import adapter_name, adapter_parameters, add_adapter
from core_lightning.peers.compute.adapter_layers import merge_nodes
from core_lightning.peers.compute.architecture import why_not
from core_lightning.peers.compute.checkpointing import checkpoint_layers
from core_lightning.peers.compute.head import LogitHead
from core_lightning.peers.compute.positions import fix_positions
from core_lightning.peers.compute.time_steps import limit_time_steps
from core_lightning.peers.config import PeerConfig
from core_lightning.peers.loading import load_base
from core_lightning.peers.sources import ModelSource, PeerSourceError, hub_name

#: A published base by hub id and commit.
BaseName = tuple[str, str | None]


def adapted(
    name: str, config: PeerConfig, source: ModelSource, device: torch.device, shared: Any = None
) -> tuple[Any, BaseName | None]:
    """A base model with a peer's adapter on it.

    Args:
        name: The peer's.
        config: Its settings.
        source: Where the base is.
        device: Where it goes.
        shared: Another peer's PEFT model, on whose base the adapter is put instead.

    Returns:
        The PEFT model, and what its base is called if it is a published one.

    Raises:
        PeerSourceError: The base or the adapter cannot be found, read or fitted, or the base is of a kind that cannot be
            sampled and scored here.
    """
    network = shared if shared is not None else load_base(config, source, device)
    if shared is None and (reason := why_not(network)):
        raise PeerSourceError(f"peer {name!r}: {config.model} {reason}")
    hub_id, commit = hub_name(source, getattr(network.config, "_commit_hash", None))
    called = hub_id or (config.model if config.model.startswith(("embedded/", "nano/")) else None)
    network = add_adapter(network, name, config.lora, config.adapter, base=called, revision=commit)
    if not adapter_parameters(network, name):
        raise PeerSourceError(f"peer {name!r}: the adapter has no trainable weight; check lora.targets")
    return network, (hub_id, commit) if hub_id else None


def prepare_layers(name: str, config: PeerConfig, network: Any) -> LogitHead:
    """Put the layers of a PEFT model into the form they run in.

    Returns:
        The head that logits come from.

    Raises:
        PeerSourceError: The output layer is adapted, or layers are to be run again that the model does not have.
    """
    model: Any = network.get_base_model()
    plain = config.compute == "plain"
    if not plain:
        merge_nodes(network)
    limit_time_steps(network)
    if any(hasattr(model.get_output_embeddings(), mark) for mark in ("base_layer", "original_module")):
        raise PeerSourceError(f"peer {name!r}: the output layer is scored frozen; leave it out of lora.targets")
    for layer in network.modules():
        if type(layer).__name__ == "Linear4bit":
            layer.training = True  # else bitsandbytes repacks it on some processors into a form without gradient
    head = LogitHead.of(model, plain)
    if config.gradient_checkpointing and not checkpoint_layers(model):
        raise PeerSourceError(
            f"peer {name!r}: {config.model} has no layers that can be run again; set gradient_checkpointing to false"
        )
    return head


def dropouts(network: Any, name: str) -> list[nn.Module]:
    """The layers of a PEFT model that follow the mode: the dropout of one peer's adapter, and no other."""
    return [m for path, m in network.named_modules() if path.endswith(f"lora_dropout.{adapter_name(name)}")]


def fix_rotary_positions(name: str, config: PeerConfig, network: Any, room: int) -> list[str]:
    """Choose one table of rotary positions for the whole run; a line if the model would look at every batch for it.

    Args:
        name: The peer's.
        config: Its settings.
        network: Its PEFT model.
        room: Longest prompt, in tokens.

    Raises:
        PeerSourceError: A trace would get other numbers beside a longer one, or another peer on the same base has fixed
            the positions for rows of another length.
    """
    longest = room + config.generation.max_new_tokens
    try:
        kinds = fix_positions(network, longest)
    except ValueError as error:
        raise PeerSourceError(
            f"peer {name!r}: {error}, by another peer on the same base; give both peers the same max_prompt_tokens "
            "and max_new_tokens, or set share_base to false"
        ) from error
    except NotImplementedError as error:
        raise PeerSourceError(
            f"peer {name!r}: {config.model} gives a trace other numbers beside a longer one: {error}; lower "
            "max_prompt_tokens and max_new_tokens, or choose another model"
        ) from error
    what = f"{', '.join(kinds)} rotary positions are those of rows of {longest} tokens in the whole run"
    return [f"peer {name!r}: {what} (max_prompt_tokens + max_new_tokens)"] if kinds else []
