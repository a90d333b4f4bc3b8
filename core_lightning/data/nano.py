"""The synthetic tasks of the nano pair (see :mod:`core_lightning.nano`)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from core_lightning.data.errors import DataError
from core_lightning.data.module import RescueDataModule
from core_lightning.data.sizes import check_sizes
from core_lightning.data.splits import SPLITS, Split
from core_lightning.nano.tasks import TASKS, make_problems
from core_lightning.records import Problem


class NanoTasks(RescueDataModule):
    """Digit arithmetic and table chains. The side of a question is fixed by its hash, not by the seed.

    So a validation or test question was never seen in the pretraining of a nano peer either, whatever the seeds.

    Args:
        tasks: Which of ``add``, ``mul``, ``at``, ``amp`` and ``mix``, in equal shares.
        train_size: Training problems of all tasks together.
        val_size: Validation problems.
        test_size: Test problems.
    """

    def __init__(
        self,
        tasks: Sequence[str] = TASKS,
        train_size: int = 4000,
        val_size: int = 200,
        test_size: int = 400,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.tasks = tuple(tasks)
        self.sizes: dict[Split, int] = {"train": train_size, "val": val_size, "test": test_size}
        if not self.tasks or not set(self.tasks) <= set(TASKS):
            raise DataError(f"data.tasks is {list(self.tasks)}: choose at least one of {', '.join(TASKS)}")
        check_sizes(self.sizes)

    def load(self) -> Mapping[Split, Sequence[Problem]]:
        """Draw every split from its own side; the seed decides which questions."""
        return {split: make_problems(split, self.sizes[split], self.tasks, self.seed) for split in SPLITS}

    @property
    def near_duplicates(self) -> list[tuple[str, str]]:
        """Always empty: all questions share the same ten digits, so equal sets of words do not make them alike."""
        return []
