"""Procedural problems of reasoning-gym: over 100 seeded tasks, mixed by weight, made on the spot (arXiv 2505.24760)."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import count
from typing import Any

from core_lightning.data.errors import DataError
from core_lightning.data.module import RescueDataModule
from core_lightning.data.sizes import check_sizes
from core_lightning.data.splits import SPLITS, Split, hash_order, normalised, twins
from core_lightning.records import AnswerKind, Problem

_PIECE = 100


@dataclass(frozen=True)
class Task:
    """One task of the mix."""

    weight: float = 1.0
    """Share of this task among the problems of every split, relative to the other tasks."""
    config: dict[str, Any] = field(default_factory=dict)
    """Settings of the task itself, such as ``min_digits``; see the task in reasoning-gym."""

    def __post_init__(self) -> None:
        if self.weight <= 0:
            raise DataError(f"a task's weight must be positive, got {self.weight}; leave the task out instead")


class ReasoningGym(RescueDataModule):
    """Any mix of reasoning-gym tasks. Distinct questions are drawn and then dealt to the splits, so these are disjoint.

    Args:
        tasks: Names of the tasks, or a mapping of names to weight and config.
        train_size: Training problems of all tasks together.
        val_size: Validation problems.
        test_size: Test problems.
    """

    def __init__(
        self,
        tasks: dict[str, Task] | list[str],
        train_size: int = 500,
        val_size: int = 100,
        test_size: int = 100,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.tasks = tasks if isinstance(tasks, dict) else {name: Task() for name in tasks}
        if not self.tasks:
            raise DataError("data.tasks is empty: name at least one task, such as chain_sum")
        self.sizes: dict[Split, int] = {"train": train_size, "val": val_size, "test": test_size}
        check_sizes(self.sizes)

    def load(self) -> Mapping[Split, Sequence[Problem]]:
        """Draw every task's share of all three splits, and deal them out in an order that only the seed decides.

        Questions that differ in the order of their words only, such as a sum with its operands swapped, come to the same
        split.
        """
        shares = {split: _shares(self.tasks, size) for split, size in self.sizes.items()}
        problems: dict[Split, list[Problem]] = {split: [] for split in SPLITS}
        for name, task in self.tasks.items():
            needed = sum(shares[split][name] for split in SPLITS)
            sizes = {split: shares[split][name] for split in SPLITS}
            for split, dealt in deal(hash_order(self._draw(name, task, needed), self.seed), sizes).items():
                problems[split] += dealt
        return problems

    def _draw(self, name: str, task: Task, needed: int) -> list[Problem]:
        found: dict[str, Problem] = {}
        unseen = 0  # draws since the last new question; 20 times the questions found leave hardly one undiscovered
        for index, item in enumerate(self._items(name, task)):
            if len(found) >= needed or unseen > 200 + 20 * len(found):
                break
            answer = str(item["answer"])
            problem = Problem(f"{name}/{index}", item["question"], answer, _kind(answer), name)
            # The right answer of a few string tasks is the empty text, which nobody can be asked for.
            new = answer.strip() and found.setdefault(normalised(problem.question), problem) is problem
            unseen = 0 if new else unseen + 1
        if len(found) < needed:
            raise DataError(
                f"task {name} has only {len(found)} distinct questions under this config and {needed} are asked for: "
                f"lower data.train_size, val_size or test_size, or widen data.tasks.{name}.config"
            )
        return list(found.values())

    def _items(self, name: str, task: Task) -> Iterator[Mapping[str, Any]]:
        """Problems of one task without end; by the piece, because some tasks make a whole data set when created."""
        try:
            from reasoning_gym.factory import DATASETS, create_dataset
        except ImportError as error:
            raise DataError("reasoning-gym is not installed: pip install 'core-lightning[embedded]'") from error
        if name not in DATASETS:
            raise DataError(f"reasoning-gym has no task {name!r}; it has {', '.join(sorted(DATASETS))}")
        # Tasks seed item i with seed + i: pieces continue each other, but seeds 42 and 43 would share almost all items.
        origin = random.Random(f"{self.seed}:{name}").getrandbits(31)
        for start in count(origin, _PIECE):
            try:
                items = create_dataset(name, seed=start, size=_PIECE, **task.config)
            except (TypeError, AssertionError, ValueError) as error:
                reason = str(error) or f"it allows no such values ({task.config})"  # most of its checks say nothing
                raise DataError(f"data.tasks.{name}.config is refused by the task: {reason}") from error
            for index in range(_PIECE):
                yield items[index]


def deal(problems: Sequence[Problem], sizes: Mapping[Split, int]) -> dict[Split, list[Problem]]:
    """Deal problems to the splits in order, twins to the same one.

    Args:
        problems: As many as the sizes add up to.
        sizes: Of each split. Where twins fill none of them exactly, the last ones are parted.
    """
    families: dict[tuple[str, ...], list[Problem]] = {}
    for problem in problems:
        families.setdefault(twins(problem.question), []).append(problem)
    dealt: dict[Split, list[Problem]] = {split: [] for split in SPLITS}
    left = list(families.values())
    held: tuple[Split, ...] = ("val", "test")
    for split in held:
        rest: list[list[Problem]] = []
        for family in left:
            if len(dealt[split]) + len(family) <= sizes[split]:
                dealt[split] += family
            else:
                rest.append(family)
        left = rest
    pool = [problem for family in left for problem in family]
    for split in held:
        missing = sizes[split] - len(dealt[split])
        dealt[split] += pool[:missing]
        pool = pool[missing:]
    dealt["train"] = pool
    return dealt


def _shares(tasks: Mapping[str, Task], size: int) -> dict[str, int]:
    """Split ``size`` by weight, remainders to the largest fractions, so that the sum is exact."""
    total = sum(task.weight for task in tasks.values())
    exact = {name: size * task.weight / total for name, task in tasks.items()}
    shares = {name: int(share) for name, share in exact.items()}
    for name in sorted(exact, key=lambda n: shares[n] - exact[n])[: size - sum(shares.values())]:
        shares[name] += 1
    return shares


def _kind(answer: str) -> AnswerKind:
    try:
        Fraction(answer.replace(",", ""))
    except (ValueError, ZeroDivisionError):
        return "text"
    return "number"
