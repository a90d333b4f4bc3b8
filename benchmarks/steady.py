"""Whether a long run stays as it is: memory, open files and child processes over 500 steps. Linux only.

    python -m benchmarks.steady [--steps 500] [--quick]

The nano pair in the real command, with short completions, so that a step takes well under a second: what would pile up with
every step does so here as in a run of hours. Two evaluations and ten checkpoints are part of it. Gold answers are written
such that only the process for computer algebra can compare them, and some hold it until it is cut off: the processes that
are watched include it, and those that take its place.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback

from benchmarks.measure import Report, parse, parser
from core_lightning.cli.main import main as command
from core_lightning.data import NanoTasks
from core_lightning.data.splits import Split
from core_lightning.records import Problem

#: A gold answer that no computer algebra is done with in time; each is another one, since outcomes are remembered.
ENDLESS = r"\sum_{k=1}^{10^{9}} \frac{1}{k^{k+%s}}"
#: Steps after which caches are full: shapes that have been seen, the verifier's worker, the plots of the report.
SETTLED = 0.2


class SymbolicTasks(NanoTasks):
    """The tasks of the nano pair, with gold answers that need the verifier's worker: 632 as 632 pi / pi."""

    def load(self) -> Mapping[Split, Sequence[Problem]]:
        """The same questions."""
        return {split: [symbolic(i, p) for i, p in enumerate(own)] for split, own in super().load().items()}


def symbolic(index: int, problem: Problem) -> Problem:
    """The problem with another gold answer, some of every task with an endless one."""
    gold = ENDLESS % index if index % 51 == 0 else rf"{problem.answer}\frac{{\pi}}{{\pi}}"
    return replace(problem, answer=gold, kind="math")


class Watch(Callback):
    """Looks at the process after every second step."""

    seen: list[dict[str, float]] = []  # noqa: RUF012  # the command makes the object, and its class is what is known here

    def on_train_batch_end(self, trainer: Any, pl_module: Any, *_: Any) -> None:
        """Note what is held."""
        if pl_module.batches_done % 2 == 0:
            verifier = pl_module.verifier
            counted = {"compared": verifier.comparisons, "cut off": verifier.timeouts, "replaced": verifier.replaced}
            self.seen.append({"step": pl_module.batches_done, **held(), **counted})


def held() -> dict[str, float]:
    """Resident memory in MB, open files, child processes with their own children, threads."""
    me = Path("/proc/self")
    pages = int((me / "statm").read_text().split()[1])
    return {
        "resident memory": pages * os.sysconf("SC_PAGE_SIZE") / 2**20,
        "open files": float(len(list((me / "fd").iterdir()))),
        "child processes": float(len(descendants(me))),
        "threads": float(len(list((me / "task").iterdir()))),
    }


def descendants(process: Path) -> list[str]:
    """Ids of the children of a process, and of theirs."""
    try:
        own = [c for task in (process / "task").iterdir() for c in (task / "children").read_text().split()]
    except OSError:  # it has ended meanwhile
        return []
    return [*own, *(further for child in own for further in descendants(Path("/proc") / child))]


def main(args: Sequence[str] | None = None) -> None:
    """Run and print."""
    options = parser(__doc__, rounds=1)
    options.add_argument("--steps", type=int, default=500)
    options = parse(options, args)
    steps = 2 if options.quick else options.steps
    report = Report("steady", options)
    Watch.seen.clear()
    with tempfile.TemporaryDirectory() as folder:
        short = [f"--model.peers.{p}.generation.max_new_tokens=12" for p in "ab"]
        command(
            [
                "fit",
                "--config=configs/nano.yaml",
                "--data=benchmarks.steady.SymbolicTasks",
                f"--trainer.default_root_dir={folder}/run",
                f"--trainer.max_steps={steps}",
                f"--trainer.val_check_interval={max(1, steps // 2)}",
                f"--checkpoint.every_n_batches={max(1, steps // 10)}",
                "--data.batch_size=4",
                f"--data.val_size={2 if options.quick else 8}",
                "--model.eval_samples=2",
                "--trainer.enable_progress_bar=false",
                "--trainer.callbacks+=benchmarks.steady.Watch",
                *short,
            ]
        )
    settled = [seen for seen in watched() if seen["step"] >= SETTLED * steps]
    first, last = settled[0], settled[-1]
    case = f"{steps} steps"
    for name, unit in (("resident memory", "MB"), ("open files", ""), ("child processes", ""), ("threads", "")):
        report.add(case, f"{name} at step {first['step']:.0f}", [first[name]], unit)
        report.add(case, f"{name} at the end", [last[name]], unit)
    report.add(case, "memory, end / then", [last["resident memory"] / first["resident memory"]], at_most=1.05)
    for name in ("open files", "child processes", "threads"):
        report.add(case, f"{name}, more at the end", [last[name] - first[name]], at_most=0)
    for name in ("compared", "cut off", "replaced"):
        report.add(case, f"answers {name} by the worker" if name != "replaced" else "workers replaced", [last[name]])
    report.finish()


def watched() -> list[dict[str, float]]:
    """What the command's own copy of the callback saw: run as a script, this file is ``__main__`` beside its module."""
    return getattr(sys.modules.get("benchmarks.steady"), "Watch", Watch).seen or Watch.seen


if __name__ == "__main__":
    main()
