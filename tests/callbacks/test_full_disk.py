"""A disk that is full at a write: the run ends with the error, its last good state stays, and it goes on to the same end."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest
import torch

from core_lightning.callbacks import whole_files
from core_lightning.callbacks.whole_files import append, replacing
from recorded_run import everything, same, train

pytestmark = pytest.mark.usefixtures("few_resamples", "small_report")


class Disk:
    """Takes so many whole writes, and then a half one of each kind."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, room: float) -> None:
        self.room, self.writes, replace, put = room, 0, os.replace, whole_files.append

        def moved(source: Any, target: Any) -> None:
            self.take()
            replace(source, target)

        def added(path: Path, text: str, errors: str = "strict") -> None:
            self.take()
            put(path, text, errors)

        monkeypatch.setattr(os, "replace", moved)
        for module in ("trace_log", "metrics_csv"):
            monkeypatch.setattr(f"core_lightning.callbacks.{module}.append", added)

    def take(self) -> None:
        self.writes += 1
        if self.writes > self.room:
            raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize("parts", [(0.1, 0.5), pytest.param((0.0, 0.03, 0.33, 0.66, 0.99), marks=pytest.mark.kills)])
def test_every_kind_of_write(parts: tuple[float, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """``parts``: how much of all that a run writes there is room for."""
    whole = tmp_path / "whole" / "run"
    with monkeypatch.context() as patch:
        disk = Disk(patch, float("inf"))
        train(whole)
    assert disk.writes > 30
    for room in (int(part * disk.writes) for part in parts):
        folder = tmp_path / str(room) / "run"
        with monkeypatch.context() as patch:
            Disk(patch, room)
            with pytest.raises(OSError, match="No space left"):
                train(folder)
        assert [f.name for f in folder.rglob("*.new") if f.is_file()] == [], room
        for checkpoint in folder.rglob("*.ckpt"):
            torch.load(checkpoint, weights_only=True)
        for table in (folder / "traces.jsonl", folder / "metrics.csv"):
            assert not table.exists() or table.read_text().endswith("\n")
        train(folder)
        assert same(everything(folder), everything(whole)) == []


def test_what_cannot_be_replaced_stays(tmp_path: Path) -> None:
    file = tmp_path / "a"
    file.write_text("old")

    def write() -> None:
        with replacing(file) as fresh:
            fresh.write_text("half")
            raise OSError(errno.ENOSPC, "full")

    with pytest.raises(OSError, match="full"):
        write()
    assert [f.name for f in tmp_path.iterdir()] == ["a"]
    assert file.read_text() == "old"


@pytest.mark.skipif(not hasattr(os, "setxattr"), reason="limits the size of files in the way of Unix")
def test_half_an_append_is_taken_back(tmp_path: Path) -> None:
    """With a real limit: the system takes a part of the text, and no more."""
    import resource
    import signal

    file = tmp_path / "log"
    append(file, "first\n")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
        for name, kept in ((file, "first\n"), (tmp_path / "new", None)):
            with pytest.raises(OSError, match="File too large"):
                append(name, "x" * 5000)
            assert (name.read_text() if name.exists() else None) == kept
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, before)


