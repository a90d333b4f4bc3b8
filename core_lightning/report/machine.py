"""The machine a run was made on, without its name or its user's."""

from __future__ import annotations

import os
import platform
from pathlib import Path

import torch


def machine() -> dict[str, str]:
    """Processor, memory, GPUs and operating system, as far as they can be known."""
    found = {"processor": f"{_cores()} cores of {_processor()}"}
    if memory := _memory():
        found["memory"] = f"{memory / 1e9:.0f} GB"
    if torch.cuda.is_available():
        names = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
        found["GPU"] = ", ".join(f"{names.count(name)} x {name}" for name in dict.fromkeys(names))
    found["system"] = platform.system()
    return found


def _cores() -> int:
    if hasattr(os, "sched_getaffinity"):  # those this process may use
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
        return next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def _memory() -> int | None:
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return None
