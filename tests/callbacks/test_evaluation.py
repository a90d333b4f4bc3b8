"""Figures of an evaluation against enumeration of every way to draw samples."""

from __future__ import annotations

import math
import random
from itertools import combinations, product

import numpy as np
import pytest

from core_lightning.protocol import Group
from core_lightning.report.evaluation import difference, evaluate, score_problem
from core_lightning.report.tables import before_after_table, with_rescue_table
from scripted_team import group_of, problem, trace

PEERS, N, K = ("a", "b"), 4, 2


def random_groups(count: int, seed: int = 0, peers: tuple[str, ...] = PEERS, n: int = N) -> list[Group]:
    draw = random.Random(seed)
    return [
        group_of(problem(i, chance=0.25), {p: [draw.random() < 0.1 + 0.7 * (i % 2) for _ in range(n)] for p in peers})
        for i in range(count)
    ]


def evaluated(groups: list[Group], peers: tuple[str, ...] = PEERS, k: int = K, step: int = 0):
    return evaluate([score_problem(g, peers, k) for g in groups], peers, k, step, "val")


def brute_pass(verdicts: list[bool], k: int) -> float:
    draws = list(combinations(verdicts, k))
    return sum(any(d) for d in draws) / len(draws)


def brute_team(group: Group, k: int) -> float:
    draws = [list(combinations([t.correct for t in group.of(p, "cold")], k)) for p in PEERS]
    joint = list(product(*draws))
    return sum(any(any(d) for d in pair) for pair in joint) / len(joint)


def test_pass_at_k_of_peers_and_team_equal_enumeration() -> None:
    groups = random_groups(30)
    values = evaluated(groups)["values"]
    for peer in PEERS:
        verdicts = [[t.correct for t in g.of(peer, "cold")] for g in groups]
        for k in (1, 2, 4):
            expected = np.mean([brute_pass(v, k) for v in verdicts])
            assert values[f"{peer}/pass_at_{k}"]["value"] == pytest.approx(expected, abs=1e-12)
    assert values["team_pass_at_2"]["value"] == pytest.approx(np.mean([brute_team(g, 2) for g in groups]), abs=1e-12)
    best = max(values[f"{p}/pass_at_4"]["value"] for p in PEERS)
    assert values["equal_budget"]["value"] == pytest.approx(best)
    assert values["collaboration_gain"]["value"] == pytest.approx(values["team_pass_at_2"]["value"] - best)


def test_error_overlap_is_correlation_of_failures() -> None:
    groups = random_groups(40, seed=3)
    failed = np.array([[g.failed_cold(p) for p in PEERS] for g in groups], dtype=float)
    values = evaluated(groups)["values"]
    assert values["all_fail"]["value"] == pytest.approx(failed.prod(1).mean())
    assert values["phi"]["value"] == pytest.approx(np.corrcoef(failed.T)[0, 1])
    assert values["phi"]["low"] < values["phi"]["value"] < values["phi"]["high"]


def test_votes_are_taken_among_the_first_k_traces_and_answers_of_one_value_are_one_candidate() -> None:
    group = Group(problem(1, answer="3", kind="number"))
    group.add([trace("a", "cold", 0, True, "3"), trace("a", "cold", 1, False, "4"), trace("a", "cold", 2, False, "4")])
    group.add(
        [trace("b", "cold", 0, True, "3.0"), trace("b", "cold", 1, False, "5"), trace("b", "cold", 2, False, "4")]
    )
    score = score_problem(group, PEERS, 2)
    assert score.vote == 1.0  # 3 and 3.0 against 4 and 5; the third traces would have made it 4
    assert (score.accepted, score.agreed) == (
        0.25,
        0.25,
    )  # each peer picks one of its two answers, both 3 in one of four
    assert (score.samples, score.correct) == ([3, 3], [1, 1])


def test_interval_holds_the_value_and_is_that_of_a_bootstrap() -> None:
    result = evaluated(random_groups(60, seed=1))
    scores = np.array(result["per_problem"]["a/pass_at_1"])
    draw = np.random.default_rng(0)
    means = [scores[draw.integers(0, len(scores), len(scores))].mean() for _ in range(4000)]
    figure = result["values"]["a/pass_at_1"]
    assert figure["low"] == pytest.approx(np.quantile(means, 0.025), abs=0.02)
    assert figure["high"] == pytest.approx(np.quantile(means, 0.975), abs=0.02)


def test_order_of_problems_does_not_matter() -> None:
    groups = random_groups(20)
    assert evaluated(groups) == evaluated(groups[::-1])


def test_equal_budget_needs_enough_samples() -> None:
    values = evaluated(random_groups(10, n=3))["values"]
    assert math.isnan(values["a/pass_at_4"]["value"])
    assert math.isnan(values["equal_budget"]["value"])
    assert math.isnan(values["collaboration_gain"]["low"])
    assert math.isfinite(values["team_pass_at_2"]["value"])


def test_chance_of_four_guesses_with_four_options() -> None:
    values = evaluated(random_groups(5))["values"]
    assert values["chance_pass_at_1"]["value"] == 0.25
    assert values["chance_pass_at_4"]["value"] == pytest.approx(1 - 0.75**4)


def test_one_peer_has_no_team_figures() -> None:
    values = evaluated(random_groups(6, peers=("a",)), ("a",))["values"]
    assert values["team_pass_at_2"] == values["a/pass_at_2"]
    assert not {"phi", "equal_budget", "agreement_accuracy"} & values.keys()


def test_change_is_paired_over_the_same_problems_only() -> None:
    before, after = evaluated(random_groups(40)), evaluated(random_groups(40, seed=5), step=9)
    change = difference(before, after, "a/pass_at_1")
    paired = np.array(after["per_problem"]["a/pass_at_1"]) - np.array(before["per_problem"]["a/pass_at_1"])
    assert change["value"] == pytest.approx(paired.mean())
    assert change["low"] < change["value"] < change["high"]
    other = difference(before, evaluated(random_groups(39)), "a/pass_at_1")
    assert math.isfinite(other["value"])
    assert math.isnan(other["low"])


def test_without_and_with_a_rescue_round() -> None:
    """Three problems by hand: b rescued on the first, not on the second, without need on the third."""
    groups = [
        group_of(problem(1), {"a": [True, True, True], "b": [False, False, True]}, {"b": [True]}),
        group_of(problem(2), {"a": [True, False, False], "b": [False, False, False]}, {"b": [False]}),
        group_of(problem(3), {"a": [False, False, False], "b": [False, False, False]}),
    ]
    groups[0].of("b", "rescue")[0].flaw = "unlikely token (0.01)"
    result = evaluate([score_problem(g, PEERS, 2, rescue=True) for g in groups], PEERS, 2, 0, "val")
    values = {name: figure["value"] for name, figure in result["values"].items()}
    assert values["without_rescue/a/solved"] == values["with_rescue/a/solved"] == pytest.approx(2 / 3)
    assert values["without_rescue/b/solved"] == 0  # its third sample does not count
    assert values["with_rescue/b/solved"] == pytest.approx(1 / 3)
    # Cold votes of the first problem: two for gold, one each for -1 and -2; of the second gold, -2 from a, -1 and -2 from b.
    assert result["per_problem"]["without_rescue/majority_vote"] == [1.0, 0.0, 0.0]
    # With: three for gold; then gold, -2 and -9, a tie of three.
    assert result["per_problem"]["with_rescue/majority_vote"] == pytest.approx([1.0, 1 / 3, 0.0])
    assert values["hinted_pairs"] == 2
    assert (values["rescue_rate"], values["faithful_rescue_rate"]) == (0.5, 0.0)
    # Agreement on the first problem with the rescue only; on the third a and b give the same wrong answers.
    assert result["per_problem"]["without_rescue/agreement_coverage"][0] == 0
    assert result["per_problem"]["with_rescue/agreement_coverage"][0] == 1
    table = with_rescue_table(result)
    row = {r[0]: r[1:] for r in table.rows}["b  solved in 2"]
    assert row[0].startswith("0.0 [")
    assert row[1].startswith("33.3 [")
    assert row[2].startswith("+33.3 [")
    assert "2 pairs" in table.note
    assert not any("rescue" in name for name in evaluated(groups)["values"])


def test_greedy_pass_at_1() -> None:
    groups = random_groups(4)
    for i, group in enumerate(groups):
        group.add([trace("a", "greedy", 0, i < 3, "1"), trace("b", "greedy", 0, i < 1, "1")])
    result = evaluated(groups)
    assert result["values"]["a/greedy_pass_at_1"]["value"] == 0.75
    assert result["values"]["b/greedy_pass_at_1"]["value"] == 0.25
    plain = evaluated(random_groups(4))
    assert result["values"]["a/pass_at_1"] == plain["values"]["a/pass_at_1"]  # the samples are what they were
    assert "a  greedy" in [r[0] for r in before_after_table(result, result).rows]
    assert "a  greedy" not in [r[0] for r in before_after_table(plain, result).rows]
