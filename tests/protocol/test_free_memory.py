"""Memory that was freed leaves the process."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from core_lightning.training.lanes import return_free_memory


def resident() -> int:
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmRSS"))
    return int(line.split()[1]) // 1024


@pytest.mark.skipif(sys.platform != "linux", reason="an allocator of Linux")
def test_what_is_free_in_the_middle_of_a_heap_goes_back() -> None:
    blocks = [b"x" * 100_000 for _ in range(3000)]  # too small for a mapping of their own
    last = blocks.pop()  # keeps the heap from shrinking at its end
    full = resident()
    blocks.clear()
    return_free_memory()
    assert full - resident() > 200
    assert last
