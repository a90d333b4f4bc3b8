"""Where a step's seconds went, by phase and peer: every second under one phase only."""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager

import torch


class Stopwatch:
    """Adds up wall-clock seconds by key.

    A phase inside another one of the same thread is taken out of the outer one, so phases add up to what was timed. Those
    of peers that work at the same time overlap.
    """

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self._threads = threading.local()

    @contextmanager
    def __call__(self, phase: str, peer: str | None = None, device: torch.device | str | None = None) -> Iterator[None]:
        """Time a block as ``phase`` or ``phase/peer``; on a GPU until its work is done, behind the host's back."""
        inner: list[float] = self._threads.__dict__.setdefault("inner", [])  # seconds within each open phase
        inner.append(0.0)
        start = time.perf_counter()
        try:
            yield
        finally:
            if torch.cuda.is_available() and torch.cuda.is_initialized() and str(device) != "cpu":
                # Not the whole device, on which another thread may be recording a graph.
                torch.cuda.current_stream(device).synchronize()
            spent = time.perf_counter() - start
            self.seconds[f"{phase}/{peer}" if peer else phase] += spent - inner.pop()
            if inner:
                inner[-1] += spent

    def take(self) -> dict[str, float]:
        """What has been measured since the last call."""
        taken, self.seconds = dict(self.seconds), defaultdict(float)
        return taken
