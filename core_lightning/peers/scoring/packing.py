"""Micro-batches for scoring: which sequences share a forward pass.

What a pass computes is not its rows times their length. Equal prompts are read once, and so is what all prompts of the
batch begin with (``peers/compute/prefill.py``). So a batch of plain few-shot prompts and one of hinted ones are cheaper
than both in one, whose common beginning is short.

What a pass keeps for its gradient is more than what it computes: every completion has a copy of its prompt's cache.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise, takewhile
from math import inf
from typing import Protocol

from core_lightning.peers.compute.prefill import SHORTEST_PREFIX

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
    """The sizes of a batch that grows."""

    prefix: Sequence[int]
    """What its prompts have in common, at least one token short of each."""
    rows: int = 0
    prompts: set[tuple[int, ...]] = field(default_factory=set)
    longest_prompt: int = 0
    longest_completion: int = 0

    def add(self, prompt: tuple[int, ...], completion: int) -> None:
        if prompt not in self.prompts:
            pairs = zip(self.prefix, prompt, strict=False)
            # One token of each prompt is left for the pass that predicts its completion.
            same = min(sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs)), len(prompt) - 1)
            self.prefix = self.prefix[:same]
            self.prompts.add(prompt)
        self.rows += 1
        self.longest_prompt = max(self.longest_prompt, len(prompt))
        self.longest_completion = max(self.longest_completion, completion)


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
    rows = [(tuple(s.prompt_ids), len(s.token_ids)) for s in sequences]
    orders: list[Callable[[int], tuple]] = [
        # Alphabetically, equal beginnings stand together; by length of the prompt or of the whole, little is padding.
        lambda i: rows[i],
        lambda i: (len(rows[i][0]), *rows[i]),
        lambda i: (rows[i][1], len(rows[i][0])),
    ]
    cuts = []
    for order in orders:
        indices = sorted(range(len(rows)), key=order)
        cost, ends = _cheapest_cut([rows[i] for i in indices], budget, window, shared, given)
        cuts.append((cost, [indices[start:end] for start, end in pairwise([0, *ends])]))
    return min(cuts, key=lambda cut: cut[0])[1]


def _cheapest_cut(
    rows: Sequence[tuple[tuple[int, ...], int]], budget: int, window: int | None, shared: bool, given: int
) -> tuple[float, list[int]]:
    """What the best cut of rows in a given order costs, and where its batches end: shortest path over the places to cut."""
    costs, starts = [0.0, *[inf] * len(rows)], [0] * (len(rows) + 1)
    for start in range(len(rows)):
        batch = _Batch(rows[start][0])
        for end in range(start + 1, len(rows) + 1):
            batch.add(*rows[end - 1])
            if batch.rows > 1 and _kept(batch, window, shared) > budget:
                break
            cost = costs[start] + _cost(batch, window, shared, given) + budget * _PASS
            if cost < costs[end]:
                costs[end], starts[end] = cost, start
    ends = [len(rows)] if rows else []
    while ends and starts[ends[0]]:
        ends.insert(0, starts[ends[0]])
    return costs[-1], ends


def batch_tokens(sequences: Sequence[Sequenced], window: int | None = None, *, shared: bool = True) -> int:
    """Token positions that scoring a micro-batch computes, padding included."""
    batch = _Batch(sequences[0].prompt_ids)
    for sequence in sequences:
        batch.add(tuple(sequence.prompt_ids), len(sequence.token_ids))
    return _cost(batch, window, shared)


def _cost(batch: _Batch, window: int | None, shared: bool, given: int = 0) -> int:
    if not shared:
        return batch.rows * (batch.longest_prompt + batch.longest_completion)
    if given:
        return len(batch.prompts) * (batch.longest_prompt - given) + batch.rows * batch.longest_completion
    prefix = len(batch.prefix) if len(batch.prompts) > 1 and len(batch.prefix) >= SHORTEST_PREFIX else 0
    if window is not None and batch.longest_prompt + batch.longest_completion > window:
        prefix = 0
    return prefix + len(batch.prompts) * (batch.longest_prompt - prefix) + batch.rows * batch.longest_completion


def _kept(batch: _Batch, window: int | None, shared: bool) -> float:
    """Memory of a batch, in computed positions."""
    copies = batch.rows * batch.longest_prompt if shared else 0
    return _cost(batch, window, shared) + _CACHED * copies
