from __future__ import annotations

import math
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core_lightning.protocol.faithful import FaithfulSettings
from core_lightning.protocol.prompts import Prompt, PromptSettings
from core_lightning.protocol.rounds import (
    Rescue,
    RoundSettings,
    cold_round,
    make_hint,
    plan_rescues,
    rescue_round,
    trace_seed,
)
from core_lightning.protocol.teachers import rank_teachers
from core_lightning.records import Group, Hint, Problem, Trace
from scripted import ScriptedPeer, always, problem, verify

PROMPTS = PromptSettings(text="Q: {question} A:", text_hinted="Q: {question} Hint: {hint} A:")
RIGHT, WRONG = "3 + 4 = 7\n#### 7", "#### 8"


def team(*scripts: object) -> dict[str, ScriptedPeer]:
    return {n: ScriptedPeer(n, s if callable(s) else always(str(s))) for n, s in zip("abcd", scripts, strict=False)}


def both_rounds(
    peers: dict[str, ScriptedPeer], settings: RoundSettings, problems: Sequence = (problem(),), seed: object = 0
) -> tuple[list[Group], list[Rescue]]:
    groups = cold_round(problems, peers, PROMPTS, verify, k=settings.k, seed=(seed,))
    plan = planned(groups, peers, settings, seed)
    rescue_round(plan, peers, PROMPTS, verify, settings, seed=(seed,))
    return groups, plan


def planned(groups: list[Group], peers: dict[str, ScriptedPeer], settings: RoundSettings, seed: object = 0) -> list[Rescue]:
    rank_teachers(groups, peers, settings, seed=(seed,))
    return plan_rescues(groups, peers, PROMPTS, settings, seed=(seed,))


# --- cold round -----------------------------------------------------------------------------------------------------------


def test_the_cold_round_asks_every_peer_once_for_everything() -> None:
    peers = team(RIGHT, WRONG, "no idea", "cut off ...")
    groups = cold_round([problem(0), problem(1, "8")], peers, PROMPTS, verify, k=3, seed=(1, 0))
    assert all(len(p.calls) == 1 for p in peers.values())
    assert peers["a"].calls[0] == ["Q: What is number 0 ? A:", "Q: What is number 1 ? A:"]
    first, second = groups
    assert [(t.peer, t.round, t.index) for t in first] == [(n, "cold", i) for n in "abcd" for i in range(3)]
    assert [t.correct for t in first] == [True] * 3 + [False] * 9
    assert [t.correct for t in second] == [False] * 3 + [True] * 3 + [False] * 6
    assert [t.answer for t in first.of("c")] == [None] * 3
    assert [t.truncated for t in first.of("d")] == [True] * 3
    trace = first.of("a")[0]
    assert peers["a"].decode(trace.prompt_ids) == "Q: What is number 0 ? A:"
    assert peers["a"].decode(trace.token_ids) == trace.text == RIGHT
    assert trace.hint is None
    assert trace.sampled_logprobs == [-0.5] * len(trace.token_ids)


@given(st.permutations(range(6)), st.permutations("abc"), st.integers(1, 6))
def test_a_trace_has_its_own_stream_whatever_stands_beside_it(
    order: list[int], names: list[str], together: int
) -> None:
    def spell(question: str, hinted: bool, seed: int) -> str:
        return f"{seed}"

    def sampled(problems: list, peers: dict[str, ScriptedPeer]) -> dict[tuple, str]:
        groups = cold_round(problems, peers, PROMPTS, lambda t, p: [(None, False)] * len(t), k=2, seed=(9, 3))
        return {(g.problem.id, t.peer, t.index): t.text for g in groups for t in g}

    every = sampled([problem(i) for i in range(6)], {n: ScriptedPeer(n, spell) for n in "abc"})
    assert len(set(every.values())) == 36
    shuffled = [problem(i) for i in order]
    parts: dict[tuple, str] = {}
    for begin in range(0, 6, together):
        parts |= sampled(shuffled[begin : begin + together], {n: ScriptedPeer(n, spell) for n in names})
    assert parts == every


def test_trace_seeds_use_all_of_their_63_bits() -> None:
    seeds = [trace_seed(i) for i in range(100)]
    assert [max(s >> bit & 1 for s in seeds) for bit in range(64)] == [1] * 63 + [0]


def test_trace_seeds_are_reproducible_and_fit_63_bits() -> None:
    assert trace_seed(42, 0, "p1", "a", "cold", 0) == trace_seed(42, 0, "p1", "a", "cold", 0)
    keys = [
        (s, e, p, n, r, i) for s in (1, 2) for e in (0, 1) for p in "xy" for n in "ab" for r in "cr" for i in (0, 1)
    ]
    seeds = {trace_seed(*key) for key in keys}
    assert len(seeds) == len(keys)
    assert all(0 <= s < 1 << 63 for s in seeds)
    assert trace_seed(1, 11) != trace_seed(11, 1) != trace_seed(111)


# --- hint -----------------------------------------------------------------------------------------------------------------


def hint_of(text: str, *, answer: str = "7", fraction: float | None = None, **settings: object) -> Hint | None:
    teacher = Trace("b", "cold", 3, [1], [2], text, False, correct=True)
    student = ScriptedPeer("a", always(""))
    return make_hint(teacher, problem(answer=answer), student, RoundSettings(**settings), fraction)  # type: ignore[arg-type]


def test_a_hint_is_the_derivation_without_its_answer() -> None:
    hint = hint_of("First 3 + 4 is wanted.\nSo 3 + 4 = 7\n#### 7")
    assert hint is not None
    assert hint.text == "First 3 + 4 is wanted.\nSo 3 + 4 ="
    assert (hint.teacher, hint.teacher_index, hint.leaks) == ("b", 3, False)


@pytest.mark.parametrize("text", ["#### 7", "7", r"\boxed{7}", "The answer is 7.", ""])
def test_nothing_left_is_no_hint(text: str) -> None:
    assert hint_of(text) is None


def test_a_value_that_still_stands_in_the_hint_is_noted() -> None:
    teacher = Trace("b", "cold", 3, [1], [2], "", False, correct=True)
    teacher.text = "The Louvre lies in Paris.\nFrance is near. It is large.\n<answer>Paris</answer>"
    asked = Problem("p", "Which town?", "Paris", kind="text")
    hint = make_hint(teacher, asked, ScriptedPeer("a", always("")), RoundSettings())
    assert hint is not None
    assert hint.leaks


def test_the_budget_is_counted_in_the_students_tokens() -> None:
    hint = hint_of("one two three four five\n#### 7", hint_tokens=3)
    assert hint is not None
    assert hint.text == "one two three"
    # What is cut away leaks nothing.
    cut = hint_of("we know that 7 is\nthe thing we want here\n#### 7", hint_tokens=2)
    assert cut is not None
    assert not cut.leaks


@pytest.mark.parametrize(
    ("keep", "expected"), [(False, "Add 3 and 4."), (True, "<think>hmm, 12?</think>\nAdd 3 and 4.")]
)
def test_think_blocks_are_left_out_unless_wanted(keep: bool, expected: str) -> None:
    hint = hint_of("<think>hmm, 12?</think>\nAdd 3 and 4.\n#### 7", hint_think=keep)
    assert hint is not None
    assert hint.text == expected


def test_forms_of_a_hint() -> None:
    text = "Let us look.\nWe have 3 and 4.\nNothing here.\n3 + 4 = x\n#### 7"
    full, first, lines = (hint_of(text, hint_form=f) for f in ("full", "first_fraction", "key_lines"))
    assert full is not None
    assert first is not None
    assert lines is not None
    assert full.text == "Let us look.\nWe have 3 and 4.\nNothing here.\n3 + 4 = x"
    assert full.text.startswith(first.text)
    assert 0.3 < len(first.text) / len(full.text) < 0.7
    assert lines.text == "We have 3 and 4.\n3 + 4 = x"
    shorter = hint_of(text, hint_form="first_fraction", hint_fraction=0.2)
    assert shorter is not None
    assert len(shorter.text) < len(first.text)
    lines_only = hint_of("3+4=7\n7*2=14\n14+1=15\n15-8=x\n#### 7", hint_form="first_fraction")
    assert lines_only is not None
    assert lines_only.text == "3+4=\n7*2=14"
    assert hint_of("No sums at all, dear.\n#### 7", hint_form="key_lines") is None


# --- rescue round ---------------------------------------------------------------------------------------------------------


def test_only_who_failed_is_rescued_by_somebody_who_did_not() -> None:
    peers = team(RIGHT, lambda q, hinted, seed: RIGHT if hinted else WRONG, WRONG)
    (group,), plan = both_rounds(peers, RoundSettings(k=2, k_rescue=3))
    assert [(r.student, r.hint.teacher if r.hint else None) for r in plan] == [("b", "a"), ("c", "a")]
    assert [(t.peer, t.index, t.correct) for t in group.of(round="rescue")] == [
        ("b", 0, True), ("b", 1, True), ("b", 2, True), ("c", 0, False), ("c", 1, False), ("c", 2, False),
    ]  # fmt: skip
    rescued = group.of("b", "rescue")[0]
    assert peers["b"].decode(rescued.prompt_ids) == "Q: What is number 0 ? Hint: 3 + 4 = A:"
    assert rescued.hint is not None
    assert rescued.hint.text == "3 + 4 ="
    assert len(peers["a"].calls) == 1


def test_the_rescue_round_has_a_temperature_and_a_nucleus_of_its_own() -> None:
    peers = team(RIGHT, WRONG)
    (group,), _ = both_rounds(peers, RoundSettings(rescue_temperature=0.4, rescue_top_p=0.9))
    assert peers["b"].heat == [(None, None), (0.4, 0.9)]  # the cold round samples as the peer's own settings say
    assert [t.temperature for t in group.of("b")] == [None, None, 0.4]


def test_a_rescue_is_as_faithful_as_is_asked_for() -> None:
    for faithful, flaw in ((None, "unlikely token (0.0001)"), (FaithfulSettings(min_probability=1e-5), None)):
        peers = team(RIGHT, lambda q, hinted, seed: RIGHT if hinted else WRONG)
        peers["b"].logprob = math.log(1e-4)
        (group,) = cold_round([problem()], peers, PROMPTS, verify, k=1, seed=(0,))
        plan = planned([group], peers, RoundSettings(k=1))
        rescue_round(plan, peers, PROMPTS, verify, RoundSettings(k=1), seed=(0,), faithful=faithful)
        assert [t.flaw for t in group.of("b", "rescue")] == [flaw]


def test_a_second_rescue_draws_nothing_that_the_first_one_drew() -> None:
    seeds: list[int] = []

    def notes(question: str, hinted: bool, seed: int) -> str:
        seeds.append(seed)
        return WRONG

    peers, settings = team(RIGHT, notes), RoundSettings(k=1, k_rescue=3)
    (group,), plan = both_rounds(peers, settings)
    rescue_round(plan, peers, PROMPTS, verify, settings, seed=(0,))
    assert len(group.of("b", "rescue")) == 6
    assert len(set(seeds)) == len(seeds) == 7


def test_nobody_to_rescue_and_nobody_who_could() -> None:
    for scripts in ((RIGHT, RIGHT), (WRONG, WRONG)):
        peers = team(*scripts)
        (group,), plan = both_rounds(peers, RoundSettings())
        assert plan == []
        assert len(group) == 4
        assert all(len(p.calls) == 1 for p in peers.values())


def test_without_rescue_traces_there_is_no_rescue_round() -> None:
    _, plan = both_rounds(team(RIGHT, WRONG), RoundSettings(k_rescue=0))
    assert plan == []


def test_a_teacher_with_nothing_but_an_answer_rescues_nobody() -> None:
    _, plan = both_rounds(team("#### 7", WRONG), RoundSettings())
    assert plan == []


def test_students_all_sample_again_with_a_hint_as_often_as_asked() -> None:
    problems = [problem(i) for i in range(200)]
    peers = team(RIGHT, RIGHT, WRONG)
    settings = RoundSettings(k=1, students="all", hint_probability=0.75)
    groups, plan = both_rounds(peers, settings, problems)
    assert len(plan) == 600
    assert all(len(g.of(n, "rescue")) == 1 for g in groups for n in "abc")
    shown = sum(r.hint is not None for r in plan) / 600
    assert abs(shown - 0.75) < 5 * (0.75 * 0.25 / 600) ** 0.5
    assert all(r.hint is None or r.hint.teacher != r.student for r in plan)
    unhinted = next(t for g in groups for t in g.of(round="rescue") if t.hint is None)
    assert "Hint:" not in peers[unhinted.peer].decode(unhinted.prompt_ids)
    _, never = both_rounds(team(RIGHT, RIGHT), RoundSettings(students="all", hint_probability=0.0), problems)
    assert len(never) == 400
    assert not any(r.hint for r in never)


@given(st.permutations(range(8)), st.permutations("abc"))
def test_who_sees_a_hint_does_not_depend_on_the_order(order: list[int], names: list[str]) -> None:
    def shown(problems: list, peers: dict[str, ScriptedPeer]) -> dict[tuple[str, str], Hint | None]:
        groups = cold_round(problems, peers, PROMPTS, verify, k=1, seed=(0,))
        for group in groups:
            group.traces.sort(key=lambda t: t.peer)  # who came first decides a tie, and must not change
        settings = RoundSettings(students="all", hint_probability=0.5, teacher="round_robin")
        return {(r.group.problem.id, r.student): r.hint for r in planned(groups, peers, settings)}

    scripts = {"a": RIGHT, "b": "1 + 6 = 7\n#### 7", "c": "2 + 5 = 7\n#### 7"}
    straight = shown([problem(i) for i in range(8)], {n: ScriptedPeer(n, always(scripts[n])) for n in "abc"})
    other = shown([problem(i) for i in order], {n: ScriptedPeer(n, always(scripts[n])) for n in names})
    assert straight == other
    assert len({h.text for h in straight.values() if h}) == 3
    assert None in straight.values()


@pytest.mark.parametrize("words", [1000, 9, 8, 2, 1, 0, -5])
def test_a_hint_is_cut_until_its_prompt_fits_the_student(words: int) -> None:
    peers = team("one two 3 + 4 is five six more\n#### 7", WRONG)
    frame = len(peers["b"].ids("Q: What is number 0 ? Hint: A:"))
    peers["b"].longest = frame + words
    groups = cold_round([problem()], peers, PROMPTS, verify, k=1, seed=(0,))
    plan = planned(groups, peers, RoundSettings(k=1))
    hints = [r.hint.text for r in plan if r.hint]
    if words < 1:
        assert plan == []
    else:
        assert [h.split(" ") for h in hints] == [["one", "two", "3", "+", "4", "is", "five", "six", "more"][:words]]
        rescue_round(plan, peers, PROMPTS, verify, RoundSettings(k=1), seed=(0,))
        assert len(groups[0].of("b", "rescue")[0].prompt_ids) <= peers["b"].longest


def test_a_cut_hint_that_is_encoded_longer_is_cut_further() -> None:
    class Longer(ScriptedPeer):
        def encode(self, prompt: Prompt) -> list[int]:
            torn = "three" in prompt.text and "four" not in prompt.text
            return [*super().encode(prompt), *[0] * torn]

    peers = {"a": ScriptedPeer("a", always("one two three four\n#### 7")), "b": Longer("b", always(WRONG))}
    peers["b"].longest = len(peers["b"].ids("Q: What is number 0 ? Hint: A:")) + 3
    groups = cold_round([problem()], peers, PROMPTS, verify, k=1, seed=(0,))
    assert [r.hint.text for r in planned(groups, peers, RoundSettings(k=1)) if r.hint] == ["one two"]


def test_one_token_is_a_hint() -> None:
    assert RoundSettings(hint_tokens=1, hint_fraction=1.0).hint_tokens == 1


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"k": 0}, "rounds.k is 0"),
        ({"k_rescue": -1}, "rounds.k_rescue is -1"),
        ({"students": "some"}, "rounds.students is 'some'"),
        ({"students": "all", "hint_probability": 1.5}, "rounds.hint_probability is 1.5"),
        ({"hint_probability": 0.5}, "only applies to students: all"),
        ({"hint_tokens": 0}, "rounds.hint_tokens is 0"),
        ({"hint_fraction": 0.0}, "rounds.hint_fraction is 0.0"),
        ({"hint_fraction": 1.1}, "rounds.hint_fraction is 1.1"),
        ({"students": "all", "hint_probability": -0.5}, "rounds.hint_probability is -0.5"),
        ({"teacher": "nobody"}, "rounds.teacher is 'nobody'"),
        ({"hint_form": "haiku"}, "rounds.hint_form is 'haiku'"),
        ({"teacher_ties": "luck"}, "rounds.teacher_ties is 'luck'"),
        ({"rescue_temperature": 0.0}, "rounds.rescue_temperature is 0.0"),
        ({"rescue_temperature": float("nan")}, "rounds.rescue_temperature is nan"),
        ({"rescue_top_p": 1.5}, "rounds.rescue_top_p is 1.5"),
        ({"rescue_top_p": 0.0}, "rounds.rescue_top_p is 0.0"),
    ],
)
def test_wrong_settings_are_refused(change: dict[str, object], named: str) -> None:
    with pytest.raises(ValueError, match=r".") as error:
        RoundSettings(**change)  # type: ignore[arg-type]
    assert named in str(error.value)
    assert "\n" not in str(error.value)
