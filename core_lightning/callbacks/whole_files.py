"""Files that are whole or as they were before, also where the disk is full."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Gives a name to write to; what is written takes the place of ``path`` in one step, or is removed after an error.

    Raises:
        OSError: The disk is full, or the folder cannot be written to.
    """
    fresh = path.with_name(f"{path.name}.new")
    try:
        yield fresh
        os.replace(fresh, path)
    except BaseException:
        with suppress(OSError):
            fresh.unlink(missing_ok=True)
        raise


def append(path: Path, text: str, errors: str = "strict") -> None:
    """Add text to a file, all of it or nothing.

    Raises:
        OSError: The disk is full, or the file cannot be written to; it is then as it was.
    """
    size = path.stat().st_size if path.exists() else None
    try:
        with path.open("a", encoding="utf-8", newline="", errors=errors) as file:
            file.write(text)
    except OSError:
        with suppress(OSError):
            path.unlink(missing_ok=True) if size is None else os.truncate(path, size)
        raise
