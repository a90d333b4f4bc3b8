"""Settings under which traces follow the policy gradient and have nothing to be compared with are refused, no others."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any, get_args

import pytest

from benchmarks.learning.arms import ARMS
from core_lightning import CollaborativeReasoningModule, PeerConfig, SoloReasoningModule
from core_lightning.objectives.advantages import GroupBy
from core_lightning.protocol.credit import CreditMode, CreditSettings, assign_credit
from core_lightning.protocol.round_settings import RoundSettings
from core_lightning.records import Group, Hint, Problem, Trace
from core_lightning.training.checks import check_compared
from core_lightning.training.settings import AdvantageSettings

ROUNDS = [
    RoundSettings(k=k, k_rescue=k_rescue, **more)
    for k, k_rescue in itertools.product((1, 2), (0, 1, 2))
    for more in ({}, {"progressive": True}, {"students": "all", "hint_probability": 0.5})
]


def trace(peer: str, round: Any, number: int, hinted: bool, reward: float) -> Trace:
    made = Trace(peer, round, number, [1], [2], "", False, correct=False, hint=Hint("", "", 0, False) if hinted else None)
    made.reward = reward
    return made


def group(rounds: RoundSettings, peers: Sequence[str]) -> Group:
    """All that may be sampled of a problem, each with a reward that nothing else has."""
    rewards = (float(2**i) for i in range(99))
    whole = Group(Problem("1", "", "1"))
    for peer in peers:
        whole.add(trace(peer, "cold", i, False, next(rewards)) for i in range(rounds.k))
    rescues = rounds.k_rescue if len(peers) > 1 else 0
    for peer, hinted in itertools.product(peers, (True,) if rounds.hint_probability == 1 else (False,)):
        attempts = 2 if rounds.progressive else 1
        whole.add(trace(peer, "rescue", i, hinted, next(rewards)) for i in range(rescues * attempts))
    return whole


def refused(mode: CreditMode, by: GroupBy, rounds: RoundSettings, peers: int) -> bool:
    try:
        check_compared(CreditSettings(mode), rounds, AdvantageSettings(by), peers)
    except ValueError:
        return True
    return False


@pytest.mark.parametrize("mode", get_args(CreditMode))
@pytest.mark.parametrize("by", get_args(GroupBy))
@pytest.mark.parametrize("peers", [1, 2])
def test_refused_is_what_never_has_an_advantage(mode: CreditMode, by: GroupBy, peers: int) -> None:
    for rounds in ROUNDS:
        sampled = group(rounds, "ab"[:peers])
        AdvantageSettings(by).assign([sampled])
        policy = [e for p in "ab"[:peers] for e in assign_credit([sampled], p, CreditSettings(mode), lambda _: [1]) if not e.imitate]
        rescues = [e for e in policy if e.rescue] if mode in ("hinted", "both") else []
        dead = not any(e.advantage for e in policy) or (rescues and not any(e.advantage for e in rescues))
        assert refused(mode, by, rounds, peers) == bool(dead), rounds


@pytest.mark.parametrize(
    ("cls", "settings", "line"),
    [
        (
            CollaborativeReasoningModule,
            {"credit": CreditSettings("hinted")},
            "credit.mode hinted trains rescues by their advantage, and with rounds.k_rescue 1 and advantage.group_by round each "
            "has none to be compared with, so that it is always 0; set advantage.group_by to peer or problem, or "
            "rounds.k_rescue to 2 or more",
        ),
        (
            CollaborativeReasoningModule,
            {"rounds": RoundSettings(k=1)},
            "rounds.k is 1, and with advantage.group_by round a trace has no other to be compared with, so that its advantage is "
            "always 0; set rounds.k to 2 or more or advantage.group_by to problem",
        ),
        (
            SoloReasoningModule,
            {"rounds": RoundSettings(k=1), "advantage": AdvantageSettings("problem")},
            "rounds.k is 1, and with advantage.group_by problem a trace has no other to be compared with, so that its advantage "
            "is always 0; set rounds.k to 2 or more",
        ),
    ],
)  # fmt: skip
def test_the_line_names_the_settings_and_the_mend(cls: Any, settings: dict[str, Any], line: str) -> None:
    peers = {name: PeerConfig(f"nano/{name}") for name in "ab"[: cls.max_peers]}
    with pytest.raises(ValueError, match="advantage") as caught:
        cls(peers, **settings)
    assert str(caught.value) == line


@pytest.mark.parametrize("name", ARMS)
def test_every_arm_of_the_experiment_compares(name: str) -> None:
    arm = ARMS[name]
    assert not refused(arm.credit.mode, arm.advantage.group_by, arm.rounds, 1 if arm.solo else 2)
