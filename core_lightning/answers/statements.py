"""Where a text states a final answer, found in linear time: boxes, tags, "####" marks and "the answer is" sentences."""

from __future__ import annotations

import re
from bisect import bisect_left
from dataclasses import dataclass, replace
from typing import Literal

Form = Literal["box", "tag", "hash", "phrase"]


@dataclass(frozen=True, slots=True)
class Statement:
    """One final-answer statement of a text."""

    form: Form
    start: int
    """Where the statement begins, its marker included."""
    end: int
    content: str
    """What is stated, without the marker; may be prose."""
    closed: bool = True
    """False for a box or tag that the end of the text cut off."""


_THINK = re.compile(r"(?P<end></think(?:ing)?>|\[/THINK\])|<think(?:ing)?>|\[THINK\]", re.IGNORECASE)
# The box comes first: a backslash otherwise protects the character behind it, as in \{1, 2\}.
_BRACES = re.compile(
    r"(?P<box>\\+(?:boxed|fbox|framebox)\s*\{)"
    r"|\\(?:boxed|fbox)\s*(?P<bare>-?\d[\d,]*(?:\.\d+)?|(?<=\s)[A-Za-z](?![A-Za-z]))"
    r"|\\.|(?P<open>\{)|(?P<close>\})",
    re.DOTALL,
)
_TAG = re.compile(r"<answer>(?P<content>.*?)(?P<end></answer>|(?=<answer>)|\Z)", re.DOTALL | re.IGNORECASE)
_HASH = re.compile(r"(?<!#)####(?!#)[ \t]*(?P<content>[^\n]*)")
_PHRASE = re.compile(
    r"\b(?:answers?|ans)\b\W{0,3}?(?:\s(?:choice|option|letter))?"
    r"(?:\s(?:to|for|of)\s[^.:=\n]{1,80}?)?"
    r"(?:\s{0,5}\b(?:(?:is|are)(?:\b|(?=n['’]t))|(?:would|should|must)\sbe\b|becomes\b|equals\b)\s{0,5}:?|\s{0,5}[=:]|\s{1,3}[-–—]\s(?=\S{1,40}\s*(?:\n|\Z)))"
    r"[\s*_]*",
    re.IGNORECASE,
)
_ARTICLE = re.compile(
    r"(?:(?:\b(?:the|my|our)\s)?(?:\b(?:final|correct|right|best)\s)?|\b(?:the|my|our)\s[\w-]{1,15}\s)\Z", re.IGNORECASE
)
# "I don't think the answer is 5", "If the answer is 5": said of an answer, not stated.
_NOT_STATED = re.compile(
    r"(?:\b(?:if|unless|whether|suppose|assume|assuming|doubt)|(?:n['’]t|\bnot|\bnever)\s(?:think|believe|say|mean|sure|know)"
    r"(?:\sif)?)(?:\sthat)?\s*\Z",
    re.IGNORECASE,
)
_SENTENCE_END = re.compile(r"(?<!\bRs)[.!?](?=[\s*\"']|\Z)|\n|\Z")
_DISPLAYS = (("$$", "$$"), (r"\[", r"\]"), (r"\(", r"\)"))


def strip_think(text: str, opened: bool = False) -> str:
    """What stands after the last think block; empty when the last one was never closed.

    A closing tag without an opening one counts, because some chat templates put the opening tag into the prompt.

    Args:
        text: A completion.
        opened: The prompt opened a block: a text that never closes it broke off inside.

    >>> strip_think("<think>5? no, 7</think> The answer is 7.")
    'The answer is 7.'
    >>> strip_think("<think>The answer is 5")
    ''
    """
    start, inside = 0, opened
    for tag in _THINK.finditer(text):
        inside = tag["end"] is None
        start = tag.end()
    return "" if inside else text[start:].strip() if start else text


def find_statements(text: str) -> list[Statement]:
    r"""All final-answer statements in order, none inside another.

    Where two forms overlap, as in "The answer is $\boxed{7}$", the innermost one is kept.

    >>> [(s.form, s.content) for s in find_statements(r"So $\boxed{\frac{1}{2}}$. Answer: B or C")]
    [('box', '\\frac{1}{2}'), ('phrase', 'B or C')]
    """
    bracketed = _bracketed(text)
    stated = [p for p in _phrases(text, bracketed) if not _NOT_STATED.search(text, max(0, p.start - 40), p.start)]
    phrases = [phrase for full in stated if (phrase := _in_front(full, bracketed, text)) is not None]
    inner = sorted([*bracketed, *phrases], key=_start)
    hashes = [line for line in _hashes(text) if _first_within(inner, line.start, line.end) is None]
    return sorted([*inner, *hashes], key=_start)


def statement_spans(text: str) -> list[tuple[int, int]]:
    """Spans to delete in order to remove every statement whole; they may overlap."""
    bracketed = _bracketed(text)
    return [(s.start, s.end) for s in (*bracketed, *_hashes(text), *_phrases(text, bracketed))]


def is_heading(content: str) -> bool:
    """Whether a "####" line is a Markdown heading such as "#### Step 2", and not GSM8K's answer mark."""
    return (
        re.match(r"[^\w\\]*(?!(?:Rs|US|USD|EUR|GBP|INR)\b[\s.$]*\d)[A-Za-z]{2,}(?![A-Za-z]|\s*[({])", content)
        is not None
    )


def _start(statement: Statement) -> int:
    return statement.start


def _first_within(statements: list[Statement], start: int, end: int) -> Statement | None:
    """First of the sorted statements that begins in [start, end)."""
    index = bisect_left(statements, start, key=_start)
    return statements[index] if index < len(statements) and statements[index].start < end else None


def _bracketed(text: str) -> list[Statement]:
    """Outermost boxes and tags, sorted; of a tag that holds a box, the box."""
    boxes = _boxes(text) if "box" in text else []
    tags = [
        Statement("tag", match.start(), match.end(), match["content"].strip(), closed=match["end"] != "")
        for match in (_TAG.finditer(text) if "<" in text else ())
        if match["end"] or match.end() == len(text)
    ]
    tags = [tag for tag in tags if _first_within(boxes, tag.start, tag.end) is None]
    return sorted([*boxes, *tags], key=_start)


def _boxes(text: str) -> list[Statement]:
    found: list[Statement] = []
    stack: list[re.Match[str] | None] = []  # the box that each open brace belongs to, None for any other brace
    for token in _BRACES.finditer(text):
        if token["box"]:
            stack.append(token)
        elif token["bare"]:  # \boxed 7
            found.append(Statement("box", token.start(), token.end(), token["bare"].strip().rstrip(",")))
        elif token["open"]:
            stack.append(None)
        elif token["close"] and stack and (box := stack.pop()) is not None:
            while found and found[-1].start > box.start():
                found.pop()
            found.append(Statement("box", box.start(), token.end(), text[box.end() : token.start()].strip()))
    for box in stack:
        if box is not None:
            kept = [statement for statement in found if statement.start < box.start()]
            return [*kept, Statement("box", box.start(), len(text), text[box.end() :].strip(), closed=False)]
    return found


def _hashes(text: str) -> list[Statement]:
    return [Statement("hash", m.start(), m.end(), m["content"].strip()) for m in _HASH.finditer(text)]


def _phrases(text: str, bracketed: list[Statement]) -> list[Statement]:
    """Every "answer is ..." sentence, to its end, whatever brackets it holds; none that begins inside a box or tag."""
    found: list[Statement] = []
    covered = 0
    enclosing = iter([*bracketed, None])
    bracket = next(enclosing)
    for match in _PHRASE.finditer(text):
        while bracket is not None and bracket.end <= match.start():
            bracket = next(enclosing)
        if match.start() < covered or (bracket is not None and bracket.start <= match.start()):
            continue
        end = _sentence_end(text, match.end())
        while (cut := _first_within(bracketed, match.end(), end)) is not None and cut.end > end:
            end = _sentence_end(text, cut.end)
        article = _ARTICLE.search(text, max(0, match.start() - 30), match.start())
        start = article.start() if article else match.start()
        found.append(Statement("phrase", start, end, text[match.end() : end].strip()))
        covered = end
    return found


def _sentence_end(text: str, start: int) -> int:
    for opening, closing in _DISPLAYS:  # display mathematics may run over several lines
        if text.startswith(opening, start) and (close := text.find(closing, start + 2, start + 2000)) >= 0:
            start = close + 2
            break
    match = _SENTENCE_END.search(text, start)
    return match.start() if match else len(text)


def _in_front(phrase: Statement, bracketed: list[Statement], text: str) -> Statement | None:
    r"""The part of a phrase in front of a box or tag, kept only when it is an answer of its own ("A or \boxed{B}")."""
    bracket = _first_within(bracketed, phrase.start, phrase.end)
    if bracket is None:
        return phrase if phrase.content else None
    marker = _PHRASE.search(text, phrase.start)
    content = text[marker.end() : bracket.start] if marker else ""
    alternative = re.search(r"(?<=[\w)$])[\W_]*(?:\bor|\band|\bnot|[,/;])[\s$(*]*\Z", content[-40:])
    if alternative is None:
        return None
    return replace(phrase, end=bracket.start, content=content[: len(content) - len(alternative[0])].strip())
