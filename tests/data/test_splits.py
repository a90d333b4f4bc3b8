"""Disjoint splits, and near-duplicates against the comparison of every pair."""

import random
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core_lightning.data.reasoning_gym import deal
from core_lightning.data.splits import Split, assign_splits, disagreements, near_duplicates, normalised, take
from core_lightning.records import Problem


def problem(id: str, question: str) -> Problem:
    return Problem(id, question, "1")


def pool(count: int) -> list[Problem]:
    return [problem(str(i), f"question {i}") for i in range(count)]


def questions(problems: list[Problem]) -> set[str]:
    return {normalised(p.question) for p in problems}


texts = st.lists(st.sampled_from(["a b", "A  B", "a", "c", "d e", "é", "e\u0301", "f", "g"]), max_size=12)


@given(texts, texts, texts, st.integers(0, 3))
def test_splits_are_disjoint_by_normalised_text(train: list[str], val: list[str], test: list[str], seed: int) -> None:
    official = {
        name: [problem(f"{name}{i}", q) for i, q in enumerate(qs)]
        for name, qs in {"train": train, "val": val, "test": test}.items()
    }
    splits, dropped = assign_splits(official, seed, 0.1, 0.1)
    assert splits["test"] == official["test"]
    for a, b in [("train", "val"), ("train", "test"), ("val", "test")]:
        assert not questions(splits[a]) & questions(splits[b])
    assert len(questions(splits["train"])) == len(splits["train"])
    assert questions(sum(splits.values(), [])) == questions(sum(official.values(), []))  # noqa: RUF017
    assert dropped == len(train) + len(val) + len(test) - sum(map(len, splits.values()))


def test_carved_sizes_and_source_order() -> None:
    splits, dropped = assign_splits({"train": pool(200)}, 1, 0.1, 0.25)
    assert {name: len(ps) for name, ps in splits.items()} == {"train": 130, "val": 20, "test": 50}
    assert dropped == 0
    assert all([int(p.id) for p in ps] == sorted(int(p.id) for p in ps) for ps in splits.values())


def test_carving_depends_on_seed_and_text_not_on_row_order() -> None:
    rows = pool(100)
    first = assign_splits({"train": rows}, 1, 0.1, 0.1)[0]
    shuffled = random.Random(0).sample(rows, 100)
    again = assign_splits({"train": shuffled}, 1, 0.1, 0.1)[0]
    assert {n: questions(ps) for n, ps in first.items()} == {n: questions(ps) for n, ps in again.items()}
    assert questions(assign_splits({"train": rows}, 2, 0.1, 0.1)[0]["test"]) != questions(first["test"])


def test_only_what_is_missing_is_carved_and_only_when_asked() -> None:
    splits, _ = assign_splits({"train": pool(20), "test": [problem("t", "official")]}, 0, 0.0, 0.5)
    assert [p.id for p in splits["test"]] == ["t"]
    assert (len(splits["train"]), len(splits["val"])) == (20, 0)


def test_a_positive_share_of_a_small_pool_is_not_nothing() -> None:
    assert len(assign_splits({"train": pool(5)}, 0, 0.05, 0.0)[0]["val"]) == 1


def test_limit_is_a_seeded_subset_in_source_order() -> None:
    rows = pool(50)
    chosen = [int(p.id) for p in take(rows, 10, seed=3)]
    assert chosen == sorted(chosen)
    assert len(chosen) == 10
    assert chosen != list(range(10))
    assert set(chosen) < {int(p.id) for p in take(rows, 20, seed=3)}


@settings(max_examples=60)
@given(st.integers(0, 10_000), st.sampled_from([0.6, 0.75, 0.9, 1.0]))
def test_near_duplicates_equal_comparing_every_pair(seed: int, threshold: float) -> None:
    rng = random.Random(seed)

    def text() -> str:
        return " ".join(rng.choices("abcdefgh", k=rng.randint(1, 10)))

    corpus = [problem(f"c{i}", text()) for i in range(15)]
    queries = [problem(f"q{i}", text()) for i in range(15)]
    expected = []
    for q in queries:
        words = set(re.findall(r"\w+", q.question))
        for c in corpus:
            others = set(c.question.split())
            if len(words & others) >= threshold * len(words | others) - 1e-9:
                expected.append((q.id, c.id))
                break
    assert near_duplicates(queries, corpus, threshold) == expected


def test_one_changed_number_in_a_long_question_is_a_near_duplicate() -> None:
    text = "A farmer has 12 cows and sells three of them to his neighbour for ten coins each, how many coins does he get now"
    assert near_duplicates([problem("t", text)], [problem("c", text.replace("12", "14"))]) == [("t", "c")]
    assert near_duplicates([problem("t", "what is 3 + 4")], [problem("c", "what is 3 + 5")]) == []


@pytest.mark.parametrize(("a", "b"), [("What  is\n1?", "what is 1?"), ("ｘ", "x")])
def test_case_space_and_unicode_form_make_no_new_question(a: str, b: str) -> None:
    assert normalised(a) == normalised(b)
    assert normalised("5 - 3") != normalised("5 + 3")


@pytest.mark.parametrize(("a", "b"), [("3² + 1", "32 + 1"), ("x₂ = 4", "x2 = 4"), ("1½ cups", "11⁄2 cups"), ("row ①", "row 1")])
def test_what_stands_above_or_below_the_line_makes_a_new_question(a: str, b: str) -> None:
    assert normalised(a) != normalised(b)
    splits, dropped = assign_splits({"train": [problem("a", a), problem("b", b)]}, 0, 0.0, 0.0)
    assert (len(splits["train"]), dropped) == (2, 0)


def test_repeats_with_another_answer_are_found() -> None:
    def asked(id: str, question: str, answer: str) -> Problem:
        return Problem(id, question, answer, "auto")

    train = [asked("a", "one?", "1"), asked("b", "One?", "2"), asked("c", "one?", "1.0"), asked("d", "one ?", "3")]
    found = disagreements({"train": [*train, asked("e", "two?", "4"), asked("f", "two?", "yes")], "test": [asked("t", "two?", "4")]})
    assert [(first.id, other.id) for first, other in found] == [("a", "b"), ("t", "f")]


def test_twins_come_to_one_split_and_the_sizes_are_kept() -> None:
    problems = [
        problem(f"{a}{sign}{b}", f"what is {a} {sign} {b}") for a in range(1, 7) for b in range(1, 7) for sign in "+-"
    ]
    sizes: dict[Split, int] = {"train": 51, "val": 12, "test": 9}
    dealt = deal(problems, sizes)
    assert {split: len(own) for split, own in dealt.items()} == sizes
    assert sorted(p.id for own in dealt.values() for p in own) == sorted(p.id for p in problems)
    homes: dict[tuple[str, ...], set[str]] = {}
    for split, own in dealt.items():
        for p in own:
            homes.setdefault(tuple(sorted(p.question.split())), set()).add(split)
    assert all(len(home) == 1 for home in homes.values())
    parted = deal([problem("x", "1 + 2"), problem("y", "2 + 1")], {"train": 1, "val": 1, "test": 0})
    assert {split: len(own) for split, own in parted.items()} == {"train": 1, "val": 1, "test": 0}
