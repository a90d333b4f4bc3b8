"""How a command may end: the one line of an error, and its exit code."""

from __future__ import annotations

import errno
import os
import re
import select
import sys
from argparse import ArgumentError
from collections.abc import Iterator
from contextlib import contextmanager

from lightning.fabric.utilities.exceptions import MisconfigurationException

from core_lightning.answers import WorkerStartError
from core_lightning.cli.error_lines import one_line
from core_lightning.training.out_of_memory import OutOfMemoryError
from core_lightning.training.ranks import MeetingError, is_lost_rank, is_taken, taken_line

FULL = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG, errno.EIO}
"""Errors of the system that say that nothing more can be written."""
_UNREAD = 128 + 13  # SIGPIPE


@contextmanager
def until_nobody_reads() -> Iterator[None]:
    """End without a word where the reader of what is printed has gone, as ``head`` does when it has enough.

    The exit code is that of a program that the system ends for it. Any other broken pipe is a fault, and is raised.
    """
    try:
        try:
            yield
        finally:
            if sys.stdout is not None:
                sys.stdout.flush()  # here, not when the interpreter ends
    except BrokenPipeError:
        closed = [fd for fd in (1, 2) if _is_unread(fd)]
        if not closed:
            raise
        nowhere = os.open(os.devnull, os.O_WRONLY)
        for fd in closed:
            os.dup2(nowhere, fd)  # what is left in buffers
        raise SystemExit(_UNREAD) from None


def _is_unread(fd: int) -> bool:
    if not hasattr(select, "poll"):  # Windows
        return True
    poll = select.poll()
    poll.register(fd, 0)
    return any(event & select.POLLERR for _, event in poll.poll(0))


def ending(error: Exception) -> tuple[str, int] | None:
    """What to say of an error, and the exit code.

    Returns:
        Code 2 for a setting that cannot work, 1 for a run that has to stop; None for a fault of the program, whose
        traceback is wanted.

    >>> ending(ValueError("rounds.k is 0; a cold round needs 1 or more traces"))
    ('rounds.k is 0; a cold round needs 1 or more traces', 2)
    """
    if isinstance(error, ValueError | ModuleNotFoundError | ArgumentError | MisconfigurationException):
        return one_line(error), 2
    if isinstance(error, OutOfMemoryError | WorkerStartError | MeetingError):
        return str(error), 1
    if isinstance(error, RuntimeError) and is_taken(error):
        return taken_line(error), 1
    if is_lost_rank(error):
        said = re.sub(r"^\[.*?\] *", "", " ".join(str(error).split())).partition(". ")[0][:150]
        what = f"another process of this run is gone, or did not come ({said})"
        return f"{what}; this one ends, too, and --ckpt_path last goes on from the last checkpoint", 1
    if isinstance(error, OSError) and error.errno in FULL:
        where = f" at {error.filename}" if error.filename else ""
        what = f"the run folder cannot be written to ({error.strerror}{where})"
        return f"{what}; free some space and go on with --ckpt_path last", 1
    return None
