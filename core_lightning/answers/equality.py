r"""Whether an answer equals gold, decided without computer algebra wherever that is possible."""

from __future__ import annotations

import re
import unicodedata
from fractions import Fraction
from functools import lru_cache
from typing import TYPE_CHECKING

from core_lightning.answers.equation_sides import read_side
from core_lightning.answers.equation_tokens import tokens_of
from core_lightning.answers.literal import compared_as_written, is_calculation, joined_arguments, written_form
from core_lightning.answers.notation import plain_notation, undelimited
from core_lightning.answers.quantities import parse_quantity, same_quantity
from core_lightning.answers.readings import is_expression, read_choice, stated_number
from core_lightning.answers.statements import find_statements

if TYPE_CHECKING:
    from core_lightning.records import AnswerKind

MAX_SYMBOLIC_CHARS = 500
"""Longer expressions are refused without a comparison."""
MAX_NESTING = 30
"""Deeper brackets are refused without a comparison."""

_UNIT = re.compile(
    r"(?:\\[,;:! ]|~|\s)*\\(?:text|mathrm|mbox|textrm)\s*\{\s*(?P<unit>[A-Za-z. ]+?)\s*\}"
    r"\s*(?P<power>\^\s*\{?[23]\}?)?\s*\$?\.?\s*\Z"
)
_SPACE = re.compile(r"\s+")
# A space between two numerals parts them: "1 0 1" is not 101.
_LOOSE_SPACE = re.compile(r"(?<!\d)\s+|\s+(?!\d)")
_PARTED = re.compile(r"\d,\s+\d{3}(?!\d)")
_LONE_BRACES = re.compile(r"(?<=[\^_])\{(\w)\}")
_BASED = re.compile(r"(?P<digits>[0-9A-Z.]+)_\{?(?P<base>\d+)\}?")
_COMMAND = re.compile(r"\\[A-Za-z]+")
_RELATION = re.compile(r"[<>=]|\\(?:le|ge|leq|geq|in|cup)(?![A-Za-z])")


@lru_cache(maxsize=8192)
def bare_gold(gold: str) -> str:
    r"""Gold answer without the mark it may stand behind: "####" or ``\boxed{}``, whichever form comes last.

    >>> bare_gold("6 + 12 = 18\n#### 18"), bare_gold(r"so $\boxed{\frac{1}{2}}$."), bare_gold(" B ")
    ('18', '\\frac{1}{2}', 'B')
    """
    marked = [s for s in find_statements(gold) if s.form != "phrase" and s.closed]
    return marked[-1].content if marked else gold.strip()


@lru_cache(maxsize=8192)
def infer_kind(gold: str) -> AnswerKind:
    r"""Kind of a gold answer: a number, an option letter, mathematics, or words.

    >>> [infer_kind(gold) for gold in ("#### 1,000", "(B)", r"x^2 + 1", "Paris")]
    ['number', 'choice', 'math', 'text']
    """
    gold = undelimited(bare_gold(gold))
    if parse_quantity(gold) is not None:
        return "number"
    if re.fullmatch(r"\(?[A-J]\)?\.?", gold):
        return "choice"
    return "math" if re.search(r"[\d\\^_=<>+*/(\[{|]", gold) and is_expression(gold) else "text"


def canonical_answer(answer: str, kind: AnswerKind) -> str | None:
    r"""A string that equal answers share, as far as they can be told equal without computer algebra: for voting.

    Returns:
        None when the text cannot be read as an answer of this kind, which is also how an unusable gold answer shows.

    >>> canonical_answer("$1,000.00", "number"), canonical_answer(r"\dfrac{2}{4}", "math")
    ('1000', '1/2')
    >>> canonical_answer(r"16\pi \text{ cm}^2", "math"), canonical_answer(r"\frac{1}{3!}", "math")
    ('16\\pi', '1/6')
    >>> canonical_answer("(b)", "choice"), canonical_answer(" New  York.", "text"), canonical_answer("many", "number")
    ('B', 'new york', None)
    """
    if kind == "choice":
        letter = read_choice(answer)
        return letter if isinstance(letter, str) else None
    if kind == "text":
        return _words(answer) or None
    number = stated_number(answer, letters=kind == "number")
    if isinstance(number, tuple):
        return str(number[1])
    if kind == "number":
        return None
    if (form := written_form(answer, mathematics=True)) is not None:
        return form
    value = _exact(_measured(answer)[0])
    return _expression(_measured(answer)[0]) or None if value is None else str(value)


def decide(answer: str, gold: str, kind: AnswerKind) -> bool | None:
    r"""Compare in this process; None when only computer algebra can tell.

    Args:
        answer: An extracted answer.
        gold: Gold answer without its mark, see :func:`bare_gold`.
        kind: ``auto`` takes the kind of gold. Where gold is a number, roots, powers and fractions of that value are right
            and calculations still to be done are not; texts that only look like mathematics are compared as written.

    >>> decide("18 dollars", "18", "number"), decide("0.33", "1/3", "math"), decide(r"2\sqrt3", r"\sqrt{12}", "math")
    (True, False, None)
    >>> decide(r"\sqrt{4}", "2", "auto"), decide("37*48", "1776", "auto"), decide("6:15", "12:30", "auto")
    (True, False, False)
    """
    inferred = kind == "auto"
    if kind == "auto":
        kind = infer_kind(gold)
        kind = "math" if kind == "number" else kind  # sqrt(4) is right where gold is 2
    if kind == "choice":
        letter = read_choice(answer)
        return isinstance(letter, str) and letter == read_choice(gold)
    if kind == "text":
        return _words(answer) == _words(gold)
    return _same_value(answer, gold, kind, inferred)


def _same_value(answer: str, gold: str, kind: AnswerKind, inferred: bool) -> bool | None:
    """Compare numbers and mathematics; ``inferred``: nobody said that the problem asks for mathematics."""
    letters = kind == "number"
    gold_number, number = parse_quantity(gold, letters), stated_number(answer, letters)
    if gold_number is not None and number is not None:
        return isinstance(number, tuple) and same_quantity(number[1], gold_number)
    if gold_number is not None and (kind == "number" or is_calculation(_measured(answer)[0], operators=inferred)):
        return False
    if isinstance(number, tuple) and _PARTED.search(gold):
        return False  # "1, 234" are two numbers, and 1,234 is one
    written = compared_as_written(answer, gold, mathematics=not inferred)
    return _same_expression(answer, gold, symbolic=kind == "math") if written is None else written


def _same_expression(answer: str, gold: str, symbolic: bool) -> bool | None:
    (answer, unit), (gold, gold_unit) = _measured(answer), _measured(gold)
    if unit and gold_unit and unit != gold_unit:
        return False
    if _expression(answer) == _expression(gold):
        return True
    value, gold_value = _exact(answer), _exact(gold)
    if value is not None and gold_value is not None:
        return value == gold_value
    if (based := _same_digits(answer, gold)) is not None:
        return based
    if is_expression(answer) and is_expression(gold) and _differ_in_case(answer, gold):
        return False
    return None if symbolic and _comparable(answer, gold) else _words(answer) == _words(gold)


def _measured(text: str) -> tuple[str, str]:
    r"""An expression and its unit: ``16\pi \text{ cm}^2`` is 16 pi of something."""
    dressed = _UNIT.search(text) if "\\" in text else None
    if dressed is None or not is_expression(text[: dressed.start()]) or parse_quantity("1 " + dressed["unit"]) is None:
        return text, ""
    return text[: dressed.start()].rstrip(), "".join((dressed["unit"] + (dressed["power"] or "")).split())


@lru_cache(maxsize=8192)
def _exact(text: str) -> Fraction | None:
    """Value of an expression of numbers, however small; None for any other."""
    if len(text) > MAX_SYMBOLIC_CHARS:
        return None
    pieces = tokens_of(undelimited(text.strip()))
    if any(piece.kind in ("w", "%", "?", "b") for piece in pieces):
        return None
    side = read_side(pieces, 0, len(pieces), whole=True) if pieces else None
    return next(iter(side.values)) if side and len(side.values) == 1 else None


def _words(text: str) -> str:
    text = unicodedata.normalize("NFC", undelimited(plain_notation(text)).strip(" .\"'`*").casefold())
    return _SPACE.sub(" ", text)


def _expression(text: str) -> str:
    text = joined_arguments(undelimited(plain_notation(undelimited(text))).rstrip("."))
    text = _LOOSE_SPACE.sub("", text).replace("$", "")
    return _LONE_BRACES.sub(r"\1", text)


def _same_digits(answer: str, gold: str) -> bool | None:
    """Whether numerals in a base (101_2) are the same, the base left out at most; None without one.

    math-verify ignores the base.
    """
    a, g = _BASED.fullmatch(_expression(answer)), _BASED.fullmatch(_expression(gold))
    if g is None:
        return None if a is None else False
    return a.groups() == g.groups() if a else _expression(answer) == g["digits"]


def _differ_in_case(answer: str, gold: str) -> bool:
    """Whether the same variables stand there, one of them in the other case, which math-verify takes for the same."""
    a, g = (set(re.findall(r"[A-Za-z]", _COMMAND.sub(" ", text))) for text in (answer, gold))
    return a != g and {c.lower() for c in a} == {c.lower() for c in g}


def _comparable(answer: str, gold: str) -> bool:
    """Whether computer algebra should see the pair at all."""
    for text in (answer, gold):
        if len(text) > MAX_SYMBOLIC_CHARS or _nesting(text) > MAX_NESTING or not is_expression(text):
            return False
    return _brackets(answer, gold)


def _brackets(answer: str, gold: str) -> bool:
    """False where a set is given for a tuple or interval, or a bare list for either: math-verify lets these pass."""
    answer, gold = _expression(answer), _expression(gold)
    if _RELATION.search(answer) or "," not in gold:
        return True
    if gold.startswith(("(", "[")) and gold.endswith((")", "]")):
        return answer.startswith(("(", "["))
    return not answer.startswith(("(", "["))


def _nesting(text: str) -> int:
    depth = deepest = 0
    for character in text:
        if character in "([{":
            depth += 1
            deepest = max(deepest, depth)
        elif character in ")]}":
            depth -= 1
    return deepest
