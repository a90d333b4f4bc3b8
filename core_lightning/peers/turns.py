"""Passes of sharded peers, in an order that all processes keep, although each has other work.

A pass through a sharded peer is one of all processes, since each holds a part of every layer. But one process may have more
completions to score than another, or another peer to rescue. So before a pass each says which one it wants, and the first of
those is run: by those who wanted it with what they have, by the others with a single token whose result is dropped.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import distributed, nn

from core_lightning.peers.compute.sharding import ShardedLayers

#: Kinds of passes: a forward one; one that is followed by its backward pass; all layers put together for a while.
_FORWARD, _BACKWARD, _WHOLE = range(3)
_NONE = 2**31


class Turns:
    """Whose turn it is.

    Args:
        device: By which this process talks to the others.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._peers: list[Shards] = []
        #: Passes of this process with a single token, for the sake of others.
        self.empty = 0

    def add(self, peer: Any, layers: ShardedLayers) -> Shards:
        """Let a peer take part, whose layers were just sharded; every process adds the same ones in the same order."""
        shards = Shards(self, len(self._peers), peer, layers)
        self._peers.append(shards)
        return shards

    def take(self, wanted: int) -> None:
        """Wait for the turn of a pass, and go along with those before."""
        while (first := self._first(wanted)) != wanted:
            self._go_along(first)

    def join(self) -> None:
        """Go along with all passes that others have left; then all are here."""
        self.take(_NONE)

    def _first(self, wanted: int) -> int:
        least = torch.tensor(wanted, device=self._device)
        distributed.all_reduce(least, distributed.ReduceOp.MIN)
        return int(least)

    def _go_along(self, turn: int) -> None:
        self.empty += 1
        number, kind = divmod(turn, 3)
        self._peers[number].empty_pass(kind)


class Shards:
    """What a sharded peer knows of its shards. Made by :meth:`Turns.add`."""

    def __init__(self, turns: Turns, number: int, peer: Any, layers: ShardedLayers) -> None:
        self.turns = turns
        self._key = 3 * number
        self._peer = peer
        self._layers = layers
        self._free = False  # passes exchange nothing, or are those of somebody else's turn
        backbone: nn.Module = peer.backbone
        backbone.register_forward_pre_hook(self._before_pass, prepend=True)

    def _before_pass(self, *_: Any) -> None:
        if not self._free:
            self.turns.take(self._key + (_BACKWARD if torch.is_grad_enabled() else _FORWARD))

    @contextmanager
    def whole(self) -> Iterator[None]:
        """All layers together, for as many passes without gradient as this process likes."""
        self.turns.take(self._key + _WHOLE)
        with self._freely(), self._layers.whole():
            yield

    def empty_pass(self, kind: int) -> None:
        """Take part in a pass of other processes, and leave no trace."""
        with self._freely():
            if kind == _WHOLE:
                with self._layers.whole():
                    return
            with torch.set_grad_enabled(kind == _BACKWARD), _without_trace(self._peer):
                ids = torch.zeros(1, 1, dtype=torch.long, device=self._peer.device)
                hidden = self._peer.backbone(input_ids=ids, use_cache=False).last_hidden_state
                if kind == _BACKWARD:
                    hidden.sum().backward()

    @contextmanager
    def _freely(self) -> Iterator[None]:
        before, self._free = self._free, True
        try:
            yield
        finally:
            self._free = before


@contextmanager
def _without_trace(peer: Any) -> Iterator[None]:
    """Gradients and the mode of layers are afterwards what they were; dropout, which would draw, is off."""
    parameters = list(peer.adapter_parameters().values())
    gradients, training = [p.grad for p in parameters], peer.training_mode
    for parameter in parameters:
        parameter.grad = None
    peer.evaluate()
    try:
        with peer.policy():
            yield
    finally:
        peer.training_mode = training
        for parameter, gradient in zip(parameters, gradients, strict=True):
            parameter.grad = gradient
