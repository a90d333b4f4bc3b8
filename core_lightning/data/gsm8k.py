"""GSM8K: 7,473 + 1,319 grade-school word problems with numeric answers (Cobbe et al. 2021, arXiv 2110.14168)."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from core_lightning.data.errors import DataError
from core_lightning.data.hub import HubDataModule
from core_lightning.data.splits import Split
from core_lightning.records import Problem

_NUMBER = re.compile(r"-?\d+(\.\d+)?")


class GSM8K(HubDataModule):
    """GSM8K with its official test split; validation is carved from train.

    Args:
        repo: Hub id of the data set.
        config: Its configuration, ``main`` or ``socratic``.
    """

    def __init__(self, repo: str = "openai/gsm8k", config: str = "main", **kwargs: Any) -> None:
        super().__init__(repo=repo, **kwargs)
        self.config = config

    def load(self) -> Mapping[Split, Sequence[Problem]]:
        """Train and test; a single file as ``path`` is one pool."""
        pool = self.path is not None and self.path.is_file()
        names: list[Split] = ["train"] if pool else ["train", "test"]
        return {
            name: [
                Problem(
                    f"gsm8k/{name}/{i}", row.text("question"), gsm8k_gold(row.text("answer"), row.place), source="gsm8k"
                )
                for i, row in enumerate(self.rows(name, ["question", "answer"], self.config))
            ]
            for name in names
        }


def gsm8k_gold(solution: str, row: str) -> str:
    """The number after the last "####", without thousands separators.

    Raises:
        DataError: If there is none; ``row`` names the place.
    """
    _, mark, answer = solution.rpartition("####")
    answer = answer.strip().replace(",", "")
    if not mark or not _NUMBER.fullmatch(answer):
        raise DataError(f"{row}: no number after '####' in the answer column; correct or remove the row")
    return answer
