"""Griffe extension for the API pages: roles of Sphinx become code, and doctests become blocks of code."""

from __future__ import annotations

import re
from typing import Any

import griffe

_ROLE = re.compile(r":\w+:`~?\.?(?:[\w.]*\.)?([^`]+)`")
_DOCTEST = re.compile(r"^(?P<indent> *)>>> .*?(?=\n\s*\n|\Z)", re.DOTALL | re.MULTILINE)


def plain(text: str) -> str:
    """A docstring whose roles and doctests read in Markdown."""
    text = _ROLE.sub(r"`\1`", text)
    if re.search(r"^Examples?:\n", text, re.MULTILINE):
        return text  # griffe knows these
    return _DOCTEST.sub(lambda m: f"{m['indent']}```pycon\n{m[0]}\n{m['indent']}```", text)


class PlainDocstrings(griffe.Extension):
    """Rewrites every docstring once its package is loaded."""

    def on_package(self, *, pkg: griffe.Module, **_: Any) -> None:
        """Walk through the package."""
        self._rewrite(pkg)

    def _rewrite(self, obj: Any) -> None:
        if obj.is_alias:
            return
        if obj.docstring is not None:
            obj.docstring.value = plain(obj.docstring.value)
        for member in obj.members.values():
            self._rewrite(member)
