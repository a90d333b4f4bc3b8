"""AIME: competition problems from 1983 on, with integer answers from 0 to 999."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from core_lightning.answers.equality import bare_gold
from core_lightning.answers.quantities import parse_quantity
from core_lightning.data.errors import DataError
from core_lightning.data.hub import HubDataModule
from core_lightning.data.splits import Split
from core_lightning.records import Problem


class AIME(HubDataModule):
    """A collection of AIME problems; it has no train split of its own, so all three are carved from it.

    Args:
        repo: Hub id of the data set, with columns ``problem`` and ``answer``.
        hub_split: The split that holds the problems; this collection calls its only one ``test``.
    """

    split_mend = "name the one that holds the problems as data.hub_split"

    def __init__(self, repo: str = "TianHongZXY/aime-1983-2025", hub_split: str = "test", **kwargs: Any) -> None:
        super().__init__(repo=repo, **kwargs)
        self.hub_split = hub_split

    def load(self) -> Mapping[Split, Sequence[Problem]]:
        """One pool."""
        rows = self.rows(self.hub_split, ["problem", "answer"])
        return {
            "train": [
                Problem(f"aime/{i}", row.text("problem"), aime_gold(row.text("answer"), row.place), source="aime")
                for i, row in enumerate(rows)
            ]
        }


def aime_gold(answer: object, row: str) -> str:
    r"""The answer as an integer without leading zeros, whatever dressing it came in.

    Raises:
        DataError: If it is no integer from 0 to 999; ``row`` names the place.

    Example:
        >>> aime_gold("025", "row 0"), aime_gold(25.0, "row 0"), aime_gold(r"$\boxed{025}$", "row 0")
        ('25', '25', '25')
    """
    found = parse_quantity(bare_gold(str(answer)))
    if found is None or not 0 <= found.value <= 999 or found.value.denominator != 1:
        raise DataError(f"{row}: the answer column holds {answer!r}, not an integer from 0 to 999; correct the row")
    return str(found.value)
