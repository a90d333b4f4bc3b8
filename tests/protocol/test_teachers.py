"""Who teaches: a derivation that holds, which others confirm and the student finds likely, not the highest reward."""

from __future__ import annotations

import pytest

from core_lightning.protocol.prompts import PromptSettings
from core_lightning.protocol.rounds import RoundSettings, plan_rescues
from core_lightning.protocol.teachers import agreement, rank_teachers
from core_lightning.records import Group, Trace
from scripted import ScriptedPeer, always, problem

PROMPTS = PromptSettings(text="Q: {question} A:", text_hinted="Q: {question} Hint: {hint} A:")
RIGHT = "3 + 4 = 7\n#### 7"


def trace(peer: str, index: int = 0, text: str = RIGHT, *, correct: bool = True, tokens: int = 5, **more: object) -> Trace:
    fields: dict = {"truncated": False, "answer": "7" if correct else "8"} | more
    return Trace(peer, "cold", index, [0], [2] * tokens, text, correct=correct, **fields)


def ranked(traces: list[Trace], policy: str, seed: object = 0, **options: object) -> list[tuple[str, int]]:
    student = options.pop("student", None) or ScriptedPeer("a", always(""))
    group = Group(problem(), [trace("a", correct=False), *traces])
    rank_teachers([group], {"a": student}, RoundSettings(teacher=policy, **options), seed=(seed,))  # type: ignore[arg-type, dict-item]
    return [(t.peer, t.index) for t in group.teachers.get("a", [])]


SOME = [
    trace("b", 0, correct=False, reward=8.0, terms={"correctness": 1.9}, tokens=2),
    trace("b", 1, reward=1.0, terms={"correctness": 1.3}, tokens=9),
    trace("b", 2, reward=1.0, terms={"correctness": 1.3}, tokens=9),
    trace("c", 0, reward=2.0, terms={"correctness": 1.0}, tokens=8),
    trace("c", 1, reward=0.5, terms={"correctness": 1.1}, tokens=3),
    trace("c", 2, reward=2.0, terms={"correctness": 1.3}, tokens=3),
]


@pytest.mark.parametrize(
    ("policy", "first"), [("total_reward", ("c", 0)), ("correctness", ("b", 1)), ("shortest", ("c", 1))]
)
def test_the_teacher_is_correct_somebody_else_and_the_earlier_of_equals(policy: str, first: tuple[str, int]) -> None:
    order = ranked(SOME, policy)
    assert order[0] == first
    assert sorted(order) == [("b", 1), ("b", 2), ("c", 0), ("c", 1), ("c", 2)]


def test_round_robin_lets_every_successful_peer_teach() -> None:
    taught = [ranked(SOME, "round_robin", seed=i)[0] for i in range(60)]
    assert set(taught) == {("b", 1), ("c", 0)}  # the first correct one of each
    assert min(taught.count(t) for t in set(taught)) > 15


@pytest.mark.parametrize("policy", ["quality", "total_reward", "correctness", "shortest", "round_robin"])
def test_nobody_teaches_who_is_wrong_cut_off_or_too_long_for_the_student(policy: str) -> None:
    cut = trace("b", truncated=True)
    assert ranked([trace("b", correct=False)], policy) == []
    assert ranked([cut], policy) == []
    short = ScriptedPeer("a", always(""), longest_completion=3)
    assert ranked([trace("b", 0), trace("b", 1, "so 7")], policy, student=short, teacher_equations=False) == [("b", 1)]


def test_who_loses_the_answer_at_the_students_own_stop_does_not_teach() -> None:
    line = ScriptedPeer("a", always(""), stop="\n")
    assert ranked([trace("b", 0, "First we add.\n#### 7"), trace("b", 1, "so it is \\boxed{7}\nQED", answer="7")], "quality", student=line) == [("b", 1)]


def test_a_rescue_trace_teaches_nobody() -> None:
    rescued = trace("b")
    rescued.round = "rescue"
    assert ranked([rescued], "quality") == []


def test_a_reward_without_an_opinion_stands_last() -> None:
    assert ranked([trace("b", 0, reward=float("nan")), trace("b", 1, reward=-3.0)], "total_reward") == [("b", 1), ("b", 0)]


def test_a_false_equation_never_teaches_unless_that_is_allowed() -> None:
    both = [trace("b", 0, "3 + 5 = 9, so it is 7\n#### 7", reward=5.0), trace("b", 1)]
    for policy in ("quality", "total_reward"):
        assert ranked(both, policy) == [("b", 1)]
    assert ranked(both, "total_reward", teacher_equations=False) == [("b", 0), ("b", 1)]


def test_quality_prefers_a_derivation_then_agreement_then_the_students_own_likelihood() -> None:
    bare = trace("b", 0, "7", reward=9.0)
    lone = trace("b", 1, "20 - 10 = 10 and 10 - 3 = 7\n#### 7", reward=8.0)
    agreed = trace("b", 2, "1 + 2 = 3 and 3 + 4 = 7\n#### 7")
    agreeing = trace("c", 0, "2 + 1 = 3, then 4 + 3 = 7\n#### 7")
    student = ScriptedPeer("a", always(""), likes=lambda text: -1.0 if text.startswith("2") else -2.0)
    assert ranked([bare, lone, agreed, agreeing], "quality", student=student) == [("c", 0), ("b", 2), ("b", 1), ("b", 0)]
    other = ScriptedPeer("a", always(""), likes=lambda text: -2.0 if text.startswith("2") else -1.0)
    assert ranked([bare, lone, agreed, agreeing], "quality", student=other)[:2] == [("b", 2), ("c", 0)]


def test_length_breaks_ties_where_nothing_is_scored() -> None:
    class Unscored(ScriptedPeer):
        def likelihoods(self, prompts, completions):
            raise AssertionError("a scoring pass was not asked for")

    traces = [trace("b", 0, tokens=9), trace("c", 0, tokens=3)]
    assert ranked(traces, "quality", student=Unscored("a", always("")), teacher_ties="length") == [("c", 0), ("b", 0)]


def test_agreement_counts_traces_that_share_half_of_all_results() -> None:
    one = trace("b", 0, "1+1=2, 2+2=4, 4+4=8")
    others = [trace("c", 0, "2*2=4 and 2*4=8"), trace("c", 1, "9-1=8"), trace("c", 2, "eight")]
    # {2, 4, 8} and {4, 8} share 2 of 3, {8} shares 1 of 3; no results agree with nothing.
    assert agreement(one, [one, *others], "9") == 1
    assert agreement(others[2], [one, *others], "9") == 0
    # All correct traces share the answer: it counts for nothing. {2, 4} and {4} share 1 of 2.
    assert agreement(one, [one, *others], "8") == 1
    assert agreement(others[1], [one, *others], "8") == 0


def test_who_gives_the_hint_is_who_is_imitated() -> None:
    bare, worked = trace("b", 0, " 7", reward=2.0), trace("b", 1, "7 is two more than 5. So #### 7", reward=1.0)
    for policy in ("total_reward", "quality"):
        group = Group(problem(), [trace("a", correct=False), bare, worked])
        peers = {"a": ScriptedPeer("a", always(""))}
        settings = RoundSettings(teacher=policy)  # type: ignore[arg-type]
        rank_teachers([group], peers, settings, seed=(0,))
        (rescue,) = plan_rescues([group], peers, PROMPTS, settings, seed=(0,))
        assert rescue.hint is not None
        assert (rescue.hint.teacher, rescue.hint.teacher_index) == ("b", 1)
        assert group.teachers["a"] == [worked, bare]
    group = Group(problem(), [trace("a", correct=False), bare])
    rank_teachers([group], peers, settings, seed=(0,))
    assert plan_rescues([group], peers, PROMPTS, settings, seed=(0,)) == []
    assert group.teachers["a"] == [bare]  # nothing to show as a hint, but a right answer to imitate
