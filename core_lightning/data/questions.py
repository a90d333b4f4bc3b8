"""Questions to be answered rather than learned from: a file of them, with or without gold answers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from core_lightning.data.choices import render_choices, shows_options
from core_lightning.data.columns import letter_of, options_of, question_of, template_fields
from core_lightning.data.errors import DataError
from core_lightning.data.files import as_text, read_lines, read_rows
from core_lightning.records import AnswerKind, Problem


def read_questions(
    file: Path, kind: AnswerKind = "auto", columns: Mapping[str, str | list[str]] | None = None
) -> list[Problem]:
    """Problems of a file: one question a line in ``.txt``; in ``.jsonl``, ``.csv`` and ``.parquet`` rows with ``question``.

    Args:
        file: Rows may also have ``id``, ``answer`` and ``choices``; where there is no answer it is empty, which stands for
            unknown. Options are shown below the question, and the answer is a letter, as in training.
        kind: How answers are extracted where there are no options.
        columns: Which column holds ``id``, ``question``, ``answer`` and ``choices`` (:class:`~core_lightning.data.Table`);
            a row without it is read by these names.

    Raises:
        DataError: One line with the file, the row and the mend.
    """
    if not file.is_file():
        there = "is a folder, not a file" if file.is_dir() else "is not there"
        raise DataError(f"{file} {there}; correct data.predict_path")
    if file.suffix == ".txt":
        rows = [(i, {"question": line}) for i, line in read_lines(file)]
    else:
        rows = [(i, dict(row)) for i, row in read_rows(file)]
    problems: dict[str, Problem] = {}
    for line, row in rows:
        where = f"{file}:{line}"
        problem = _problem(row, where, kind, columns or {})
        id = problem.id or f"{file.stem}:{line}"
        if not problem.question:
            if file.suffix == ".txt":
                continue  # a blank line
            raise DataError(f"{where}: 'question' is empty; fill it in or remove the row")
        if id in problems:
            raise DataError(f"{where}: id {id[:60]!r} stands twice; ids must be unique")
        problems[id] = replace(problem, id=id, source=file.stem)
    if not problems:
        raise DataError(f"{file} holds no questions")
    return list(problems.values())


def _problem(row: Mapping[str, Any], where: str, kind: AnswerKind, columns: Mapping[str, str | list[str]]) -> Problem:
    """A row as a problem; its id, question and answer are empty where it has none."""

    def text(column: str) -> str:
        return as_text(row.get(column), f"{where}: {column!r}")

    def named(field: str) -> Any:
        """The column of a field that this row has."""
        own = columns.get(field, field)
        return own if all(part in row for part in _parts(own)) else field

    template, choices, id, answer = named("question"), named("choices"), text(named("id")), text(named("answer"))
    if template == "question" and "question" not in row:
        raise DataError(f"{where}: no 'question' among {', '.join(row)[:200]}; name the column of the questions so")
    question = question_of(template, text) if all(map(text, _parts(template))) else ""
    if question and any(row.get(column) not in (None, "", []) for column in _parts(choices)):
        options = options_of(row, choices, where, text)
        letter = letter_of(answer, options, where) if answer else ""
        asked = render_choices(question, options)
        return Problem(id, asked, letter, "choice", chance=1 / len(options), choices=options)
    return Problem(id, question, answer, "auto" if kind == "choice" and not shows_options(question) else kind)


def _parts(columns: str | list[str]) -> list[str]:
    """The columns that a setting names."""
    return columns if isinstance(columns, list) else [f for _, f in template_fields(columns) if f] or [columns]
