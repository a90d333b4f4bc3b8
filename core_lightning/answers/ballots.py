"""What each answer to one problem votes for: answers that say the same vote alike, and nobody asks what is right."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

from core_lightning.answers.equality import canonical_answer
from core_lightning.answers.quantities import Quantity
from core_lightning.answers.readings import stated_number

if TYPE_CHECKING:
    from core_lightning.records import AnswerKind


def ballots(answers: Sequence[str | None], kind: AnswerKind) -> list[str | None]:
    r"""A string for each answer that equal ones share, as far as that can be told without computer algebra.

    A percent sign (or "dozen") can be a unit or a factor: 50% may say 50 or 1/2, and the verifier takes it for either. So
    such an answer votes with the plain number that more of the others gave, and with the one it is written with if
    neither has more.

    Args:
        answers: Of one problem, of all peers that vote together; None, no answer, never votes.
        kind: How they are read.

    >>> ballots(["50%", "50", "0.5", "50"], "number"), ballots(["50%", "0.5", None], "number")
    (['50', '50', '1/2', '50'], ['1/2', '1/2', None])
    >>> ballots([r"\frac{2}{4}", "0.50", "x = 1/2", "many"], "math")
    ['1/2', '1/2', '1/2', 'many']
    """
    read = [None if a is None else (canonical_answer(a, kind) or a) for a in answers]
    if kind in ("choice", "text"):
        return read
    dressed = [None if a is None else _dressed(a) for a in answers]
    plain = Counter(vote for vote, number in zip(read, dressed, strict=True) if vote is not None and number is None)
    votes = []
    for vote, number in zip(read, dressed, strict=True):
        multiplied = vote if number is None else str(number.value * number.ratio)
        votes.append(multiplied if vote is not None and plain[multiplied or ""] > plain[vote] else vote)
    return votes


def _dressed(answer: str) -> Quantity | None:
    """The number an answer states with a percent sign or "dozen"."""
    found = stated_number(answer)
    return found[1] if isinstance(found, tuple) and found[1].ratio != 1 else None
