"""Hybrid distance, operation signatures, and the one embedding call per step."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from core_lightning.rewards import HashingEmbedder, HybridDistance, StepDistances
from core_lightning.rewards.distance import jaccard
from core_lightning.rewards.operations import OPERATIONS, operation_signature
from written_groups import group, trace

SIGNATURES = st.frozensets(st.sampled_from(["addition", "division", "root"]))
VECTORS = st.lists(st.floats(-1, 1), min_size=3, max_size=3)


class CountingEmbedder:
    """Records what it is asked to embed."""

    def __init__(self) -> None:
        self.calls: list[list[str]] = []

    def __call__(self, texts: Sequence[str]) -> Tensor:
        self.calls.append(list(texts))
        return HashingEmbedder()(texts)


@given(st.lists(SIGNATURES, max_size=6))
def test_jaccard_by_set_operations(sets: list[frozenset[str]]) -> None:
    expected = [[len(a & b) / len(a | b) if a | b else 1.0 for b in sets] for a in sets]
    for row, want in zip(jaccard(sets).tolist(), expected, strict=True):
        assert row == pytest.approx(want)


@given(st.lists(st.tuples(VECTORS, SIGNATURES), min_size=1, max_size=6), st.sampled_from([0.6, 0.0, 1.0]))
def test_hybrid_distance_by_hand(rows: list[tuple[list[float], frozenset[str]]], weight: float) -> None:
    distance = HybridDistance(weight, 1 - weight)(
        torch.tensor([v for v, _ in rows], dtype=torch.float64), [s for _, s in rows]
    ).tolist()
    for i, (a, ops_a) in enumerate(rows):
        for j, (b, ops_b) in enumerate(rows):
            norms = math.hypot(*a), math.hypot(*b)
            if 0 < min(norms) < 1e-6:
                continue  # a length this small is not normalised
            cosine = sum(x * y for x, y in zip(a, b, strict=True)) / (norms[0] * norms[1]) if min(norms) else 0.0
            overlap = len(ops_a & ops_b) / len(ops_a | ops_b) if ops_a | ops_b else 1.0
            expected = min(1.0, max(0.0, weight * (1 - cosine) + (1 - weight) * (1 - overlap)))
            assert distance[i][j] == pytest.approx(0.0 if i == j else expected, abs=1e-9)
            assert distance[i][j] == distance[j][i]


@pytest.mark.parametrize("weights", [(0.6, 0.6), (0.4, 0.4), (-0.5, 1.5), (1.5, -0.5)])
def test_weights_that_are_no_shares_are_refused(weights: tuple[float, float]) -> None:
    with pytest.raises(ValueError, match="add up to 1"):
        HybridDistance(*weights)


@pytest.mark.parametrize(
    ("text", "operations"),
    [
        ("So 3 + 4 = 7.", {"addition"}),
        ("3-digit well-known one - a dash", set()),
        ("12 - 5 leaves 7", {"subtraction"}),
        (r"3 \times 4", {"multiplication"}),
        ("**bold** and *italic* words", set()),
        (r"\frac{x}{y}", {"fraction"}),
        ("10 / x", {"division"}),
        (r"x^2 \leq y", {"power", "inequality"}),
        ("its square root", {"root"}),
        ("the logarithm", {"logarithm"}),
        ("30% of it", {"percentage"}),
        ("in the ratio 3:4", {"ratio"}),
        ("Step 1: look. This means that", set()),
        ("the average", {"average"}),
        ("We solve for x, an equation", {"equation"}),
        ("Substituting, we plug in y", {"substitution"}),
        ("We factorise", {"factoring"}),
        ("Expand the brackets", {"expansion"}),
        ("<think>hm</think>", set()),
        (r"a \equiv b \pmod n", {"modular arithmetic"}),
        ("Case 1: it is even", {"case analysis"}),
        ("", set()),
    ],
)
def test_operations_a_reader_would_name(text: str, operations: set[str]) -> None:
    assert operation_signature(text) == operations


def test_every_operation_is_found_in_some_sentence_of_the_table() -> None:
    (table,) = (m for m in test_operations_a_reader_would_name.pytestmark if m.name == "parametrize")
    assert {name for _, found in table.args[1] for name in found} == set(OPERATIONS)


def test_one_embedding_call_serves_all_groups_of_a_step() -> None:
    first = group(trace(text="3 + 4"), trace(text="count up"), trace(text="3 + 4"))
    second = group(trace(text="count up"), trace(text="guess"))
    embed = CountingEmbedder()
    step = StepDistances([first, second], embed)
    assert embed.calls == []  # nothing is embedded before a distance is asked for
    distance = step(second)
    step(first)
    assert embed.calls == [["3 + 4", "count up", "guess"]]
    assert distance.shape == (2, 2)
    assert distance.dtype == torch.float64


def test_the_rescue_round_embeds_only_new_texts() -> None:
    g = group(trace(text="3 + 4"), trace(text="guess"))
    embed = CountingEmbedder()
    step = StepDistances([g], embed)
    cold = step(g)
    g.add([trace(text="guess", round="rescue"), trace(text="half of 14", round="rescue")])
    both = step(g)
    assert embed.calls == [["3 + 4", "guess"], ["half of 14"]]
    assert torch.equal(both[:2, :2], cold)
    assert both[1, 2] == 0.0  # equal texts are at exactly zero
    assert both[2, 3] == both[1, 3] > 0.0


def test_a_step_matrix_is_the_pairwise_distance_of_its_texts() -> None:
    texts = ["3 + 4 = 7", "", "half of 14", "3 + 4 = 7", "12 / 2"]
    full = StepDistances([], HashingEmbedder())(group(*[trace(text=t) for t in texts]))
    for i, a in enumerate(texts):
        for j, b in enumerate(texts):
            pair = HybridDistance()(HashingEmbedder()([a, b]), [operation_signature(a), operation_signature(b)])
            assert float(full[i, j]) == pytest.approx(0.0 if a == b else float(pair[0, 1]))


def test_without_embedding_weight_nothing_is_embedded() -> None:
    embed = CountingEmbedder()
    g = group(trace(text="3 + 4"), trace(text="10 / x"), trace(text="5 + 6"))
    distance = StepDistances([g], embed, HybridDistance(0.0, 1.0))(g)
    assert embed.calls == []
    assert distance.tolist() == [[0, 1, 0], [1, 0, 1], [0, 1, 0]]
