"""Both rounds with rewards, as the module runs them, by scripted peers."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

from core_lightning.protocol.prompts import PromptSettings
from core_lightning.protocol.rounds import GREEDY, RoundSettings
from core_lightning.records import Group
from core_lightning.rewards import HashingEmbedder, HybridDistance, RewardModel, WeightedTerm
from core_lightning.rewards.term import RewardContext, RewardTerm
from core_lightning.training.lanes import on_their_devices
from core_lightning.training.step_metrics import RescuePair, of_all_processes, rescue_pairs, step_metrics
from core_lightning.training.team import Team
from scripted import VERIFIER, ScriptedPeer, always, problem

CPU = torch.device("cpu")
PROMPTS = PromptSettings(text="Q: {question} A:", text_hinted="Q: {question} Hint: {hint} A:")
DERIVATION = "first one two three\nthen 3 + 4 = 7\n#### 7"


class Length(RewardTerm):
    def __call__(self, group: Group, context: RewardContext) -> list[float | None]:
        return [float(len(t.text)) for t in group]


def make_team(peers: dict[str, ScriptedPeer], rounds: RoundSettings, term: RewardTerm | None = None) -> Team:
    rewards = RewardModel({"length": WeightedTerm(term or Length())})
    return Team(peers, PROMPTS, rounds, rewards, HashingEmbedder(), HybridDistance(), VERIFIER)  # type: ignore[arg-type]


def test_the_teacher_is_chosen_by_the_reward_of_the_cold_round() -> None:
    texts = iter([DERIVATION, "a longer and much better one\n" + DERIVATION])
    peers = {
        "a": ScriptedPeer("a", lambda *_: next(texts)),
        "b": ScriptedPeer("b", lambda q, hinted, s: DERIVATION if hinted else "#### 8"),
    }
    rounds = RoundSettings(k=2, teacher="total_reward")
    team = make_team(peers, rounds)
    (group,) = team.rollout([problem()], (0,), 0.0)
    rescue = group.of("b", "rescue")[0]
    assert rescue.hint is not None
    assert rescue.hint.teacher_index == 1
    assert rescue.correct
    assert all(t.reward == len(t.text) for t in group)  # rescue traces are scored too
    assert team.rewards.statistics([group])["length/mean"] == pytest.approx(sum(len(t.text) for t in group) / 5)


class Hinted:
    """Solves a problem once the hint holds a word."""

    def __init__(self, word: str) -> None:
        self.word = word

    def __call__(self, question: str, hinted: bool, seed: int) -> str:
        return DERIVATION if hinted and self.word in question else "#### 8"


@pytest.mark.parametrize(
    ("word", "progressive", "rescues"),
    [("first", True, [True]), ("then", True, [False, True]), ("never", True, [False, False]), ("then", False, [True])],
)
def test_progressive_hints_grow_only_for_who_still_fails(word: str, progressive: bool, rescues: list[bool]) -> None:
    peers = {"a": ScriptedPeer("a", always(DERIVATION)), "b": ScriptedPeer("b", Hinted(word))}
    rounds = RoundSettings(k=1, progressive=progressive)
    (group,) = make_team(peers, rounds).rollout([problem()], (0,), 0.0)
    own = group.of("b", "rescue")
    assert [t.correct for t in own] == rescues
    assert [t.index for t in own] == list(range(len(rescues)))
    if len(own) == 2:
        first, second = (t.hint.text for t in own if t.hint)
        assert second.startswith(first)
        assert len(second) > len(first)
    assert rescue_pairs([group]) == [RescuePair(rescued=any(rescues), faithful=any(rescues), leaks=False)]
    assert rescue_pairs([group], "a") == []


def test_an_empty_step_is_survived() -> None:
    peers = {"a": ScriptedPeer("a", always("#### 7")), "b": ScriptedPeer("b", always("#### 8"))}
    team = make_team(peers, RoundSettings())
    groups = team.rollout([], (0,), 0.0)
    assert groups == []
    terms = team.rewards.statistics(groups)
    metrics = of_all_processes(step_metrics(groups, ["a", "b"], terms, {}, {}), CPU)
    assert metrics["train/traces"] == 0
    assert metrics["train/rescue_rate"] != metrics["train/rescue_rate"]  # NaN, not a made-up 0


def test_step_metrics_of_a_written_step() -> None:
    peers = {
        "a": ScriptedPeer("a", always(DERIVATION)),
        "b": ScriptedPeer("b", lambda q, hinted, s: (DERIVATION if "0 ?" in q else "#### 9") if hinted else "no ..."),
    }
    team = make_team(peers, RoundSettings(k=2))
    groups = team.rollout([problem(0), problem(1), problem(2, "8")], (0,), 0.0)
    terms = team.rewards.statistics(groups)
    for group in groups[:1]:
        for t in group:
            t.advantage, t.signal = 1.0, True
    a_tokens = sum(len(t.token_ids) for g in groups[:2] for t in g.of("a"))
    for t in (t for g in groups[:2] for t in g.of("a")):
        t.redrawn = 1  # one sampler tells, for some of its traces, the other one does not
    own = step_metrics(groups, ["a", "b"], terms, {"a": {"loss": 0.5}}, {"sample/a": 2.0, "rescue/b": 3.0})
    metrics = of_all_processes(own, CPU)
    expected = {
        "train/rescue_rate": 0.5,  # b failed everywhere, a taught it twice
        "train/rescues": 1,
        "train/hints": 2,
        "train/hint_leakage": 0,
        "train/team_solved": 2 / 3,
        "train/all_fail": 1 / 3,
        "train/traces": 3 * 4 + 2,
        "train/a/accuracy": 2 / 3,
        "train/b/accuracy": 0,
        "train/b/rescue_rate": 0.5,
        "train/a/no_signal": 2 / 3,
        "train/b/no_answer": 6 / 8,
        "train/b/truncated": 6 / 8,
        "train/a/loss": 0.5,
        "train/a/tokens_per_second": sum(len(t.token_ids) for g in groups for t in g.of("a")) / 2,
        "train/b/tokens_per_second": sum(len(t.token_ids) for g in groups for t in g.of("b")) / 3,
        "train/a/sampled_nll": 0.5,
        "train/a/outside_nucleus": 4 / a_tokens,
        "train/b/outside_nucleus": math.nan,
        "time/sample/a": 2.0,
        "time/rescue/a": 0.0,
    }
    assert {name: metrics[name] for name in expected} == pytest.approx(expected, nan_ok=True)
    # Every step has the same keys, whatever happened in it: loggers and ranks count on that.
    assert own.keys() == step_metrics([], ["a", "b"], terms, {}, {}).keys()


def test_rescues_are_counted_by_whether_they_are_faithful_and_the_hint_was_clean() -> None:
    def answer(question: str, hinted: bool, seed: int) -> str:
        if not hinted:
            return "#### 9"
        return "3 + 3 = 7\n#### 7" if "0 ?" in question else DERIVATION

    peers = {"a": ScriptedPeer("a", always(DERIVATION)), "b": ScriptedPeer("b", answer)}
    groups = make_team(peers, RoundSettings()).rollout([problem(i) for i in range(3)], (0,), 0.0)
    wrong_step = groups[0].of("b", "rescue")[0]
    assert (wrong_step.correct, wrong_step.flaw) == (True, "false equation: 3 + 3 = 7")
    for t in groups[2].of("b", "rescue"):  # as if the gold value had been left in the hint
        assert t.hint is not None
        t.hint = replace(t.hint, leaks=True)
    metrics = of_all_processes(step_metrics(groups, ["a", "b"], {}, {}, {}), CPU)
    expected = {
        "train/hints": 3, "train/rescues": 3, "train/faithful_rescues": 2,
        "train/clean_hints": 2, "train/clean_rescues": 2, "train/clean_faithful_rescues": 1,
        "train/rescue_rate": 1, "train/faithful_rate": 2 / 3, "train/faithful_share": 2 / 3,
        "train/b/clean_rescue_rate": 1, "train/b/clean_faithful_rate": 0.5, "train/b/faithful_rescues": 2,
    }  # fmt: skip
    assert {name: metrics[name] for name in expected} == pytest.approx(expected)


@pytest.mark.parametrize("parallel", ["auto", "always", "never"])
def test_peers_on_different_devices_work_at_the_same_time(parallel: str) -> None:
    names = "abcd"
    peers = [ScriptedPeer(n, always(""), device="x" if n in "ac" else "y") for n in names]
    for peer in peers:
        peer.network = peer  # type: ignore[attr-defined]
    meeting = threading.Barrier(2 if parallel == "auto" else 4)
    threads: dict[str, int] = {}

    def work(peer: ScriptedPeer) -> str:
        threads[peer.name] = threading.get_ident()
        if parallel != "never":
            meeting.wait(30)  # breaks unless all lanes are busy at once
        return peer.name

    run: Callable = on_their_devices
    assert run(work, peers, parallel) == list(names)
    lanes = {"auto": 2, "always": 4, "never": 1}[parallel]
    assert len(set(threads.values())) == lanes
    assert (threads["a"] == threads["c"]) == (parallel != "always")


def test_a_rescue_round_of_an_evaluation_counts_the_first_traces() -> None:
    """Peer b's third cold trace is right, but only two count; its rescue is judged, and so is its faithfulness."""
    said = iter(["#### 8", "#### 9", DERIVATION])
    wrong_step = "4 + 4 = 7\n#### 7"
    peers = {
        "a": ScriptedPeer("a", always(DERIVATION)),
        "b": ScriptedPeer("b", lambda q, hinted, s: wrong_step if hinted else next(said)),
    }
    team = make_team(peers, RoundSettings(k_rescue=0))
    groups = team.cold([problem()], 3, (0, "eval"))
    team.rescue_failed(groups, 2, (0, "eval"))
    (group,) = groups
    (rescue,) = group.of(round="rescue")
    assert (rescue.peer, rescue.correct) == ("b", True)
    assert rescue.hint is not None
    assert rescue.hint.teacher == "a"
    assert "false equation" in str(rescue.flaw)
    assert len(group.of(round="cold")) == 6
    peers["b"].script = always(DERIVATION)
    everyone = team.cold([problem()], 2, (0, "eval"))
    team.rescue_failed(everyone, 2, (0, "eval"))
    assert everyone[0].of(round="rescue") == []


def test_the_greedy_trace_is_beside_the_rounds() -> None:
    peers = {n: ScriptedPeer(n, always(text)) for n, text in (("a", DERIVATION), ("b", "#### 8"))}
    team = make_team(peers, RoundSettings())
    (group,) = groups = team.cold([problem()], 2, (0, "eval"))
    team.greedy(groups, (0, "eval"))
    assert [(t.peer, t.correct) for t in group.of(round="greedy")] == [("a", True), ("b", False)]
    assert len(group.of(round="cold")) == 4
    for peer in peers.values():
        assert peer.heat[-1] == (GREEDY, 1.0)
