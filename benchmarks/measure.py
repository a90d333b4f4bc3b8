"""What the benchmarks share: variants measured in turn, resident memory, and a report as table and JSON."""

from __future__ import annotations

import argparse
import json
import math
import multiprocessing
import platform
import statistics
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypeVar

import torch

RESULTS = Path(__file__).parent / "results"
T = TypeVar("T")


def parser(doc: str | None, rounds: int = 5) -> argparse.ArgumentParser:
    """The options every benchmark has."""
    options = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--quick", action="store_true", help="tiny models, one round: only shows that the script runs")
    options.add_argument("--rounds", type=int, default=rounds, help="how often the variants take their turn")
    options.add_argument("--threads", type=int, default=torch.get_num_threads(), help="threads of one operation")
    options.add_argument("--out", type=Path, default=RESULTS, help="folder of the JSON file")
    return options


def parse(options: argparse.ArgumentParser, args: Sequence[str] | None) -> argparse.Namespace:
    """Parsed options, with what ``--quick`` and ``--threads`` imply."""
    parsed = options.parse_args(args)
    if parsed.quick:
        parsed.rounds = 1
    torch.set_num_threads(parsed.threads)
    return parsed


def seconds(work: Callable[[], object]) -> float:
    """Wall-clock seconds of one call."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def in_turn(variants: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    """Seconds of every variant, A B C A B C ..., after one call of each that does not count.

    A machine drifts (other work, temperature), and what is measured in the same round has drifted alike: compare rounds.
    """
    for work in variants.values():
        work()
    taken: dict[str, list[float]] = {name: [] for name in variants}
    for _ in range(rounds):
        for name, work in variants.items():
            taken[name].append(seconds(work))
    return taken


def ratios(above: Sequence[float], below: Sequence[float]) -> list[float]:
    """Quotients of what was measured in the same round."""
    return [a / b for a, b in zip(above, below, strict=True)]


def isolated(work: Callable[..., T], *args: Any) -> T:
    """The result of a call in a fresh process, so that its memory and its imports are its own."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(work, args)


class PeakMemory:
    """The highest resident memory of this process since this object was made, in MB. Linux only; NaN elsewhere."""

    def __init__(self) -> None:
        if _STATUS.exists():
            Path("/proc/self/clear_refs").write_text("5")  # the high water starts anew
        self.before = _resident("VmRSS")

    @property
    def total(self) -> float:
        """All of it."""
        return _resident("VmHWM")

    @property
    def extra(self) -> float:
        """What came on top of what was resident at the beginning."""
        return self.total - self.before


_STATUS = Path("/proc/self/status")


def _resident(name: str) -> float:
    if not _STATUS.exists():
        return math.nan
    line = next(line for line in _STATUS.read_text().splitlines() if line.startswith(name))
    return int(line.split()[1]) / 1024


@dataclass
class Row:
    """One measured quantity, a value for every round."""

    case: str
    measure: str
    unit: str
    values: list[float]
    at_least: float | None = None
    at_most: float | None = None

    @property
    def spread(self) -> tuple[float, float, float]:
        """Minimum, median and maximum."""
        return min(self.values), statistics.median(self.values), max(self.values)

    @property
    def target(self) -> str:
        """The target in words, empty when there is none."""
        if self.at_least is not None:
            return f"≥ {self.at_least:g}"
        return "" if self.at_most is None else f"≤ {self.at_most:g}"

    @property
    def met(self) -> str:
        """Whether the median meets the target."""
        median = self.spread[1]
        if self.at_least is not None:
            return "yes" if median >= self.at_least else "no"
        return "" if self.at_most is None else "yes" if median <= self.at_most else "no"

    def cells(self) -> list[str]:
        """The row as text."""
        return [self.case, self.measure, *map(_figure, self.spread), self.unit, self.target, self.met]


HEADINGS = ("case", "measure", "min", "median", "max", "unit", "target", "met")


def _figure(value: float) -> str:
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"


@dataclass
class Report:
    """Rows of one benchmark and where they were measured."""

    name: str
    options: argparse.Namespace
    rows: list[Row] = field(default_factory=list)

    def add(
        self,
        case: str,
        measure: str,
        values: Sequence[float],
        unit: str = "",
        *,
        at_least: float | None = None,
        at_most: float | None = None,
    ) -> None:
        """Add a row, and say it at once: a benchmark may take minutes."""
        self.rows.append(Row(case, measure, unit, list(values), at_least, at_most))
        print("  ".join(self.rows[-1].cells()), flush=True)

    def finish(self) -> None:
        """Print the table and write the JSON file."""
        from rich.console import Console
        from rich.table import Table

        table = Table(*HEADINGS, title=f"{self.name}, {self.options.threads} threads")
        for row in self.rows:
            table.add_row(*row.cells())
        console = Console()
        Console(width=max(console.width, 110)).print(table)
        self.options.out.mkdir(parents=True, exist_ok=True)
        file = self.options.out / f"{self.name}{'.quick' if self.options.quick else ''}.json"
        document = {
            "benchmark": self.name,
            "options": {k: v for k, v in vars(self.options).items() if not isinstance(v, Path)},
            "environment": environment(),
            "rows": [asdict(row) for row in self.rows],
        }
        file.write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n")


def environment() -> dict[str, str]:
    """What a figure depends on besides the code: versions, processor, threads, commit."""
    packages = ("torch", "transformers", "peft", "bitsandbytes", "lightning")
    return {
        "python": platform.python_version(),
        **{name: version(name) for name in packages},
        "processor": _processor(),
        **({"gpu": torch.cuda.get_device_name()} if torch.cuda.is_available() else {}),
        "threads": str(torch.get_num_threads()),
        "commit": _git("rev-parse", "--short", "HEAD") + ("+changes" if _git("status", "--porcelain", "-uno") else ""),
        "date": time.strftime("%Y-%m-%d"),
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())


def _git(*args: str) -> str:
    done = subprocess.run(["git", *args], cwd=Path(__file__).parent, capture_output=True, text=True, check=False)
    return done.stdout.strip()
