r"""Taking the final answer out of a trace that is to be shown to a peer, and measuring whether it still stands there.

The hint may still imply the answer ("7 + 5 ="); what it must not do is say it. A value is removed only where it stands as
a result: in a final-answer statement, behind an equality sign, in a conclusion, in the closing sentences. Where the same
value is an operand ("6 - 3 =") or was given, it stays: without it the derivation would be a wreck.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

from core_lightning.answers.equality import bare_gold, canonical_answer, infer_kind
from core_lightning.answers.gold_forms import NUMBER, Span, find_gold, is_numeral, is_operand
from core_lightning.answers.gold_parts import find_parts
from core_lightning.answers.statements import is_heading, statement_spans

if TYPE_CHECKING:
    from core_lightning.records import AnswerKind

MAX_TRACE_CHARS = 100_000
"""A longer trace makes no hint."""
MAX_LINE_CHARS = 200
"""A longer line is not compared with gold as a whole."""
LOOK_BACK = 80
"""So many characters before a value say whether it is a result."""
CLOSING_SENTENCES = 2
"""So many sentences at the end are taken for conclusions whatever they say."""

MAX_ROUNDS = 5
"""A trace whose parts of a list still stand together after so many removals makes no hint."""

_LEAD_IN = re.compile(
    r"(?:(?:\b(?:so|thus|hence|therefore|then|finally|and|now|but|wait|no|hmm|actually|in conclusion|this means that|"
    r"we conclude that)\b|[*_])[\s,:]*)+\Z",
    re.IGNORECASE,
)
_ENCLOSURES = (("$$", "$$"), ("$", "$"), (r"\[", r"\]"), (r"\(", r"\)"), ("**", "**"))
_BARE_MARKS = re.compile(r"^[ \t]*[.,;:!*#$]+[ \t]*$", re.MULTILINE)
_BLANK_LINES = re.compile(r"\n\s*\n")
_SOMETHING = re.compile(r"\d|[^\W_]{3,}|[^\W_]\W+[^\W_]")
_SENTENCE = re.compile(r"(?<=[.!?])\s+|\n")
_CONCLUDES = re.compile(
    r"[\s*_>#-]*(?:so|thus|hence|therefore|finally|altogether|in total|in all|overall|in conclusion|in summary|as a result|"
    r"consequently|this means|that means|that leaves|that makes|the total|the final|the result)\b",
    re.IGNORECASE,
)
_CHECK = re.compile(
    r"[\s*_>#\d.)-]*(?:(?:so|now|and|then|finally|next|let['’]s|let us|let me|we can|we|i|to|a quick|also|double)[\s,-]+)*"
    r"(?:check(?:ing)?\b(?!\s+out\b)|verif|plug(?:ging)? (?:it |this |that )?(?:back|in)|substitut\w+ back)",
    re.IGNORECASE,
)
_EQUALS = re.compile(
    r"(?:=|[≈→⇒]|\\(?:approx|to|implies|Rightarrow|rightarrow)(?![A-Za-z])|\bequals?(?:\s+to)?\b)\s*"
    r"(?:(?:a|total|of|about|approximately|exactly|only|just)\s+)*"
    r"(?:[\s$€£₹¥(*~{]|Rs\.?|\\[$(,;:! ]|\\(?:text|boxed|mathbf)\s*\{)*\Z"
)
_SAYS = re.compile(
    r"\b(?:is|are|was|were|be|becomes?|remains?|has|have|had|gets?|got|gives?|gave|makes?|made|totals?|totaling|leaves?|costs?|"
    r"pays?|paid|earns?|earned|needs?|spends?|spent|takes?|took|comes? to|amounts? to|adds? up to|total of|sum of|equal to|"
    r"to|only|answer|result|total|value|choose|option|choice)\b[\s:,]*(?:(?:a|an|the|total|of|about|approximately|exactly|"
    r"only|just|now|still|therefore|then|equal|to|be)\s+)*[\s$(*:]*\Z",
    re.IGNORECASE,
)
_SAID = re.compile(
    r"[\s$)*%]*(?:[A-Za-z]+\s+){0,3}(?:is|are|was|were|will be|remains?|left|in total|altogether|in all)\b"
)
_REASON = re.compile(r"\b(?:because|since|as|for)\b", re.IGNORECASE)
_EQUALS_BEHIND = re.compile(r"\s*(?:\$\s*)?=\s*\S")
_LINE_END = re.compile("\n")
_REVERSED = re.compile(r"(?:^|[\n.,:;(]|\b(?:so|thus|hence|therefore|then|that))\s*\$?\s*\Z", re.IGNORECASE)


def remove_answer(
    text: str, gold: str, kind: AnswerKind = "auto", forms: Sequence[str] = (), question: str = ""
) -> str:
    r"""The trace without its final answer.

    Every box, tag and "####" mark goes, every "answer is ..." sentence as a whole, and the gold value in any form
    ("18", "$18.00", "eighteen") wherever it stands as a result; operands stay. Of a
    list, tuple or interval all parts go that stand together. A sentence that checks the answer by computing with it goes
    as a whole, if the question is known and does not give the value.

    Args:
        text: A completion.
        gold: Gold answer, bare or marked.
        kind: Kind of the gold answer.
        forms: Other texts that say the gold answer: the text of the gold option.
        question: What the student reads anyway, the options left out. A number that it does not give is a result
            wherever it is no operand.

    Returns:
        What is left, or "" when nothing is left that could help.

    >>> remove_answer("She has 16 - 3 - 4 = 9 eggs.\nShe makes 9 * 2 = 18 dollars.\n#### 18", "18")
    'She has 16 - 3 - 4 = 9 eggs.\nShe makes 9 * 2 = dollars.'
    >>> remove_answer("7 + 5 = 12", "12"), remove_answer("6 - 3 = 3 are left.\nSo it is 3.", "3")
    ('7 + 5 =', '6 - 3 = are left.\nSo it is .')
    >>> remove_answer("A quarter of 72 is 18 cm.\nAnswer: (B)", "B", forms=["18 cm"])
    'A quarter of 72 is cm.'
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
    rest = _tidy(_without(text, spans))
    # With its unit: nothing of a line "18 dollars" is a hint.
    rest = "\n".join(line for line in rest.split("\n") if "=" in line or not _is_gold(line, gold, kind, forms))
    given = bool(question) and _gives(question, gold, kind, forms)
    if question and not given:
        rest = _tidy(_without(rest, _checks(rest, find_gold(rest, gold, kind, forms))))
    found = find_gold(rest, gold, kind, forms)
    results = _results(rest, found)
    if question and not given:
        results += [span for span in found if _names_a_value(rest, span, kind) and not is_operand(rest, span)]
    rest = _tidy(_without(rest, results + ([] if given else _all_parts(rest, gold, kind, forms))))
    for _ in range(MAX_ROUNDS):  # what is taken out brings other parts of a list together
        parts = [] if given else _all_parts(rest, gold, kind, forms)
        if not parts:
            break
        rest = _tidy(_without(rest, parts))
    else:
        return ""
    return rest if _SOMETHING.search(rest) else ""


def leaks_answer(
    hint: str, gold: str, kind: AnswerKind = "auto", forms: Sequence[str] = (), question: str = ""
) -> bool:
    """Whether a hint still says the gold answer.

    It does where the value stands as a whole and not as an operand, where the parts of a list stand together, and in a
    sentence that checks a value which the question does not give. A value that the question gives, too, counts only
    where it stands as a result.

    Args:
        hint: A hint.
        gold: Gold answer, bare or marked.
        kind: Kind of the gold answer.
        forms: Other texts that say the gold answer: the text of the gold option.
        question: What the student reads anyway, the options left out.

    >>> leaks_answer("6 + 6 = 12, and", "12"), leaks_answer("123, 1.2, 12,000", "12"), leaks_answer("1,200.0", "1200")
    (True, False, True)
    >>> leaks_answer("6 - 3 =", "3"), leaks_answer("which is option B", "B"), leaks_answer("A Boy", "B")
    (False, True, False)
    """
    gold, kind = _resolve(gold, kind)
    places = find_gold(hint, gold, kind, forms)
    found = [span for span in places if not is_operand(hint, span)]
    if question and _gives(question, gold, kind, forms):
        return bool(_results(hint, found, closing=False))  # the end of a hint need not conclude
    return bool(found or _all_parts(hint, gold, kind, forms) or (question and _checks(hint, places)))


def _gives(question: str, gold: str, kind: AnswerKind, forms: Sequence[str]) -> bool:
    """Whether a question states the gold value; a letter of an option in it says nothing."""
    if kind != "choice":
        return bool(find_gold(question, gold, kind, forms) or find_parts(question, gold, kind))
    return any(find_gold(question, form, infer_kind(form)) for form in forms)


def _all_parts(text: str, gold: str, kind: AnswerKind, forms: Sequence[str]) -> list[Span]:
    """The parts of a gold list that stand together, and those of the text of the gold option."""
    return [
        span
        for form, its in ((gold, kind), *((f, infer_kind(f)) for f in forms))
        for span in find_parts(text, form, its)
    ]


def _checks(text: str, found: Sequence[Span]) -> list[Span]:
    """Sentences that check the answer by computing with it: "To check: 18 / 2 = 9."."""
    checks, heading = [], False
    for start, end in _sentences(text):
        if heading or _CHECK.match(text, start):
            heading = text[start:end].rstrip(" \n*").endswith(":")
            if _within(found, start, end):
                checks.append((start, end))
        else:
            heading = False
    return checks


def _resolve(gold: str, kind: AnswerKind) -> tuple[str, AnswerKind]:
    gold = bare_gold(gold)
    return gold, infer_kind(gold) if kind == "auto" else kind


def _is_gold(line: str, gold: str, kind: AnswerKind, forms: Sequence[str]) -> bool:
    if len(line) > MAX_LINE_CHARS:
        return False
    for form, its_kind in ((gold, kind), *((form, infer_kind(form)) for form in forms)):
        stated = canonical_answer(line, its_kind)
        if stated is not None and stated == canonical_answer(form, its_kind):
            return True
    return False


def _results(text: str, found: Sequence[Span], closing: bool = True) -> list[Span]:
    """Those places of the gold value in which it stands as a result; ``closing``: the last sentences conclude."""
    free = [span for span in found if not is_operand(text, span)]
    results = [span for span in free if _is_result(text, span)]
    # "18 are left because 20 - 2 = 18" says it twice.
    kept = {*results, *_reasoned(text, free, results)}
    for start, end in _conclusions(text, free, closing):
        numbers = [match.span() for match in NUMBER.finditer(text, start, end)]
        last_number = next((number for number in reversed(numbers) if not is_operand(text, number)), None)
        for span in _within(free, start, end):
            last = last_number is None or last_number[0] < span[1]
            said = _SAYS.search(text, max(start, span[0] - LOOK_BACK), span[0]) or _SAID.match(text, span[1])
            if last or said or not is_numeral(text, span):
                kept.add(span)
    return sorted(kept)


def _within(spans: Sequence[Span], start: int, end: int) -> Sequence[Span]:
    """Those of the sorted spans that begin in [start, end)."""
    return spans[bisect_left(spans, (start,)) : bisect_left(spans, (end,))]


def _names_a_value(text: str, span: Span, kind: AnswerKind) -> bool:
    """Whether a number or an option's letter stands there, which the sentence around it can do without."""
    return is_numeral(text, span) or (kind == "choice" and len(text[span[0] : span[1]].strip("() ")) == 1)


def _is_result(text: str, span: Span) -> bool:
    """Whether a value stands behind an equality sign, or alone before one."""
    start, end = span
    if _EQUALS.search(text, max(0, start - LOOK_BACK), start):
        return True
    return bool(_EQUALS_BEHIND.match(text, end) and _REVERSED.search(text, max(0, start - 12), start))


def _reasoned(text: str, free: Sequence[Span], results: Sequence[Span]) -> list[Span]:
    """Values in a line that goes on with "because" and the calculation whose result they are."""
    if not results:
        return []
    reasons = [match.span() for match in _REASON.finditer(text)]
    lines = [match.start() for match in _LINE_END.finditer(text)] + [len(text)]
    found = []
    for span in free:
        line = lines[bisect_left(lines, span[1])]
        result = _within(results, span[1], line)[:1]
        if result and any(reason[1] <= result[0][0] for reason in _within(reasons, span[1], line)[:1]):
            found.append(span)
    return found


def _conclusions(text: str, found: Sequence[Span], closing: bool) -> list[Span]:
    """Sentences that begin like a conclusion, and at the end all that say the value and at least the last ones."""
    sentences = _sentences(text)
    first = len(sentences)
    if closing:
        while first > 0 and _within(found, *sentences[first - 1]):
            first -= 1
        first = min(first, len(sentences) - CLOSING_SENTENCES)
    return [s for i, s in enumerate(sentences) if i >= first or _CONCLUDES.match(text, s[0])]


def _sentences(text: str) -> list[Span]:
    """Where the sentences and lines stand that say something."""
    cuts = [0, *(match.end() for match in _SENTENCE.finditer(text)), len(text)]
    return [(a, b) for a, b in pairwise(cuts) if _SOMETHING.search(text, a, b)]


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
        r"(?<=\S)[ \t]{2,}|(?<![ \t])[ \t]+$",
        lambda gap: " " if gap.end() < len(text) else "",
        text.strip(),
        flags=re.MULTILINE,
    )
