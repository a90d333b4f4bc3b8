"""Your own problems: JSON lines, CSV or Parquet with a column mapping."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from core_lightning.data.errors import DataError
from core_lightning.data.module import RescueDataModule
from core_lightning.data.splits import Split
from core_lightning.records import AnswerKind, Problem

_FIELDS = ("id", "question", "answer")


class Table(RescueDataModule):
    """Problems in ``.jsonl``, ``.csv`` or ``.parquet`` files with columns ``id, question, answer``, or others by name.

    Args:
        path: The training problems; validation and test are carved from them where they have no file of their own.
        val_path: The validation problems.
        test_path: The test problems.
        columns: Which column holds ``id``, ``question`` and ``answer``, where it is named otherwise. A file without an
            id column gets ids made of its name and the line.
        kind: How answers are extracted and compared: ``number``, ``math``, ``choice`` (a letter), ``text`` or ``auto``.
        chance: Probability that a blind guess is right, for multiple choice.
    """

    def __init__(
        self,
        path: str,
        val_path: str | None = None,
        test_path: str | None = None,
        columns: dict[str, str] | None = None,
        kind: AnswerKind = "auto",
        chance: float = 0.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        named: dict[Split, str | None] = {"train": path, "val": val_path, "test": test_path}
        self.paths = {split: Path(file) for split, file in named.items() if file is not None}
        for file in self.paths.values():
            if not file.is_file():
                raise DataError(f"{file} is not there; correct data.path, data.val_path or data.test_path")
        if unknown := set(columns or ()) - set(_FIELDS):
            raise DataError(
                f"data.columns maps {', '.join(_FIELDS)} to column names, and knows no {sorted(unknown)[0]!r}"
            )
        self.columns = dict(zip(_FIELDS, _FIELDS, strict=True)) | (columns or {})
        self.kind = kind
        self.guess = chance

    def load(self) -> Mapping[Split, Sequence[Problem]]:
        """One list for each file."""
        problems: dict[Split, list[Problem]] = {}
        for split, file in self.paths.items():
            problems[split] = [self._problem(row, line, file) for line, row in self.read(file)]
            if not problems[split]:
                raise DataError(f"{file} is empty: it needs one row for each problem, with {', '.join(_FIELDS)}")
        return problems

    def read(self, file: Path) -> Iterator[tuple[int, Mapping[str, Any]]]:
        """Rows with their line number (row number in Parquet), by the file's suffix."""
        readers = {".jsonl": read_json_lines, ".csv": read_csv, ".parquet": read_parquet}
        if file.suffix not in readers:
            raise DataError(f"{file}: unknown format {file.suffix!r}, expected one of {', '.join(readers)}")
        return readers[file.suffix](file)

    def _problem(self, row: Mapping[str, Any], line: int, file: Path) -> Problem:
        where = f"{file}:{line}"

        def text(name: str) -> str:
            column = self.columns[name]
            if column not in row:
                raise DataError(f"{where}: no {column!r} among {', '.join(row)}; map it with data.columns.{name}")
            if not (value := as_text(row[column], where)):
                raise DataError(f"{where}: {column!r} is empty; fill it in or remove the row")
            return value

        id = text("id") if self.columns["id"] in row else f"{file.stem}:{line}"
        return Problem(id, text("question"), text("answer"), self.kind, source=file.stem, chance=self.guess)


class JsonLines(Table):
    """A :class:`Table` of JSON lines, whatever the files' suffix: one object a line with ``id, question, answer``."""

    def read(self, file: Path) -> Iterator[tuple[int, Mapping[str, Any]]]:
        """Objects with their line number."""
        return read_json_lines(file)


def read_json_lines(file: Path) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """Objects of a JSON-lines file with their line number from 1; blank lines are skipped.

    Raises:
        DataError: Naming the line that is no JSON object.
    """
    try:
        with file.open(encoding="utf-8-sig") as lines:
            for number, line in enumerate(lines, start=1):
                if not line.strip():
                    continue
                try:
                    row = json.loads(line.rstrip())
                except json.JSONDecodeError as error:
                    raise DataError(
                        f"{file}:{number}: not JSON ({error.msg}, column {error.colno}); correct or remove the line"
                    ) from error
                if not isinstance(row, dict):
                    raise DataError(f"{file}:{number}: expected a JSON object, got {line.strip()[:60]}")
                yield number, row
    except UnicodeDecodeError as error:
        raise DataError(f"{file} is not UTF-8 text ({error.reason}); is it really JSON lines?") from error


def read_csv(file: Path) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """Rows of a CSV file with a header, as text, with the number of the line each ends on.

    Not through ``datasets``, which would turn the answer "007" into 7 and "NA" into nothing.
    """
    try:
        with file.open(encoding="utf-8-sig", newline="") as lines:
            reader = csv.DictReader(lines, strict=True)
            for row in reader:
                if None in row or None in row.values():
                    raise DataError(
                        f"{file}:{reader.line_num}: more or fewer fields than the header; quote texts with commas"
                    )
                yield reader.line_num, row
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{file} cannot be read as CSV in UTF-8: {error}") from error


def read_parquet(file: Path) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """Rows of a Parquet file with their number from 1."""
    from datasets import Dataset

    try:
        table = Dataset.from_parquet(str(file))
    except Exception as error:  # datasets and pyarrow have no common base, and any failure here is a damaged file
        raise DataError(f"{file} cannot be read as Parquet: {error.__cause__ or error}") from error
    yield from enumerate(table, start=1)


def as_text(value: object, where: str) -> str:
    """A cell as text: 145.0 as "145", since a number column with a gap in it is read as floats; None as nothing.

    Raises:
        DataError: If the cell, which is at ``where``, is a list or an object.
    """
    if value is None:
        return ""
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    if isinstance(value, str | bool | int | float):
        return str(value).strip()
    raise DataError(f"{where}: expected a text or a number, got {str(value)[:60]}")
