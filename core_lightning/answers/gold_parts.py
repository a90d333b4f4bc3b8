r"""Where the parts of a gold answer stand together: its list, tuple or interval in other words.

The answer "(4,-1)" is said by "x = 4 and y = -1", and "[2,5)" by "2 \le x < 5". One part alone says little, so a part
counts only where all of them are stated close together.
"""

from __future__ import annotations

import re
from collections import Counter, deque
from functools import lru_cache
from typing import TYPE_CHECKING

from core_lightning.answers.equality import infer_kind
from core_lightning.answers.gold_forms import Span, find_gold, is_operand
from core_lightning.answers.notation import plain_notation, undelimited

if TYPE_CHECKING:
    from core_lightning.records import AnswerKind

MAX_PARTS = 12
"""A longer list is found only as it is written."""
TOGETHER = 120
"""The parts stand within so many characters."""
MAX_BETWEEN = 24

_RELATION = r"(?:[<>≤≥]=?|\\(?:leq?|geq?|lt|gt)(?![A-Za-z]))"
_BRACKETS = re.compile(r"\\[{}]|[()\[\]{}]")
_SPLIT = re.compile(rf"\\cup(?![A-Za-z])|\bor\b|\band\b|{_RELATION}|\\in(?![A-Za-z])|[,;=]")
_PLUS_MINUS = re.compile(r"\\pm(?![A-Za-z])|±")
_SIGNED = re.compile(r"(?<![\d)\]}])\s*(?:\\pm(?![A-Za-z])|±)\s*\Z")
_ENDLESS = re.compile(r"[-+]?\s*\\infty\s*\Z")
_STATED = re.compile(rf"(?:=|≈|\\approx(?![A-Za-z])|{_RELATION}|\b(?:is|are|be|equals?)\b)[\s$(\[{{\\]*\Z")
_BOUNDED = re.compile(rf"{_RELATION}[\s$(\[{{\\]*\Z")
_BOUNDS = re.compile(rf"[\s$)}}]*{_RELATION}")
_BETWEEN_PARTS = re.compile(
    r"[\s$(){}\[\]\\,;&*]*(?:(?:or|and|to)\b|\\text\s*\{\s*(?:or|and)\s*\}|\\le\b|<|≤)?"
    r"[\s$(){}\[\]\\,;*]*(?:[A-Za-z](?:_\d)?\s*=\s*)?"
)


def find_parts(text: str, gold: str, kind: AnswerKind) -> list[Span]:
    r"""Every part of a list, tuple, interval or inequality that stands in a text together with all others.

    Args:
        text: Any text.
        gold: Gold answer without its mark.
        kind: Its kind, not ``auto``.

    >>> find_parts("So x = 2 or x = 3.", "2,3", "math"), find_parts("So x = 2, and 3 are left.", "2,4", "math")
    ([(7, 8), (16, 17)], [])
    """
    parts, bound = _parts(gold) if kind == "math" else ((), False)
    if not parts:
        return []
    places = sorted((*span, part) for part in set(parts) for span in find_gold(text, part, infer_kind(part)))
    places = [place for place in places if not is_operand(text, place[:2])]
    if bound:
        return [place[:2] for place in places if _stands(text, place[:2], _BOUNDED)]
    signed = [
        place[:2]
        for place in places
        if "-" + place[2] in parts and _SIGNED.search(text[max(0, place[0] - MAX_BETWEEN) : place[0]])
    ]
    wanted = Counter(parts)
    stated = [place for place in places if _stands(text, place[:2], _STATED)]
    return sorted({*(signed if len(parts) == 2 else ()), *_windows(stated, wanted), *_rows(text, places, wanted)})


@lru_cache(maxsize=1024)
def _parts(gold: str) -> tuple[tuple[str, ...], bool]:
    """The numbers and expressions a list-like answer is made of, and whether it is one bound: "x < 3"."""
    plain = undelimited(plain_notation(gold)).strip(" .")
    if _PLUS_MINUS.match(plain):
        size = _PLUS_MINUS.sub("", plain, count=1).strip()
        return ((size, "-" + size), False) if any(c.isdigit() for c in size) else ((), False)
    if not re.search(rf"{_RELATION}|[,;]|\bor\b|\band\b", plain) or "\\begin" in plain:
        return (), False
    pieces = [_closed(piece) for piece in _SPLIT.split(plain)]
    finite = [
        piece for piece in pieces if piece and not _ENDLESS.match(piece) and not re.fullmatch(r"[A-Za-z](_\d)?", piece)
    ]
    if not 0 < len(finite) <= MAX_PARTS or not all(re.search(r"\d", piece) for piece in finite):
        return (), False
    bounded = len(finite) == 1
    return tuple(finite), bounded


def _closed(piece: str) -> str:
    """A piece without the brackets that opened before it or close behind it."""
    piece = piece.strip(" $")
    while piece and (unmatched := _unmatched(piece)) is not None:
        start, end = unmatched
        piece = (piece[:start] + piece[end:]).strip(" $")
    return piece


def _unmatched(piece: str) -> Span | None:
    opened: list[Span] = []
    for bracket in _BRACKETS.finditer(piece):
        if bracket[0][-1] in "([{":
            opened.append(bracket.span())
        elif opened:
            opened.pop()
        else:
            return bracket.span()
    return opened[0] if opened else None


def _stands(text: str, span: Span, before: re.Pattern[str]) -> bool:
    """Whether something that states a value stands before it, or a bound behind it."""
    start, end = span
    return (
        before.search(text, max(0, start - MAX_BETWEEN), start) is not None
        or _BOUNDS.match(text, end, end + MAX_BETWEEN) is not None
    )


def _windows(places: list[tuple[int, int, str]], wanted: Counter[str]) -> list[Span]:
    """Those places within reach of which all that is wanted stands."""
    found: list[Span] = []
    window: deque[tuple[int, int, str]] = deque()
    inside: Counter[str] = Counter()
    taken = 0  # so many at the end of the window are not in ``found`` yet
    for place in places:
        window.append(place)
        inside[place[2]] += 1
        taken += 1
        while place[1] - window[0][0] > TOGETHER:
            inside[window.popleft()[2]] -= 1
        taken = min(taken, len(window))
        if wanted <= inside:
            found += [window[i][:2] for i in range(len(window) - taken, len(window))]
            taken = 0
    return found


def _rows(text: str, places: list[tuple[int, int, str]], wanted: Counter[str]) -> list[Span]:
    """Those places that stand in a row with all that is wanted: "2 and 3", "(4, -1)"."""
    found: list[Span] = []
    row: list[tuple[int, int, str]] = []
    for place in [*places, None]:
        between = text[row[-1][1] : place[0]] if row and place else ""
        if row and (not 0 < len(between) <= MAX_BETWEEN or not _BETWEEN_PARTS.fullmatch(between)):
            if wanted <= Counter(part for *_, part in row):
                found += [part[:2] for part in row]
            row = []
        row += [place] if place else []
    return found
