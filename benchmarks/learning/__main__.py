"""``run`` trains arms, ``report`` makes tables and figures of their results, ``rounds`` plays both rounds untrained."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from benchmarks.learning.arms import ARMS
from benchmarks.learning.first_rounds import first_rounds, screen, write_rescues
from benchmarks.learning.pairs import PAIRS, TEMPLATES
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
    run.add_argument("--accelerator", choices=("cpu", "gpu"), default="cpu", help="what trains")
    run.add_argument("--check", type=Path, help="JSON lines with question and answer, on which the peers are measured, too")
    run.add_argument("--out", type=Path, required=True, help="JSON lines, appended to")
    rounds = commands.add_parser("rounds", help="both rounds without training: what is solved, what rescues look like")
    rounds.add_argument("--pair", choices=PAIRS, required=True)
    rounds.add_argument("--problems", type=int, default=200, help="training problems")
    rounds.add_argument("--accelerator", choices=("cpu", "gpu"), default="cpu", help="what samples")
    rounds.add_argument("--show", type=int, default=40, help="so many right rescues are written down")
    rounds.add_argument("--out", type=Path, required=True, help="text file")
    templates = commands.add_parser("templates", help="how often the qwen pair's model solves each template, untrained")
    templates.add_argument("--problems", type=int, default=8, help="of a template")
    templates.add_argument("--samples", type=int, default=8, help="of a problem")
    templates.add_argument("--accelerator", choices=("cpu", "gpu"), default="cpu", help="what samples")
    templates.add_argument("--out", type=Path, default=TEMPLATES, help="JSON file")
    report = commands.add_parser("report", help="tables and figures beside the results")
    report.add_argument("results", nargs="*", type=Path, default=sorted(RESULTS.glob("*.jsonl")))
    options = parser.parse_args(arguments)
    if options.command == "run":
        arms = (options.pair, options.arms, options.pretraining_seeds, options.seeds, options.lr, options.out)
        sweep(*arms, options.accelerator, options.check)
    elif options.command == "rounds":
        found, groups = first_rounds(PAIRS[options.pair], options.problems, options.accelerator)
        write_rescues(groups, options.show, options.out, str(found))
        print(found)
    elif options.command == "templates":
        screen(PAIRS["qwen"], "a", options.problems, options.samples, options.accelerator, options.out)
    else:
        from benchmarks.learning.report import write_report

        for results in options.results:
            print(write_report(results))


if __name__ == "__main__":
    main()
