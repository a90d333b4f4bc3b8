"""How a peer scores completions: micro-batches, what their prompts begin with, and one pass for each of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from core_lightning.peers.compute.prefill import Beginning, common_beginning, completion_hidden, padded_hidden
from core_lightning.peers.scoring.packing import Sequenced, micro_batches
from core_lightning.peers.scoring.token_logprobs import token_logprobs

Policy = Literal["own", "reference"]


@dataclass(frozen=True)
class Scored:
    """A completion under the prompt it is scored with."""

    prompt_ids: list[int]
    token_ids: list[int]


def micro_batches_of(peer: Any, sequences: Sequence[Sequenced], given: int = 0) -> list[list[int]]:
    """See :meth:`core_lightning.peers.Peer.micro_batches`."""
    shared = peer.paths.cached_scores and not _at_once(peer)
    window = getattr(peer.backbone.config.get_text_config(), "sliding_window", None)
    return micro_batches(sequences, peer.config.score_batch_tokens, window, shared=shared, given=given)


def common_beginning_of(peer: Any, sequences: Sequence[Sequenced]) -> list[int]:
    """See :meth:`core_lightning.peers.Peer.common_beginning`."""
    prompts = list({tuple(s.prompt_ids): s.prompt_ids for s in sequences}.values())
    if not prompts or _at_once(peer) or not peer.paths.can_score_cached(prompts):
        return []
    return common_beginning(peer.backbone, prompts, max(len(s.token_ids) for s in sequences), peer.paths)


@contextmanager
def reading(peer: Any, beginning: Sequence[int]) -> Iterator[None]:
    """See :meth:`core_lightning.peers.Peer.reading`."""
    if not beginning:
        yield
        return
    peer.training_mode = True
    with peer.policy("own"):
        peer.beginning = Beginning(peer.backbone, beginning)
    try:
        yield
        peer.beginning.backward()
    finally:
        peer.beginning = None


def logprobs(
    peer: Any, sequences: Sequence[Sequenced], policy: Policy, *, entropy_grad: bool, temperature: float | None
) -> tuple[Tensor, Tensor, Tensor]:
    """See :meth:`core_lightning.peers.Peer.logprobs`."""
    prompts, completions = [s.prompt_ids for s in sequences], [s.token_ids for s in sequences]
    training = torch.is_grad_enabled()
    peer.training_mode = training
    inputs = (peer.backbone, prompts, completions, peer.tokenizer.pad_token_id)
    with peer.policy(policy):
        if training and _at_once(peer):
            hidden, completion = padded_hidden(*inputs)
        else:
            read = peer.beginning if training and policy == "own" else None
            hidden, completion = completion_hidden(*inputs, read if read and read.starts(prompts) else None, peer.paths)
    targets = torch.tensor([t for c in completions for t in c], device=peer.device)
    flat, flat_entropy = token_logprobs(
        hidden[completion],
        targets,
        peer.head,
        peer.config.generation.temperature if temperature is None else temperature,
        entropy_grad=entropy_grad,
    )
    shape = flat.new_zeros(completion.shape)
    return (
        shape.masked_scatter(completion, flat),
        shape.masked_scatter(completion, flat_entropy),
        completion,
    )


@torch.no_grad()
def likelihoods(peer: Any, prompts: Sequence[list[int]], completions: Sequence[list[int]]) -> list[float]:
    """See :meth:`core_lightning.peers.Peer.likelihoods`."""
    sequences = [Scored(p, c) for p, c in zip(prompts, completions, strict=True)]
    means = [0.0] * len(sequences)
    for indices in micro_batches_of(peer, sequences):
        logprobs, _, mask = peer.logprobs([sequences[i] for i in indices])
        for i, mean in zip(indices, (logprobs.sum(1) / mask.sum(1)).tolist(), strict=True):
            means[i] = mean
    return means


def _at_once(peer: Any) -> bool:
    # Gradient checkpointing recomputes layers, which a cache would be filled by twice. Of a sharded peer, every forward
    # pass is followed by its backward pass.
    return peer.config.gradient_checkpointing or peer.shards is not None
