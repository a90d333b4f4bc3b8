r"""Whether the arithmetic that a text writes down holds: a checker of equations of numbers, with exact rationals.

A trace may reach the right answer over a false step, which no comparison with gold can see ("9+9+0=15", and the sum
right in the end). What this file calls false is false in every way the equation can be read; an equation with
variables, or with anything else that cannot be read with certainty, is left out.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

from core_lightning.answers.equation_sides import Side, left_side, right_side
from core_lightning.answers.equation_tokens import Token, tokens_of
from core_lightning.answers.equation_words import CLOCK, MEASURES, OF_A_LIST, RATIOS, singular

MAX_TEXT_CHARS = 100_000
"""Only so many characters at the beginning of a text are read."""

_CALCULATION = re.compile(r"<<([^<>\n]{0,200})>>")  # GSM8K's calculator marks
_ROUNDED = re.compile(
    r"\b(?:about|approx\w*|roughly|around|nearly|almost|round\w*|nearest|estimat\w+|decimal places?)\b"
    r"|[≈~…]|\\approx|\.\.\.",
    re.IGNORECASE,
)
_NOT_SAID = re.compile(r"\b(?:if|suppose|assum\w+|whether|not|n['’]t|instead of|than)\s*[\"'$(]*\Z", re.IGNORECASE)
_FEET_AND_INCHES = re.compile(r"\d\s*['’′][^\w\n]{0,5}\d+\s*[\"”″]")
_REMAINDER = re.compile(r"\bremainder\b|\bleft ?over\b|\bwith (?:a |an )?\w+ (?:\w+ )?(?:remain|left)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Equation:
    """An equation of numbers that could be read with certainty."""

    text: str
    """As it stands in the text, without the unit at its end."""
    holds: bool


def false_equations(text: str) -> list[str]:
    r"""The equations of numbers written in a text that are false, as they stand there.

    Every link of a chain ``a = b = c`` is an equation. A rounded value holds where the text says that it is rounded
    ("about", "≈"), or where the right side is a decimal number that the left side rounds to.

    Args:
        text: A trace, a solution, a hint: prose, Markdown or LaTeX.

    Returns:
        Empty when all hold or none can be read.

    >>> false_equations("9+9+0=15, so 15+3=18 eggs. She pays $3*2=$6.")
    ['9+9+0=15']
    >>> false_equations(r"$\frac{1}{2} + \frac{1}{3} = \frac{2}{5}$, 2x + 1 = 9, 10 / 3 = 3.33, 20% of 50 = 10")
    ['\\frac{1}{2} + \\frac{1}{3} = \\frac{2}{5}']
    """
    return [equation.text for equation in read_equations(text) if not equation.holds]


def read_equations(text: str) -> list[Equation]:
    """Every equation of numbers in a text that can be read with certainty, in order, calculator marks last.

    >>> read_equations("so 3 * 4 = 12 = 7 + 6, and x = 5")
    [Equation(text='3 * 4 = 12', holds=True), Equation(text='12 = 7 + 6', holds=False)]
    """
    text = text[:MAX_TEXT_CHARS]
    marks = [equation for mark in _CALCULATION.finditer(text) for equation in _equations(mark[1], mark[1])]
    return _equations(_CALCULATION.sub(lambda mark: " " * len(mark[0]), text), text) + marks


def _equations(bare: str, text: str) -> list[Equation]:
    """Equations of a text whose calculator marks are blanked out in ``bare``."""
    if "=" not in bare and "≈" not in bare and r"\approx" not in bare:
        return []
    tokens = tokens_of(bare)
    found = []
    for i, token in enumerate(tokens):
        if token.kind not in ("=", "~"):
            continue
        left, right = left_side(tokens, i), right_side(tokens, i, bare)
        if left is None or right is None:
            continue
        start, end = tokens[left.start].start, tokens[right.end - 1].end
        rounded, percent = token.kind == "~", tokens[right.end - 1].kind == "%"
        holds = not left.values.isdisjoint(right.values) or _rounds(bare, start, end, left, right, rounded, percent)
        if holds or (_certain(tokens, i, left, right) and _asserted(bare, start, end, left)):
            found.append(Equation(text[start:end], holds))
    return found


def _rounds(text: str, start: int, end: int, left: Side, right: Side, rounded: bool, percent: bool) -> bool:
    """Whether the right side is the left one after rounding, where the text, a percent sign or the decimals allow that."""
    context = text[max(text.rfind("\n", 0, start) + 1, start - 80) : end + 60].partition("\n")[0]
    rounded = rounded or _ROUNDED.search(context) is not None
    return any(_rounds_to(a, b, right.written, rounded, percent) for a in left.values for b in right.values)


def _rounds_to(left: Fraction, right: Fraction, written: Token | None, rounded: bool, percent: bool) -> bool:
    unit = Fraction(1, 10**written.decimals) if written else Fraction(1)  # the last digit that is written
    if written and written.value and right != written.value:  # 33.33% is 0.3333
        unit *= abs(right / written.value)
    gap = abs(left - right)
    if written and (written.decimals or percent) and gap <= unit / 2:
        return True
    if not rounded:
        return False
    if gap < unit or gap <= abs(left) / 100:
        return True
    if right.denominator != 1:
        return False
    place = 1
    while right and right % (place * 10) == 0:
        place *= 10
    return gap <= Fraction(place, 2)


def _asserted(text: str, start: int, end: int, left: Side) -> bool:
    """Whether the text says the equation as it stands, and not "if 5 + 3 = 9" or "7 / 2 = 3, with 1 remaining"."""
    if _FEET_AND_INCHES.search(text, start, end):
        return False
    if "/" in left.operators and _REMAINDER.search(text[end : end + 80].partition("\n")[0]):
        return False
    return not _NOT_SAID.search(text, max(0, start - 30), start)


def _certain(tokens: Sequence[Token], relation: int, left: Side, right: Side) -> bool:
    """Whether an equation whose values differ is false, and not one of units ("2 hours = 120 minutes")."""
    if _of_a_list(tokens, left) or _of_mixed_units(tokens, left, right):
        return False
    units = left.units | right.units
    described = [t for t in tokens[left.end : relation] if t.kind == "w"]
    if len(described) > 2 + any(t.text.lower() in ("per", "a", "each") for t in described[:-1]):
        return False  # 100 / 75 gives the total amount = 6000
    if not left.operators:  # 4 batches = 5 * 8
        before = tokens[left.start - 1].kind if left.start else "b"
        shares = "%" in {t.kind for t in tokens[left.start : right.end]}
        clear = not left.units and not described and not shares and before in ("b", "=", "~")
        return clear and bool(right.operators or not units)
    if not units & MEASURES or (len(units) == 1 and left.units == right.units):
        return True
    if left.operators & {"+", "-"} and len(left.units) > 1:
        return False
    return not any(a and b and max(a / b, b / a) in RATIOS for a in left.values for b in right.values)


def _of_mixed_units(tokens: Sequence[Token], left: Side, right: Side) -> bool:
    """Whether times of day stand there, or a sum of measures in other units: "10 am + 4 = 2 pm", "3 ft + 6 in = 42 in"."""
    if any(token.text.lower() in CLOCK for token in tokens[left.start : right.end + 1]):
        return True
    a, b = ((side.units | _inches(tokens, side)) & MEASURES for side in (left, right))
    return not left.operators.isdisjoint(("+", "-")) and (len(a) > 1 or bool(a - b and b))


def _inches(tokens: Sequence[Token], side: Side) -> set[str]:
    """The unit "in" where it stands behind a number, and nothing behind it that something could be in."""
    for i in range(side.start, side.end):
        kinds = [t.kind for t in tokens[i : i + 3]]
        if kinds[:2] == ["n", "w"] and tokens[i + 1].text.lower() == "in" and kinds[2:] not in (["w"], ["n"]):
            return {"inch"}
    return set()


def _of_a_list(tokens: Sequence[Token], left: Side) -> bool:
    """Whether a left side is the end of a list: "the average of 2, 4, 6 = 4"."""
    mark = left.start - 1
    if mark > 0 and tokens[mark].text.lower() == "and":
        mark -= 1
    if mark < 1 or tokens[mark].text not in (",", ";", "."):
        return False
    first = mark
    while first > 0 and (tokens[first - 1].kind in ("n", "w", "(") or tokens[first - 1].text in (",", ";")):
        first -= 1
    listed = tokens[first:mark]
    if not any(t.kind == "n" for t in listed[-2:]) or (first and tokens[first - 1].kind in ("=", "~")):
        return False
    if not left.operators:
        return tokens[mark].text != "." or listed[-1].kind == "n"
    named = {singular(word) for t in listed if t.kind == "w" for word in t.text.lower().split()}
    return tokens[mark].text != "." and not OF_A_LIST.isdisjoint(named)
