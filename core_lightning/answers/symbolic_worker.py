"""The process that compares expressions by computer algebra: one JSON line in, one JSON line out.

It is run as a script, so that it imports nothing of this package, and it takes no care of its own running time: whoever
asked kills it (see :mod:`core_lightning.answers.worker`). Nothing it reads is evaluated as code: only the LaTeX
grammar of math-verify is used, never its parser for Python expressions.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import sys
from collections.abc import Callable
from dataclasses import replace
from typing import TextIO

MEMORY_LIMIT = 3 * 2**30
"""Bytes of address space; a power tower would otherwise fill the machine before its time is up."""
ORPHAN_SECONDS = 60
"""The worker ends itself when one comparison takes this long, in case its parent died without killing it."""

_WORD_CONSTANTS = re.compile(r"(?<![A-Za-z\\])(pi|infinity)(?![A-Za-z])")


def build_comparison() -> Callable[[str, str], bool]:
    """Import math-verify and return ``equal(answer, gold)``."""
    from math_verify import LatexExtractionConfig, parse, verify

    # Units are not stripped here: the list math-verify has makes 2c equal to 2.
    latex = replace(LatexExtractionConfig().normalization_config, units=False, boxed="none")
    config = [LatexExtractionConfig(boxed_match_priority=-1, normalization_config=latex)]

    def read(expression: str) -> list[object]:
        expression = expression.replace("$", "").replace(r"\infinity", r"\infty")
        expression = _WORD_CONSTANTS.sub(r" \\\1 ", expression)
        # Its own time limits need SIGALRM and the main thread; this process has a better one.
        return list(
            parse(
                f"${expression}$",
                config,
                fallback_mode="no_fallback",
                extraction_mode="first_match",
                parsing_timeout=None,
            )
        )

    def equal(answer: str, gold: str) -> bool:
        return bool(
            verify(read(gold), read(answer), float_rounding=12, timeout_seconds=None, allow_set_relation_comp=True)
        )

    return equal


def serve(equal: Callable[[str, str], bool], replies: TextIO) -> None:
    """Announce this process by its id, then answer each ``[number, answer, gold]`` by ``[number, verdict]``."""
    replies.write(f"{os.getpid()}\n")
    for line in sys.stdin:
        number, answer, gold = json.loads(line)
        if hasattr(signal, "alarm"):
            signal.alarm(ORPHAN_SECONDS)
        try:
            verdict = equal(answer, gold)
        except (Exception, MemoryError):
            verdict = False
        if hasattr(signal, "alarm"):
            signal.alarm(0)
        replies.write(json.dumps([number, verdict]) + "\n")


def main() -> None:
    """Serve, and where processes can fork, replace a server that was killed at once: importing again takes a second."""
    if sys.platform != "win32":
        import resource

        hard = resource.getrlimit(resource.RLIMIT_AS)[1]
        limit = MEMORY_LIMIT if hard == resource.RLIM_INFINITY else min(MEMORY_LIMIT, hard)
        with contextlib.suppress(ValueError, OSError):  # macOS knows no such limit
            resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    replies = os.fdopen(os.dup(sys.stdout.fileno()), "w", buffering=1)
    sys.stdout = sys.stderr  # a library that prints must not break the protocol
    equal = build_comparison()
    equal(r"\sqrt{4}", "2")  # what is loaded on first use belongs to the start, not to the first request
    while hasattr(os, "fork") and (server := os.fork()):
        if os.waitpid(server, 0)[1] == 0:
            return  # it met the end of its input, or nobody reads its replies
    try:
        serve(equal, replies)
    except BrokenPipeError:  # who asked was killed; a server put in place of this one would meet the same, forever
        os._exit(0)


if __name__ == "__main__":
    main()
