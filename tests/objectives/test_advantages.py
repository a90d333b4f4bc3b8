"""Group advantages against the statistics module, and what must never happen to a baseline."""

from __future__ import annotations

import math
import statistics

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from core_lightning.objectives import coverage_weights, group_advantages, group_ids, no_signal
from core_lightning.protocol import Group, Problem, Trace

REWARD = st.one_of(st.sampled_from([0.0, 0.3, 1.0, 1.3, math.nan]), st.floats(-2, 2))
ROWS = st.lists(st.tuples(REWARD, st.integers(0, 3)), min_size=1, max_size=12)


def advantages_oracle(rows: list[tuple[float, int]], normalize_std: bool, floor: float) -> list[float]:
    result = []
    for reward, g in rows:
        known = [r for r, other in rows if other == g and not math.isnan(r)]
        if math.isnan(reward) or max(known) - min(known) <= 1e-6:
            result.append(0.0)
            continue
        divisor = max(statistics.pstdev(known), floor) if normalize_std else 1.0
        result.append((reward - statistics.fmean(known)) / divisor)
    return result


@given(ROWS, st.booleans(), st.sampled_from([1e-4, 0.5]))
def test_advantages_group_by_group(rows: list[tuple[float, int]], normalize_std: bool, floor: float) -> None:
    rewards, groups = torch.tensor([r for r, _ in rows], dtype=torch.float64), torch.tensor([g for _, g in rows])
    got = group_advantages(rewards, groups, normalize_std=normalize_std, std_floor=floor)
    assert got.dtype == torch.float64
    assert got.tolist() == pytest.approx(advantages_oracle(rows, normalize_std, floor), abs=1e-9)


@given(ROWS)
def test_no_signal_marks_exactly_the_traces_without_advantage(rows: list[tuple[float, int]]) -> None:
    rewards, groups = torch.tensor([r for r, _ in rows], dtype=torch.float64), torch.tensor([g for _, g in rows])
    silent = no_signal(rewards, groups)
    assert (group_advantages(rewards, groups)[silent] == 0).all()
    for i, (reward, g) in enumerate(rows):
        known = [r for r, other in rows if other == g and not math.isnan(r)]
        assert bool(silent[i]) == (math.isnan(reward) or max(known) - min(known) <= 1e-6)


@given(ROWS, st.randoms(use_true_random=False))
def test_permuting_traces_permutes_advantages(rows: list[tuple[float, int]], random: object) -> None:
    order = list(range(len(rows)))
    random.shuffle(order)
    rewards, groups = torch.tensor([r for r, _ in rows], dtype=torch.float64), torch.tensor([g for _, g in rows])
    torch.testing.assert_close(
        group_advantages(rewards[order], groups[order]), group_advantages(rewards, groups)[order], rtol=0, atol=1e-9
    )


@given(st.floats(-1e3, 1e3), st.integers(1, 9), st.booleans())
def test_equal_rewards_give_exactly_zero(reward: float, size: int, normalize_std: bool) -> None:
    rewards = torch.full((size,), reward, dtype=torch.float64)
    got = group_advantages(rewards, torch.zeros(size, dtype=torch.int64), normalize_std=normalize_std)
    assert got.tolist() == [0.0] * size


def test_float_residue_is_not_blown_up() -> None:
    rewards = torch.tensor([0.1 + 0.2, 0.3, 0.3], dtype=torch.float64)
    assert group_advantages(rewards, torch.zeros(3, dtype=torch.int64)).tolist() == [0.0, 0.0, 0.0]
    # A spread that is real and small is divided by the floor, not by itself.
    small = torch.tensor([1.0, 1.0 + 1e-5], dtype=torch.float64)
    got = group_advantages(small, torch.zeros(2, dtype=torch.int64), std_floor=1e-4)
    assert got.tolist() == pytest.approx([-0.05, 0.05], rel=1e-6)


def test_two_passes_keep_the_deviation_of_a_large_mean() -> None:
    rewards = torch.tensor([1e8, 1e8 + 1, 1e8 + 2, 1e8 + 3], dtype=torch.float64)
    got = group_advantages(rewards, torch.zeros(4, dtype=torch.int64))
    assert got.square().mean().item() == pytest.approx(1.0)


def test_a_trace_without_opinion_is_left_out_of_the_baseline() -> None:
    got = group_advantages(torch.tensor([0.0, 1.0, math.nan, math.nan]), torch.tensor([5, 5, 5, 9]))
    assert got.tolist() == pytest.approx([-1.0, 1.0, 0.0, 0.0])


@given(st.lists(st.lists(st.integers(0, 3), min_size=1, max_size=4), min_size=1, max_size=4), st.floats(0, 1))
def test_coverage_weighs_a_problem_by_the_chance_that_all_others_fail(right: list[list[int]], coverage: float) -> None:
    """The derivative of the team's success with respect to one peer's own, by differences."""
    groups = [
        Group(
            Problem(id=f"p{i}", question="", answer=""),
            [Trace(f"m{m}", "cold", j, [], [], "", False, correct=j < c) for m, c in enumerate(row) for j in range(3)],
        )
        for i, row in enumerate(right)
    ]

    def team(rates: list[float]) -> float:
        return 1 - math.prod(1 - p for p in rates)

    expected = []
    for row in right:
        rates = [min(c, 3) / 3 for c in row]
        for m in range(len(row)):
            up = [p + 1e-3 * (i == m) for i, p in enumerate(rates)]
            slope = (team(up) - team(rates)) / 1e-3  # linear in each rate, so the difference is exact
            expected += [(1 - coverage) + coverage * slope] * 3
    assert coverage_weights(groups, coverage).tolist() == pytest.approx(expected, abs=1e-9)


def test_a_peer_without_a_cold_trace_covers_nothing() -> None:
    traces = [Trace("a", "cold", i, [], [], "", False, correct=i == 0) for i in range(4)]
    hinted = Trace("b", "rescue", 0, [], [], "", False, correct=True)
    group = Group(Problem(id="p", question="", answer=""), [*traces, hinted])
    assert coverage_weights([group], 1.0).tolist() == [1.0, 1.0, 1.0, 1.0, 0.75]


def test_a_rescue_does_not_count_as_covering_a_problem() -> None:
    traces = [Trace("a", "cold", 0, [], [], "", False), Trace("a", "rescue", 0, [], [], "", False, correct=True)]
    other = Trace("b", "cold", 0, [], [], "", False, correct=True)
    group = Group(Problem(id="p", question="", answer=""), [*traces, other])
    assert coverage_weights([group], 1.0).tolist() == [0.0, 0.0, 1.0]


def test_groupings_of_a_step() -> None:
    def trace(peer: str, round: str) -> Trace:
        return Trace(peer=peer, round=round, index=0, prompt_ids=[], token_ids=[], text="", truncated=False)

    traces = [trace("a", "cold"), trace("b", "cold"), trace("a", "cold"), trace("a", "rescue")]
    # The same problem twice in a step makes two groups.
    groups = [Group(Problem(id="p", question="", answer=""), list(traces)) for _ in range(2)]
    assert group_ids(groups, "problem").tolist() == [0, 0, 0, 0, 1, 1, 1, 1]
    assert group_ids(groups, "peer").tolist() == [0, 1, 0, 0, 2, 3, 2, 2]
    assert group_ids(groups, "round").tolist() == [0, 1, 0, 2, 3, 4, 3, 5]
    assert group_ids([]).tolist() == []
    with pytest.raises(ValueError, match="group_by must be one of problem, peer, round"):
        group_ids(groups, "pair")
    with pytest.raises(ValueError, match="std_floor"):
        group_advantages(torch.zeros(1), torch.zeros(1, dtype=torch.int64), std_floor=0.0)
