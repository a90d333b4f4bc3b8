"""The cut into micro-batches: what it says a pass computes is what the pass computes, and it leaves little to compute."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core_lightning.peers.compute.prefill import completion_hidden, padded_hidden
from core_lightning.peers.scoring.packing import batch_tokens, micro_batches
from naive import Scored, make_peer


class Counting:
    """A backbone that adds up the positions it is asked to compute."""

    def __init__(self, backbone: object) -> None:
        self.backbone = backbone
        self.positions = 0

    def __getattr__(self, name: str) -> object:
        return getattr(self.backbone, name)

    def __call__(self, *args: object, **kwargs: object) -> object:
        self.positions += kwargs["input_ids"].numel()  # type: ignore[attr-defined]
        return self.backbone(*args, **kwargs)  # type: ignore[operator]


def few_shot(draw: random.Random, beginning: list[int], problems: int) -> list[Scored]:
    prompts = [beginning + [draw.randrange(30) for _ in range(draw.randrange(4, 9))] for _ in range(problems)]
    return [Scored(p, [7] * draw.randrange(1, 6)) for p in prompts for _ in range(3)]


@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("beginning", [0, 15, 16, 40])
def test_the_tokens_of_a_batch_are_those_computed(
    tiny_folder: Callable[[str], Path], beginning: int, shared: bool
) -> None:
    draw = random.Random(beginning)
    traces = few_shot(draw, [draw.randrange(30) for _ in range(beginning)], 4)
    backbone = Counting(make_peer(tiny_folder("llama")).backbone)
    hidden_states = completion_hidden if shared else padded_hidden
    hidden_states(backbone, [t.prompt_ids for t in traces], [t.token_ids for t in traces], 0)
    # The last token of a completion need not be run; the budget counts it all the same.
    spared = len(traces) if shared else 0
    longest = max(len(t.prompt_ids) + len(t.token_ids) for t in traces)
    assert backbone.positions == (batch_tokens(traces) - spared if shared else len(traces) * longest)
    if not shared:
        assert batch_tokens(traces, shared=False) >= backbone.positions


def test_prompts_of_two_beginnings_are_not_mixed() -> None:
    draw = random.Random(0)
    plain = few_shot(draw, [1] * 100, 8)
    hinted = few_shot(draw, [1] * 20 + [2] * 100, 8)
    traces = plain + hinted
    draw.shuffle(traces)
    batches = micro_batches(traces, 16_384)
    assert len(batches) == 2
    assert sum(batch_tokens([traces[i] for i in b]) for b in batches) < batch_tokens(traces) / 3


def cheapest_by_brute_force(sequences: list[Scored], budget: int, window: int | None, shared: bool) -> float:
    """All ways to cut the sequences in order of length, each tried."""
    ordered = sorted(sequences, key=lambda s: (len(s.token_ids), len(s.prompt_ids)))
    best = float("inf")
    for cuts in range(2 ** (len(ordered) - 1)):
        ends = [i + 1 for i in range(len(ordered) - 1) if cuts >> i & 1] + [len(ordered)]
        parts = [ordered[a:b] for a, b in zip([0, *ends], ends, strict=False)]
        costs = [batch_tokens(part, window, shared=shared) for part in parts]
        copies = [len(p) * max(len(s.prompt_ids) for s in p) / 8 if shared else 0 for p in parts]
        if all(len(p) == 1 or c + x <= budget for p, c, x in zip(parts, costs, copies, strict=True)):
            best = min(best, sum(costs) + len(parts) * budget / 64)
    return best


@given(
    traces=st.lists(st.tuples(st.integers(0, 3), st.integers(1, 60), st.integers(1, 20)), min_size=1, max_size=8),
    budget=st.integers(1, 400),
    window=st.sampled_from([None, 30]),
    shared=st.booleans(),
)
def test_batches_stay_within_the_budget_and_waste_no_more_than_one_pass_each(
    traces: list[tuple[int, int, int]], budget: int, window: int | None, shared: bool
) -> None:
    sequences = [Scored([first] * length, [5] * completion) for first, length, completion in traces]
    batches = micro_batches(sequences, budget, window, shared=shared)
    assert sorted(i for b in batches for i in b) == list(range(len(sequences)))
    costs = [batch_tokens([sequences[i] for i in b], window, shared=shared) for b in batches]
    assert all(cost <= budget or len(b) == 1 for cost, b in zip(costs, batches, strict=True))
    # Every completion has a copy of its prompt's keys and values, an eighth of what a computed position keeps.
    copies = [len(b) * max(len(sequences[i].prompt_ids) for i in b) if shared else 0 for b in batches]
    kept = [cost + copy / 8 for cost, copy in zip(costs, copies, strict=True)]
    assert all(k <= budget or len(b) == 1 for k, b in zip(kept, batches, strict=True))
    spent = sum(costs) + len(batches) * budget / 64
    assert spent <= cheapest_by_brute_force(sequences, budget, window, shared) + 1e-9
    alone = sum(batch_tokens([s], window, shared=shared) for s in sequences)
    # One sequence at a time computes no padding but shares nothing: the cut is never worse.
    assert spent <= alone + len(sequences) * budget / 64
