"""The two sides of an equation in prose: where each begins and ends, and what it is worth."""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction

from core_lightning.answers.arithmetic import Reader, UnreadableError
from core_lightning.answers.equation_tokens import Token, unit_power
from core_lightning.answers.equation_words import FILLER, JOINING, LABELS, MEASURES, OPERATION, SHARES, singular

MAX_SIDE_TOKENS = 80
"""A longer side of an equation is not read."""

_DENIED = re.compile(
    r"[\s$.\"')]*(?:\?|(?:is|was|would be|isn['’]t)\s+(?:not\b|wrong|incorrect|false)|(?:with\s+)?(?:a\s+)?remainder|"
    r"rem\b|r\.?\s*\d|(?:with|and)\s+\d+\s+(?:left|remain))",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Side:
    """One side of an equation."""

    values: frozenset[Fraction]
    """Its value, in every way it can be read."""
    start: int
    """Index of its first piece."""
    end: int
    """Index behind its last piece that counts, units left out."""
    operators: frozenset[str]
    units: frozenset[str]
    """First word of every unit, in the singular; "dollar" for any currency sign."""
    written: Token | None
    """The number as it was written, where the side is one number."""


def left_side(tokens: Sequence[Token], relation: int) -> Side | None:
    """What stands before a relation, from its beginning: the first place from which all of it can be read."""
    first = relation
    while first > 0 and tokens[first - 1].kind not in ("b", "=", "~", "#") and relation - first <= MAX_SIDE_TOKENS:
        first -= 1
    if relation - first > MAX_SIDE_TOKENS:
        return None
    if tokens[first].kind in ("*", "-") and first + 1 < relation and tokens[first + 1].spaced:
        return _behind_bullet(tokens, first, relation)
    return _first_side(tokens, first, relation)


def _behind_bullet(tokens: Sequence[Token], first: int, relation: int) -> Side | None:
    """A left side behind a bullet, which may be meant as a minus sign."""
    side = _first_side(tokens, first + 1, relation)
    if side is None or tokens[first].kind == "*":
        return side
    negative = read_side(tokens, first, relation, whole=True)
    return replace(side, values=side.values | negative.values) if negative else side


def _first_side(tokens: Sequence[Token], first: int, relation: int) -> Side | None:
    unmatched = _unmatched(tokens, first, relation)
    for start in range(first, relation):
        token = tokens[start]
        if token.kind not in ("n", "(", "f", "r", "+", "-") or start in unmatched:
            continue
        before = tokens[start - 1] if start > first else None
        if before is None and _torn(tokens, start):
            return None
        if before is not None and before.kind != "w" and start - 1 not in unmatched:
            continue
        if before is not None and token.kind in ("+", "-") and tokens[start + 1].spaced:
            continue  # cost - 5
        aside = before is not None and before.kind == "(" and start - 1 > first
        if aside and tokens[start - 2].kind not in ("w", "(", "n", ")"):
            continue  # 100 + (5 = 5
        side = read_side(tokens, start, relation, whole=True)
        if side is not None:
            if before is not None and before.kind == "w" and not _leads_in(tokens, first, start):
                return None
            return side
    return None


def _torn(tokens: Sequence[Token], start: int) -> bool:
    """Whether the mark before a left side tears a number apart: "14, 400 / 80", "1 + . 84", "1 . 5"."""
    if start < 2 or tokens[start - 1].text not in (",", "."):
        return False
    earlier = tokens[start - 2].kind
    if earlier == "n" and tokens[start - 1].text == "." and tokens[start - 1].spaced:
        return True
    return earlier in ("+", "-", "*", "/", "^") or (earlier == "n" and len(tokens[start].text) == 3)


def _leads_in(tokens: Sequence[Token], first: int, start: int) -> bool:
    """Whether the words before a left side only introduce it."""
    words = start
    while words > first and tokens[words - 1].kind == "w":
        words -= 1
    if words > first and tokens[words - 1].kind not in ("n", ")", "%", "(", "p"):
        return False  # price * tax 3 + 4
    named = [word for token in tokens[words:start] for word in token.text.lower().split()]
    if not tokens[start].spaced or any(word in OPERATION for word in named[-2:]) or singular(named[-1]) in LABELS:
        return False
    if words > first and (named == ["and"] or JOINING & {t.text.lower() for t in tokens[first:words]}):
        return False  # 1 and 1/4, the sum of 3 and 4 + 5
    return named[-1] != "of" or (len(named) > 1 and singular(named[-2]) not in SHARES)


def right_side(tokens: Sequence[Token], relation: int, text: str) -> Side | None:
    """What stands behind a relation, as far as it can be read, if it is clear that it ends there."""
    first = relation + 1
    while first < len(tokens) and tokens[first].kind == "w" and tokens[first].text.lower() in FILLER:
        first += 1
    stop = first
    while stop < len(tokens) and tokens[stop].kind not in ("b", "=", "~", "#") and stop - first <= MAX_SIDE_TOKENS:
        stop += 1
    if stop == first or stop - first > MAX_SIDE_TOKENS:
        return None
    side = read_side(tokens, first, stop, whole=False)
    if side is None or _DENIED.match(text, tokens[side.end - 1].end):
        return None
    return side if _ends(tokens, side, first, stop) else None


def _ends(tokens: Sequence[Token], side: Side, first: int, stop: int) -> bool:
    """Whether what follows a right side and its unit leaves no doubt that it ends there."""
    unit = _behind_unit(tokens, side.end, stop)
    words = [word for token in tokens[side.end : unit] if token.kind == "w" for word in token.text.lower().split()]
    if words[:2] in (["more", "than"], ["less", "than"], ["fewer", "than"], ["out", "of"]):
        return False
    if words[:1] == ["of"] and side.operators & {"+", "-"}:
        return False
    kind, behind = (tokens[i].kind if i < stop else "" for i in (unit, unit + 1))
    if kind == "(":  # an aside
        return behind == "w" if tokens[unit].spaced else bool(words)
    if kind == "n":
        converted = bool(words) and singular(words[0]) in MEASURES
        return bool(words) and words != ["and"] and not converted and OPERATION.isdisjoint(words)
    if kind in ("+", "-", "*", "/"):  # it was read with and without what follows its unit
        return bool(words) and behind == "n"
    return not kind or (kind == ")" and unit in _unmatched(tokens, first, stop))


def _behind_unit(tokens: Sequence[Token], start: int, stop: int) -> int:
    """Where a unit ends: "apples", "miles/hour", "cm²", "cm^2", "m^(2)"."""
    at = start
    while at < stop:
        kinds = [t.kind for t in tokens[at : min(at + 4, stop)]]
        if kinds[0] == "w":
            at += 1
        elif at > start and kinds[:2] == ["/", "w"]:
            at += 2
        elif at > start and tokens[at - 1].kind == "w" and (power := unit_power(kinds)):
            at += power
        else:
            break
    return at


def _unmatched(tokens: Sequence[Token], first: int, stop: int) -> set[int]:
    """Brackets without a partner."""
    opened: list[int] = []
    found: set[int] = set()
    for i in range(first, stop):
        if tokens[i].kind == "(":
            opened.append(i)
        elif tokens[i].kind == ")":
            if opened:
                opened.pop()
            else:
                found.add(i)
    return found.union(opened)


def read_side(tokens: Sequence[Token], start: int, stop: int, whole: bool) -> Side | None:
    """The arithmetic that begins at ``start``.

    Args:
        tokens: Pieces of a text.
        start: Where it begins.
        stop: Where it must end at the latest.
        whole: It must end there.
    """
    values: set[Fraction] = set()
    last: Reader | None = None
    kinds = {token.kind for token in tokens[start:stop]}
    ways = itertools.product(
        (True, False) if kinds & {"%", "w", "!"} else (True,),
        (True, False) if "f" in kinds else (True,),
        (True, False) if not whole and kinds & {"w", "("} else (True,),
    )
    for factors, mixed, past in ways:
        reader = Reader(tokens, start, stop, factors, mixed, past)
        try:
            value = reader.read()
        except UnreadableError:
            return None
        if whole and reader.position != stop:
            return None
        values.add(value)
        last = last or reader
    assert last is not None
    plain = last.numbers == 1 and not last.operators
    number = next(t for t in tokens[start:stop] if t.kind == "n") if plain else None
    return Side(
        frozenset(values),
        start,
        last.end,
        frozenset(last.operators),
        frozenset(last.units),
        number,
    )
