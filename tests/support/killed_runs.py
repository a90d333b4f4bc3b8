"""Runs that are killed: in a process of their own, at the n-th change they make to their folder, or after some seconds."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

#: What changes a folder, as Python's audit hooks name it; with "open", only for writing.
_CHANGES = {"open", "os.rename", "os.remove", "os.truncate", "os.mkdir"}

KILLED = -signal.SIGKILL


def run_in_process(work: Callable[[Path], None], folder: Path, *, change: int | None = None, after: float | None = None) -> int:
    """Run ``work(folder)`` in a new process; returns its exit code, :data:`KILLED` if it was killed.

    Args:
        work: A function of a module, so that the other process finds it.
        folder: The run folder.
        change: Kill the process, from within, just before this change to a file in the folder, counted from 0.
        after: Kill it after so many seconds.
    """
    # A fork of a process that has imported everything, and that has no threads yet.
    context: Any = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["core_lightning.cli.main", work.__module__])
    process = context.Process(target=_work, args=(work, folder, change))
    process.start()
    process.join(after)
    if process.is_alive():
        process.kill()
        process.join()
    return process.exitcode


def count_changes(work: Callable[[Path], None], folder: Path) -> int:
    """Run to the end; returns how many changes were made to files in the folder."""
    assert run_in_process(_counting(work), folder) == 0
    return int((folder.parent / f"{folder.name}.changes").read_text())


class _counting:  # noqa: N801  # reads as a function, and can be pickled
    def __init__(self, work: Callable[[Path], None]) -> None:
        self.work = work
        self.__module__ = work.__module__

    def __call__(self, folder: Path) -> None:
        counted = _listen(folder, None)
        self.work(folder)
        (folder.parent / f"{folder.name}.changes").write_text(str(counted[0]))


def _work(work: Callable[[Path], None], folder: Path, change: int | None) -> None:
    if change is not None:
        _listen(folder, change)
    work(folder)


def _listen(folder: Path, change: int | None) -> list[int]:
    counted, inside = [0], str(folder)

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if event not in _CHANGES or not str(arguments[0]).startswith(inside):
            return
        if event == "open" and not arguments[2] & (os.O_WRONLY | os.O_RDWR):
            return
        if counted[0] == change:
            os.kill(os.getpid(), signal.SIGKILL)
        counted[0] += 1

    sys.addaudithook(hook)
    return counted
