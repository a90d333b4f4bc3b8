"""Foreign text in Markdown: it stays text, whatever stands in it."""

from __future__ import annotations

import html
import re
from collections.abc import Sequence

from core_lightning.report.visible import visible

_MARKS = re.compile(r"([\\`*_\[\]|~#$!]|:(?=//)|(?<=www)\.)")  # an address would become a link


def inline(text: str) -> str:
    r"""A text within a line or a cell of a table.

    >>> inline("a_b | <b>\nc")
    'a\\_b \\| &lt;b&gt; c'
    """
    line = " ".join(visible(text).split())
    return html.escape(_MARKS.sub(r"\\\1", line), quote=False)


def code(text: str) -> str:
    r"""A name as code within a line.

    >>> code("org/name"), code("a `b`")
    ('`org/name`', '`` a `b` ``')
    """
    line = " ".join(visible(text).split()) or " "
    marks = _longer_than_within(line, 1)
    padded = f" {line} " if "`" in line else line
    return f"{marks}{padded}{marks}"


def fenced(text: str, language: str = "text") -> str:
    """A block of text as it is, behind a fence that nothing in it can close."""
    shown = visible(text)
    fence = _longer_than_within(shown, 3)
    return f"{fence}{language}\n{shown}\n{fence}"


def table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Rows of text under a head."""
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join(f"| {' | '.join(c if i == 1 else inline(c) for c in line)} |" for i, line in enumerate(lines))


def _longer_than_within(text: str, least: int) -> str:
    return "`" * max(least, 1 + max(map(len, re.findall("`+", text)), default=0))
