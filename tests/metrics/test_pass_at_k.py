"""Pass@k against enumeration of every subset of samples, in float64."""

from itertools import combinations, product
from math import comb

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from core_lightning.metrics import (
    PassAtK,
    TeamPassAtK,
    chance_pass_at_k,
    collaboration_gain,
    pass_at_k,
    team_pass_at_k,
)


def enumerated(peers: list[list[bool]], k: int) -> float:
    """Share of all ways to draw k samples of every peer in which at least one is correct."""
    draws = list(product(*(combinations(samples, k) for samples in peers)))
    return sum(any(any(drawn) for drawn in draw) for draw in draws) / len(draws)


outcomes = st.lists(st.booleans(), min_size=2, max_size=6)


@given(outcomes, st.integers(1, 2))
def test_one_peer_equals_enumeration(samples: list[bool], k: int) -> None:
    got = pass_at_k(len(samples), sum(samples), k)
    assert got.dtype == torch.float64
    assert got.item() == pytest.approx(enumerated([samples], k), abs=1e-12)


@settings(max_examples=50)
@given(st.lists(outcomes, min_size=1, max_size=3), st.integers(1, 2))
def test_team_equals_enumeration_with_unequal_sample_counts(peers: list[list[bool]], k: int) -> None:
    n, c = torch.tensor([[len(p) for p in peers]]), torch.tensor([[sum(p) for p in peers]])
    assert team_pass_at_k(n, c, k).item() == pytest.approx(enumerated(peers, k), abs=1e-12)


def test_no_overflow_where_binomials_do() -> None:
    n, c, k = 20_000, 3, 5_000
    assert pass_at_k(n, c, k).item() == pytest.approx(1 - comb(n - c, k) / comb(n, k), abs=1e-10)


def test_k_equal_to_n_is_any_correct() -> None:
    assert pass_at_k(3, torch.tensor([0, 1, 3]), 3).tolist() == [0.0, 1.0, 1.0]


@pytest.mark.parametrize(
    ("n", "c", "k", "line"),
    [(2, 1, 3, "k=3, but a problem has n=2"), (2, 1, 0, "k >= 1"), (2, 3, 1, "0 <= c <= n"), (2, -1, 1, "0 <= c <= n")],
)
def test_impossible_counts_are_refused(n: int, c: int, k: int, line: str) -> None:
    with pytest.raises(ValueError, match=line):
        pass_at_k(n, c, k)
    with pytest.raises(ValueError, match=line):
        team_pass_at_k(n, torch.tensor([[c, c]]), k)
    with pytest.raises(ValueError, match=line):  # one problem among others that can be
        pass_at_k(torch.tensor([4, n, 4]), torch.tensor([1, c, 1]), k)


@pytest.mark.parametrize("metric", [PassAtK, TeamPassAtK])
def test_a_metric_of_no_samples_is_refused_before_it_counts(metric: type) -> None:
    assert metric(1).k == 1
    with pytest.raises(ValueError, match="k >= 1, got k=0"):
        metric(0)


def test_metrics_weigh_problems_not_updates() -> None:
    n = torch.tensor([[4, 6], [5, 5], [4, 4]])
    c = torch.tensor([[1, 0], [2, 5], [0, 0]])
    one, team = PassAtK(k=2), TeamPassAtK(k=2)
    for rows in ([0, 1], [2]):
        one.update(n[rows, 0], c[rows, 0])
        team.update(n[rows], c[rows])
    assert one.compute().item() == pytest.approx((1 / 2 + (1 - 3 / 10) + 0) / 3)
    assert team.compute().item() == pytest.approx((1 / 2 + 1 + 0) / 3)
    team.reset()
    team.update(2, torch.tensor([[0, 1]]))
    assert team.compute() == 1


def test_a_peer_alone_is_a_team_of_one_and_more_peers_never_hurt() -> None:
    c = torch.randint(0, 7, (20, 3), generator=torch.Generator().manual_seed(0))
    assert torch.allclose(team_pass_at_k(6, c[:, :1], 2), pass_at_k(6, c[:, 0], 2))
    assert (team_pass_at_k(6, c, 2) >= pass_at_k(6, c, 2).amax(1)).all()


def test_gain_is_against_the_best_single_peer_at_equal_budget() -> None:
    c = torch.tensor([[4, 0], [0, 1], [0, 0]])
    team = team_pass_at_k(4, c, 2)
    gain = collaboration_gain(team, pass_at_k(4, c, 4))
    assert gain.tolist() == pytest.approx([0.0, 0.5, 0.0])  # both peers reach 1/3 alone; the first one is the baseline


def test_the_baseline_is_the_peer_that_is_best_over_all_problems() -> None:
    singles = torch.tensor([[0.9, 1.0], [0.0, 0.5]])  # the second peer, with 0.75 on average
    assert collaboration_gain(torch.tensor([1.0, 1.0]), singles).tolist() == [0.0, 0.5]


def test_chance_level_of_two_guessers_with_two_samples() -> None:
    assert chance_pass_at_k(0.25, 4) == pytest.approx(0.684, abs=5e-4)  # 1 - 0.75^4: 68.4 % on GPQA
    assert [chance_pass_at_k(chance, 3) for chance in (0.0, 1.0)] == [0.0, 1.0]
    for chance in (-0.1, 1.1):
        with pytest.raises(ValueError, match="chance"):
            chance_pass_at_k(chance, 1)
