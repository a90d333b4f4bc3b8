"""Seconds by phase, on a clock that only moves when told to."""

from __future__ import annotations

import threading
from collections.abc import Sequence

import pytest
import torch

from core_lightning.protocol.prompts import PromptSettings
from core_lightning.protocol.rounds import RoundSettings
from core_lightning.records import Group
from core_lightning.report.phases import PHASES
from core_lightning.rewards import HybridDistance, RewardModel, WeightedTerm
from core_lightning.rewards.term import RewardContext, RewardTerm
from core_lightning.training import stopwatch
from core_lightning.training.step_metrics import PEER_PHASES, TEAM_PHASES
from core_lightning.training.stopwatch import Stopwatch
from core_lightning.training.team import Team
from scripted import VERIFIER, ScriptedPeer, problem


class Clock:
    """Every thread has its own time."""

    def __init__(self) -> None:
        self._local = threading.local()

    def perf_counter(self) -> float:
        return getattr(self._local, "now", 0.0)

    def wait(self, seconds: float) -> None:
        self._local.now = self.perf_counter() + seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(stopwatch, "time", clock)
    return clock


def test_an_inner_phase_is_taken_out_of_the_outer_one(clock: Clock) -> None:
    watch = Stopwatch()
    with watch("reward"):
        clock.wait(1)
        for _ in range(2):
            with watch("embed"):
                clock.wait(10)
                with watch("load", "a"):
                    clock.wait(100)
        clock.wait(2)
    with watch("reward"):
        clock.wait(4)
    assert watch.take() == {"reward": 7, "embed": 20, "load/a": 200}
    assert watch.take() == {}


def test_a_phase_that_fails_is_counted_and_closed(clock: Clock) -> None:
    watch = Stopwatch()

    def fail() -> None:
        with watch("outer"):
            clock.wait(1)
            with watch("inner"):
                clock.wait(2)
                raise KeyError

    with pytest.raises(KeyError):
        fail()
    with watch("next"):
        clock.wait(4)
    assert watch.take() == {"outer": 1, "inner": 2, "next": 4}


def test_threads_nest_each_for_itself(clock: Clock) -> None:
    watch = Stopwatch()
    open_together = threading.Barrier(2)

    def work(peer: str, seconds: float) -> None:
        with watch("sample", peer):
            open_together.wait(30)
            clock.wait(seconds)
            with watch("decode", peer):
                clock.wait(1)
            open_together.wait(30)

    threads = [threading.Thread(target=work, args=args) for args in (("a", 3), ("b", 5))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert watch.take() == {"sample/a": 3, "decode/a": 1, "sample/b": 5, "decode/b": 1}


def test_every_phase_of_a_rollout_has_its_own_seconds(clock: Clock) -> None:
    class Apart(RewardTerm):
        needs_distance = True

        def __call__(self, group: Group, context: RewardContext) -> list[float | None]:
            clock.wait(7)
            return context.distance.sum(1).tolist()

    class SlowVerifier:
        def check(self, *args: Sequence) -> list:
            clock.wait(5)
            return VERIFIER.check(*args)

    def embed(texts: Sequence[str]) -> torch.Tensor:
        clock.wait(len(texts))
        return torch.eye(len(texts), 9)

    def say(text: str, hinted_text: str, seconds: float):  # type: ignore[no-untyped-def]
        def script(question: str, hinted: bool, seed: int) -> str:
            clock.wait(seconds)
            return hinted_text if hinted else text

        return script

    peers = {
        "a": ScriptedPeer("a", say("3 + 4\n#### 7", "", 100)),
        "b": ScriptedPeer("b", say("#### 8", "so 3 + 4\n#### 7", 1000)),
    }
    prompts = PromptSettings(text="Q: {question} A:", text_hinted="Q: {question} Hint: {hint} A:")
    rewards = RewardModel({"apart": WeightedTerm(Apart())})
    team = Team(peers, prompts, RoundSettings(k=2, k_rescue=1, teacher="total_reward"), rewards, embed, HybridDistance(), SlowVerifier())  # type: ignore[arg-type]
    team.rollout([problem()], (0,), 0.0)
    seconds = team.watch.take()
    # Two cold texts are embedded for the choice of the teacher, the third when the rescue is scored.
    assert seconds == {
        "sample/a": 200, "sample/b": 2000, "rescue/b": 1000, "verify": 10, "embed": 3, "reward": 14,
    }  # fmt: skip
    assert {name.split("/")[0] for name in seconds} <= {*PEER_PHASES, *TEAM_PHASES}
    assert set(PHASES) == {*PEER_PHASES, *TEAM_PHASES}
