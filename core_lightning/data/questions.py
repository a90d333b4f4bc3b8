"""Questions to be answered rather than learned from: a file of them, with or without gold answers."""

from __future__ import annotations

from pathlib import Path

from core_lightning.data.errors import DataError
from core_lightning.data.files import as_text, read_rows
from core_lightning.records import AnswerKind, Problem


def read_questions(file: Path, kind: AnswerKind = "auto") -> list[Problem]:
    """Problems of a file: one question a line in ``.txt``; in ``.jsonl``, ``.csv`` and ``.parquet`` rows with ``question``.

    Args:
        file: Rows may also have ``id`` and ``answer``; where there is no answer it is empty, which stands for unknown.
        kind: How answers are extracted.

    Raises:
        DataError: One line with the file, the row and the mend.
    """
    if not file.is_file():
        raise DataError(f"{file} is not there; correct data.predict_path")
    if file.suffix == ".txt":
        rows = [(i, {"question": line}) for i, line in enumerate(file.read_text(encoding="utf-8").splitlines(), 1)]
    else:
        rows = [(i, dict(row)) for i, row in read_rows(file)]
    problems: dict[str, Problem] = {}
    for line, row in rows:
        where = f"{file}:{line}"
        if "question" not in row:
            raise DataError(f"{where}: no 'question' among {', '.join(row)}; name the column of the questions so")
        question, id = as_text(row["question"], where), as_text(row.get("id"), where) or f"{file.stem}:{line}"
        if not question:
            if file.suffix == ".txt":
                continue  # a blank line
            raise DataError(f"{where}: 'question' is empty; fill it in or remove the row")
        if id in problems:
            raise DataError(f"{where}: id {id!r} stands twice; ids must be unique")
        problems[id] = Problem(id, question, as_text(row.get("answer"), where), kind, source=file.stem)
    if not problems:
        raise DataError(f"{file} holds no questions")
    return list(problems.values())
