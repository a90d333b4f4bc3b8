"""How traces that say their answer alone spread: from rescues, whose derivation stands in the hint, to cold traces.

    python -m benchmarks.learning.bare_answers --arm default_shared --seed 2 --out results/words_bare_answers.csv

Trains one run of the words pair and writes a row for each step and peer. A trace is *bare* if it is one word, an answer.
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, Trainer

from benchmarks.learning.arms import ARMS
from benchmarks.learning.pairs import PAIRS
from benchmarks.learning.training import train
from core_lightning.records import Group, Trace


class BareAnswers(Callback):
    """Counts, after every step, the traces that hold nothing besides their answer.

    Args:
        out: A row for each step and peer is added to it.
    """

    def __init__(self, out: Path) -> None:
        self.out = out

    def on_train_batch_end(self, trainer: Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Write the rows of the step."""
        rows = [{"step": batch_idx, "peer": p, **counts(pl_module.record.groups, p)} for p in pl_module.peer_configs]
        with self.out.open("a", newline="") as out:
            writer = csv.DictWriter(out, rows[0])
            if not batch_idx:
                writer.writeheader()
            writer.writerows(rows)


def counts(groups: Sequence[Group], peer: str) -> dict[str, int]:
    """Cold traces, right ones and bare ones; faithful rescues, and bare ones among them."""

    def bare(traces: Sequence[Trace]) -> int:
        return sum(t.answer is not None and len(t.text.split()) == 1 for t in traces)

    cold = [t for g in groups for t in g.of(peer, "cold")]
    rescues = [t for g in groups for t in g.rescues(peer, faithful=True)]
    return {
        "cold": len(cold),
        "cold_right": sum(t.correct for t in cold),
        "cold_bare": bare(cold),
        "faithful_rescues": len(rescues),
        "faithful_rescues_bare": bare(rescues),
    }


def main(args: Sequence[str] | None = None) -> None:
    """Train and write."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--arm", default="default_shared", choices=ARMS)
    options.add_argument("--seed", type=int, default=2)
    options.add_argument("--out", type=Path, required=True)
    parsed = options.parse_args(args)
    train(PAIRS["words"], ARMS[parsed.arm], 0, parsed.seed, callbacks=[BareAnswers(parsed.out)])


if __name__ == "__main__":
    main()
