r"""The one final answer of a completion.

The rules, in order:

1. Only what stands after the last think block counts; an unclosed think block means no answer.
2. A final-answer statement is a balanced ``\boxed{}``, an ``<answer>`` tag, a "####" mark or an "answer is ..."
   sentence. The last one counts: a later statement corrects an earlier one. A box or tag that was cut off is no answer.
3. Two different answers in one statement ("A or B", "5, maybe 6", "5 for A and 6 for B"), or in two statements with no
   words between them, are ambiguous, and an ambiguous last statement means no answer. Stating the same value twice is
   fine.
4. Without a statement, a number counts when the last line is a number or ends in "= number", and a letter when it is
   the last line or opens the only line. A number or letter anywhere else never does.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from core_lightning.answers.hedges import taken_back
from core_lightning.answers.quantities import parse_quantity, same_quantity
from core_lightning.answers.readings import (
    AMBIGUOUS,
    Reading,
    read_choice,
    read_math,
    read_number,
    read_text,
    stated_number,
)
from core_lightning.answers.statements import Statement, find_statements, is_heading, strip_think

if TYPE_CHECKING:
    from core_lightning.records import AnswerKind

MAX_COMPLETION_CHARS = 100_000
"""Only this many characters at the end of a completion are searched."""
MAX_ANSWER_CHARS = 2_000
"""A statement longer than this is no answer."""
MAX_LINE_CHARS = 300
"""A longer last line is a ramble, not a bare answer."""
MAX_NESTED = 4
"""Statements within statements; with more of them nobody says what the answer is."""

_CALCULATION = re.compile(r"<<[^<>\n]{0,200}>>")  # GSM8K's calculator marks
_LETTER_LINE = re.compile(
    r"(?:\W|(?:the|correct|final|right|option|choice|answer|is|so|hence|thus|therefore)\b)*[A-Za-z]\W*", re.IGNORECASE
)
_LIST_MARK = re.compile(r"\(?\d{1,2}[.)]\Z")
_BETWEEN_WORDS = re.compile(r"[^\W\d_]{2,}")
# Of "Answer: A. B. C." and "Answer: A. Or B." the sentence is over behind the first letter.
_MORE_LETTERS = re.compile(
    r"[.)]?(?:[^\S\n]+(?:(?i:or|maybe|perhaps|possibly|alternatively),?\s+)*\(?([A-J])\)?(?:\.|[^\S\n]*(?=\n|\Z))"
    r"|\n[\W_]*([A-J])\W*\Z)"
)
_CONNECTORS = re.compile(r"\b(?:or|and|the|text|also)\b", re.IGNORECASE)


def extract_answer(completion: str, kind: AnswerKind = "auto", opened: bool = False) -> str | None:
    r"""Extract the final answer of a completion, as it was written.

    Args:
        completion: Text of a completion, its think block included.
        kind: What to look for. ``number`` gives the number with its unit; ``choice`` an upper-case letter; ``math``
            keeps a boxed list as a set; ``auto`` takes whatever is stated.
        opened: The prompt opened a think block that the completion has to close.

    Returns:
        The answer, or None when there is none or no unambiguous one.

    >>> extract_answer(r"So he pays \boxed{\frac{1}{2}}.")
    '\\frac{1}{2}'
    >>> extract_answer("The answer is 5. Wait, no: the answer is 7.", "number")
    '7'
    >>> extract_answer("7 + 5 = 12", "number"), extract_answer("I see 12 and 5 apples", "number")
    ('12', None)
    >>> extract_answer("Answer: A or B", "choice"), extract_answer("Answer: (A) because B is wrong", "choice")
    (None, 'A')
    """
    text = _CALCULATION.sub("", strip_think(completion, opened)[-MAX_COMPLETION_CHARS:])
    answer: Reading = None
    previous: Statement | None = None
    statements = find_statements(text)
    if kind == "text" and any(s.form in ("box", "tag") for s in statements):
        statements = [s for s in statements if s.form in ("box", "tag")]  # prose would read as an answer too
    for statement in statements:
        reading = _read(statement, kind) if statement.closed else AMBIGUOUS
        if reading is None:
            continue
        if statement.form == "phrase" and isinstance(reading, str) and _taken_back(text, statement.end, reading, kind):
            reading = AMBIGUOUS
        if previous is not None and _contradicts(text, previous, answer, statement, reading, kind):
            reading = AMBIGUOUS
        answer, previous = reading, statement
    if previous is None:
        answer = _bare(text, kind)
    return None if answer is AMBIGUOUS else answer


def _read(statement: Statement, kind: AnswerKind, depth: int = 0) -> Reading:
    """Answer of one statement; None when it states nothing of this kind. ``depth``: statements around it."""
    prose = statement.form == "phrase"
    content = statement.content
    if statement.form == "hash" and kind != "text" and is_heading(content):
        return None
    if len(content) > MAX_ANSWER_CHARS:
        return AMBIGUOUS
    while len(inner := find_statements(content)) == 1 and inner[0].closed:  # <answer>The answer is 7</answer>
        depth += 1
        front = Statement("phrase", 0, inner[0].start, _CONNECTORS.sub(" ", content[: inner[0].start]).strip(" ,;"))
        # Every level is read twice, so the time doubles with each.
        if depth > MAX_NESTED or (
            statement.form in ("phrase", "hash")
            and _differ(_read(front, kind, depth), _read(inner[0], kind, depth), kind)
        ):
            return AMBIGUOUS  # the answer is 5 and the answer is 6
        content, prose = inner[0].content, prose or inner[0].form == "phrase"
    match kind:
        case "number":
            reading = read_number(content, prose, letters=True)
        case "choice":
            reading = read_choice(content)
        case "math":
            reading = read_math(content, prose)
        case "text":
            return read_text(content)
        case _:
            reading = _read_any(content, prose)
    if reading is None and not prose:
        return read_text(content)  # an answer of the wrong kind is still what was answered
    return reading


def _read_any(content: str, prose: bool) -> Reading:
    """Read an answer of unknown kind: ambiguous as any kind, or a letter, or mathematics, or else words."""
    letter, maths = read_choice(content), read_math(content, prose)
    if AMBIGUOUS in (letter, maths) or (re.search(r"\bor\b", content) and stated_number(content) is AMBIGUOUS):
        return AMBIGUOUS
    if isinstance(letter, str) and letter in content:  # a lower-case letter is a variable
        return letter
    return maths or read_text(content)


def _taken_back(text: str, end: int, reading: str, kind: AnswerKind) -> bool:
    """Whether what follows an "answer is ..." sentence is another answer and nothing else."""
    if kind in ("choice", "auto") and re.fullmatch("[A-J]", reading):
        more = _MORE_LETTERS.match(text, end)
        return more is not None and reading not in more.groups()
    number = parse_quantity(reading, letters=kind == "number") if kind in ("number", "math", "auto") else None
    return number is not None and taken_back(text, end, number)


def _contradicts(
    text: str, previous: Statement, answer: Reading, statement: Statement, reading: Reading, kind: AnswerKind
) -> bool:
    """Whether a statement stands beside the previous one with another answer and without a word that corrects it."""
    between = _CONNECTORS.sub(" ", text[previous.end : statement.start])
    if len(between) > MAX_LINE_CHARS or _BETWEEN_WORDS.search(between):
        return False
    if isinstance(answer, str) and isinstance(reading, str):
        return _differ(answer, reading, kind)
    return previous.form == statement.form  # a sentence nobody can read is settled by the mark behind it


def _differ(a: Reading, b: Reading, kind: AnswerKind) -> bool:
    """Whether both are answers, and not the same one."""
    if not (isinstance(a, str) and isinstance(b, str)):
        return False
    x, y = (parse_quantity(text, letters=kind == "number") for text in (a, b))
    return not (same_quantity(x, y) if x and y else a.casefold().split() == b.casefold().split())


def _bare(text: str, kind: AnswerKind) -> Reading:
    """Answer of a completion without any statement, as small models write it: "12", "7 + 5 = 12", "(B)"."""
    head, _, line = text.strip().rpartition("\n")
    line = line.strip()
    if not line or len(line) > MAX_LINE_CHARS:
        return None
    if kind in ("choice", "auto") and (_LETTER_LINE.fullmatch(line) or (kind == "choice" and not head)):
        return read_choice(line)
    if kind in ("number", "math", "auto") and not (head and _LIST_MARK.match(line)):
        found = stated_number(line, letters=kind == "number")
        if isinstance(found, tuple):
            return found[0]
    return None
