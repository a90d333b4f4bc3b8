"""MATH: 12,500 competition problems with LaTeX answers (Hendrycks et al. 2021, arXiv 2103.03874)."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from core_lightning.data.errors import DataError
from core_lightning.data.hub import HubDataModule, Row
from core_lightning.data.splits import Split
from core_lightning.records import Problem

Layout = Literal["competition_math", "hendrycks_math"]
_REPOS: dict[Layout, str] = {
    "competition_math": "qwedsacf/competition_math",
    "hendrycks_math": "EleutherAI/hendrycks_math",
}
_COLUMNS = ["problem", "solution", "level", "type"]
SUBJECTS = (
    "algebra",
    "counting_and_probability",
    "geometry",
    "intermediate_algebra",
    "number_theory",
    "prealgebra",
    "precalculus",
)
_BOX = re.compile(r"\\(?:boxed|fbox)\s*")


class MATH(HubDataModule):
    r"""MATH in either of its two common layouts; the gold answer is the last balanced ``\boxed{}`` of the solution.

    Args:
        layout: ``competition_math``: one table of all 12,500, so validation and test are carved; ``hendrycks_math``:
            one configuration for each subject, with the official train and test splits.
        subjects: With ``hendrycks_math``, which configurations to load; None for all seven.
        repo: Hub id, None for the usual one of the layout.
    """

    def __init__(
        self,
        layout: Layout = "competition_math",
        subjects: list[str] | None = None,
        repo: str | None = None,
        **kwargs: Any,
    ) -> None:
        if layout not in _REPOS:
            raise DataError(f"data.layout must be one of {', '.join(_REPOS)}, got {layout!r}")
        super().__init__(repo=repo or _REPOS[layout], **kwargs)
        if unknown := set(subjects or ()) - set(SUBJECTS):
            raise DataError(f"data.subjects: {sorted(unknown)[0]!r} is none of {', '.join(SUBJECTS)}")
        if subjects and layout == "competition_math":
            raise DataError("data.subjects needs data.layout=hendrycks_math: the other layout is one table of them all")
        self.layout = layout
        self.subjects = subjects or list(SUBJECTS)
        if layout == "hendrycks_math" and self.path is not None:
            for subject in self.subjects:
                if not (self.path / subject).is_dir():
                    raise DataError(f"{self.path} has no folder {subject!r}: this layout has one for each subject")

    def load(self) -> Mapping[Split, Sequence[Problem]]:
        """One pool, or the official train and test of every chosen subject."""
        if self.layout == "competition_math":
            rows = self.rows("train", _COLUMNS)
            return {"train": [_problem(f"math/{i}", row) for i, row in enumerate(rows)]}
        names: list[Split] = ["train", "test"]
        return {
            name: [
                _problem(f"math/{subject}/{name}/{i}", row)
                for subject in self.subjects
                for i, row in enumerate(self.rows(name, _COLUMNS, subject))
            ]
            for name in names
        }


def _problem(id: str, row: Row) -> Problem:
    gold = last_boxed(row.text("solution"))
    if not gold:
        raise DataError(rf"{row.place}: no balanced \boxed{{}} in the solution column; correct or remove the row")
    about = {"subject": row.text("type", optional=True), "level": row.text("level", optional=True)}
    return Problem(id, row.text("problem"), gold, kind="math", source="math", metadata=about)


def last_boxed(solution: str) -> str | None:
    r"""Content of the last ``\boxed{}`` or ``\fbox{}``, braces balanced; also the older ``\boxed 5`` without braces.

    >>> last_boxed(r"so $\boxed{x}$, that is $\boxed{\frac{1}{2}}$.")
    '\\frac{1}{2}'
    >>> last_boxed(r"$\boxed 5$"), last_boxed(r"$\boxed{\frac{1}{2}$")
    ('5', None)
    """
    boxes = list(_BOX.finditer(solution))
    if not boxes:
        return None
    rest = solution[boxes[-1].end() :]
    if not rest.startswith("{"):
        return re.split(r"\$|\\\)|\\\]|\n", rest)[0].strip().rstrip(".") or None
    depth = 0
    for brace in re.finditer(r"\\.|[{}]", rest, re.DOTALL):
        depth += {"{": 1, "}": -1}.get(brace.group(), 0)
        if depth == 0 and brace.group() == "}":
            return rest[1 : brace.start()].strip() or None
    return None
