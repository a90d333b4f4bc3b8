"""The arms of the experiment: what each changes, defined once for every pair of models.

An arm is a set of settings of the real module. Budget, learning rate, prompts, data, correctness reward and objective
are the pair's and the same for all arms.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from benchmarks.learning.teacher_bonus import TeacherBonus
from core_lightning.protocol.credit import CreditSettings
from core_lightning.protocol.faithful import FaithfulSettings
from core_lightning.protocol.rounds import RoundSettings
from core_lightning.rewards import (
    GreedyMarginDiversity,
    LogDetDiversity,
    RescueBonus,
    WeightedTerm,
    published_terms,
)
from core_lightning.training.settings import AdvantageSettings

#: No filter: every correct rescue is taken for faithful.
ANY = FaithfulSettings(min_probability=0.0, equations=False, finished=False, derivation=False)
RESCUE = {"rescue": WeightedTerm(RescueBonus(), 0.15)}


# Settings are written out: a result must not change its meaning when the library's default does. The arms of the first
# experiment chose the teacher by total reward, took every correct rescue for faithful, and divided shaping rewards by the
# standard deviation together with correctness. Its lines were made by code that imitated every correct rescue of a problem.


def _cold_only(k: int) -> RoundSettings:
    return _rescued(k=k, k_rescue=0)


def _rescued(**options: object) -> RoundSettings:
    first = {"k": 3, "k_rescue": 2, "teacher": "total_reward", "teacher_equations": False}
    return RoundSettings(**{**first, **options})  # type: ignore[arg-type]


def _credit(mode: str, **options: object) -> CreditSettings:
    first = {"mode": mode, "weight": 0.8, "imitation_weight": 0.8, "share_weight": False, "faithful": ANY}
    return CreditSettings(**{**first, **options})  # type: ignore[arg-type]


def _advantage(group_by: str, std_floor: float = 1e-4) -> AdvantageSettings:
    return AdvantageSettings(group_by, std_floor=std_floor, shaping="normalized")  # type: ignore[arg-type]


@dataclass(frozen=True)
class Arm:
    """One way to spend the budget."""

    about: str
    """One line for the tables."""
    rounds: RoundSettings = field(default_factory=_rescued)
    credit: CreditSettings = field(default_factory=lambda: _credit("hinted"))
    advantage: AdvantageSettings = field(default_factory=lambda: _advantage("peer"))
    rewards: Mapping[str, WeightedTerm] = field(default_factory=lambda: RESCUE)
    """Terms besides correctness."""
    solo: bool = False
    """Every peer is trained alone, by a module of its own."""
    trained: bool = True
    """False: the models as they are."""
    prefer_disagreement: bool = False
    """Draw kinds of problems in proportion to how often the peers disagreed on them lately."""


def _faithful(min_probability: float, equations: bool = True, derivation: bool = False) -> FaithfulSettings:
    return FaithfulSettings(min_probability, equations, derivation=derivation)


def _second(about: str, k: int = 2, k_rescue: int = 1, mode: str = "teacher_and_rescue", **options: object) -> Arm:
    """An arm of the second experiment: teachers chosen as teachers, one imitated rescue a problem, correctness alone."""
    rounds = {name: options.pop(name) for name in ("teacher", "rescue_temperature") if name in options}
    coverage = options.pop("coverage", 0.0)
    first = {"imitation_weight": 1.6, "weight": 0.8, "share_weight": False, "faithful": _faithful(0.1)}
    credit = {**first, **options}
    quality = {"teacher": "quality", "teacher_ties": "likelihood", "teacher_equations": True}
    return Arm(
        about,
        rounds=RoundSettings(k=k, k_rescue=k_rescue, **{**quality, **rounds}),  # type: ignore[arg-type]
        credit=CreditSettings(mode, **credit),  # type: ignore[arg-type]
        advantage=AdvantageSettings("round", std_floor=0.25, shaping="added", coverage=coverage),  # type: ignore[arg-type]
        rewards={},
    )


def _imitating_among_right_traces(mode: str) -> Arm:
    # Wrong traces earn nothing, and the floor keeps groups that differ in diversity alone from full-size advantages.
    return Arm(
        f"{mode} at twice the weight, diversity of right traces, std floor 0.25",
        rounds=_cold_only(3),
        credit=_credit(mode, imitation_weight=1.6),
        advantage=_advantage("peer", 0.25),
        rewards={"diversity": WeightedTerm(LogDetDiversity(wrong_quality=0.0), 0.1)},
    )


BY_ROUND = _advantage("round")

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
        advantage=_advantage("problem"),
    ),
    "both_by_problem": Arm(
        "both, one baseline for all traces of a problem",
        credit=_credit("both"),
        advantage=_advantage("problem"),
    ),
    "published": Arm(
        "K 2, K' 1, hinted, one baseline, all published terms",
        rounds=_rescued(k=2, k_rescue=1),
        advantage=_advantage("problem"),
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
        advantage=_advantage("peer", 0.25),
        rewards=RESCUE | {"diversity": WeightedTerm(LogDetDiversity(wrong_quality=1.0), 0.1)},
    ),
    # The second experiment: rescues that are imitated only if they are faithful.
    "solo_k2": Arm("each peer alone, GRPO with K 2", rounds=_cold_only(2), rewards={}, solo=True),
    # "default" is what the library did when its results were made. Since then two imitated traces of a problem share its
    # weight ("default_shared"), and a rescue must hold a derivation, too ("default_derived": the library's default).
    "default": _second("K 2, K' 1: the teacher's trace and the faithful rescue imitated"),
    "default_k3": _second("the same with K 3", k=3),
    "default_half": _second("the same at half the weight each", imitation_weight=0.8),
    "default_shared": _second("the same, a problem's two traces with half the weight each", share_weight=True),
    "default_derived": _second(
        "the same, and a rescue must hold a derivation", share_weight=True, faithful=_faithful(0.1, derivation=True)
    ),
    "default_strong": _second("the same at twice the weight each", imitation_weight=3.2),
    "default_strict": _second("every token at least 0.5 under the hint", faithful=_faithful(0.5)),
    "default_loose": _second("every token at least 0.01 under the hint", faithful=_faithful(0.01)),
    "no_probability": _second("equations checked, no threshold", faithful=_faithful(0.0)),
    "no_equations": _second("threshold 0.1, equations not checked", faithful=_faithful(0.1, equations=False)),
    "no_filter": _second("every correct rescue is imitated", faithful=ANY),
    "no_teacher": _second("the faithful rescue alone", mode="cold"),
    "no_teacher_no_filter": _second("every correct rescue, no teacher's trace", mode="cold", faithful=ANY),
    "no_teacher_floor": _second(
        "every correct rescue, no teacher's trace, probability floor 0.1", mode="cold", faithful=ANY, probability_floor=0.1
    ),
    "default_floor": _second("the default with a probability floor of 0.1", probability_floor=0.1),
    "rescue_or_teacher": _second("the teacher's trace only where no faithful rescue is left", mode="rescue_or_teacher"),
    # With a baseline per round a single rescue has nothing to be compared with.
    "hinted_credit": _second("policy gradient under the hinted prompt, K' 2", k_rescue=2, mode="hinted"),
    "cool_rescue": _second("the default, rescues sampled at temperature 0.5", rescue_temperature=0.5),
    "teacher_by_reward": _second("the default, the teacher by total reward", teacher="total_reward"),
    "coverage": _second("the default, problems weighed by whether the others fail (0.5)", coverage=0.5),
    "coverage_full": _second("the default, problems weighed by whether the others fail (1)", coverage=1.0),
    "lean_k2": _second("no rescue round, K 2: the teacher's trace imitated", k_rescue=0, mode="peer_trace"),
    "lean_k3": _second("no rescue round, K 3", k=3, k_rescue=0, mode="peer_trace"),
    "lean_k2_strong": _second("no rescue round, K 2, weight 3.2", k_rescue=0, mode="peer_trace", imitation_weight=3.2),
    "lean_k2_coverage": _second("no rescue round, K 2, coverage 1", k_rescue=0, mode="peer_trace", coverage=1.0),
    "lean_k3_coverage": _second("no rescue round, K 3, coverage 1", k=3, k_rescue=0, mode="peer_trace", coverage=1.0),
    "solo_k6": Arm("each peer alone, GRPO with K 6", rounds=_cold_only(6), rewards={}, solo=True),
}
