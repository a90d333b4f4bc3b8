"""One rescue as plain text, for tables and the page."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypedDict


class Rescue(TypedDict):
    """One rescue, as plain text for tables and reports."""

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
    truncated: bool


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
