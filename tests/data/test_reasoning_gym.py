"""The real generator: answers checked by arithmetic, splits disjoint, small task spaces refused in one line."""

from collections import Counter
from fractions import Fraction

import pytest

from core_lightning.data import DataError, ReasoningGym, Task
from core_lightning.data.splits import normalised

DIGIT = {"min_terms": 2, "max_terms": 2, "min_digits": 1, "max_digits": 1}


def test_products_are_right_and_splits_disjoint_in_a_small_space() -> None:
    data = ReasoningGym({"products": Task(config=DIGIT)}, train_size=60, val_size=20, test_size=20)
    assert {n: len(p) for n, p in data.splits.items()} == {"train": 60, "val": 20, "test": 20}
    questions = [normalised(p.question) for problems in data.splits.values() for p in problems]
    assert len(set(questions)) == 100
    for p in data.splits["train"]:
        a, _, b = p.question.split(":")[1].split(".")[0].split()
        assert int(p.answer) == int(a) * int(b)
        assert (p.kind, p.source) == ("number", "products")


def test_a_space_that_is_too_small_is_refused() -> None:
    with pytest.raises(DataError, match=r"task products has only 100 distinct questions .* 101 are asked for: lower"):
        ReasoningGym({"products": Task(config=DIGIT)}, train_size=61, val_size=20, test_size=20).setup()


def test_every_split_has_the_mix_of_the_weights() -> None:
    tasks = {"chain_sum": Task(weight=2.0), "products": Task(), "spell_backward": Task()}
    data = ReasoningGym(tasks, train_size=40, val_size=10, test_size=6)
    counts = {n: Counter(p.source for p in problems) for n, problems in data.splits.items()}
    assert counts["train"] == {"chain_sum": 20, "products": 10, "spell_backward": 10}
    assert counts["val"]["chain_sum"] == 5
    assert sum(counts["val"].values()) == 10
    assert counts["test"]["chain_sum"] == 3
    kinds = {p.source: p.kind for p in data.splits["train"]}
    assert kinds == {"chain_sum": "number", "products": "number", "spell_backward": "text"}


def test_the_seed_decides() -> None:
    def texts(seed: int) -> list[str]:
        data = ReasoningGym(["chain_sum"], train_size=10, val_size=2, test_size=2, seed=seed)
        return [p.question for problems in data.splits.values() for p in problems]

    assert texts(1) == texts(1)
    assert not set(texts(1)) & set(texts(2))


def test_fractions_are_numbers() -> None:
    data = ReasoningGym(["fraction_simplification"], train_size=3, val_size=0, test_size=0)
    assert data.splits["val"] == []
    for p in data.splits["train"]:
        if p.kind == "number":
            assert Fraction(p.answer)


@pytest.mark.parametrize(
    ("tasks", "line"),
    [
        ({}, "data.tasks is empty"),
        (["chain_sums"], "no task 'chain_sums'; it has .*chain_sum"),
        ({"gsm_symbolic": Task(config={"difficulty": 2.0})}, r"refused by the task: it allows no such values \(.*2\.0"),
        ({"chain_sum": Task(config={"digits": 1})}, r"data.tasks.chain_sum.config is refused by the task: .*digits"),
        ({"chain_sum": Task(config={"min_terms": 9, "max_terms": 2})}, "data.tasks.chain_sum.config is refused"),
    ],
)
def test_wrong_tasks_are_named(tasks: dict[str, Task] | list[str], line: str) -> None:
    with pytest.raises(DataError, match=line):
        ReasoningGym(tasks).setup()


def test_weights_must_be_positive() -> None:
    with pytest.raises(DataError, match="weight must be positive, got 0"):
        Task(weight=0)
    with pytest.raises(DataError, match="train_size must be at least 1"):
        ReasoningGym(["chain_sum"], train_size=0)
