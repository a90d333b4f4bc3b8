r"""Answers whose characters count and not their value: calculations left undone, and what only looks like arithmetic.

Computer algebra takes "37*48" for 1776, "6:15" for a quotient, "2024-05-01" for a difference and "1 2 3" for a product.
"""

from __future__ import annotations

import re

from core_lightning.answers.notation import plain_notation, undelimited

_SIGN = re.compile(
    r"(?<=[\w)\]}!%|.+-])\s*(?:[-+*±∓∗⋆∙•]|\\(?:times|cdot|ast|div|pm|mp|bmod)(?![A-Za-z]))"
    r"|(?<=[\d)\]}])\s*(?:\(|[xX]\s*[\d(])|\)\s*[\d\\(]"
)
_BRACED_SIGN = re.compile(r"\{\s*([-+*±∓∗⋆∙•]|\\[a-z]+)\s*\}")
_COMMAND = re.compile(r"\\[A-Za-z]+|[A-Za-z]{2,}")
_FORMS = frozenset((r"\frac", r"\sqrt", "sqrt"))
"""What may stand in a number that is given exactly; a sum, a logarithm or a binomial coefficient is still to be done."""

_OTHER = re.compile(r"[^\w\s.,:;=/\\^{}()\[\]$%°€£¥₹+-]|\d\s+\d")
_ARGUMENTS = re.compile(r"(\\(?:[dtc]?frac|[dt]?binom)\s*\d)\s+(?=\d)")
# Behind a mark of an index or a power, and in "2 1/2", a space parts no numbers of a row.
_ROW = re.compile(r"(?:\A|[^\w.^\\])\d+(?:\.\d+)?\s+\d+(?!\d|\s*/\s*\d)")
_CLOCK = re.compile(r"(?<![\d:.])\d{1,2}\s?:\s?[0-5]\d(?!\d)")
_DATE = re.compile(r"(?<![\d./-])(?:\d{4}([-/.])\d{1,2}\1\d{1,2}|\d{1,2}([-/.])\d{1,2}\2(?:\d{4}|\d\d))(?![\d/-])")
_DOTTED = re.compile(r"(?<![\d.])\d+(?:\.\d+){2,}(?!\d)")
# In mathematics "2:4" may be a ratio, "A1" a product and "5-3" a difference; elsewhere they are a score, a seat, a range.
_CODE = re.compile(
    r"\d\s*:\s*\d|(?<![\\A-Za-z])(?!(?:sqrt|log|ln|sin|cos|tan|pi|frac)\d|[a-z]\d)[A-Za-z]+\d|\A\d+[A-Z]\w*\Z"
)
_HYPHENS = re.compile(r"\d+(?:\s*-\s*\d+)+")
_HALF_OF_DAY = re.compile(r"(?<=\d)\s*([ap])\.?\s?m\b\.?", re.IGNORECASE)
_LOOSE_SPACE = re.compile(r"\s*([:,;/()\[\]{}])\s*")
_LEADING_ZERO = re.compile(r"(?<![\d.:])0+(?=\d)")


def is_calculation(answer: str, operators: bool) -> bool:
    r"""Whether a number is given as a calculation that is still to be done, so that the question may be all it says.

    Roots, powers and fractions are how a number is given exactly.

    Args:
        answer: What stands for a number, and is none itself.
        operators: Sums with a sign for them, factorials, logarithms and all other functions count, too.

    >>> [is_calculation(text, True) for text in ("37*48", "(37)(48)", r"\frac{3+4}{7}", r"\sum_{k=1}^{4} k", "5!")]
    [True, True, True, True, True]
    >>> [is_calculation(text, True) for text in (r"\sqrt{4}", r"x = 2^{10}", r"-\frac{\sqrt{4}}{2}", "10^{-2}")]
    [False, False, False, False]
    """
    text = _BRACED_SIGN.sub(r"\1 ", joined_arguments(plain_notation(undelimited(answer))))
    if _SIGN.search(text):
        return True
    return operators and (_OTHER.search(text) is not None or not _FORMS.issuperset(_COMMAND.findall(text)))


def joined_arguments(text: str) -> str:
    r"""A text in which no space parts the two digits of a fraction.

    >>> joined_arguments(r"\frac 1 2 x")
    '\\frac 12 x'
    """
    return _ARGUMENTS.sub(r"\1", text) if "\\" in text else text


def compared_as_written(answer: str, gold: str, mathematics: bool) -> bool | None:
    r"""Whether two texts are the same where their characters count; None where their value does.

    Times, dates, addresses and numbers in a row are compared as they are written, but for spaces that part nothing,
    zeros in front of an hour, a day or a month, and case.

    Args:
        answer: An extracted answer.
        gold: Gold answer without its mark.
        mathematics: The problem is known to ask for mathematics, so that "2:4" is the ratio 1:2.

    >>> compared_as_written("6:15", "12:30", True), compared_as_written("06:15 p.m.", "6:15 PM", True)
    (False, True)
    >>> compared_as_written("1 2 3", "3 2 1", True), compared_as_written("2 1/2", "5/2", True)
    (False, None)
    >>> compared_as_written("1A", "A1", False), compared_as_written("2:4", "1:2", True)
    (False, None)
    """
    forms = [written_form(text, mathematics) for text in (answer, gold)]
    if forms == [None, None]:
        return None
    a, g = (form or _spelling(_plain(text)) for form, text in zip(forms, (answer, gold), strict=True))
    return a == g


def written_form(text: str, mathematics: bool) -> str | None:
    """A string that texts share which are the same as written; None for a text whose value counts.

    >>> written_form("06:15 p.m.", True), written_form("1  2 3", True), written_form("12", True)
    ('6:15pm', '1 2 3', None)
    """
    text = _plain(text)
    if _CLOCK.search(text) or _DATE.search(text):
        return _LEADING_ZERO.sub("", _spelling(text))
    if _ROW.search(joined_arguments(text)):
        return _spelling(text, parts=" ")
    if _DOTTED.search(text) or (not mathematics and (_CODE.search(text) or _HYPHENS.fullmatch(text))):
        return _spelling(text)
    return None


def _plain(text: str) -> str:
    return plain_notation(undelimited(text)).rstrip(".")


def _spelling(text: str, parts: str = "") -> str:
    text = _LOOSE_SPACE.sub(r"\1", _HALF_OF_DAY.sub(r" \1m", text))
    return parts.join(text.casefold().split())
