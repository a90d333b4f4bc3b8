from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core_lightning.protocol.credit import CreditSettings, Example, RunningRate, assign_credit
from core_lightning.records import Group, Hint, Trace
from scripted import problem

COLD, HINTED, FOREIGN = [1, 2, 3], [1, 2, 9, 9, 3], [50, 51, 52]
HINT = Hint("add them", "b", 0, False)
IDS = {"cold a0": [10, 2], "cold a1": [11, 2], "rescue a0": [12, 2], "rescue a1": [13, 2]}


def trace(peer: str, round: str, index: int, correct: bool, **more: object) -> Trace:
    prompt = HINTED if more.get("hint") else COLD
    if peer != "a":
        prompt = [70]
    ids = IDS.get(f"{round} {peer}{index}", [60 + index])
    fields: dict = {"advantage": index + 0.25, "sampled_logprobs": [-1.0, -2.0]} | more
    return Trace(peer, round, index, prompt, ids, f"text of {round} {peer}{index}", False, correct=correct, **fields)  # type: ignore[arg-type]


#: Situations by what became of peer a, with peer b always right (its second trace has the higher reward).
TEACHER = [trace("b", "cold", 0, True, reward=1.0), trace("b", "cold", 1, True, reward=1.5)]
FAILED = [trace("a", "cold", 0, False), trace("a", "cold", 1, False)]
SITUATIONS = {
    "solved": [trace("a", "cold", 0, True, reward=0.5), trace("a", "cold", 1, False), *TEACHER],
    "rescued": [*FAILED, *TEACHER, trace("a", "rescue", 0, True, hint=HINT)],
    "lost": [*FAILED, *TEACHER, trace("a", "rescue", 0, False, hint=HINT)],
    "half": [
        *FAILED, *TEACHER, trace("a", "rescue", 0, False, hint=HINT), trace("a", "rescue", 1, True, hint=HINT),
    ],
    "no hint": [*FAILED, *TEACHER, trace("a", "rescue", 0, True)],
    "nobody": [*FAILED, trace("b", "cold", 0, False)],
}  # fmt: skip


def written(examples: Sequence[Example]) -> list[tuple]:
    """``(kind, prompt, ids, weight)`` of every example."""
    prompts = {tuple(COLD): "cold", tuple(HINTED): "hinted"}
    return [
        ("imitate" if e.imitate else f"policy {e.advantage}", prompts[tuple(e.prompt_ids)], e.token_ids, e.weight)
        for e in examples
    ]


A0, A1 = ("policy 0.25", "cold", [10, 2], 1.0), ("policy 1.25", "cold", [11, 2], 1.0)
R0, R1 = ("policy 0.25", "hinted", [12, 2], 0.8), ("policy 1.25", "hinted", [13, 2], 0.8)
UNHINTED = ("policy 0.25", "cold", [12, 2], 0.8)
TAUGHT, OWN = ("imitate", "cold", FOREIGN, 0.6), ("imitate", "cold", [10, 2], 0.6)


def imitated(ids: list[int]) -> tuple:
    return ("imitate", "cold", ids, 0.6)


EXPECTED = {
    ("hinted", "solved"): [A0, A1],
    ("hinted", "rescued"): [A0, A1, R0],
    ("hinted", "lost"): [A0, A1, R0],
    ("hinted", "half"): [A0, A1, R0, R1],
    ("hinted", "no hint"): [A0, A1, UNHINTED],
    ("hinted", "nobody"): [A0, A1],
    ("cold", "solved"): [A0, A1],
    ("cold", "rescued"): [A0, A1, imitated([12, 2])],
    ("cold", "lost"): [A0, A1],
    ("cold", "half"): [A0, A1, imitated([13, 2])],
    ("cold", "no hint"): [A0, A1, UNHINTED],
    ("cold", "nobody"): [A0, A1],
    ("both", "rescued"): [A0, A1, R0, imitated([12, 2])],
    ("both", "lost"): [A0, A1, R0],
    ("both", "half"): [A0, A1, R0, R1, imitated([13, 2])],
    ("both", "no hint"): [A0, A1, UNHINTED],
    ("peer_trace", "solved"): [A0, A1],
    ("peer_trace", "rescued"): [A0, A1, TAUGHT],
    ("peer_trace", "lost"): [A0, A1, TAUGHT],
    ("peer_trace", "nobody"): [A0, A1],
    ("peer_trace", "no hint"): [A0, A1, UNHINTED, TAUGHT],
    ("own_trace", "solved"): [A0, A1, OWN],
    ("own_trace", "rescued"): [A0, A1],
    ("own_trace", "nobody"): [A0, A1],
}


@pytest.mark.parametrize(("mode", "situation"), EXPECTED)
def test_what_a_peer_is_trained_on(mode: str, situation: str) -> None:
    encoded: list[str] = []

    def encode(text: str) -> list[int]:
        encoded.append(text)
        return FOREIGN

    settings = CreditSettings(mode=mode, imitation_weight=0.6)  # type: ignore[arg-type]
    examples = assign_credit([Group(problem(), list(SITUATIONS[situation]))], "a", settings, encode)
    assert written(examples) == EXPECTED[mode, situation]
    # The student's own encoding of the teacher's best trace, and of nothing else.
    assert encoded == (["text of cold b1"] if TAUGHT in EXPECTED[mode, situation] else [])
    for example in examples:
        assert (example.sampled_logprobs is None) is example.imitate  # no importance weight was asked for
        assert example.rescue == (example.imitate or example.weight == 0.8)


@pytest.mark.parametrize(("rate", "mode"), [(0.0, "peer_trace"), (0.29, "peer_trace"), (0.3, "cold"), (1.0, "cold")])
def test_adaptive_imitates_the_teacher_while_rescues_are_rare(rate: float, mode: str) -> None:
    groups = [Group(problem(i), list(traces)) for i, traces in enumerate(SITUATIONS.values())]

    def credited(settings: CreditSettings) -> list[Example]:
        return assign_credit(groups, "a", settings, lambda text: FOREIGN, rescue_rate=rate)

    assert credited(CreditSettings("adaptive")) == credited(CreditSettings(mode))  # type: ignore[arg-type]


@given(st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), max_size=12), st.integers(1, 30))
def test_the_running_rate_is_an_average_in_which_older_pairs_fade(steps: list[tuple[int, int]], memory: int) -> None:
    steps = [(min(a, b), max(a, b)) for a, b in steps]
    rate = RunningRate()
    for rescued, hinted in steps:
        rate.add(rescued, hinted, memory)
    weighed = total = 0.0
    for i, (rescued, hinted) in enumerate(steps):
        later = sum(h for _, h in steps[i + 1 :])
        weighed += rescued * (1 - 1 / memory) ** later
        total += hinted * (1 - 1 / memory) ** later
    assert rate.value == pytest.approx(weighed / total if total else 1.0)


def test_a_running_rate_follows_a_change_that_a_mean_over_the_run_would_hide() -> None:
    rate = RunningRate()
    for _ in range(100):
        rate.add(10, 10, memory=20)
    assert rate.value == pytest.approx(1.0)
    for _ in range(6):
        rate.add(0, 10, memory=20)
    assert rate.value < 0.1  # rescues were right 1,000 times of 1,060
    before = rate.value
    rate.add(0, 0, memory=20)  # a step without a hint says nothing
    assert rate.value == before


def test_a_teachers_trace_that_is_too_long_gives_way_to_the_next_best() -> None:
    lengths = {"text of cold b0": 3, "text of cold b1": 9}

    def imitated(max_tokens: int | None) -> list[int]:
        examples = assign_credit(
            [Group(problem(), list(SITUATIONS["lost"]))], "a", CreditSettings("peer_trace"),
            lambda text: [7] * lengths[text], max_tokens=max_tokens,
        )  # fmt: skip
        return [len(e.token_ids) for e in examples if e.imitate]

    assert imitated(None) == imitated(9) == [9]  # the better teacher, as long as the student could have written it
    assert imitated(8) == imitated(3) == [3]
    assert imitated(2) == []


def test_policy_examples_and_imitated_rescues_carry_the_probabilities_they_were_sampled_with() -> None:
    groups = [Group(problem(i), list(traces)) for i, traces in enumerate(SITUATIONS.values())]
    for mode in ("cold", "both", "peer_trace", "own_trace"):
        settings = CreditSettings(mode, importance_bound=1.0)  # type: ignore[arg-type]
        for example in assign_credit(groups, "a", settings, lambda text: FOREIGN):
            own = not example.imitate or mode in ("cold", "both")
            assert example.sampled_logprobs == ([-1.0, -2.0] if own else None)


def test_policy_examples_can_be_dropped_but_not_what_is_imitated() -> None:
    group = Group(problem(), list(SITUATIONS["rescued"]))
    examples = assign_credit([group], "a", CreditSettings("both"), lambda text: FOREIGN, drop=lambda trace: True)
    assert written(examples) == [("imitate", "cold", [12, 2], 1.6)]


def test_other_peers_traces_train_nobody_else() -> None:
    group = Group(problem(), list(SITUATIONS["rescued"]))
    examples = assign_credit([group], "b", CreditSettings(), lambda text: FOREIGN)
    assert [e.token_ids for e in examples] == [[60], [61]]
    assert assign_credit([group], "c", CreditSettings("peer_trace"), lambda text: FOREIGN) == []


def test_a_teacher_without_an_opinion_on_its_reward_stands_last() -> None:
    teachers = [trace("b", "cold", 0, True, reward=math.nan), trace("b", "cold", 1, True, reward=-1.0)]
    seen: list[str] = []
    assign_credit(
        [Group(problem(), [*FAILED, *teachers])], "a", CreditSettings("peer_trace"), lambda t: seen.append(t) or [1]
    )
    assert seen == ["text of cold b1"]


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"mode": "warm"}, "credit.mode is 'warm'"),
        ({"weight": -1.0}, "credit.weight is -1.0"),
        ({"imitation_weight": -0.1}, "credit.imitation_weight is -0.1"),
        ({"importance_bound": 0.0}, "credit.importance_bound is 0.0"),
        ({"adaptive_below": 1.1}, "credit.adaptive_below is 1.1"),
        ({"adaptive_pairs": 0}, "credit.adaptive_pairs is 0"),
    ],
)
def test_wrong_settings_are_refused(change: dict[str, object], named: str) -> None:
    with pytest.raises(ValueError, match=r".") as error:
        CreditSettings(**change)  # type: ignore[arg-type]
    assert named in str(error.value)


def test_a_trace_that_loses_its_answer_at_the_peers_own_stop_is_not_imitated() -> None:
    better, worse = trace("b", "cold", 0, True, reward=2.0), trace("b", "cold", 1, True, reward=1.0)
    better.text, worse.text = "Let me think.\nIt is 12.\n\\boxed{12}", "6 + 6 = 12\nsurely"
    better.answer = worse.answer = "12"
    group = Group(problem(), [trace("a", "cold", 0, False), better, worse])
    seen: list[str] = []

    def encode(text: str) -> list[int]:
        seen.append(text)
        return [7] if text else []

    def imitated(own_words: Callable[[str, list[int]], str]) -> list[Example]:
        seen.clear()
        examples = assign_credit([group], "a", CreditSettings("peer_trace"), encode, own_words=own_words)
        return [e for e in examples if e.imitate]

    assert len(imitated(lambda text, prompt: text.split("\n")[0])) == 1
    assert seen == ["6 + 6 = 12"]
    assert imitated(lambda text, prompt: "") == []
