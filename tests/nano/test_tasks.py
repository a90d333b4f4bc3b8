"""Questions, gold traces and splits of the nano tasks, against independent arithmetic."""

from __future__ import annotations

import random
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core_lightning.answers import is_correct, leaks_answer, remove_answer
from core_lightning.data.errors import DataError
from core_lightning.data.nano import NanoTasks
from core_lightning.nano.tasks import TABLES, TASKS, draw_question, make_problems, solve, split_of, write_trace


def value_of(question: str) -> int:
    """The answer by Python's own arithmetic, or by walking the tables one sign at a time."""
    if "+" in question:
        return sum(map(int, question.split("+")))
    if "*" in question:
        top, bottom = question.split("*")
        return int(top) * int(bottom)
    digits, signs, seen = [int(c) for c in question[::2]], question[1::2], 0
    state = digits[0]
    for sign, operand in zip(signs, digits[1:], strict=True):
        state = TABLES[sign][state, operand]
        seen = 10 * seen + state
    return seen


@given(task=st.sampled_from(TASKS), seed=st.integers(0, 10**6))
def test_gold_traces_are_right_and_every_step_is_true(task: str, seed: int) -> None:
    question = draw_question(task, random.Random(seed))
    steps, answer = solve(question)
    assert int(answer) == value_of(question)
    assert str(int(answer)) == answer
    for step in steps:
        left, right = step.split("=")
        if match := re.fullmatch(r"(\d)([@&])(\d)", left):
            assert TABLES[match[2]][int(match[1]), int(match[3])] == int(right)
        else:
            assert eval(left) == int(right)  # digits, + and * only


@given(task=st.sampled_from(TASKS), seed=st.integers(0, 10**6))
def test_gold_completions_are_correct_for_the_checker_and_spoiled_ones_are_not(task: str, seed: int) -> None:
    question = draw_question(task, random.Random(seed))
    steps, answer = solve(question)
    assert is_correct(write_trace(steps, answer), answer, "number")
    assert not is_correct(write_trace(steps, str(int(answer) + 1)), answer, "number")
    # A hint is the steps, all of them, and the answer is not a number of its own in it.
    hint = remove_answer(write_trace(steps, answer), answer, "number")
    assert hint == " ".join(steps)
    assert not leaks_answer(hint, answer, "number")


def test_a_wrong_fact_is_carried_on() -> None:
    # 19+25 with "9+5+0=15" believed: the digit is 5, the carry 1, then 1+2+1=4.
    believed = {("+", 9, 5, 0): 15, ("+", 1, 2, 1): 4}
    assert solve("19+25", lambda *fact: believed[fact]) == (["9+5+0=15", "1+2+1=4"], "45")
    believed = {("@", 3, 7, 0): 8, ("&", 8, 2, 0): 5}
    assert solve("3@7&2", lambda *fact: believed[fact]) == (["3@7=8", "8&2=5"], "85")


def test_mix_uses_both_tables() -> None:
    rng = random.Random(0)
    assert all({"@", "&"} <= set(draw_question("mix", rng)) for _ in range(200))


def test_splits_are_disjoint_whatever_the_seed() -> None:
    first = NanoTasks(train_size=300, val_size=50, test_size=50, seed=1).splits
    second = NanoTasks(train_size=300, val_size=50, test_size=50, seed=2).splits
    held_out = {p.question for s in (first, second) for split in ("val", "test") for p in s[split]}
    trained = {p.question for s in (first, second) for p in s["train"]}
    assert not held_out & trained
    assert trained != {p.question for p in first["train"]}
    assert [len(first[split]) for split in ("train", "val", "test")] == [300, 50, 50]
    assert {split_of(p.question) for p in first["test"]} == {"test"}
    assert {p.source for p in first["val"]} == set(TASKS)


def test_the_same_seed_gives_the_same_problems() -> None:
    assert make_problems("val", 40, seed=3) == make_problems("val", 40, seed=3)


def test_bad_settings_are_refused() -> None:
    with pytest.raises(DataError, match=r"data\.tasks.*choose"):
        NanoTasks(tasks=["addition"])
    with pytest.raises(ValueError, match="not that many"):
        make_problems("test", 600, ["mul"])
