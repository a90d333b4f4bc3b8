r"""One notation for what can be written in many: Unicode digits and signs, LaTeX dressing, plain text.

Only the dressing changes, never the value: ``\dfrac12`` becomes ``\frac12``, ``−５`` becomes ``-5`` and ``1\,000``
becomes ``1000``.
"""

from __future__ import annotations

import re
import unicodedata

_SIGNS = {
    **dict.fromkeys("−–—‐‑‒﹣", "-"),
    **dict.fromkeys("\u00a0\u2002\u2003\u2007\u2009\u200a\u202f\u3000", " "),
    **dict.fromkeys("\u200b\u200c\u200d\u2060\ufeff", ""),
    **dict.fromkeys("‘’", "'"),
    **dict.fromkeys("“”", '"'),
    "⁄": "/",
    "∕": "/",
    "×": r"\times ",
    "÷": r"\div ",  # a division that is still to be done, and no fraction
    "·": r"\cdot ",
    "⋅": r"\cdot ",
    "π": r"\pi ",
    "√": r"\sqrt",
    "∞": r"\infty ",
    "≤": r"\le ",
    "≥": r"\ge ",
    "≠": r"\ne ",
    "≈": r"\approx ",
    "∪": r"\cup ",
    "∩": r"\cap ",
    "∈": r"\in ",
    "∅": r"\emptyset ",
    "º": "°",
    "℃": "°C",
    "℉": "°F",
}


class _Characters(dict[int, str]):
    """Translation table for :meth:`str.translate` that works a character out when it is first met."""

    def __missing__(self, code: int) -> str:
        character = chr(code)
        if character in _SIGNS:
            plain = _SIGNS[character]
        elif character.isdecimal():
            plain = str(unicodedata.decimal(character))
        elif "\uff01" <= character <= "\uff5e":  # full-width ASCII
            plain = chr(code - 0xFEE0)
        elif unicodedata.decomposition(character).startswith("<fraction>"):  # the space keeps 2½ from becoming 21/2
            plain = " " + unicodedata.normalize("NFKC", character).replace("⁄", "/")
        else:
            plain = character
        self[code] = plain
        return plain


_CHARACTERS = _Characters()
# A run is one exponent or one index: 10²³ is 10^{23}.
_RAISED = re.compile("[⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻ⁿ]+")
_LOWERED = re.compile("[₀₁₂₃₄₅₆₇₈₉₊₋ₙ]+")
_ON_THE_LINE = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻ⁿ₀₁₂₃₄₅₆₇₈₉₊₋ₙ", "0123456789+-n0123456789+-n")
_DELIMITERS = (
    *((mark, mark) for mark in ("**", "*", "`", '"', "'", "$$", "$")),
    (r"\(", r"\)"),
    (r"\[", r"\]"),
)
_OPENINGS = tuple(opening for opening, _ in _DELIMITERS)
_TEXT_COMMANDS = (
    r"(?:text(?:bf|it|rm|sf|tt|normal)?|math(?:rm|bf|it|sf|tt|normal)|mbox|hbox|operatorname|bm|boldsymbol)\*?"
)
_TEXT_GROUP = re.compile(rf"\\{_TEXT_COMMANDS}\s*\{{([^{{}}]*)\}}")
_DIGIT_GAP = re.compile(r"(?<=\d)(?:,\\!|\\[,!;: ]|\{,\})\s*(?=\d{3}(?!\d))")
_SIZING = re.compile(r"\\(?:left|right|[bB]igg?[lrm]?|displaystyle|textstyle|limits)(?![A-Za-z])")
# Not behind a backslash: two of them end a matrix row.
_SPACING = re.compile(r"(?<!\\)\\(?:[,;:! ]|quad(?![A-Za-z])|qquad(?![A-Za-z]))|~")
_MATH_BRACKET = re.compile(r"(?<!\\)\\[()\[\]]")
_FRACTION = re.compile(r"\\[dtc]frac(?![A-Za-z])")
_DEGREE = re.compile(r"\^\s*(?:\\circ|\{\s*\\circ\s*\})|\\degrees?(?![A-Za-z])")


def unify_characters(text: str) -> str:
    """Replace Unicode digits, signs and spaces by their ASCII or LaTeX form.

    >>> unify_characters("−１２½"), unify_characters("x⁴ + 10⁻²³"), unify_characters("101₂")
    ('-12 1/2', 'x^4 + 10^{-23}', '101_2')
    """
    if text.isascii():
        return text
    text = _LOWERED.sub(lambda run: "_" + _grouped(run[0]), _RAISED.sub(lambda run: "^" + _grouped(run[0]), text))
    return text.translate(_CHARACTERS)


def _grouped(run: str) -> str:
    plain = run.translate(_ON_THE_LINE)
    return plain if len(plain) == 1 else f"{{{plain}}}"


def plain_notation(text: str) -> str:
    r"""Take the typography off a short piece of mathematics or text; the words inside ``\text{}`` stay.

    >>> plain_notation(r"\left(\dfrac{1}{2},\ 1{,}000\text{ km}\right)")
    '(\\frac{1}{2}, 1000  km )'
    """
    text = unify_characters(text)
    if "\\" in text or "{" in text or "~" in text:
        text = _DIGIT_GAP.sub("", text)
        text = _DEGREE.sub("°", text)
        for _ in range(3):  # \textbf{\text{B}}
            text, changed = _TEXT_GROUP.subn(r" \1 ", text)
            if not changed:
                break
        text = _FRACTION.sub(r"\\frac", _SPACING.sub(" ", _SIZING.sub("", text)))
        text = _MATH_BRACKET.sub("", text).replace(r"\%", "%").replace(r"\$", "$").replace(r"\varnothing", r"\emptyset")
    return text.strip()


def undelimited(text: str) -> str:
    r"""Strip what encloses a whole answer: math delimiters, Markdown emphasis, quotation marks.

    >>> [undelimited(text) for text in (r"**$\frac12$**", r"\[ x \]", "$5", '"Paris"')]
    ['\\frac12', 'x', '$5', 'Paris']
    """
    text = text.strip()
    if not text.startswith(_OPENINGS):
        return text
    for opening, closing in _DELIMITERS * 2:
        if len(text) > len(opening + closing) and text.startswith(opening) and text.endswith(closing):
            inner = text[len(opening) : -len(closing)]
            if opening not in inner.replace("\\" + opening, "") and not inner.endswith("\\"):
                text = inner.strip()
    return text
