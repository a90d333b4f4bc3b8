"""GPQA: graduate-level multiple choice in biology, physics and chemistry (Rein et al. 2023, arXiv 2311.12022)."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from core_lightning.data.choices import LETTERS, render_choices
from core_lightning.data.errors import DataError
from core_lightning.data.hub import HubDataModule, Row
from core_lightning.data.splits import Split
from core_lightning.records import Problem

Subset = Literal["main", "diamond", "extended"]
_OPTIONS = ["Correct Answer", "Incorrect Answer 1", "Incorrect Answer 2", "Incorrect Answer 3"]


class GPQA(HubDataModule):
    """GPQA with its options shuffled. It is gated, so the hub asks for a login, and must not be published in the clear.

    In column order the gold option is always the first. Each problem's options are shuffled with a seed made of
    ``option_seed`` and its id, so that their order depends on nothing else. A guesser is right with probability 1/4.

    Args:
        subset: ``main`` (448 problems), ``diamond`` (198) or ``extended`` (546).
        option_seed: Seed of the order of the options.
        repo: Hub id of the data set.
    """

    def __init__(
        self, subset: Subset = "main", option_seed: int = 0, repo: str = "Idavidrein/gpqa", **kwargs: Any
    ) -> None:
        super().__init__(repo=repo, **kwargs)
        if subset not in ("main", "diamond", "extended"):
            raise DataError(f"data.subset must be main, diamond or extended, got {subset!r}")
        self.subset = subset
        self.option_seed = option_seed

    def load(self) -> Mapping[Split, Sequence[Problem]]:
        """One pool: the hub has a train split only."""
        config = f"gpqa_{self.subset}"
        rows = self.rows("train", ["Question", *_OPTIONS, "Subdomain"], config)
        return {"train": [self._problem(f"{config}/{i}", row) for i, row in enumerate(rows)]}

    def _problem(self, id: str, row: Row) -> Problem:
        options = [row.text(column) for column in _OPTIONS]
        order = list(range(len(options)))
        random.Random(f"{self.option_seed}:{id}").shuffle(order)
        return Problem(
            id,
            render_choices(row.text("Question"), [options[i] for i in order]),
            LETTERS[order.index(0)],
            kind="choice",
            source=f"gpqa_{self.subset}",
            chance=1 / len(options),
            choices=tuple(options[i] for i in order),
            metadata={"subject": row.text("Subdomain", optional=True), "option_order": "".join(map(str, order))},
        )
