"""Which animals of the word problems a model solves, by their number of legs.

    python -m benchmarks.learning.legs benchmarks/learning/results/words.jsonl
"""

from __future__ import annotations

import re
import sys
from collections import defaultdict
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks.learning.pairs import PAIRS
from benchmarks.learning.sweep import read
from core_lightning.records import Problem


def legs(problem: Problem) -> int:
    """Of one animal."""
    count = re.search(r"if you have (\d+)", problem.question)
    assert count is not None
    return int(problem.answer) // int(count[1])


def main(file: Path) -> None:
    """Percent of attempts that are right, a row for each run and peer."""
    problems = sorted(PAIRS["words"].data().splits["test"], key=lambda p: p.id)  # the order of the counts
    kinds = defaultdict(list)
    for place, problem in enumerate(problems):
        kinds[legs(problem)].append(place)
    table = Table("arm", "seed", "lr", "peer", *(f"{kind} legs ({len(kinds[kind])})" for kind in sorted(kinds)))
    for line in sorted(read(file), key=lambda line: (line["arm"], line["lr"], line["seed"])):
        for peer, correct in line["held_out"]["correct"].items():
            shares = [
                100 * sum(correct[i] for i in kinds[kind]) / (len(kinds[kind]) * line["held_out"]["samples"])
                for kind in sorted(kinds)
            ]
            identity = (line["arm"], str(line["seed"]), f"{line['lr']:g}", peer)
            table.add_row(*identity, *(f"{share:.0f}" for share in shares))
    Console(width=120).print(table)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
