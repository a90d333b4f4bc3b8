"""How a command may end: the one line of an error, and its exit code."""

from __future__ import annotations

import errno
import re
from argparse import ArgumentError

from lightning.fabric.utilities.exceptions import MisconfigurationException

from core_lightning.answers import WorkerStartError
from core_lightning.cli.error_lines import one_line
from core_lightning.training.out_of_memory import OutOfMemoryError
from core_lightning.training.ranks import MeetingError, is_lost_rank, is_taken, taken_line

FULL = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG, errno.EIO}
"""Errors of the system that say that nothing more can be written."""


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
