"""Micro-batches for scoring: which sequences share a forward pass.

What a pass computes is not its rows times their length. Equal prompts are read once, and so is what all prompts of the
batch begin with (:mod:`core_lightning.peers.prefill`). So a batch of plain few-shot prompts and one of hinted ones are
cheaper than both in one, whose common beginning is short.

What a pass keeps for its gradient is more than what it computes: every completion has a copy of its prompt's cache.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import takewhile
from typing import Protocol

from core_lightning.peers.prefill import SHORTEST_PREFIX

#: The fixed cost of one more pass (weights are read, 4-bit ones unpacked), as a share of the budget.
_PASS = 1 / 64
#: Memory of a cached position beside that of a computed one: keys and values alone, not the activations of whole layers.
#: About 1/8 for SmolLM2-135M and 1/6 for Gemma 3 270M (layer sizes, heads repeated); larger models have relatively less.
_CACHED = 1 / 8


class Sequenced(Protocol):
    """What is scored: a completion under the prompt it is credited to."""

    @property
    def prompt_ids(self) -> list[int]:
        """Token ids of the prompt."""

    @property
    def token_ids(self) -> list[int]:
        """Token ids of the completion, end token included."""


@dataclass
class _Batch:
    """The sizes a batch has so far."""

    prefix: Sequence[int]
    indices: list[int] = field(default_factory=list)
    prompts: set[tuple[int, ...]] = field(default_factory=set)
    longest_prompt: int = 0
    longest_completion: int = 0

    def joined_by(self, index: int, sequence: Sequenced) -> _Batch:
        prompt = tuple(sequence.prompt_ids)
        pairs = zip(self.prefix, prompt, strict=False)
        # One token of each prompt is left for the pass that predicts its completion.
        shared = min(sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs)), len(prompt) - 1)
        return _Batch(
            prompt[:shared],
            [*self.indices, index],
            self.prompts | {prompt},
            max(self.longest_prompt, len(prompt)),
            max(self.longest_completion, len(sequence.token_ids)),
        )


def micro_batches(
    sequences: Sequence[Sequenced], budget: int, window: int | None = None, *, shared: bool = True, given: int = 0
) -> list[list[int]]:
    """Indices of the sequences of each micro-batch, cut in the way that leaves least to compute.

    Args:
        sequences: What is to be scored.
        budget: Token positions a batch may keep for its gradient, padding included; a longer sequence stands alone.
        window: The model's sliding window; a common beginning is only shared within it.
        shared: Prompts are read once, not once for every completion.
        given: So many first tokens are the same in all prompts and run before; no batch computes them.
    """
    orders: list[Callable[[Sequenced], tuple]] = [
        # Alphabetically, equal beginnings stand together; by length of the prompt or of the whole, little is padding.
        lambda s: (s.prompt_ids, len(s.token_ids)),
        lambda s: (len(s.prompt_ids), s.prompt_ids, len(s.token_ids)),
        lambda s: (len(s.token_ids), len(s.prompt_ids)),
    ]
    cuts = []
    for order in orders:
        batches: list[_Batch] = []
        for i in sorted(range(len(sequences)), key=lambda i: order(sequences[i])):
            alone = _Batch(sequences[i].prompt_ids).joined_by(i, sequences[i])
            together = batches[-1].joined_by(i, sequences[i]) if batches else None
            if together is not None and _kept(together, window, shared) <= budget:
                cost = _cost(together, window, shared, given)
                apart = _cost(batches[-1], window, shared, given) + _cost(alone, window, shared, given) + budget * _PASS
                if cost <= apart:
                    batches[-1] = together
                    continue
            batches.append(alone)
        cuts.append((sum(_cost(b, window, shared, given) + budget * _PASS for b in batches), batches))
    return [batch.indices for batch in min(cuts, key=lambda cut: cut[0])[1]]


def batch_tokens(sequences: Sequence[Sequenced], window: int | None = None, *, shared: bool = True) -> int:
    """Token positions that scoring a micro-batch computes, padding included."""
    batch = _Batch(sequences[0].prompt_ids)
    for i, sequence in enumerate(sequences):
        batch = batch.joined_by(i, sequence)
    return _cost(batch, window, shared)


def _cost(batch: _Batch, window: int | None, shared: bool, given: int = 0) -> int:
    rows = len(batch.indices)
    if not shared:
        return rows * (batch.longest_prompt + batch.longest_completion)
    if given:
        return len(batch.prompts) * (batch.longest_prompt - given) + rows * batch.longest_completion
    prefix = len(batch.prefix) if len(batch.prompts) > 1 and len(batch.prefix) >= SHORTEST_PREFIX else 0
    if window is not None and batch.longest_prompt + batch.longest_completion > window:
        prefix = 0
    return prefix + len(batch.prompts) * (batch.longest_prompt - prefix) + rows * batch.longest_completion


def _kept(batch: _Batch, window: int | None, shared: bool) -> float:
    """Memory of a batch, in computed positions."""
    copies = len(batch.indices) * batch.longest_prompt if shared else 0
    return _cost(batch, window, shared) + _CACHED * copies
