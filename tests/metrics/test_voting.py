"""Deployable rules against enumeration of every way to break the ties."""

from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core_lightning.metrics import AgreementGate, MajorityVote, agreement_gate, majority_vote

GOLD = "a"
answers = st.lists(st.sampled_from(["a", "b", "c", None]), min_size=1, max_size=5)


def modes(samples: list[str | None]) -> list[str]:
    votes = [a for a in samples if a]
    return sorted({a for a in votes if all(votes.count(a) >= votes.count(b) for b in votes)})


def judge(samples: list[str | None]) -> list[bool]:
    return [a == GOLD for a in samples]


@given(answers)
def test_majority_equals_enumeration(samples: list[str | None]) -> None:
    winners = modes(samples)
    expected = sum(a == GOLD for a in winners) / len(winners) if winners else 0.0
    assert majority_vote(samples, judge(samples)) == pytest.approx(expected)


@given(st.lists(answers, min_size=2, max_size=3))
def test_gate_equals_enumeration(peers: list[list[str | None]]) -> None:
    draws = list(product(*(modes(p) for p in peers)))  # empty when a peer has no answer at all: nobody agrees with it
    agreed = [d[0] for d in draws if len(set(d)) == 1]
    accepted, right = agreement_gate(peers, [judge(p) for p in peers])
    assert accepted == pytest.approx(len(agreed) / len(draws) if draws else 0.0)
    assert right == pytest.approx(agreed.count(GOLD) / len(draws) if draws else 0.0)


def test_answers_without_text_do_not_vote_even_when_they_are_many() -> None:
    assert majority_vote([None, None, None, "a"], [False, False, False, True]) == 1.0


def test_lengths_must_agree() -> None:
    with pytest.raises(ValueError, match=r"shorter|longer"):
        majority_vote(["a", "b"], [True])


def test_metrics_add_up_over_updates() -> None:
    problems = [[["a", "a"], ["a", "b"]], [["b", "b"], ["b", "b"]], [["a", "a"], ["b", "b"]]]
    vote, gate = MajorityVote(), AgreementGate()
    for peers in problems:
        flat = [a for p in peers for a in p]
        vote.update([flat], [judge(flat)])
        gate.update([peers], [[judge(p) for p in peers]])
    assert vote.compute().item() == pytest.approx((1 + 0 + 0.5) / 3)
    assert gate.compute()["coverage"].item() == pytest.approx((0.5 + 1 + 0) / 3)
    assert gate.compute()["accuracy"].item() == pytest.approx(0.5 / 1.5)


def test_gate_that_never_accepts_has_no_accuracy() -> None:
    gate = AgreementGate()
    gate.update([[["a"], ["b"]]], [[[True], [False]]])
    assert gate.compute()["coverage"] == 0
    assert gate.compute()["accuracy"].isnan()
