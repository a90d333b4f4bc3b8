"""The arms of the experiment: what each changes, defined once for every pair of models.

An arm is a set of settings of the real module. Budget, learning rate, prompts, data, correctness reward and objective
are the pair's and the same for all arms.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from benchmarks.learning.teacher_bonus import TeacherBonus
from core_lightning.protocol.credit import CreditSettings
from core_lightning.protocol.rounds import RoundSettings
from core_lightning.rewards import (
    GreedyMarginDiversity,
    LogDetDiversity,
    RescueBonus,
    WeightedTerm,
    published_terms,
)
from core_lightning.training.settings import AdvantageSettings

RESCUE = {"rescue": WeightedTerm(RescueBonus(), 0.15)}


@dataclass(frozen=True)
class Arm:
    """One way to spend the budget."""

    about: str
    """One line for the tables."""
    rounds: RoundSettings = field(default_factory=lambda: RoundSettings(k=3, k_rescue=2))
    credit: CreditSettings = field(default_factory=lambda: _credit("hinted"))
    advantage: AdvantageSettings = field(default_factory=lambda: AdvantageSettings("peer", std_floor=1e-4))
    rewards: Mapping[str, WeightedTerm] = field(default_factory=lambda: RESCUE)
    """Terms besides correctness."""
    solo: bool = False
    """Every peer is trained alone, by a module of its own."""
    trained: bool = True
    """False: the models as they are."""
    prefer_disagreement: bool = False
    """Draw kinds of problems in proportion to how often the peers disagreed on them lately."""


def _cold_only(k: int) -> RoundSettings:
    return RoundSettings(k=k, k_rescue=0)


def _rescued(**options: object) -> RoundSettings:
    return RoundSettings(**{"k": 3, "k_rescue": 2, **options})  # type: ignore[arg-type]


def _credit(mode: str, **options: object) -> CreditSettings:
    # Written out: a result must not change its meaning when the library's default does.
    return CreditSettings(**{"mode": mode, "weight": 0.8, "imitation_weight": 0.8, **options})  # type: ignore[arg-type]


def _imitating_among_right_traces(mode: str) -> Arm:
    # Wrong traces earn nothing, and the floor keeps groups that differ in diversity alone from full-size advantages.
    return Arm(
        f"{mode} at twice the weight, diversity of right traces, std floor 0.25",
        rounds=_cold_only(3),
        credit=_credit(mode, imitation_weight=1.6),
        advantage=AdvantageSettings(group_by="peer", std_floor=0.25),
        rewards={"diversity": WeightedTerm(LogDetDiversity(wrong_quality=0.0), 0.1)},
    )


BY_ROUND = AdvantageSettings("round", std_floor=1e-4)

ARMS: Mapping[str, Arm] = {
    "base": Arm("no training", trained=False),
    "solo": Arm("each peer alone, GRPO with K 3", rounds=_cold_only(3), rewards={}, solo=True),
    "both": Arm("rescue trained under both prompts", credit=_credit("both")),
    "cold": Arm("correct rescue imitated under the cold prompt", credit=_credit("cold")),
    "hinted": Arm("rescue trained under the hinted prompt", credit=_credit("hinted")),
    "peer_trace": Arm(
        "the peer's correct trace imitated under the cold prompt", rounds=_cold_only(3), credit=_credit("peer_trace")
    ),
    "adaptive": Arm("cold, or peer_trace while rescues are rare", credit=_credit("adaptive")),
    "no_rescue": Arm("K 2 without a rescue round", rounds=_cold_only(2)),
    # Rescues in the baseline would push a failed peer's cold traces down; a baseline per round leaves them alone.
    "cold_by_round": Arm("cold, a baseline per round", credit=_credit("cold"), advantage=BY_ROUND),
    "both_by_round": Arm("both, a baseline per round", credit=_credit("both"), advantage=BY_ROUND),
    "hinted_by_round": Arm("hinted, a baseline per round", advantage=BY_ROUND),
    "own_trace": Arm("a peer imitates its own correct trace", rounds=_cold_only(3), credit=_credit("own_trace")),
    "joint": Arm(
        "no rescue round, one baseline for all peers",
        rounds=_cold_only(3),
        advantage=AdvantageSettings("problem", std_floor=1e-4),
    ),
    "both_by_problem": Arm(
        "both, one baseline for all traces of a problem",
        credit=_credit("both"),
        advantage=AdvantageSettings("problem", std_floor=1e-4),
    ),
    "published": Arm(
        "K 2, K' 1, hinted, one baseline, all published terms",
        rounds=RoundSettings(k=2, k_rescue=1),
        advantage=AdvantageSettings("problem", std_floor=1e-4),
        rewards={name: term for name, term in published_terms().items() if name != "correctness"},
    ),
    "students_all": Arm(
        "both, every peer sees a hint with probability 0.75",
        rounds=_rescued(students="all", hint_probability=0.75),
        credit=_credit("both"),
    ),
    "logdet": Arm(
        "both, with determinantal diversity",
        credit=_credit("both"),
        rewards=RESCUE | {"diversity": WeightedTerm(LogDetDiversity(wrong_quality=1.0), 0.1)},
    ),
    "greedy": Arm(
        "both, with the published greedy diversity",
        credit=_credit("both"),
        rewards=RESCUE | {"diversity": WeightedTerm(GreedyMarginDiversity(), 0.1)},
    ),
    "teacher_bonus": Arm(
        "both, the teacher is rewarded for a rescue",
        credit=_credit("both"),
        rewards=RESCUE | {"teacher": WeightedTerm(TeacherBonus(), 0.15)},
    ),
    "progressive": Arm("both, half a hint first", rounds=_rescued(progressive=True), credit=_credit("both")),
    "disagreement": Arm(
        "peer_trace, problems the peers disagree on more often",
        rounds=_cold_only(3),
        credit=_credit("peer_trace"),
        prefer_disagreement=True,
    ),
    "peer_trace_strong": Arm(
        "peer_trace at twice the weight", rounds=_cold_only(3), credit=_credit("peer_trace", imitation_weight=1.6)
    ),
    "peer_trace_stronger": Arm(
        "peer_trace at four times the weight", rounds=_cold_only(3), credit=_credit("peer_trace", imitation_weight=3.2)
    ),
    "peer_trace_logdet": Arm(
        "peer_trace at twice the weight, with determinantal diversity",
        rounds=_cold_only(3),
        credit=_credit("peer_trace", imitation_weight=1.6),
        rewards={"diversity": WeightedTerm(LogDetDiversity(wrong_quality=1.0), 0.1)},
    ),
    "peer_trace_logdet_right": _imitating_among_right_traces("peer_trace"),
    # The same in all but whose trace is imitated: what is left of a gain is what the peer knew.
    "own_trace_logdet_right": _imitating_among_right_traces("own_trace"),
    "logdet_floor": Arm(
        "both, with determinantal diversity, std floor 0.25",
        credit=_credit("both"),
        advantage=AdvantageSettings(group_by="peer", std_floor=0.25),
        rewards=RESCUE | {"diversity": WeightedTerm(LogDetDiversity(wrong_quality=1.0), 0.1)},
    ),
    "solo_k6": Arm("each peer alone, GRPO with K 6", rounds=_cold_only(6), rewards={}, solo=True),
}
