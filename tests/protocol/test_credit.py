from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core_lightning.protocol.credit import CreditMode, CreditSettings, Example, RunningRate, assign_credit
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
TEACHER = [trace("b", "cold", 0, True, reward=1.0), trace("b", "cold", 1, True, reward=1.5)]  # the second one ranks first
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
    "unfaithful": [*FAILED, *TEACHER, trace("a", "rescue", 0, True, hint=HINT, flaw="false equation: 1+1=3")],
    "two rescues": [
        *FAILED, *TEACHER, trace("a", "rescue", 0, True, hint=HINT),
        trace("a", "rescue", 1, True, hint=HINT, sampled_logprobs=[-0.5, -0.5]),
    ],
}  # fmt: skip


def situation(name: str, i: int = 0) -> Group:
    """One of them as the rounds leave it: the student's teachers are ranked."""
    group = Group(problem(i), list(SITUATIONS[name]))
    if name not in ("solved", "nobody"):
        group.teachers["a"] = [TEACHER[1], TEACHER[0]]
    return group


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


def imitated(ids: list[int], weight: float = 0.6) -> tuple:
    return ("imitate", "cold", ids, weight)


HALF = imitated(FOREIGN, 0.3)  # of a problem that has a rescue beside it


EXPECTED = {
    ("hinted", "solved"): [A0, A1],
    ("hinted", "rescued"): [A0, A1, R0],
    ("hinted", "lost"): [A0, A1, R0],
    ("hinted", "half"): [A0, A1, R0, R1],
    ("hinted", "no hint"): [A0, A1, UNHINTED],
    ("hinted", "nobody"): [A0, A1],
    ("hinted", "unfaithful"): [A0, A1, R0],
    ("hinted", "two rescues"): [A0, A1, R0, R1],
    ("cold", "solved"): [A0, A1],
    ("cold", "unfaithful"): [A0, A1],
    ("cold", "two rescues"): [A0, A1, imitated([13, 2])],  # one problem, one weight: the likelier one
    ("both", "unfaithful"): [A0, A1, R0],
    ("both", "two rescues"): [A0, A1, R0, R1, imitated([13, 2])],
    ("teacher_and_rescue", "solved"): [A0, A1],
    ("teacher_and_rescue", "rescued"): [A0, A1, imitated([12, 2], 0.3), HALF],
    ("teacher_and_rescue", "lost"): [A0, A1, TAUGHT],
    ("teacher_and_rescue", "unfaithful"): [A0, A1, TAUGHT],
    ("teacher_and_rescue", "two rescues"): [A0, A1, imitated([13, 2], 0.3), HALF],
    ("teacher_and_rescue", "no hint"): [A0, A1, UNHINTED, TAUGHT],
    ("teacher_and_rescue", "nobody"): [A0, A1],
    ("rescue_or_teacher", "rescued"): [A0, A1, imitated([12, 2])],
    ("rescue_or_teacher", "lost"): [A0, A1, TAUGHT],
    ("rescue_or_teacher", "unfaithful"): [A0, A1, TAUGHT],
    ("rescue_or_teacher", "nobody"): [A0, A1],
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


@pytest.mark.parametrize(("mode", "name"), EXPECTED)
def test_what_a_peer_is_trained_on(mode: str, name: str) -> None:
    encoded: list[str] = []

    def encode(text: str) -> list[int]:
        encoded.append(text)
        return FOREIGN

    settings = CreditSettings(mode=mode, imitation_weight=0.6)  # type: ignore[arg-type]
    examples = assign_credit([situation(name)], "a", settings, encode)
    assert written(examples) == EXPECTED[mode, name]
    # The student's own encoding of the teacher's best trace, and of nothing else.
    taught = any(one in EXPECTED[mode, name] for one in (TAUGHT, HALF))
    assert encoded == (["text of cold b1"] if taught else [])
    for example in examples:
        assert example.rescue == (example.imitate or example.weight == 0.8)


@pytest.mark.parametrize(("rate", "mode"), [(0.0, "peer_trace"), (0.29, "peer_trace"), (0.3, "cold"), (1.0, "cold")])
def test_adaptive_imitates_the_teacher_while_rescues_are_rare(rate: float, mode: str) -> None:
    groups = [situation(name, i) for i, name in enumerate(SITUATIONS)]

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


def test_policy_examples_and_imitated_rescues_carry_the_probabilities_they_were_sampled_with() -> None:
    groups = [situation(name, i) for i, name in enumerate(SITUATIONS)]
    for mode in ("cold", "both", "teacher_and_rescue", "peer_trace", "own_trace"):
        for example in assign_credit(groups, "a", CreditSettings(mode), lambda text: FOREIGN):  # type: ignore[arg-type]
            rescue = example.imitate and example.token_ids in ([12, 2], [13, 2])
            assert (example.sampled_logprobs is not None) == (rescue or not example.imitate)


def test_rescue_and_teacher_have_weights_of_their_own() -> None:
    settings = CreditSettings(imitation_weight=2.0, rescue_imitation_weight=0.5, share_weight=False)
    examples = assign_credit([situation("rescued")], "a", settings, lambda text: FOREIGN)
    assert [(e.token_ids, e.weight) for e in examples if e.imitate] == [([12, 2], 0.5), (FOREIGN, 2.0)]


@pytest.mark.parametrize("mode", ["teacher_and_rescue", "rescue_or_teacher", "cold", "peer_trace"])
@pytest.mark.parametrize("kind", ["rescued", "taught"])
def test_a_problem_counts_once_however_many_of_its_traces_are_imitated(mode: CreditMode, kind: str) -> None:
    group = situation("rescued")
    if kind == "taught":  # no rescue of it was right
        group.traces = [t for t in group if t.round == "cold"]
    settings = CreditSettings(mode, imitation_weight=2.0, share_weight=True)
    weights = [e.weight for e in assign_credit([group], "a", settings, lambda text: FOREIGN) if e.imitate]
    assert sum(weights) == (2.0 if weights else 0.0)
    assert len(weights) == {"teacher_and_rescue": 2}.get(mode, 1) - (kind == "taught" and mode in ("teacher_and_rescue", "cold"))


def test_a_policy_example_is_scored_at_the_temperature_it_was_sampled_at() -> None:
    group = Group(problem(), [*FAILED, *TEACHER, trace("a", "rescue", 0, True, hint=HINT, temperature=0.4)])
    examples = assign_credit([group], "a", CreditSettings("both"), lambda text: FOREIGN)
    assert [e.temperature for e in examples] == [None, None, 0.4, None]  # imitated under the plain prompt: the peer's own


def test_policy_examples_can_be_dropped_but_not_what_is_imitated() -> None:
    group = situation("rescued")
    group.traces = [replace(one, masked=True) for one in group]
    examples = assign_credit([group], "a", CreditSettings("both"), lambda text: FOREIGN)
    assert written(examples) == [("imitate", "cold", [12, 2], 1.6)]


def test_other_peers_traces_train_nobody_else() -> None:
    group = situation("rescued")
    examples = assign_credit([group], "b", CreditSettings(), lambda text: FOREIGN)
    assert [e.token_ids for e in examples] == [[60], [61]]
    assert assign_credit([group], "c", CreditSettings("peer_trace"), lambda text: FOREIGN) == []


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"mode": "warm"}, "credit.mode is 'warm'"),
        ({"weight": -1.0}, "credit.weight is -1.0"),
        ({"imitation_weight": -0.1}, "credit.imitation_weight is -0.1"),
        ({"imitation_weight": math.nan}, "credit.imitation_weight is nan"),
        ({"rescue_imitation_weight": math.inf}, "credit.rescue_imitation_weight is inf"),
        ({"probability_floor": 1.0}, "credit.probability_floor is 1.0"),
        ({"probability_floor": -0.1}, "credit.probability_floor is -0.1"),
        ({"importance_bound": 0.0}, "credit.importance_bound is 0.0"),
        ({"importance_bound": 1.0, "probability_floor": 0.1}, "both say how hard an imitated rescue pulls; leave one"),
        ({"adaptive_below": 1.1}, "credit.adaptive_below is 1.1"),
        ({"adaptive_below": -0.1}, "credit.adaptive_below is -0.1"),
        ({"adaptive_pairs": 0}, "credit.adaptive_pairs is 0"),
    ],
)
def test_wrong_settings_are_refused(change: dict[str, object], named: str) -> None:
    with pytest.raises(ValueError, match=r".") as error:
        CreditSettings(**change)  # type: ignore[arg-type]
    assert named in str(error.value)


def test_both_ends_of_a_range_are_settings() -> None:
    nothing = CreditSettings(weight=0.0, imitation_weight=0.0, rescue_imitation_weight=0.0, probability_floor=0.0)
    assert (nothing.weight, nothing.imitation_weight, nothing.rescue_imitation_weight) == (0.0, 0.0, 0.0)
    assert [CreditSettings(adaptive_below=end, adaptive_pairs=1).adaptive_below for end in (0.0, 1.0)] == [0.0, 1.0]


def test_who_solved_a_problem_imitates_no_teacher() -> None:
    """Where all peers are students, teachers are ranked for those too that were right."""
    group = situation("solved")
    group.teachers["a"] = [TEACHER[1], TEACHER[0]]
    examples = assign_credit([group], "a", CreditSettings("peer_trace"), lambda text: FOREIGN)
    assert written(examples) == [A0, A1]


def test_what_is_imitated_has_no_advantage() -> None:
    examples = assign_credit([situation("rescued")], "a", CreditSettings(), lambda text: FOREIGN)
    assert [e.advantage for e in examples if e.imitate] == [0.0, 0.0]


def test_a_teachers_trace_is_imitated_in_the_students_own_words() -> None:
    group = situation("lost")
    seen: list[tuple[str, list[int]]] = []

    def own_words(text: str, prompt_ids: list[int]) -> str:
        seen.append((text, prompt_ids))
        return "in other words"

    def imitated(encode: Callable[[str], list[int]]) -> list[list[int]]:
        examples = assign_credit([group], "a", CreditSettings("peer_trace"), encode, own_words=own_words)
        return [e.token_ids for e in examples if e.imitate]

    assert imitated(lambda text: [len(text)]) == [[len("in other words")]]
    assert seen == [("text of cold b1", COLD)]
    assert imitated(lambda text: []) == []  # nothing is left of it
