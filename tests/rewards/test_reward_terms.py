"""Every term against an independent computation, and the properties that make it what it claims to be."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from core_lightning.protocol import Group
from core_lightning.rewards import (
    Correctness,
    CrossDistance,
    GreedyMarginDiversity,
    LogDetDiversity,
    Rarity,
    RescueBonus,
    RewardContext,
    RewardModel,
    RewardTerm,
    WeightedTerm,
)
from core_lightning.rewards.correctness import answer_overlap
from core_lightning.rewards.greedy_margin_diversity import greedy_max_min
from written_groups import distances, given_distance, group, groups, trace

TERMS = [
    Correctness(),
    CrossDistance(),
    LogDetDiversity(wrong_quality=1.0),
    LogDetDiversity(wrong_quality=0.5),
    Rarity(),
    RescueBonus(),
]


# --- correctness -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "gold", "expected"),
    [
        ("7", "7", 1.0),
        (None, "7", 0.0),
        ("", "7", 0.0),
        ("8", "7", 0.0),
        ("7 apples", "7", 2 / 3),
        ("1,000", "1000", 1.0),
        ("-7", "7", 0.0),  # another number: a sign alone earns nothing
        (r"\frac{3}{4}", r"\frac{1}{2}", 1 / 3),  # only the word frac is shared, braces are not
        ("Blue Whale", "blue whale", 1.0),
        ("x x x", "x", 0.5),  # multiplicity counts
    ],
)
def test_overlap_by_hand(answer: str | None, gold: str, expected: float) -> None:
    assert answer_overlap(answer, gold) == pytest.approx(expected)


@given(*[st.lists(st.sampled_from(["1", "2", "cat", "+"]), max_size=6)] * 2)
def test_overlap_is_the_f1_of_matched_tokens(answer: list[str], gold: list[str]) -> None:
    left, matched = list(gold), 0
    for token in answer:
        if token in left:
            left.remove(token)
            matched += 1
    if matched:
        precision, recall = Fraction(matched, len(answer)), Fraction(matched, len(gold))
        expected = float(2 * precision * recall / (precision + recall))
    else:
        expected = 0.0
    assert answer_overlap(" ".join(answer), " ".join(gold)) == pytest.approx(expected)


def test_a_wrong_answer_never_beats_a_right_one() -> None:
    right, wrong = Correctness(alpha=0.99)(group(trace(correct=True, answer=None), trace(answer="7")), RewardContext())
    assert right > wrong


# --- diversity -------------------------------------------------------------------------------------------------------


def log_det_oracle(distance: torch.Tensor, quality: list[float], epsilon: float) -> list[float]:
    """The formula as it is written: two log-determinants per trace, in numpy."""
    similarity = 1 - distance.numpy()
    values, vectors = np.linalg.eigh(similarity)
    repaired = sum(max(v, 0.0) * np.outer(x, x) for v, x in zip(values, vectors.T, strict=True))
    n = len(quality)
    kernel = np.empty((n, n))
    for i in range(n):
        for j in range(n):
            kernel[i, j] = quality[i] * quality[j] * repaired[i, j] / math.sqrt(repaired[i, i] * repaired[j, j])
    kernel += epsilon * np.eye(n)
    rewards = []
    for i in range(n):
        others = np.delete(np.delete(kernel, i, 0), i, 1)
        marginal = np.linalg.slogdet(kernel)[1] - (np.linalg.slogdet(others)[1] if n > 1 else 0.0)
        rewards.append(min(1.0, max(0.0, (math.exp(marginal) - 2 * epsilon) / (1 - epsilon))))
    return rewards


@given(st.data(), st.integers(1, 7), st.sampled_from([1.0, 0.5, 0.0]))
def test_log_det_is_the_squashed_marginal_log_volume(data: st.DataObject, size: int, wrong: float) -> None:
    distance = data.draw(distances(size))
    right = data.draw(st.lists(st.booleans(), min_size=size, max_size=size))
    rewards = LogDetDiversity(wrong_quality=wrong)(group(*[trace(correct=c) for c in right]), given_distance(distance))
    expected = log_det_oracle(distance, [1.0 if c else wrong for c in right], 1e-6)
    assert rewards == pytest.approx(expected, abs=1e-7)


def test_log_det_is_the_residual_of_a_regression_on_the_others() -> None:
    # Unit vectors: the conditional variance is the squared distance to the span of the others.
    vectors = torch.nn.functional.normalize(
        torch.rand(5, 9, generator=torch.manual_seed(3), dtype=torch.float64), dim=1
    )
    rewards = LogDetDiversity(wrong_quality=1.0, epsilon=1e-9)(
        group(*[trace() for _ in vectors]), given_distance(1 - vectors @ vectors.T)
    )
    for i, reward in enumerate(rewards):
        others = torch.cat([vectors[:i], vectors[i + 1 :]]).T
        fit = others @ torch.linalg.lstsq(others, vectors[i]).solution
        assert reward == pytest.approx(float((vectors[i] - fit).square().sum()), abs=1e-6)


@given(st.data(), st.integers(2, 6))
def test_a_duplicate_earns_no_diversity(data: st.DataObject, size: int) -> None:
    distance = data.draw(distances(size))
    twin = data.draw(st.integers(0, size - 1))
    rows = [*range(size), twin]
    rewards = LogDetDiversity(wrong_quality=1.0)(
        group(*[trace() for _ in rows]), given_distance(distance[rows][:, rows])
    )
    assert rewards[twin] == rewards[-1] == 0.0


@given(st.integers(1, 10))
def test_orthogonal_traces_earn_all_diversity(size: int) -> None:
    rewards = LogDetDiversity(wrong_quality=1.0)(
        group(*[trace() for _ in range(size)]), given_distance(1 - torch.eye(size))
    )
    assert rewards == pytest.approx([1.0] * size)


def test_the_quality_of_the_others_cancels_out_of_log_det() -> None:
    distance = torch.tensor([[0.0, 0.4, 0.7], [0.4, 0.0, 0.6], [0.7, 0.6, 0.0]], dtype=torch.float64)
    term = LogDetDiversity(wrong_quality=0.5)
    all_right = term(group(*[trace(correct=True)] * 3), given_distance(distance))
    one_wrong = term(group(trace(), trace(correct=True), trace(correct=True)), given_distance(distance))
    assert one_wrong == pytest.approx([0.25 * all_right[0], all_right[1], all_right[2]], abs=1e-4)


def greedy_oracle(distance: list[list[float]], first: int, margin: float, cap: int) -> list[float]:
    inside = {first}
    while len(inside) < cap:
        outside = [i for i in range(len(distance)) if i not in inside]
        reach = {i: min(distance[i][j] for j in inside) for i in outside}
        admissible = [i for i in outside if reach[i] >= margin]
        if not admissible:
            break
        inside.add(max(admissible, key=lambda i: reach[i]))  # the first of equals
    return [
        0.0 if i in inside else max(0.0, min(distance[i][j] for j in inside) - margin) for i in range(len(distance))
    ]


@given(st.data(), st.integers(1, 8), st.integers(1, 4), st.sampled_from([0.0, 0.15, 0.6]))
def test_greedy_margin_against_a_set_based_loop(data: st.DataObject, size: int, cap: int, margin: float) -> None:
    distance = data.draw(distances(size))
    best = data.draw(st.integers(0, size - 1))
    rewards = GreedyMarginDiversity(margin=margin, cap=cap)(
        group(*[trace(correct=i == best) for i in range(size)]), given_distance(distance)
    )
    assert rewards == pytest.approx(greedy_oracle(distance.tolist(), best, margin, cap))


@given(st.data(), st.integers(1, 10))
def test_greedy_margin_is_identically_zero_up_to_its_cap(data: st.DataObject, size: int) -> None:
    rewards = GreedyMarginDiversity()(
        group(*[trace() for _ in range(size)]), given_distance(data.draw(distances(size)))
    )
    assert rewards == [0.0] * size


def test_the_greedy_set_ends_at_the_margin() -> None:
    """Three points of a line, at 0, 1 and 0.5; the last one is 0.5 away from both others."""
    points = torch.tensor([0.0, 1.0, 0.5])
    distance = (points[:, None] - points[None, :]).abs()
    assert greedy_max_min(distance, 0, margin=0.5, cap=10) == [0, 1, 2]
    assert greedy_max_min(distance, 0, margin=0.6, cap=10) == [0, 1]
    assert greedy_max_min(distance, 2, margin=0.5, cap=2) == [2, 0]  # a tie goes to the earlier one


# --- rescue, rarity, cross -------------------------------------------------------------------------------------------


def rescue_group(**change: object) -> Group:
    """Peer a fails twice, b succeeds once, a is shown a hint and gets it right; one thing may be different."""
    rescue = trace(
        "a", correct=change.get("correct", True), round=change.get("round", "rescue"), hinted=change.get("hinted", True)
    )
    own = [trace("a"), trace("a", correct=change.get("own_right", False))] if change.get("sampled_cold", True) else []
    return group(*own, trace("b"), trace("b", correct=change.get("partner_right", True)), rescue)


def test_a_rescue_earns_the_bonus_and_nothing_else_does() -> None:
    assert RescueBonus()(rescue_group(), RewardContext()) == [0, 0, 0, 0, 1]


@pytest.mark.parametrize("missing", ["correct", "hinted", "partner_right", "sampled_cold"])
def test_each_condition_of_a_rescue_is_needed(missing: str) -> None:
    assert not any(RescueBonus()(rescue_group(**{missing: False}), RewardContext()))


def test_a_peer_that_succeeded_cold_is_not_rescued() -> None:
    assert not any(RescueBonus()(rescue_group(own_right=True), RewardContext()))
    assert not any(RescueBonus()(rescue_group(round="cold", hinted=False), RewardContext()))


def test_one_partner_that_solved_it_is_enough() -> None:
    own, rescue = trace("a"), trace("a", correct=True, round="rescue", hinted=True)
    for others in ([trace("b", correct=True), trace("c")], [trace("b"), trace("c", correct=True)]):
        assert RescueBonus()(group(own, *others, rescue), RewardContext()) == [0, 0, 0, 1]


@given(groups())
def test_rarity_is_the_share_of_wrong_traces_in_the_round(g: Group) -> None:
    for t, reward in zip(g, Rarity()(g, RewardContext()), strict=True):
        wrong = [not other.correct for other in g if other.round == t.round]
        expected = Fraction(sum(wrong), len(wrong)) if t.correct else Fraction(0)
        assert reward == pytest.approx(float(expected))


@given(st.data(), groups())
def test_cross_distance_against_a_loop(data: st.DataObject, g: Group) -> None:
    distance = data.draw(distances(len(g))).tolist()
    rewards = CrossDistance()(g, given_distance(torch.tensor(distance, dtype=torch.float64)))
    traces = g.traces
    overlap = {None: 0.0, "7": 1.0, "7 apples": 2 / 3, "8": 0.0}
    for i, reward in enumerate(rewards):
        gains = []
        for partner in {"a", "b", "c"} - {traces[i].peer}:
            theirs = [j for j, t in enumerate(traces) if t.peer == partner and t.round == traces[i].round]
            if any(traces[j].correct + 0.3 * overlap[traces[j].answer] >= 0.1 for j in theirs):
                gains.append(max(0.0, min(distance[i][j] for j in theirs) - 0.15))
        assert reward == pytest.approx(sum(gains) / len(gains) if gains else 0.0)


def test_a_partner_at_the_threshold_counts_and_no_margin_pays_the_whole_distance() -> None:
    g = group(trace("a"), trace("b", correct=True))
    context = given_distance(torch.tensor([[0.0, 0.4], [0.4, 0.0]], dtype=torch.float64))
    assert CrossDistance(margin=0.0, threshold=1.0, alpha=0.0)(g, context) == [0.4, 0.0]
    assert CrossDistance(margin=0.0, threshold=1.1, alpha=0.0)(g, context) == [0.0, 0.0]


@pytest.mark.parametrize(
    ("term", "asks_for_distances"),
    [
        (Correctness(), False), (Rarity(), False), (RescueBonus(), False),
        (CrossDistance(), True), (LogDetDiversity(), True), (GreedyMarginDiversity(), True),
    ],
)  # fmt: skip
def test_what_a_term_says_of_itself(term: RewardTerm, asks_for_distances: bool) -> None:
    """An embedder is loaded for a run whose terms ask for distances; all but correctness only shade it."""
    assert RewardModel({"it": WeightedTerm(term)}).needs_distance == asks_for_distances
    assert term.shaping == (type(term) is not Correctness)


# --- all terms -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("term", TERMS, ids=repr)
@settings(max_examples=30)
@given(data=st.data(), g=groups())
def test_permuting_traces_permutes_rewards(term: RewardTerm, data: st.DataObject, g: Group) -> None:
    distance = data.draw(distances(len(g)))
    order = data.draw(st.permutations(range(len(g))))
    rewards = term(g, given_distance(distance))
    permuted = term(Group(g.problem, [g.traces[i] for i in order]), given_distance(distance[order][:, order]))
    assert permuted == pytest.approx([rewards[i] for i in order], abs=1e-8)


@given(st.data(), st.integers(1, 8))
def test_permuting_traces_permutes_the_greedy_term_where_nothing_ties(data: st.DataObject, size: int) -> None:
    values = data.draw(st.permutations(range(1, 1 + size * (size - 1) // 2)))
    distance = torch.zeros(size, size, dtype=torch.float64)
    distance[tuple(torch.triu_indices(size, size, 1))] = torch.tensor(values, dtype=torch.float64) / 30
    distance += distance.T.clone()
    order = data.draw(st.permutations(range(size)))
    traces = [trace(correct=i == 0) for i in range(size)]
    term = GreedyMarginDiversity(cap=2)
    rewards = term(group(*traces), given_distance(distance))
    permuted = term(group(*[traces[i] for i in order]), given_distance(distance[order][:, order]))
    assert permuted == pytest.approx([rewards[i] for i in order])


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: Correctness(alpha=1.0),
        lambda: Correctness(alpha=-0.1),
        lambda: LogDetDiversity(wrong_quality=1.5),
        lambda: LogDetDiversity(epsilon=0.9e-10),
        lambda: LogDetDiversity(epsilon=0.011),
        lambda: GreedyMarginDiversity(margin=1.1),
        lambda: GreedyMarginDiversity(margin=-0.1),
        lambda: GreedyMarginDiversity(cap=0),
        lambda: CrossDistance(margin=2.0),
    ],
)
def test_a_setting_out_of_range_is_refused(wrong: object) -> None:
    with pytest.raises(ValueError, match=r"(Correctness|LogDetDiversity|GreedyMarginDiversity|CrossDistance)"):
        wrong()


@pytest.mark.parametrize(
    ("term", "name", "ends"),
    [
        (LogDetDiversity, "epsilon", (1e-10, 1e-2)), (LogDetDiversity, "wrong_quality", (0.0, 1.0)),
        (GreedyMarginDiversity, "margin", (0.0, 1.0)), (CrossDistance, "margin", (0.0, 1.0)),
    ],
)  # fmt: skip
def test_both_ends_of_a_range_are_settings(term: type, name: str, ends: tuple[float, float]) -> None:
    for end in ends:
        term(**{name: end})
