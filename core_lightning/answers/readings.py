r"""What the content of one final-answer statement says, read as an answer of a given kind.

Every reader returns the answer as it was written, :data:`AMBIGUOUS` when the content states two different ones (or
denies one), or None when it states none. Saying one value twice ("x = 3 or 3", "\frac12 = 0.5") is not ambiguous.
"""

from __future__ import annotations

import re
from enum import Enum
from typing import Final, Literal

from core_lightning.answers.hedges import offers_another, offers_at_once
from core_lightning.answers.notation import plain_notation, undelimited
from core_lightning.answers.quantities import Quantity, parse_quantity, same_quantity


class _Ambiguous(Enum):
    AMBIGUOUS = "two different answers"


AMBIGUOUS: Final = _Ambiguous.AMBIGUOUS
Reading = str | Literal[_Ambiguous.AMBIGUOUS] | None

MAX_READ_CHARS = 2000
"""Longer contents are not searched for a number or a letter."""

_HEDGE = re.compile(r"\W*(?:not|n['’]t|neither|either|both|none|never|cannot)\b", re.IGNORECASE)
_FILLER = re.compile(
    r"(?:[\s*:,]|(?:therefore|thus|actually|really|just|simply|exactly|about|approximately|roughly|around|indeed|"
    r"clearly|only|probably|maybe|likely|now|then|so|hence|equal to|given by|a total of|in fact|of course|found to be|"
    r"the number)\b)+",
    re.IGNORECASE,
)
# Where the reason begins: "12 because ...", "12, which is ...", "12 (twelve)".
_REASON = re.compile(
    r"\b(?:because|since|which|where|when|so|as|for|given|after|that)\b|(?<!\\),\s+(?!or\b|(?:and|or)\s+\W*\d)(?=[A-Za-z]{2})"
    r"|\s[-–—]+\s+(?=[A-Za-z]{2})|\(\s*(?!or\b)(?=[A-Za-z]{2})",
    re.IGNORECASE,
)
_EQUALS = re.compile(r"(?<![<>!\\])=|\\approx(?![A-Za-z])|\\(?:implies|Rightarrow|to)(?![A-Za-z])|[≈⇒→]")
# A comma separates unless it groups digits (1,000 or 1{,}000) or is a LaTeX space (3\,cm).
_ALTERNATIVE = re.compile(r"(?:\s*(?:(?<![A-Za-z\\])(?:or|and)(?![A-Za-z])|;|(?<![{\\]),(?!\d{3}(?!\d)))\s*)+")
_ASIDE = re.compile(r"\s+\(|\)$")
_OR = re.compile(r"(?<![A-Za-z\\])or(?![A-Za-z])")

_LETTER = re.compile(r"(?P<open>[(\[{]?)\s*(?P<letter>[A-Za-z])\s*(?P<close>[)\]}]?)(?![A-Za-z0-9'’])")
_LETTER_PREFIX = re.compile(
    r"(?:[\s*:\"',]|(?:the|final|correct|right|option|choice|letter|answer|is|so|hence|thus|therefore)\b)+",
    re.IGNORECASE,
)
_LETTER_STOP = re.compile(
    r"\s*(?:\Z|[.,:;)\]*\"'/&$]|-|\(|\n|(?:because|since|as|which|is|for|with|so|or|and|nor)\b)", re.IGNORECASE
)
_DENIED = re.compile(r"\W*(?:is|was)\s*(?:n['’]t|not|wrong|incorrect|false|impossible)\b", re.IGNORECASE)
_BETWEEN_LETTERS = (
    r"or|and|nor|also|plus|but|vs|versus|otherwise|unless|maybe|perhaps|possibly|alternatively|as\s+well\s+as|"
    r"along\s+with|together\s+with"
)
# Behind a dash or a full stop begins the option's text, unless a letter stands there alone: "A - D", "A. B. C."
_OTHER_LETTER = re.compile(
    rf"\s*(?:[(\[.]?\s*(?:[,/&;|∨]|\+(?=\s*(?-i:[(\[]?[A-Z]))|\b(?:{_BETWEEN_LETTERS})\b)|(?=[(\[]\s*[A-Za-z]\s*[)\]])"
    r"|(?:-|\.\.+|…|\b(?:to|through)\b)\s*(?=(?-i:[(\[]?[A-Z][)\]]?)\s*(?:\Z|[,;.)/]|\b(?:or|and)\b))"
    r"|\s+(?=(?-i:[A-Z])\))|(?P<end>[.)])\s+(?=(?-i:[A-Z])\s*(?:(?P=end)|\Z))|\n\s*(?=\W*(?-i:[A-Z])\W*\Z))"
    rf"[\s,(\[/]*(?:(?:{_BETWEEN_LETTERS}|probably|likely|even|else|could|might|may|be|it|is|the|option|choice|answer|both|"
    r"either)[\s,)]+[(\[]?)*"
    r"(?P<open>[(\[]?)\s*(?P<letter>[A-Za-z])(?P<close>[)\]]?)(?![A-Za-z0-9'’])",
    re.IGNORECASE,
)
_EMPHASIS = re.compile(r"[*`\"]|(?<!\w)['_]|['_](?!\w)")
_MATH_WORDS = re.compile(
    r"(?:sin|cos|tan|cot|sec|csc|log|ln|exp|pi|sqrt|max|min|mod|inf|infinity|or|and|arcsin|arccos|arctan|sinh|cosh|tanh|"
    r"gcd|lcm|det|undefined)\Z"
)
# A tuple, interval or set between math delimiters is one answer, and its commas separate nothing.
_BRACKETED_MATH = re.compile(
    r"(?:\$|\\\()\s*(?P<inner>(?:[(\[]|\\\{)[^$]*?(?:[)\]]|\\\}))\s*(?:\$|\\\))(?P<rest>.*)", re.DOTALL
)
_COMMANDS = re.compile(r"\\(?:begin|end)\s*\{[a-z]*\*?\}|\\[A-Za-z]+")
_WORD = re.compile(r"[^\W\d_]{3,}|\b(?:is|in|it|no|to|of|at|we|he|so|if|on|an|as|be|by)\b")


def stated_number(text: str, letters: bool = False) -> tuple[str, Quantity] | Literal[_Ambiguous.AMBIGUOUS] | None:
    r"""The one number a short text states, as written and as a value.

    Equal signs restate: the last side must be a number, and every other side that is one must equal it.

    Args:
        text: A short text.
        letters: A number is asked for, so that the letter of "6 m" is a unit.

    >>> stated_number("7 + 5 = 12")[0], stated_number("x = 3 or 3")[0], stated_number(r"\frac12 = 0.5")[0]
    ('12', '3', '0.5')
    >>> stated_number("3 or 5") is AMBIGUOUS, stated_number("5 = 3") is AMBIGUOUS, stated_number("7 + 5")
    (True, True, None)
    """
    if len(text) > MAX_READ_CHARS or not any(character.isdigit() or character.isnumeric() for character in text):
        return None
    whole = undelimited(text.strip().rstrip(".,;:").strip())
    quantity = parse_quantity(whole, letters)
    if quantity is not None:
        return whole, quantity
    *earlier, last = _EQUALS.split(whole)
    pieces = [piece for side in _ALTERNATIVE.split(last) for piece in _ASIDE.split(side) if piece.strip(" $*")]
    stated = [(piece, parse_quantity(piece, letters)) for piece in (undelimited(piece.strip(" *")) for piece in pieces)]
    numbers = [number for _, number in stated if number is not None]
    if not numbers:
        return None
    if len(numbers) < len(stated):
        return AMBIGUOUS
    for side in earlier:
        pieces = _ALTERNATIVE.split(side)
        numbers += [number for piece in pieces if (number := parse_quantity(piece, letters)) is not None]
    if any(not same_quantity(number, numbers[0]) for number in numbers):
        return AMBIGUOUS
    return stated[-1][0], numbers[len(stated) - 1]


def read_number(content: str, prose: bool, letters: bool = False) -> Reading:
    """Read a number; in ``prose`` a reason may follow it, and it must come first; ``letters`` as in stated_number."""
    if not prose:
        found = stated_number(content, letters)
        return found[0] if isinstance(found, tuple) else found
    content = _lead(content)
    if _HEDGE.match(content):
        return AMBIGUOUS
    reason = _REASON.search(content)
    found = stated_number(content[: reason.start()] if reason else content, letters)
    if isinstance(found, tuple):
        return AMBIGUOUS if reason and offers_another(content[reason.start() :], found[1]) else found[0]
    begins = parse_quantity(re.match(r"[^\s,;:=]*", content)[0].rstrip(".")) is not None  # type: ignore[index]
    return AMBIGUOUS if begins or found is AMBIGUOUS else None


def read_choice(content: str) -> Reading:
    r"""Read an option letter, which must stand as a whole; what follows it may mention others as a reason.

    >>> read_choice("(A) because B is wrong"), read_choice(r"\text{b}"), read_choice("A dog"), read_choice("Apple")
    ('A', 'B', None, None)
    >>> read_choice("A or B") is AMBIGUOUS
    True
    """
    text = _EMPHASIS.sub(" ", undelimited(plain_notation(content[:MAX_READ_CHARS]))).strip()
    if _HEDGE.match(text):
        return AMBIGUOUS
    prefix = _LETTER_PREFIX.match(text)
    match = _LETTER.match(text, prefix.end() if prefix else 0)
    if match is None:
        return None
    letter, rest = match["letter"], text[match.end() :]
    if _DENIED.match(rest):
        return AMBIGUOUS
    enclosed = bool(match["close"])
    if not enclosed and not (
        _LETTER_STOP.match(rest) if letter.isupper() else re.match(r"\W*\Z|[.:;,/]|\s(?:or|and)\b", rest)
    ):
        return None
    other = _OTHER_LETTER.match(rest)
    while other is not None:
        word = other["letter"] == "I" and re.match(r"\s+[a-z]", rest[other.end() :])  # A, I think
        as_letter = not word and (other["letter"].isupper() or bool(other["close"]) or letter.islower())
        if as_letter and other["letter"].upper() != letter.upper():
            return AMBIGUOUS
        other = _OTHER_LETTER.match(rest, other.end())
    return letter.upper()


def read_math(content: str, prose: bool) -> Reading:
    """Read an expression; a boxed or tagged list such as "1 or -2" is one answer, a set, and in ``prose`` a hedge."""
    if not prose:
        sides = stated_number(content) if _EQUALS.search(content) and not _ALTERNATIVE.search(content) else None
        return AMBIGUOUS if sides is AMBIGUOUS else undelimited(content) or None
    text = _lead(content)
    bracketed = _BRACKETED_MATH.match(text)
    if bracketed and (not bracketed["rest"].strip(" .") or _REASON.match(bracketed["rest"].lstrip())):
        return bracketed["inner"]
    number = read_number(content, prose=True)
    if number is not None:
        return number
    reason = _REASON.search(text)
    if reason and offers_at_once(text[reason.start() :]):
        return AMBIGUOUS
    text = undelimited((text[: reason.start()] if reason else text).strip().rstrip(".,;:").strip())
    if not text or not is_expression(text):
        return None
    return AMBIGUOUS if _OR.search(plain_notation(text)) else text


def read_text(content: str) -> Reading:
    """Read words: whatever is stated."""
    return undelimited(content.strip().removesuffix(".")).rstrip("* ") or None


def is_expression(text: str) -> bool:
    r"""Whether a text is mathematics and not words.

    >>> is_expression(r"2\sqrt{3} + x"), is_expression("no solution"), is_expression(r"\text{even}")
    (True, False, False)
    """
    bare = _COMMANDS.sub(" ", plain_notation(text))
    return any(c.isalnum() for c in text) and all(_MATH_WORDS.match(word) for word in _WORD.findall(bare))


def _lead(content: str) -> str:
    filler = _FILLER.match(content)
    return content[filler.end() :].strip() if filler else content.strip()
