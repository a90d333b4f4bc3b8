"""Multiple choice: the options as a question shows them, and the letter of the right one."""

from __future__ import annotations

import re
from collections.abc import Sequence

LETTERS = "ABCDEFGHIJ"
_LABEL = re.compile(r"\s*\(?([A-Za-z])\s*[).:]\s*")
_SHOWN = re.compile(r"^\s*\(?([A-Z])\s*[).:]\s*\S", re.MULTILINE)


def render_choices(question: str, options: Sequence[str]) -> str:
    """The question with its options below it, one a line.

    >>> print(render_choices("Even?", ["3", "4"]))
    Even?
    <BLANKLINE>
    A) 3
    B) 4
    """
    return "\n".join([question, "", *(f"{letter}) {option}" for letter, option in zip(LETTERS, options, strict=False))])


def bare_options(options: Sequence[str]) -> list[str]:
    """Options without the letters that some sources write before them, if all have theirs in order.

    >>> bare_options(["A)21", "B) 22"]), bare_options(["A) 1", "C) 2"])
    (['21', '22'], ['A) 1', 'C) 2'])
    """
    labels = [_LABEL.match(option) for option in options]
    if all(m and m[1].upper() == letter for m, letter in zip(labels, LETTERS, strict=False)):
        return [option[m.end() :].strip() for option, m in zip(options, labels, strict=True) if m]
    return [option.strip() for option in options]


def gold_letter(answer: str, options: Sequence[str]) -> str | None:
    """The letter an answer stands for: itself, or the one option that it is the text of; None where that is not clear.

    >>> gold_letter("b", ["3", "4"]), gold_letter("4", ["3", "4"]), gold_letter("5", ["3", "4"])
    ('B', 'B', None)
    """
    same = [i for i, option in enumerate(options) if option == answer.strip()]
    named = _LABEL.fullmatch(f"{answer.strip()})")
    letter = named[1].upper() if named else ""
    if letter and 0 <= LETTERS.find(letter) < len(options):
        # An option may be a single letter itself: then only the same one is clear.
        return letter if not same or same == [LETTERS.index(letter)] else None
    return LETTERS[same[0]] if len(same) == 1 else None


def shows_options(question: str) -> bool:
    """Whether a question holds its options itself: lines that begin with A, B, ... in order."""
    return [m[1] for m in _SHOWN.finditer(question)][:2] == ["A", "B"]
