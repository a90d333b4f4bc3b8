"""Where a step's seconds went, by phase and peer."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager

import torch


class Stopwatch:
    """Adds up wall-clock seconds by key; phases of parallel peers may overlap."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)

    @contextmanager
    def __call__(self, phase: str, peer: str | None = None) -> Iterator[None]:
        """Time a block as ``phase`` or ``phase/peer``."""
        start = time.perf_counter()
        try:
            yield
        finally:
            if torch.cuda.is_available() and torch.cuda.is_initialized():
                torch.cuda.synchronize()  # kernels run behind the host's back
            self.seconds[f"{phase}/{peer}" if peer else phase] += time.perf_counter() - start

    def take(self) -> dict[str, float]:
        """What has been measured since the last call."""
        taken, self.seconds = dict(self.seconds), defaultdict(float)
        return taken
