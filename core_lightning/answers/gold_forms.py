r"""Where the gold answer stands in a text, in whatever form it is written, and where it stands there as an operand.

A number is found as "18", "18.00", "eighteen", "\frac{36}{2}" or "50%"; an expression with other braces and spaces; an
option by its letter or by its text.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from functools import lru_cache
from itertools import pairwise, permutations
from typing import TYPE_CHECKING

from core_lightning.answers.equality import canonical_answer, infer_kind
from core_lightning.answers.notation import plain_notation, undelimited, unify_characters
from core_lightning.answers.quantities import Quantity, parse_quantity

if TYPE_CHECKING:
    from core_lightning.records import AnswerKind

Span = tuple[int, int]

MAX_BRACKETS = 8
"""So many brackets are taken for a part of the answer that they open."""
MAX_FORM_CHARS = 500
"""A longer gold answer is looked for word by word as it is written."""

# A minus sign belongs to the number it touches unless it also touches an operand.
NUMBER = re.compile(
    r"(?:(?<![\w.])|(?<=[\d)][xX])|(?<=\bRs\.))(?:(?<![\w)\]}%])-)?(?:\d{1,3}(?:(?:,|\{,\}|\\,)\d{3})+(?!\d)|\d+)(?:\.\d+)?(?!\d|\.\d|,\d{3}(?!\d))"
    r"(?:\s?(?:\\?%|percent\b|(?:hundred|thousand|million|billion)\b))?"
    r"|(?<![\w.,])\.\d+(?!\d)"
)
_FRACTION = re.compile(
    r"(?:(?<!\d)-?\d+\s*|-)?\\[dt]?frac\s*(?:\{\s*-?\d+\s*\}|\d)\s*(?:\{\s*\d+\s*\}|\d)|(?<![\w./])-?(?:\d+\s+)?\d+\s*/\s*\d+(?![\w/]|\.\d)"
)
_ONES, _TENS = (
    words.split()
    for words in (
        "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen "
        "eighteen nineteen",
        "- - twenty thirty forty fifty sixty seventy eighty ninety",
    )
)
_NUMERAL = re.compile(rf"[-.\d\\]|(?:{'|'.join([*_ONES, *_TENS[2:]])})(?![a-z])", re.IGNORECASE)
_OPERAND = r"\s*(?:\\?\$\s*)?(?:[\d(.]|\\[a-z]|[A-Za-z](?![A-Za-z]))"
_OPERATED = re.compile(
    rf"[\s$)}}]*(?:[A-Za-z]+\s+){{0,3}}(?:(?:[+*/×÷·⋅−]|-|\\times|\\cdot|\\div|[xX](?![A-Za-z])){_OPERAND}|\^|!(?!\s|\Z))"
    r"|[a-zA-Z](?![A-Za-z])(?=\s*[-+*/^=])|\s*\}\s*\{|\s+of\s+\$?\d"
)
_OPERATOR_BEFORE = re.compile(
    r"(?:[\w)\]}%$][\s$]*(?:[+*/×÷·⋅]|\\times|\\cdot|\\div)\s*|\d[^\n.;:=]{0,40}\s*[-−–]\s*|(?<![A-Za-z])[\d)]\s*[xX]\s*|\\frac\s*\{?\s*|\}\s*\{\s*"
    r"|\\sqrt\s*\{?\s*|[\^_]\s*\{?\s*)[$(]*\Z"
)
_LABEL = re.compile(r"(?:^|\n)[\s*#>-]*(?:(?:step|part|case|question)\s*)?\Z", re.IGNORECASE)
_BETWEEN = r"(?:\s|[{}()*·×⋅]|\\[,;:!]|\\left|\\right|\\(?:cdot|times)(?![a-z]))*"
"""Between the parts of an expression: spaces, braces, and a sign of multiplication that may be left out."""
_TOKEN = re.compile(r"\\[A-Za-z]+|\^\s*(?:\{\s*\d+\s*\}|\d)|\d+|\S")
_SHORT_FRACTION = re.compile(r"(\\frac)\s*(\d)\s*(\d)(?!\d)")
_ROOT = re.compile(
    r"(?<![\w.\\^/])(?:(?P<factor>\d{1,9})\s*(?:[*·×⋅]|\\(?:cdot|times)(?![a-z]))?\s*)?(?:\\sqrt|√|sqrt)\s*"
    r"(?:[{(]\s*(?P<inner>\d{1,9})\s*[)}]|(?P<bare>\d{1,9}))(?![\w.])"
)
MAX_TERMS = 3
"""The terms of a longer sum are not looked for in another order."""
_RAISED = str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹")
_SQUARE_ROOT = r"(?:\\sqrt|√|sqrt)"


def find_gold(text: str, gold: str, kind: AnswerKind, forms: Sequence[str] = ()) -> list[Span]:
    """Every place where the gold answer stands as a whole, operand or not.

    Args:
        text: Any text.
        gold: Gold answer without its mark.
        kind: Its kind, not ``auto``.
        forms: Other texts that say the same, such as the text of the gold option.
    """
    spans = _letters(text, gold) if kind == "choice" else _values(text, gold, kind)
    for form in forms:
        spans += _values(text, form, infer_kind(form))
    return sorted(set(spans))


def is_operand(text: str, span: Span) -> bool:
    """Whether the number there is computed with, or only counts (a step, a line), so that it is nobody's result.

    >>> [is_operand("6 - 3 = 3", span) for span in ((4, 5), (8, 9))]
    [True, False]
    """
    start, end = span
    before = text[max(0, start - 60) : start]
    divided = "/" in text[start:end] or "frac" in text[start:end]
    if divided and text[end : end + 8].lstrip(" $").startswith("="):  # \frac{3}{6} = \frac{1}{2}
        return True
    if _OPERATED.match(text, end) or _OPERATOR_BEFORE.search(before):
        return True
    return bool(_LABEL.search(before)) and text[end : end + 1] in (".", ")", ":") and bool(text[end + 1 :].strip())


def is_numeral(text: str, span: Span) -> bool:
    """Whether digits or a number in words stand there, and not a letter, an expression or other words."""
    return _NUMERAL.match(text, *span) is not None


def _letters(text: str, gold: str) -> list[Span]:
    letter = canonical_answer(gold, "choice") or re.escape(gold)
    # A capital A or I is a letter only where it is not a word, a small one never.
    word, either = (r"(?!\s+[a-z])", letter) if letter in "AI" else ("", f"(?i:{letter})")
    named = rf"\b(?i:option|choice|answer|letter)\s*(?i:is\s*)?:?\s*\(?{either}\)?(?![\w'’])"
    pattern = rf"\((?i:{letter})\)|{named}|(?<![\w'’]){letter}(?![\w'’]){word}"
    return [match.span() for match in re.finditer(pattern, text)]


def _values(text: str, gold: str, kind: AnswerKind) -> list[Span]:
    quantity = parse_quantity(gold, letters=kind == "number") if kind in ("number", "math") else None
    if quantity is None:
        pattern = _written(gold, kind)
        spans = [_opened(text, gold, match.span()) for match in pattern.finditer(text)] if pattern else []
        return spans + _roots(text, gold) if kind == "math" else spans
    if not text.isascii():  # foreign digits and minus signs, where that keeps every position
        text = "".join(plain if len(plain := unify_characters(c)) == 1 else c for c in text)
    # 9 / 3 is no way to write 3 but a calculation.
    fractions = _FRACTION.finditer(text) if quantity.value.denominator != 1 else ()
    found = [match.span() for match in fractions if _same(match[0], quantity)]
    covered = {place for start, end in found for place in range(start, end)}
    numbers = (match.span() for match in NUMBER.finditer(text) if match.start() not in covered)
    found += [(start, end) for start, end in numbers if _same(text[start:end], quantity)]
    words = _number_words(quantity)
    return found + ([match.span() for match in words.finditer(text)] if words else [])


def _same(token: str, gold: Quantity) -> bool:
    read = parse_quantity(token)
    return read is not None and not {read.value, read.value * read.ratio}.isdisjoint(
        {gold.value, gold.value * gold.ratio}
    )


@lru_cache(maxsize=1024)
def _written(gold: str, kind: AnswerKind) -> re.Pattern[str] | None:
    """What matches an answer that is no number, with any spaces; in mathematics also with other braces and roots."""
    plain = undelimited(plain_notation(gold)).strip(" .")
    if kind == "text" or len(plain) > MAX_FORM_CHARS:
        # An accent is a character of its own, or a part of one.
        forms = [{re.escape(unicodedata.normalize(form, word)) for form in ("NFC", "NFD")} for word in plain.split()]
        ways = [r"\s+".join(f"(?:{'|'.join(sorted(form))})" for form in forms)]
    else:
        ways = [way for order in _orders(plain) if (way := _with_any_spaces(order))]
    if not any(ways):
        return None
    closing = r"(?:\s*[})])*" if plain[-1] in "})" else ""
    return re.compile(rf"(?<![\w\\])(?:{'|'.join(ways)}){closing}(?!\w)", re.IGNORECASE)


def _with_any_spaces(plain: str) -> str:
    """A pattern of an expression, with any braces and spaces, and with or without signs of multiplication."""
    tokens = _TOKEN.findall(_SHORT_FRACTION.sub(r"\1{\2}{\3}", plain))
    # What may stand anywhere between is nowhere asked for: a row of it could be read in too many ways.
    tokens = [token for token in tokens if not re.fullmatch(_BETWEEN, token)]
    pattern = ""
    for i, token in enumerate(tokens):
        apart = i > 0 and token[0].isdecimal() and tokens[i - 1][-1].isdecimal()
        pattern += (r"(?!\d)" if apart else "") + (_BETWEEN if i else "") + _piece(token)
    return pattern


def _orders(plain: str) -> list[str]:
    """A sum with its terms in every order; anything else as it is."""
    depth, cuts = 0, [0]
    for i, character in enumerate(plain):
        depth += (character in "([{") - (character in ")]}")
        if not depth and i and character in "+-" and plain[i - 1] not in "^_":
            cuts.append(i)
    if not 1 < len(cuts) <= MAX_TERMS or re.search(r"[=<>,;^_]\s*[-+]|[=<>,;±]|\\(?:le|ge|in|cup|pm|to)", plain):
        return [plain]
    terms = [plain[a:b].strip() for a, b in pairwise([*cuts, len(plain)])]
    terms = [term if term[0] in "+-" else "+" + term for term in terms]
    return list(dict.fromkeys("".join(order).removeprefix("+") for order in permutations(terms)))


def _opened(text: str, gold: str, span: Span) -> Span:
    """The span with the brackets that open the expression, of which a trace may have more than gold."""
    start, end = span
    if gold.lstrip("$ ")[:1] in ("(", "{"):
        for _ in range(MAX_BRACKETS):
            before = start - 1 - (text[start - 1 : start] == " ")
            if before < 0 or text[before] not in "({":
                break
            start = before
    return start, end


def _roots(text: str, gold: str) -> list[Span]:
    r"""Square roots of the same value: \sqrt{12} and 2*sqrt(3)."""
    own = _ROOT.fullmatch(undelimited(plain_notation(gold)).strip(" ."))
    return [match.span() for match in _ROOT.finditer(text) if _squared(match) == _squared(own)] if own else []


def _squared(root: re.Match[str]) -> int:
    return int(root["factor"] or 1) ** 2 * int(root["inner"] or root["bare"])


def _piece(token: str) -> str:
    if power := re.fullmatch(r"\^\s*\{?\s*(\d+)\s*\}?", token):
        return rf"(?:\^\s*(?:\{{\s*{power[1]}\s*\}}|{power[1]}(?!\d))|{power[1].translate(_RAISED)})"
    if token == r"\sqrt":
        return _SQUARE_ROOT
    if token == r"\frac":
        return r"\\[dtc]?frac"
    if token in ("-", "−"):
        return "[-−]"
    return r"(?:\\pi|π)" if token == r"\pi" else re.escape(token)


@lru_cache(maxsize=1024)
def _number_words(gold: Quantity) -> re.Pattern[str] | None:
    """What matches a number written in words: "seven", "one hundred and twenty", "one half"."""
    value = gold.value
    if value.denominator == 2 and value.numerator == 1:
        return re.compile(r"\b(?:one|a)[\s-]half\b", re.IGNORECASE)
    if value.denominator != 1 or not 0 <= value < 10**6:
        return None
    pattern = r"[\s-]+(?:and\s+)?".join(_words(int(value)))
    return re.compile(rf"(?<![\w-]){pattern}(?![\w-]|\s+(?:hundred|thousand|million))", re.IGNORECASE)


def _words(number: int) -> list[str]:
    """English words of a number below a million."""
    if number < 20:
        return [_ONES[number]]
    if number < 100:
        return [_TENS[number // 10], *(_words(number % 10) if number % 10 else [])]
    unit, name = (100, "hundred") if number < 1000 else (1000, "thousand")
    return [*_words(number // unit), name, *(_words(number % unit) if number % unit else [])]
