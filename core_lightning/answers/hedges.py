"""Whether what stands behind an answer offers another one: "5, maybe 6", "5 for A and 6 for B", "A as well as B"."""

from __future__ import annotations

import re

from core_lightning.answers.quantities import Quantity, parse_quantity, same_quantity

_NUMBER = r"(?P<number>-?\d[\d,]*(?:\.\d+)?(?:/\d+)?)(?![\d.]*\d)"
_DOUBT = r"maybe|perhaps|possibly|potentially|alternatively"
_OFFER = rf"{_DOUBT}|sometimes|otherwise|unless|respectively|(?:could|might|may)(?:\s+also)?\s+be"
_OFFER_AT_ONCE = (
    r"or|also|plus|probably|(?:(?:more|most)\s+)?likely|as\s+well\s+as|along\s+with|"
    r"together\s+with|and\s+then|in\s+(?:some|other)\s+cases"
)
_LINK = (
    r"(?:(?:it|is|it['’]s|be|the|answer|even|about|around|more|most|likely|as|well|also|then|might|could|may|or|but|and)\b"
    r"[\s,:]*)*"
)
_DOUBTED = re.compile(
    rf"\b(?:{_DOUBT}|(?:could|might|may|can)\s+also\s+be)\b[\s,:]*{_LINK}[$(*\\\"']*{_NUMBER}", re.IGNORECASE
)
_OFFERED = re.compile(
    rf"(?:\b(?:{_OFFER})|\A[\s,;(–—-]*(?:(?:but|and)\s+)?(?:{_OFFER_AT_ONCE}))\b[\s,:]*{_LINK}[$(*\\\"']*{_NUMBER}",
    re.IGNORECASE,
)
_POSSIBLE = re.compile(
    rf"{_NUMBER}[^\d.;]{{0,20}}\bis\s+(?:also\s+)?(?:possible|plausible|likely|an\s+option)\b", re.IGNORECASE
)
# "The answer is 5. Or maybe 6."
_NEXT_SENTENCE = re.compile(
    rf"[.)]*\s+(?:or|{_DOUBT})\b[\s,]*{_LINK}(?:(?:{_DOUBT})\s+)?[$(*\\]*{_NUMBER}[^\w\n]*(?:\n|\Z)", re.IGNORECASE
)
_DENIED = re.compile(r"[\s,(–—-]*(?:wrong|incorrect|false)\b", re.IGNORECASE)
_CASE = re.compile(r"[\s,;(–—-]*(?P<word>when|where|for|if|given|after|before|in|at|with)\b", re.IGNORECASE)
# A reason may hold any numbers: "5 because 2 or 3 of them are left".
_REASONED = re.compile(r"[\s,;(–—-]*(?:because|since|which|given|after|that|as(?!\s+well\s+as\b)|so)\b", re.IGNORECASE)
_OFFERS_AT_ONCE = re.compile(
    rf"[\s,;(–—-]*(?:but\s+|and\s+)?(?:{_DOUBT}|or|as\s+well\s+as|(?:it\s+)?(?:could|might|may)(?:\s+also)?\s+be)\b",
    re.IGNORECASE,
)


def offers_another(rest: str, answer: Quantity) -> bool:
    """Whether a text behind a number gives another number for the answer, with doubt or for another case, or denies it.

    >>> five = parse_quantity("5")
    >>> [offers_another(rest, five) for rest in (", maybe 6", " for A and 6 for B", " as well as 6", ", or 5.0")]
    [True, True, True, False]
    >>> [offers_another(rest, five) for rest in (" because 2 or 3 are left", ", so 6 - 5 = 1", " for 2 weeks")]
    [False, False, False]
    """
    if _DENIED.match(rest):
        return True
    patterns = [_DOUBTED, _POSSIBLE] if _REASONED.match(rest) else [_OFFERED, _POSSIBLE]
    if case := _CASE.match(rest):
        patterns += _other_cases(case["word"].lower())
    return any(_differs(match["number"], answer) for pattern in patterns for match in pattern.finditer(rest))


def taken_back(text: str, end: int, answer: Quantity) -> bool:
    """Whether the sentence that begins behind ``end`` says no more than another number: "Or maybe 6."."""
    match = _NEXT_SENTENCE.match(text, end)
    return match is not None and _differs(match["number"], answer)


def offers_at_once(rest: str) -> bool:
    """Whether a text behind an answer begins with a word that offers another one.

    >>> offers_at_once(", maybe x + 2"), offers_at_once(" because it may be so")
    (True, False)
    """
    return _OFFERS_AT_ONCE.match(rest) is not None


def _other_cases(word: str) -> list[re.Pattern[str]]:
    """What matches a number for another case that the same word names: "and 6 for B", "and for B it is 6"."""
    joined = r"(?:\b(?:and|or|but|while)\b|[,;])[\s,]*"
    return [
        re.compile(
            rf"{joined}(?:it\s+is\s+)?[$(*\\]*{_NUMBER}[^.;]{{0,40}}\b(?:{word}|otherwise|else)\b", re.IGNORECASE
        ),
        re.compile(rf"{joined}{word}\s+(?:[^\W\d]\w*\s+)+(?:(?:it\s+is|is|=)\s*)?{_NUMBER}\W*\Z", re.IGNORECASE),
    ]


def _differs(number: str, answer: Quantity) -> bool:
    other = parse_quantity(number)
    return other is not None and not same_quantity(other, answer)
