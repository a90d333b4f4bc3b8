"""One hinted attempt as plain text, for tables and the page, and what was removed from a hint."""

from __future__ import annotations

import re
from dataclasses import dataclass
from difflib import SequenceMatcher
from typing import NotRequired, TypedDict

#: Longer texts are not compared word by word.
MAX_WORDS = 3000
_WORDS = re.compile(r"\s+|\d+|[^\W\d]+|.", re.DOTALL)


class Rescue(TypedDict):
    """One attempt with a hint of a peer that had failed cold, as plain text for tables and reports."""

    step: int
    problem: str
    question: str
    gold: str
    student: str
    teacher: str
    wrong_answer: str
    wrong_text: str
    hint: str
    leaks: bool
    answer: str
    text: str
    flaw: str
    """Why a rescue was left out of what is imitated; empty for a faithful one, and for an attempt that failed."""
    truncated: bool
    teacher_text: NotRequired[str]
    """The trace that the hint was made from."""


@dataclass(frozen=True)
class RescueCounts:
    """(problem, peer) pairs of a run that failed cold and saw a hint, all peers together."""

    hinted: int
    rescued: int
    """Those of them that then succeeded."""
    faithful: int
    """Those of them with a correct trace that is faithful, so that it may be imitated."""
    leaks: int
    """Those whose hint still held the gold value."""


def marked(trace: str, hint: str) -> list[tuple[str, bool]]:
    """The teacher's trace in pieces, each with whether it was removed for the hint, by words that both have in order.

    What the hint alone has stands among the pieces as kept. Texts that are too long to compare are one kept piece, the
    hint.

    >>> marked("9 * 2 = 18 dollars.", "9 * 2 = dollars.")
    [('9 * 2 = ', False), ('18 ', True), ('dollars.', False)]
    """
    old, new = _WORDS.findall(trace), _WORDS.findall(hint)
    if not trace or max(len(old), len(new)) > MAX_WORDS:
        return [(hint, False)]
    pieces: list[tuple[str, bool]] = []
    for kind, a, b, c, d in SequenceMatcher(None, old, new, autojunk=False).get_opcodes():
        if kind in ("delete", "replace"):
            pieces.append(("".join(old[a:b]), True))
        if kind != "delete":
            pieces.append(("".join(new[c:d]), False))
    joined: list[tuple[str, bool]] = []
    for text, removed in pieces:
        if joined and joined[-1][1] == removed:
            joined[-1] = (joined[-1][0] + text, removed)
        else:
            joined.append((text, removed))
    return joined
