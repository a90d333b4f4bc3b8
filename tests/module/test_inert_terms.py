"""Every reward term acts, or the run says that it cannot."""

from __future__ import annotations

from typing import Any

import pytest

from core_lightning.protocol.credit import CreditSettings
from core_lightning.protocol.rounds import RoundSettings
from core_lightning.records import Group, Problem, Trace
from core_lightning.rewards import (
    Correctness,
    GreedyMarginDiversity,
    LogDetDiversity,
    Rarity,
    RescueBonus,
    RewardModel,
    WeightedTerm,
    published_terms,
)
from core_lightning.training.inert_terms import inert_terms
from core_lightning.training.settings import AdvantageSettings

CORRECT = {"correctness": WeightedTerm(Correctness(alpha=0.0))}


def inert(term: Any, mode: str = "hinted", rounds: RoundSettings | None = None, peers: int = 2, **advantage: Any) -> bool:
    settings = AdvantageSettings(**{"std_floor": 1e-4, **advantage})
    terms = CORRECT | {"it": WeightedTerm(term, 0.2)}
    return inert_terms(terms, rounds or RoundSettings(), settings, CreditSettings(mode), peers) == ["it"]  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("term", "settings", "cannot_act"),
    [
        # A baseline per peer and round, divided by the deviation: two values stay two values.
        (Rarity(), {"group_by": "round", "shaping": "normalized"}, True),
        (Rarity(), {"group_by": "round", "shaping": "added"}, False),
        (Rarity(), {"group_by": "problem", "shaping": "normalized"}, False),
        # Rescues that are imitated are no policy examples, and without a rescue round there are none.
        (RescueBonus(), {"mode": "teacher_and_rescue"}, True),
        (RescueBonus(), {"mode": "hinted", "rounds": RoundSettings(k_rescue=0)}, True),
        # One rescue alone in its round has nothing to be compared with; two have.
        (RescueBonus(), {"group_by": "round"}, True),
        (RescueBonus(), {"group_by": "round", "rounds": RoundSettings(k_rescue=2)}, False),
        (RescueBonus(), {"group_by": "round", "shaping": "normalized", "rounds": RoundSettings(k_rescue=2)}, True),
        (RescueBonus(), {"group_by": "peer"}, False),
        # At most ten traces: the greedy set is the whole group.
        (GreedyMarginDiversity(), {}, True),
        (LogDetDiversity(wrong_quality=0.0), {"group_by": "round"}, False),
    ],
)
def test_terms_that_cannot_act_are_found(term: Any, settings: dict[str, Any], cannot_act: bool) -> None:
    assert inert(term, **settings) == cannot_act


def test_a_term_that_only_chooses_the_teacher_acts() -> None:
    one = RoundSettings(k=1, teacher="total_reward")
    alone = {"group_by": "round", "mode": "peer_trace", "peers": 3}
    assert inert(LogDetDiversity(wrong_quality=0.0), rounds=RoundSettings(k=1), **alone)
    assert not inert(LogDetDiversity(wrong_quality=0.0), rounds=one, **alone)


def test_what_acts_of_the_published_recipe() -> None:
    advantage = AdvantageSettings("problem", std_floor=1e-4, shaping="normalized")
    rounds = RoundSettings(teacher="total_reward", teacher_equations=False)
    assert inert_terms(published_terms(), rounds, advantage, CreditSettings("hinted")) == ["diversity"]


def test_a_bonus_is_added_to_what_correctness_gives() -> None:
    """Two right and two wrong traces, one right one with a bonus: by hand."""
    traces = [Trace("a", "cold", i, [], [], "", False, correct=i < 2) for i in range(4)]
    for trace, shade in zip(traces, (0.2, 0.0, 0.0, 0.0), strict=True):
        trace.shaping, trace.reward = shade, float(trace.correct) + shade
    group = Group(Problem("p", "", ""), traces)
    added = AdvantageSettings("peer", std_floor=1e-4).advantages([group])
    assert added.tolist() == pytest.approx([1 + 0.15, 1 - 0.05, -1 - 0.05, -1 - 0.05])
    # A group of equal correctness: the bonus keeps its size, where division would make it a full-size advantage.
    equal = Group(Problem("p", "", ""), traces[:2])
    assert AdvantageSettings("peer", std_floor=1e-4).advantages([equal]).tolist() == pytest.approx([0.1, -0.1])
    blown = AdvantageSettings("peer", std_floor=1e-4, shaping="normalized").advantages([equal])
    assert blown.tolist() == pytest.approx([1.0, -1.0])


def test_the_shaping_part_of_a_reward_is_kept_apart() -> None:
    traces = [Trace("a", "cold", 0, [], [], "", False, correct=True), Trace("b", "cold", 0, [], [], "", False)]
    RewardModel(CORRECT | {"rarity": WeightedTerm(Rarity(), 0.2)}).score([Group(Problem("p", "", ""), traces)])
    assert [t.reward for t in traces] == pytest.approx([1.1, 0.0])
    assert [t.shaping for t in traces] == pytest.approx([0.1, 0.0])
