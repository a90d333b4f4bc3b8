r"""Taking the final answer out of a trace that is to be shown to a peer, and measuring whether it still stands there.

The hint may still imply the answer ("7 + 5 ="); what it must not do is say it where a final answer is said.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from core_lightning.answers.equality import bare_gold, canonical_answer, infer_kind
from core_lightning.answers.notation import plain_notation, unify_characters
from core_lightning.answers.quantities import parse_quantity
from core_lightning.answers.statements import is_heading, statement_spans

if TYPE_CHECKING:
    from core_lightning.records import AnswerKind

MAX_TRACE_CHARS = 100_000
"""A longer trace makes no hint."""

_LEAD_IN = re.compile(
    r"(?:(?:\b(?:so|thus|hence|therefore|then|finally|and|now|but|wait|no|hmm|actually|in conclusion|this means that|"
    r"we conclude that)\b|[*_])[\s,:]*)+\Z",
    re.IGNORECASE,
)
_ENCLOSURES = (("$$", "$$"), ("$", "$"), (r"\[", r"\]"), (r"\(", r"\)"), ("**", "**"))
_BARE_MARKS = re.compile(r"^[ \t]*[.,;:!*#$]+[ \t]*$", re.MULTILINE)
_BLANK_LINES = re.compile(r"\n\s*\n")
_SOMETHING = re.compile(r"\d|[^\W_]{3,}|[^\W_]\W+[^\W_]")
# A minus sign belongs to the number it touches unless it also touches an operand.
_TOKEN = re.compile(
    r"(?<![\w.])(?:(?<![\w)\]}%])-)?(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)(?:\.\d+)?(?!\d|\.\d|,\d{3}(?!\d))"
    r"|(?<![\w.,])\.\d+(?!\d)"
)
_FRACTION = re.compile(
    r"-?\\[dt]?frac\s*(?:\{\s*-?\d+\s*\}|\d)\s*(?:\{\s*\d+\s*\}|\d)|(?<![\w./])-?\d+\s*/\s*\d+(?![\w./])"
)


def remove_answer(text: str, gold: str, kind: AnswerKind = "auto") -> str:
    r"""The trace without its final answer.

    Every box, tag and "####" mark goes, every "answer is ..." sentence as a whole, and the bare gold value wherever it
    stands in the last remaining line.

    Args:
        text: A completion.
        gold: Gold answer, bare or marked.
        kind: Kind of the gold answer.

    Returns:
        What is left, or "" when nothing is left that could help.

    >>> remove_answer("She has 16 - 3 - 4 = 9 eggs.\nShe makes 9 * 2 = 18 dollars.\n#### 18", "18")
    'She has 16 - 3 - 4 = 9 eggs.\nShe makes 9 * 2 = dollars.'
    >>> remove_answer("7 + 5 = 12", "12"), remove_answer(r"So the answer is $\boxed{12}$.", "12")
    ('7 + 5 =', '')
    """
    if len(text) > MAX_TRACE_CHARS:
        return ""
    gold, kind = _resolve(gold, kind)
    spans = []
    for start, end in statement_spans(text):
        if text.startswith("####", start):
            if kind == "text" or not is_heading(text[start + 4 : end]):
                spans.append((start, end))
        elif text[start] in "\\<":
            spans.append(_enclosed(text, start, end))
        else:
            lead_in = _LEAD_IN.search(text, max(0, start - 40), start)
            spans.append((lead_in.start() if lead_in else start, end + text.startswith((".", "!", "?"), end)))
    head, newline, line = _tidy(_without(text, spans)).rpartition("\n")
    if "=" not in line and _is_gold(line, gold, kind):  # with its unit: nothing of "18 dollars" is a hint
        line = ""
    rest = _tidy(head + newline + _without(line, _gold_spans(line, gold, kind)))
    return rest if _SOMETHING.search(rest) else ""


def leaks_answer(hint: str, gold: str, kind: AnswerKind = "auto") -> bool:
    """Whether the gold value still stands in a hint, as a whole token.

    >>> leaks_answer("6 + 6 = 12, and", "12"), leaks_answer("123, 1.2, 12,000", "12"), leaks_answer("1,200.0", "1200")
    (True, False, True)
    >>> leaks_answer("which is option B", "B"), leaks_answer("A Boy", "B"), leaks_answer("A boy", "A")
    (True, False, False)
    """
    return bool(_gold_spans(hint, *_resolve(gold, kind)))


def _resolve(gold: str, kind: AnswerKind) -> tuple[str, AnswerKind]:
    gold = bare_gold(gold)
    return gold, infer_kind(gold) if kind == "auto" else kind


def _is_gold(line: str, gold: str, kind: AnswerKind) -> bool:
    stated = canonical_answer(line, kind)
    return stated is not None and stated == canonical_answer(gold, kind)


def _gold_spans(text: str, gold: str, kind: AnswerKind) -> list[tuple[int, int]]:
    """Spans in which the bare gold value stands as a whole token; ``kind`` is not ``auto``."""
    if kind == "choice":
        letter = canonical_answer(gold, "choice") or re.escape(gold)
        # A capital A or I is a letter only where it is not a word, a small one never.
        word, either = (r"(?!\s+[a-z])", letter) if letter in "AI" else ("", f"(?i:{letter})")
        named = rf"\b(?i:option|choice|answer|letter)\s*(?i:is\s*)?:?\s*\(?{either}\)?(?![\w'’])"
        pattern = rf"\((?i:{letter})\)|{named}|(?<![\w'’]){letter}(?![\w'’]){word}"
        return [match.span() for match in re.finditer(pattern, text)]
    quantity = parse_quantity(gold) if kind in ("number", "math") else None
    if quantity is None:
        parts = plain_notation(gold).split() if kind == "text" else [*"".join(plain_notation(gold).split())]
        pattern = r"(?<![\w\\])" + r"\s*".join(map(re.escape, parts)) + r"(?!\w)"
        return [match.span() for match in re.finditer(pattern, text, re.IGNORECASE)] if parts else []
    if not text.isascii():  # foreign digits and minus signs, where that keeps every position
        text = "".join(plain if len(plain := unify_characters(c)) == 1 else c for c in text)
    matches = [*_TOKEN.finditer(text), *(_FRACTION.finditer(text) if quantity.value.denominator != 1 else ())]
    values = (quantity.value, quantity.value * quantity.ratio)
    return [match.span() for match in matches if (token := parse_quantity(match[0])) and token.value in values]


def _enclosed(text: str, start: int, end: int) -> tuple[int, int]:
    """The span with the math delimiters or emphasis around it, which would otherwise be left empty."""
    for opening, closing in _ENCLOSURES:
        before, after = text[max(0, start - 8) : start].rstrip(), text[end : end + 8]
        if before.endswith(opening) and after.lstrip().startswith(closing):
            start -= len(text[max(0, start - 8) : start]) - len(before) + len(opening)
            end += len(after) - len(after.lstrip()) + len(closing)
    return start, end


def _without(text: str, spans: list[tuple[int, int]]) -> str:
    kept, position = [], 0
    for start, end in sorted(spans):
        kept.append(text[position:start])
        position = max(position, end)
    return "".join([*kept, text[position:]])


def _tidy(text: str) -> str:
    """Text without the lines and spaces that a removal leaves behind."""
    text = _BLANK_LINES.sub("\n\n", _BARE_MARKS.sub("", text))
    return re.sub(
        r"(?<=\S)[ \t]{2,}|[ \t]+$", lambda gap: " " if gap.end() < len(text) else "", text.strip(), flags=re.MULTILINE
    )
