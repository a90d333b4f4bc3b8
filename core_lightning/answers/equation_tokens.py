r"""The pieces of arithmetic in prose, Markdown and LaTeX: numbers, operators, brackets, relations, words.

Whatever is none of these becomes a piece of kind "unknown", so that nothing is read that was not understood.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction

MAX_DIGITS = 40
"""A longer numeral is not read."""


@dataclass(frozen=True, slots=True)
class Token:
    """One piece of a text."""

    kind: str
    """``n`` number, one of ``+ - * / ^ ( ) % ! =`` itself, ``~`` an approximate equality, ``#`` another relation,
    ``f`` a LaTeX fraction, ``r`` a root, ``p`` a raised 2 or 3, ``w`` word, ``b`` end of a clause, ``?`` unknown."""
    start: int
    end: int
    text: str
    spaced: bool
    """Something invisible stands before it: a space, a LaTeX space, a dollar sign, emphasis."""
    value: Fraction = Fraction(0)
    """Value of a number or of a raised digit."""
    decimals: int = 0
    """Digits behind the decimal point."""
    currency: bool = False
    """A currency sign stands before the number."""


_GAP = r"(?:\{,\}|,\\!|\\[,!])"
_TOKEN = re.compile(
    rf"""
    (?P<space> (?:[^\S\n\r]|\\[,;:!\ ]|\\q?quad(?![A-Za-z])|&|\\[()\[\]]|["'`“”‘’\u200b\ufeff]
        |\\(?:left|right|[bB]igg?[lrm]?|displaystyle|textstyle|boxed|fbox|mathbf|boldsymbol)(?![A-Za-z])
        |(?<![\d)])\*\*|\*\*(?![\d(]))+ )
  | (?P<currency> \\?\$|[€£¥₹] )
  | (?P<number> \d+(?:(?:[.,:]|{_GAP})\d+)*|(?<![a-wyzA-WYZ\d_.])\.\d+ )
  | (?P<times> \*\*|[*×·⋅∗]|\\(?:times|cdot|ast)(?![A-Za-z]) )
  | (?P<over> [/÷⁄∕]|\\div(?![A-Za-z]) )
  | (?P<arrow> [-=]+>|[⇒→⟹]|\\(?:implies|Rightarrow|rightarrow|to|Longrightarrow|iff)(?![A-Za-z]) )
  | (?P<other> [<>!:]=|[<>≠≤≥≡]|\\(?:neq?|leq?|geq?|lt|gt|equiv|in)(?![A-Za-z]) )
  | (?P<about> [≈≃≅]|\\(?:approx|simeq|cong)(?![A-Za-z]) )
  | (?P<equals> ={{1,2}} )
  | (?P<fraction> \\[dtc]?frac(?![A-Za-z]) )
  | (?P<root> \\sqrt(?![A-Za-z])|√ )
  | (?P<named> \\(?:text(?:bf|it|rm|normal)?|math(?:rm|it)|mbox)\s*\{{(?P<name>[^{{}}\n]*)\}} )
  | (?P<percent> \\?%|percent(?![^\W\d_])|pct(?![^\W\d_]) )
  | (?P<raised> [²³] )
  | (?P<word> [^\W\d_²³]+(?:[-'’][^\W\d_²³]+)*|° )
  | (?P<ellipsis> \.\.\.+|…|\\[lcd]?dots(?![A-Za-z]) )
  | (?P<line> \\\\|\\(?:begin|end)\s*\{{[a-z]*\*?\}}|\s*[\n\r]\s* )
  | (?P<clause> [.,;:?—•]|\#+|(?<!\S)\|(?!\S) )
    """,
    re.VERBOSE,
)
_GROUPED = re.compile(rf"\d{{1,3}}(?:(?:,|{_GAP})\d{{3}})*(?:\.\d+)?|\d+(?:\.\d+)?|\.\d+")
_STRANGE = re.compile(r"_|[eE][+-]?\d|\\overline")
_FACTOR = re.compile(r"(?:[^\S\n\r]|\\?\$)*(?:[\d(.]|\\[dt]?frac)")
_SIGNS = {**dict.fromkeys("+＋", "+"), **dict.fromkeys("-−–‐‑", "-"), "^": "^", "!": "!"}
_BRACKETS = {"(": "(", "[": "(", "{": "(", ")": ")", "]": ")", "}": ")"}
_RAISED = {"²": 2, "³": 3}
_KINDS = {
    "times": "*",
    "over": "/",
    "arrow": "b",
    "other": "#",
    "about": "~",
    "equals": "=",
    "fraction": "f",
    "root": "r",
    "percent": "%",
    "line": "b",
    "clause": "b",
}


def unit_power(kinds: Sequence[str]) -> int:
    """How many pieces the power of a unit takes: that of "cm²", "cm^2", "cm^(2)"; 0 where there is none.

    Args:
        kinds: Of the pieces behind the unit, at least four where there are as many.
    """
    if kinds[:1] == ["p"]:
        return 1
    if kinds[:2] == ["^", "n"]:
        return 2
    return 4 if kinds[:4] == ["^", "(", "n", ")"] else 0


def tokens_of(text: str) -> list[Token]:
    """The pieces of a text in order, spaces and dollar signs left out; takes time linear in the text's length."""
    found: list[Token] = []
    position, spaced, currency = 0, True, False
    while position < len(text):
        match = _TOKEN.match(text, position)
        if match is None:
            token = _single(text, position, spaced)
        elif match.lastgroup == "space":
            position, spaced = match.end(), True
            continue
        elif match["currency"]:
            position, spaced, currency = match.end(), True, True
            continue
        elif match["ellipsis"] and found and found[-1].decimals and not spaced:  # 0.333...
            token = replace(found.pop(), end=match.end())
        else:
            token = _token(text, match, spaced, currency, found[-1] if found else None)
        found.append(token)
        position, spaced, currency = token.end, False, False
    return _parted_equations(_joined_lines(found))


def _token(text: str, match: re.Match[str], spaced: bool, currency: bool, previous: Token | None) -> Token:
    start, end = match.span()
    group = "named" if match["named"] else match.lastgroup or ""
    kind, written = _KINDS.get(group, "?"), match[0]
    if group == "number":
        return _number(text, start, end, spaced, currency, previous)
    if group == "raised":
        return Token("p", start, end, written, spaced, Fraction(_RAISED[written]))
    if written == "**":
        kind = "^"
    elif group == "named":
        written = match["name"].strip()
        kind = "?" if re.search(r"[^\s\w.,'’²³/-]|\d|_", written) or len(written) == 1 else "w"
    elif group == "word":
        kind = _word(text, start, end, spaced, previous)
    return Token(kind, start, end, written, spaced)


def _number(text: str, start: int, end: int, spaced: bool, currency: bool, previous: Token | None) -> Token:
    written = text[start:end]
    named = text[start - 1 : start].isalpha() or text[start - 1 : start] == "_"  # x1, A4
    after_command = previous is not None and previous.kind in ("*", "/", "f", "r")  # 3x4, \\frac12
    strange = _STRANGE.match(text, end) or re.match(r"0\d", written)  # 0130 hours
    if (named and not after_command) or strange or len(written) > MAX_DIGITS or not _GROUPED.fullmatch(written):
        return Token("?", start, end, written, spaced)
    digits = re.sub(rf"{_GAP}|,", "", written)
    return Token("n", start, end, written, spaced, Fraction(digits), len(digits.partition(".")[2]), currency)


def _word(text: str, start: int, end: int, spaced: bool, previous: Token | None) -> str:
    """Kind of a run of letters: a word, the cross of a product, or a variable, which nobody can evaluate."""
    if end - start > 1 or text[start] == "°":
        return "?" if any(character.isnumeric() for character in text[start:end]) else "w"
    if text[start] in "xX" and previous is not None and previous.kind in ("n", ")", "w", "%"):
        return "*" if _FACTOR.match(text, end) else "?"
    return "w" if text[start] in "aAI" and spaced and not text[end : end + 1].strip(" \n.,;:!?") else "?"


def _single(text: str, position: int, spaced: bool) -> Token:
    character = text[position]
    if character in _SIGNS:
        kind = _SIGNS[character]
    elif character in _BRACKETS:
        kind = _BRACKETS[character]
    else:
        kind = "b" if unicodedata.category(character) == "So" else "?"  # a tick or a smiley ends a clause
    return Token(kind, position, position + 1, character, spaced)


def _joined_lines(tokens: list[Token]) -> list[Token]:
    r"""Without the line ends that an equation runs over: "3 + 4 \\\\ &= 7"."""
    following = [*(token.kind for token in tokens[1:]), *("b" for _ in tokens[:1])]
    return [
        token
        for token, kind in zip(tokens, following, strict=True)
        if not (kind in ("=", "~") and token.kind == "b" and (token.text == "\\\\" or token.text.isspace()))
    ]


def _parted_equations(tokens: list[Token]) -> list[Token]:
    """With an end of a clause between equations that only a space parts: "4*3=12 2*3+1=7"."""
    parted: list[Token] = []
    for i, token in enumerate(tokens):
        if _is_result(tokens, i - 1) and _begins_equation(tokens, i):
            parted.append(Token("b", token.start, token.start, "", spaced=True))
        parted.append(token)
    return parted


def _is_result(tokens: list[Token], i: int) -> bool:
    """Whether a number, or a minus and a number, stands alone behind an equals sign."""
    if i < 1 or tokens[i].kind != "n":
        return False
    before = i - 2 if tokens[i - 1].kind == "-" else i - 1
    return before >= 0 and tokens[before].kind == "="


def _begins_equation(tokens: list[Token], i: int) -> bool:
    """Whether a number begins the left side of an equation, and continues no number before it ("1 1/2", "2 500")."""
    token = tokens[i]
    if token.kind != "n" or not token.spaced or (len(token.text) == 3 and token.text.isdigit()):
        return False
    j = i + 1
    while j < len(tokens) and tokens[j].kind in "+-*/^":
        if j + 1 == len(tokens) or tokens[j + 1].kind != "n":
            return False
        j += 2
    fraction = j == i + 3 and tokens[i + 1].kind == "/"
    return j > i + 1 and not fraction and j < len(tokens) and tokens[j].kind == "="
