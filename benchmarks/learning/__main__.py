"""``run`` trains arms and appends a line a run; ``report`` makes tables and figures from the lines."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from benchmarks.learning.arms import ARMS
from benchmarks.learning.pairs import PAIRS
from benchmarks.learning.sweep import sweep

RESULTS = Path(__file__).parent / "results"


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.learning", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    run = commands.add_parser("run", help="train and measure; a run whose line is there already is skipped")
    run.add_argument("--pair", choices=PAIRS, required=True)
    run.add_argument("--arms", nargs="+", choices=ARMS, default=list(ARMS), help="in this order, for every seed")
    run.add_argument("--pretraining-seeds", nargs="+", type=int, help="default: the pair's")
    run.add_argument("--seeds", nargs="+", type=int, default=[0], help="of the RL runs")
    run.add_argument("--lr", type=float, help="instead of the pair's")
    run.add_argument("--out", type=Path, required=True, help="JSON lines, appended to")
    report = commands.add_parser("report", help="tables and figures beside the results")
    report.add_argument("results", nargs="*", type=Path, default=sorted(RESULTS.glob("*.jsonl")))
    options = parser.parse_args(arguments)
    if options.command == "run":
        sweep(options.pair, options.arms, options.pretraining_seeds, options.seeds, options.lr, options.out)
    else:
        from benchmarks.learning.report import write_report

        for results in options.results:
            print(write_report(results))


if __name__ == "__main__":
    main()
