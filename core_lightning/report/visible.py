"""Foreign text as it may be shown: what a terminal or a file would obey is spelled out."""

from __future__ import annotations

import re

# Control characters but tab and newline, lone surrogates, and marks that turn the direction of what follows.
_OBEYED = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def visible(text: str) -> str:
    r"""The text with every character that would steer a terminal written as an escape.

    A carriage return, an escape sequence or a mark of right-to-left writing in a model's text could otherwise overwrite or
    recolour what stands around it. A lone surrogate cannot be written to a file or a terminal at all.

    >>> visible("7\x1b[2J\r8\n")
    '7\\x1b[2J\\r8\n'
    """
    return _OBEYED.sub(lambda found: found[0].encode("unicode_escape", "surrogatepass").decode(), text)
