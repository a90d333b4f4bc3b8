"""A loss that does not fit: its micro-batches are halved once, for the rest of the run, and the step goes on."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import TypeVar

import torch
from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor

from core_lightning.objectives import Objective
from core_lightning.peers.peer import Peer
from core_lightning.protocol.credit import CreditSettings, Example
from core_lightning.training.update import FrozenBatch, PeerBatch, accumulate, freeze

Result = TypeVar("Result")


class OutOfMemoryError(RuntimeError):
    """There is no memory for a peer's loss, even in micro-batches of half the size."""


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory was used up: of Python, of torch on a processor, or of a GPU."""
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or (
        isinstance(error, RuntimeError) and "can't allocate memory" in str(error)
    )


def freeze_within_memory(peer: Peer, examples: Sequence[Example], **needs: bool) -> PeerBatch:
    """As :func:`~core_lightning.training.update.freeze`.

    Raises:
        OutOfMemoryError: There is no room for half of a micro-batch either.
    """
    return _twice(peer, lambda: freeze(peer, examples, **needs), lambda: freeze(peer, examples, **needs))


def accumulate_within_memory(
    peer: Peer,
    batch: PeerBatch,
    objective: Objective,
    credit: CreditSettings,
    backward: Callable[[Tensor], None],
) -> dict[str, float]:
    """As :func:`~core_lightning.training.update.accumulate`; a peer that ran out of memory begins anew, without gradient.

    Raises:
        OutOfMemoryError: There is no room for half of a micro-batch either.
    """

    def again() -> dict[str, float]:
        for parameter in peer.adapter_parameters().values():
            parameter.grad = None
        halved = dataclasses.replace(batch, policy=halves(batch.policy), imitation=halves(batch.imitation))
        return accumulate(peer, halved, objective, credit, backward)

    return _twice(peer, lambda: accumulate(peer, batch, objective, credit, backward), again)


def halves(batches: Sequence[FrozenBatch]) -> list[FrozenBatch]:
    """Every micro-batch in two, one of a single example as it is."""
    parts = []
    for batch in batches:
        middle = (len(batch.examples) + 1) // 2
        for chosen in (slice(0, middle), slice(middle, None)):
            examples = batch.examples[chosen]
            if not examples:
                continue
            width = max(len(e.token_ids) for e in examples)
            old, reference = (t if t is None else t[chosen, :width] for t in (batch.old, batch.reference))
            parts.append(FrozenBatch(examples, old, reference, batch.temperature))
    return parts


def _twice(peer: Peer, first: Callable[[], Result], second: Callable[[], Result]) -> Result:
    setting = f"peers.{peer.name}.score_batch_tokens"
    try:
        return first()
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        # The traceback holds what the failed pass has computed.
        error.__traceback__ = None
        tokens = peer.config.score_batch_tokens
        if peer.shards is not None:  # the other processes are in the midst of the same pass
            raise OutOfMemoryError(
                f"no memory for the loss of peer {peer.name}: lower {setting}, now {tokens}, and go on with --ckpt_path last"
            ) from None
        if not peer.halve_micro_batches():
            raise OutOfMemoryError(
                f"{setting} was halved to {tokens} in this run, and memory has run out again; lower it further, or set "
                f"peers.{peer.name}.gradient_checkpointing"
            ) from None
    fewer = peer.config.score_batch_tokens
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    rank_zero_warn(
        f"no memory for the loss of peer {peer.name}: {setting} was {tokens} and is {fewer} from here on; "
        "the step is done again"
    )
    try:
        return second()
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        raise OutOfMemoryError(
            f"no memory for the loss of peer {peer.name}, with {setting} {fewer} neither; lower it, or set "
            f"peers.{peer.name}.gradient_checkpointing"
        ) from None
