"""Word problems of reasoning-gym's ``gsm_symbolic``, which has no difficulty: the templates that a model solves in part.

A template is one question of GSM8K with names and numbers left open (arXiv 2410.05229). Some of them a small model solves
nearly always, most of them never; reinforcement needs what lies between.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from core_lightning.data import RescueDataModule
from core_lightning.data.reasoning_gym import deal
from core_lightning.data.splits import SPLITS, Split, hash_order, normalised
from core_lightning.records import Problem

#: What share of samples the models as they are solve, between these.
BETWEEN = (0.3, 0.7)


def known() -> list[int]:
    """The templates, by number."""
    from reasoning_gym.arithmetic.gsm_symbolic.gsm_symbolic import tasks_ok

    return list(tasks_ok)


def problems_of(template: int) -> Iterator[Problem]:
    """Distinct problems of one template, the same ones every time."""
    from reasoning_gym.factory import create_dataset

    make = create_dataset("gsm_symbolic", seed=0, size=1).generators[template]
    seen: set[str] = set()
    for draw in range(100_000):
        item = make(random.Random(f"{template}/{draw}"), 1.0)
        if (question := normalised(item["question"])) not in seen:
            seen.add(question)
            yield Problem(f"{template}/{draw}", item["question"], str(item["answer"]), source=f"gsm_symbolic/{template}")


class Templates(RescueDataModule):
    """Problems of some templates, as many of each.

    Args:
        templates: Their numbers.
        train_size: Training problems of a template.
        test_size: Test problems of a template.
    """

    def __init__(self, templates: Sequence[int], train_size: int, test_size: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.templates = list(templates)
        self.sizes: dict[Split, int] = {"train": train_size, "val": 0, "test": test_size}

    def load(self) -> Mapping[Split, Sequence[Problem]]:
        """The first problems of every template, dealt in an order that the seed decides."""
        problems: dict[Split, list[Problem]] = {split: [] for split in SPLITS}
        for template in self.templates:
            drawn = list(islice(problems_of(template), sum(self.sizes.values())))
            for split, dealt in deal(hash_order(drawn, self.seed), self.sizes).items():
                problems[split] += dealt
        return problems


def solved_in_part(file: Path, between: tuple[float, float] = BETWEEN) -> list[int]:
    """Templates of a file of ``{template: [right samples, samples]}`` that were solved in part."""
    counts = json.loads(file.read_text())
    return [int(name) for name, (right, samples) in counts.items() if between[0] <= right / samples <= between[1]]
