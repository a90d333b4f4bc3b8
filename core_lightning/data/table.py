"""Your own problems: JSON lines, CSV or Parquet with a column mapping."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from core_lightning.answers import canonical_answer, infer_kind
from core_lightning.answers.equality import bare_gold
from core_lightning.data.choices import render_choices, shows_options
from core_lightning.data.columns import letter_of, options_of, question_of
from core_lightning.data.errors import DataError
from core_lightning.data.files import Rows, as_text, read_json_lines, read_rows
from core_lightning.data.module import RescueDataModule
from core_lightning.data.questions import read_questions
from core_lightning.data.splits import Split
from core_lightning.records import AnswerKind, Problem

_FIELDS = ("id", "question", "answer")
_NO_NUMBERS = ("nan", "-nan", "inf", "+inf", "-inf")


class Table(RescueDataModule):
    """Problems in ``.jsonl``, ``.csv`` or ``.parquet`` files with columns ``id, question, answer``, or others by name.

    Args:
        path: The training problems; validation and test are carved from them where they have no file of their own.
        val_path: The validation problems.
        test_path: The test problems.
        columns: Which column holds ``id``, ``question``, ``answer`` and ``choices``, where it is named otherwise. The
            question may be a template of several columns, as ``"{passage}\\n\\n{question}"``. ``choices`` is a column with
            a list (in CSV as JSON), or a list of columns with an option each; the answer is then a letter, or the text of
            an option. A file without an id column gets ids made of its name and the line; ids that stand in two files
            get the name of their split before them.
        kind: How answers are extracted and compared: ``number``, ``math``, ``choice`` (a letter), ``text`` or ``auto``;
            always ``choice`` with ``columns.choices``.
        chance: Probability that a blind guess is right; None for 1 / number of options, 0 without options.
    """

    def __init__(
        self,
        path: str,
        val_path: str | None = None,
        test_path: str | None = None,
        columns: dict[str, str | list[str]] | None = None,
        kind: AnswerKind = "auto",
        chance: float | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        named: dict[Split, str | None] = {"train": path, "val": val_path, "test": test_path}
        self.paths = {split: Path(file) for split, file in named.items() if file is not None}
        for file in self.paths.values():
            if not file.is_file():
                there = "is a folder, not a file" if file.is_dir() else "is not there"
                raise DataError(f"{file} {there}; correct data.path, data.val_path or data.test_path")
        known = (*_FIELDS, "choices")
        if unknown := set(columns or ()) - set(known):
            raise DataError(
                f"data.columns maps {', '.join(known)} to column names, and knows no {sorted(unknown)[0]!r}"
            )
        self.choices = (columns or {}).get("choices")
        self.columns = dict(zip(_FIELDS, _FIELDS, strict=True))
        for name, column in (columns or {}).items():
            if name != "choices":
                if not isinstance(column, str):
                    raise DataError(
                        f"data.columns.{name} is a list; give one column, or for the question a template of several"
                    )
                self.columns[name] = column
        if self.choices is not None and kind not in ("auto", "choice"):
            raise DataError(
                f"data.kind is {kind}, but data.columns.choices makes every answer a letter; leave kind out"
            )
        if chance is not None and not 0 <= chance <= 1:
            raise DataError(f"data.chance is {chance}; set it in [0, 1] or leave it out")
        self.kind: AnswerKind = kind if self.choices is None else "choice"
        self.guess = chance

    @property
    def origin(self) -> str:
        """The training file."""
        return str(self.paths["train"])

    def load(self) -> Mapping[Split, Sequence[Problem]]:
        """One list for each file."""
        problems: dict[Split, list[Problem]] = {}
        for split, file in self.paths.items():
            lines: dict[str, int] = {}
            problems[split] = []
            for line, row in self.read(file):
                problem = self._problem(row, line, file)
                if (first := lines.setdefault(problem.id, line)) != line:
                    raise DataError(
                        f"{file}:{line}: id {problem.id[:60]!r} stands in line {first} already; ids must be unique in a file"
                    )
                problems[split].append(problem)
            if not problems[split]:
                raise DataError(f"{file} is empty: it needs one row for each problem, with {', '.join(_FIELDS)}")
        ids = [p.id for own in problems.values() for p in own]
        if len(set(ids)) < len(ids):  # files that count from the same number, or have the same name in two folders
            return {s: [replace(p, id=f"{s}/{p.id}") for p in own] for s, own in problems.items()}
        return problems

    def read(self, file: Path) -> Rows:
        """Rows with their line number (row number in Parquet), by the file's suffix."""
        return read_rows(file)

    def read_questions(self, file: Path) -> list[Problem]:
        """Questions in the columns that the problems have, or in those of any file of questions."""
        names = self.columns if self.choices is None else {**self.columns, "choices": self.choices}
        return read_questions(file, self.kind, names)

    def _problem(self, row: Mapping[str, Any], line: int, file: Path) -> Problem:
        where = f"{file}:{line}"

        def text(column: str, field: str) -> str:
            if column not in row:
                raise DataError(
                    f"{where}: no {column!r} among {', '.join(row)[:200]}; map it with data.columns.{field}"
                )
            if not (value := as_text(row[column], f"{where}: {column!r}")):
                raise DataError(f"{where}: {column!r} is empty; fill it in or remove the row")
            return value

        id = text(self.columns["id"], "id") if self.columns["id"] in row else f"{file.stem}:{line}"
        question = question_of(self.columns["question"], lambda column: text(column, "question"))
        answer = text(self.columns["answer"], "answer")
        if self.choices is None:
            if self.kind == "choice" and not shows_options(question):
                raise DataError(
                    f"{where}: data.kind is choice, but the question shows no options A), B), ...; name their column as "
                    "data.columns.choices"
                )
            self._check_gold(answer, where)
            return Problem(id, question, answer, self.kind, source=file.stem, chance=self.guess or 0.0)
        options = options_of(row, self.choices, where, lambda column: text(column, "choices"))
        letter = letter_of(answer, options, where)
        chance = 1 / len(options) if self.guess is None else self.guess
        shown = render_choices(question, options)
        return Problem(id, shown, letter, "choice", source=file.stem, chance=chance, choices=options)

    def _check_gold(self, answer: str, where: str) -> None:
        if self.kind != "text" and answer.lower() in _NO_NUMBERS:
            raise DataError(
                f"{where}: the answer is {answer}, which programs write where a number is missing; correct or remove the "
                "row, or set data.kind to text if it is the answer"
            )
        gold = bare_gold(answer)
        if canonical_answer(gold, infer_kind(gold) if self.kind == "auto" else self.kind) is None:
            as_what = {"number": "a number", "choice": "a letter"}.get(self.kind, "an answer")
            raise DataError(
                f"{where}: the answer {answer[:40]!r} cannot be read as {as_what}, so nothing would ever be right; correct "
                "or remove the row, or change data.kind"
            )


class JsonLines(Table):
    """A :class:`Table` of JSON lines, whatever the files' suffix: one object a line with ``id, question, answer``."""

    def read(self, file: Path) -> Rows:
        """Objects with their line number."""
        return read_json_lines(file)
