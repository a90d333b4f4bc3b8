"""Questions to be answered rather than learned from: a file of them, with or without gold answers."""

from __future__ import annotations

from pathlib import Path

from core_lightning.data.errors import DataError
from core_lightning.data.files import as_text, read_lines, read_rows
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
        rows = [(i, {"question": line}) for i, line in read_lines(file)]
    else:
        rows = [(i, dict(row)) for i, row in read_rows(file)]
    problems: dict[str, Problem] = {}
    for line, row in rows:
        where = f"{file}:{line}"
        if "question" not in row:
            raise DataError(f"{where}: no 'question' among {', '.join(row)[:200]}; name the column of the questions so")
        question, id, answer = (as_text(row.get(n), f"{where}: {n!r}") for n in ("question", "id", "answer"))
        id = id or f"{file.stem}:{line}"
        if not question:
            if file.suffix == ".txt":
                continue  # a blank line
            raise DataError(f"{where}: 'question' is empty; fill it in or remove the row")
        if id in problems:
            raise DataError(f"{where}: id {id[:60]!r} stands twice; ids must be unique")
        problems[id] = Problem(id, question, answer, kind, source=file.stem)
    if not problems:
        raise DataError(f"{file} holds no questions")
    return list(problems.values())
