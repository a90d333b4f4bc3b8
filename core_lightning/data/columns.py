"""What the columns of a row say: a question made of one or several, and the options of a multiple-choice question."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from string import Formatter
from typing import Any

from core_lightning.data.choices import LETTERS, bare_options, gold_letter
from core_lightning.data.errors import DataError
from core_lightning.data.files import as_text


def template_fields(template: str) -> list[tuple[str, str | None]]:
    """The words of a question's template, each with the column behind them; none for the name of a single column.

    >>> template_fields("{passage}\\n\\n{question}"), template_fields("question")
    ([('', 'passage'), ('\\n\\n', 'question')], [])
    """
    try:
        fields = [(words, field) for words, field, _, _ in Formatter().parse(template)]
    except ValueError:
        return []
    return fields if any(field for _, field in fields) else []


def question_of(template: str, text: Callable[[str], str]) -> str:
    """The question of a row.

    Args:
        template: A column, or a template of several.
        text: What a column of the row holds.
    """
    fields = template_fields(template)
    return "".join(words + (text(field) if field else "") for words, field in fields) if fields else text(template)


def options_of(
    row: Mapping[str, Any], choices: str | list[str], where: str, text: Callable[[str], str]
) -> tuple[str, ...]:
    """The options of a row, without letters before them.

    Args:
        row: Cells by column.
        choices: A column with a list, or a list of columns with an option each.
        where: The row's place.
        text: What a column of the row holds.

    Raises:
        DataError: There are none, too many, or two alike.
    """
    if isinstance(choices, list):
        options = [text(column) for column in choices]
    else:
        if choices not in row:
            raise DataError(f"{where}: no {choices!r} among {', '.join(row)[:200]}; correct data.columns.choices")
        listed = row[choices]
        if isinstance(listed, str):
            try:
                listed = json.loads(listed)
            except ValueError:
                listed = None
        if not isinstance(listed, list):
            raise DataError(f"{where}: {choices!r} is no list of options; in CSV, write it as a JSON list")
        options = [as_text(option, f"{where}: {choices!r}") for option in listed]
    options = bare_options(options)
    if not 2 <= len(options) <= len(LETTERS) or not all(options) or len(set(options)) < len(options):
        raise DataError(
            f"{where}: expected 2 to {len(LETTERS)} different options that are not empty, got {len(options)}: "
            f"{', '.join(options)[:60]}"
        )
    return tuple(options)


def letter_of(answer: str, options: tuple[str, ...], where: str) -> str:
    """The letter that a gold answer stands for.

    Raises:
        DataError: It is no letter of an option, nor the text of one.
    """
    letter = gold_letter(answer, options)
    if letter is None:
        raise DataError(
            f"{where}: the answer {answer[:40]!r} is neither a letter up to {LETTERS[len(options) - 1]} nor the text "
            "of one option; correct the row"
        )
    return letter
