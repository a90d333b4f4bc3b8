"""Which small faults in the code no test notices. Linux and macOS.

    python -m benchmarks.mutants rewards metrics [--sample 250] [--seed 0] [--again mutants.jsonl]

The tests of the rooms (``tests/<room>`` and the examples in docstrings) are collected once, and run once with a trace that
says what lines each of them reaches. Then, for every mutant (``benchmarks/changes.py``), a fork of this process puts the
changed code in the place of the old one and runs the tests that reach it, the quickest first, up to the first that fails.
A mutant is one JSON line: ``killed``, ``out of time`` (a test would have waited forever) or ``survived``. Code that runs in
a process of its own (``answers/symbolic_worker.py``) is left alone. With ``--again``, what survived another time.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import pickle
import random
import signal
import sys
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from types import FrameType, FunctionType
from typing import Any

import pytest

from benchmarks.changes import Mutant, functions_of, mutants, put_in

APART = ("symbolic_worker.py",)
PATIENCE = 30.0
"""Seconds a mutant may take beyond three times what its tests take of the code as it is."""


class Hunt:
    """A plugin of pytest that runs the collected tests on mutants instead of once."""

    def __init__(self, rooms: dict[str, list[str]], options: argparse.Namespace) -> None:
        self.rooms, self.options = rooms, options
        self.files = {file for files in rooms.values() for file in files}
        self.failed: Callable[[str], None] = lambda test: None

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """A test noticed."""
        if report.failed:
            self.failed(report.nodeid)

    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        """In the place of pytest's own."""
        items = session.items
        for item in items:
            _without_shrinking(item)
        functions = functions_of(self.files)
        lines, seconds = self._traced(items)
        reaching: dict[tuple[str, int], set[int]] = defaultdict(set)
        for i, reached in enumerate(lines):
            for file, line in reached:
                reaching[file, line].add(i)
        draw = random.Random(self.options.seed)
        for room, files in self.rooms.items():
            own = {i for i, item in enumerate(items) if f"/{room}/" in item.nodeid}
            every = [m for file in files for m in mutants(file)]
            if self.options.again:
                told = [json.loads(line) for line in self.options.again.read_text().splitlines()]
                ran = {(m["file"], m["number"]) for m in told if m["end"] == "survived"}
                every = [m for m in every if (m.file, m.number) in ran]
            size = min(self.options.sample or len(every), len(every))
            ends: Counter[str] = Counter()
            for mutant in sorted(draw.sample(every, size), key=lambda m: (m.file, m.number)):
                where = range(mutant.statement, mutant.line + 1)
                # What a module or a class says is read by tests that reach no line of it.
                reach = set[int]().union(*(reaching[mutant.file, n] for n in where)) if mutant.inside else own
                tests = sorted(reach, key=seconds.__getitem__)
                limit = PATIENCE + 3 * sum(seconds[i] for i in tests)
                end, by = self._tried(mutant, functions[mutant.file], [items[i] for i in tests], limit)
                ends[end] += 1
                with self.options.out.open("a") as out:
                    print(json.dumps({"room": room, **asdict(mutant), "end": end, "by": by}), file=out)
            print(f"{room}: {size} of {len(every)} mutants, {dict(ends)}", flush=True)
        return True

    def _traced(self, items: Sequence[pytest.Item]) -> tuple[list[set[tuple[str, int]]], list[float]]:
        """The lines that every test reaches, and the seconds it takes."""
        file = self.options.out.with_suffix(".trace")

        def work() -> None:
            lines: list[set[tuple[str, int]]] = []
            seconds = []

            def local(frame: FrameType, event: str, arg: object) -> Any:
                lines[-1].add((frame.f_code.co_filename, frame.f_lineno))
                return local

            def look(frame: FrameType, event: str, arg: object) -> Any:
                return local(frame, event, arg) if frame.f_code.co_filename in self.files else None

            for item, after in zip(items, [*items[1:], None], strict=True):
                lines.append(set())
                start = time.perf_counter()
                threading.settrace(look)
                sys.settrace(look)
                item.config.hook.pytest_runtest_protocol(item=item, nextitem=after)
                sys.settrace(None)
                seconds.append(time.perf_counter() - start)
            file.write_bytes(pickle.dumps((lines, seconds)))

        if (end := self._forked(work, 3600.0)) != ("survived", ""):
            raise RuntimeError(f"the tests do not pass as they are: {end}")
        found: tuple[list[set[tuple[str, int]]], list[float]] = pickle.loads(file.read_bytes())
        return found

    def _tried(
        self, mutant: Mutant, functions: Sequence[FunctionType], tests: Sequence[pytest.Item], limit: float
    ) -> tuple[str, str]:
        def work() -> None:
            put_in(mutant, functions)
            for item, after in zip(tests, [*tests[1:], None], strict=True):
                item.config.hook.pytest_runtest_protocol(item=item, nextitem=after)

        return self._forked(work, limit)

    def _forked(self, work: Callable[[], None], limit: float) -> tuple[str, str]:
        """How work in a fork of this process ended, and the test that ended it."""
        read, write = os.pipe()
        child = os.fork()
        if not child:
            os.setsid()
            for stream in (1, 2):
                os.dup2(os.open(os.devnull, os.O_WRONLY), stream)

            def failed(test: str) -> None:
                os.write(write, test.encode())
                os._exit(1)

            self.failed = failed
            try:
                work()
            except BaseException as error:  # of whatever kind, it was noticed
                failed(repr(error)[:300])
            os._exit(0)
        os.close(write)
        ends = time.monotonic() + limit
        done, status = 0, 0
        while not done and time.monotonic() < ends:
            done, status = os.waitpid(child, os.WNOHANG)
            time.sleep(0 if done else 0.005)
        with contextlib.suppress(ProcessLookupError):  # what it has started, too
            os.killpg(child, signal.SIGKILL)
        if not done:
            os.waitpid(child, 0)
        by = os.read(read, 4096).decode() if done else ""
        os.close(read)
        return ("out of time" if not done else "killed" if status else "survived"), by


def _without_shrinking(item: pytest.Item) -> None:
    """Hypothesis need not look for the smallest example, nor remember one."""
    settings = getattr(getattr(item, "obj", None), "_hypothesis_internal_use_settings", None)
    if settings is not None:
        from hypothesis import Phase

        phases = [Phase.explicit, Phase.generate]
        item.obj._hypothesis_internal_use_settings = type(settings)(  # type: ignore[attr-defined]
            settings, phases=phases, database=None, derandomize=True
        )


def main(args: Sequence[str] | None = None) -> None:
    """Run, and print a line for each room."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("rooms", nargs="+", help="folders of core_lightning")
    options.add_argument("--sample", type=int, help="mutants of each room, drawn at random; all, if left out")
    options.add_argument("--seed", type=int, default=0, help="of the sample")
    options.add_argument("--again", type=Path, help="an earlier mutants.jsonl, whose survivors are tried again")
    options.add_argument("--out", type=Path, default=Path("mutants.jsonl"), help="a line for each mutant is added to it")
    parsed = options.parse_args(args)
    sources = {room: Path.cwd() / "core_lightning" / room for room in parsed.rooms}
    rooms = {room: [str(f) for f in sorted(folder.glob("*.py")) if f.name not in APART] for room, folder in sources.items()}
    tests = [str(p) for room, folder in sources.items() for p in (Path("tests", room), folder)]
    sys.exit(pytest.main([*tests, "-s", "-p", "no:cacheprovider", "-p", "no:xdist"], plugins=[Hunt(rooms, parsed)]))


if __name__ == "__main__":
    main()
