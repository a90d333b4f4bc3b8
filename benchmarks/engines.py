"""Tokens per second of the sampling engines, on the same prompts and seeds.

    python -m benchmarks.engines [--quick] [--peers smollm2 gemma3] [--weights float32 nf4] [--problems 8 32]

Two samples of each problem, temperature 0.7, top-p 1. Both engines draw by the same numbers, so they write the same tokens.

- even: every completion runs to the token limit, the best case for a batch that starts and ends together
- uneven: one token in 16 ends a completion, the case that continuous batching is made for
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from functools import partial
from typing import Any

from benchmarks.measure import Report, in_turn, parse, parser, ratios
from benchmarks.teams import PROMPTS, load_peer, models, problems, weights
from core_lightning.peers import GenerationSettings, Peer
from core_lightning.peers.sampling.continuous import ContinuousEngine
from core_lightning.peers.sampling.native import NativeEngine

#: Every sixteenth token of the vocabulary.
ENDS = 16


def measure(report: Report, peer: Peer, case: str, count: int, rounds: int) -> None:
    """Both engines in turn, on completions of equal and of unequal length."""
    prompts = [peer.encode(PROMPTS.render(problem)) for problem in problems(count)]
    seeds = [[2 * i, 2 * i + 1] for i in range(count)]
    settings = peer.config.generation
    ends = {"even": peer.stop_ids, "uneven": frozenset(range(0, peer.head.weight.shape[0], ENDS))}
    for lengths, stop_ids in ends.items():
        own: Any = peer.engine  # the native one
        rig = dataclasses.replace(own.rig, stop_ids=stop_ids)
        native, continuous = NativeEngine(rig), ContinuousEngine(rig)
        with peer.policy():
            written = sum(len(s.token_ids) for group in native.sample(prompts, seeds, settings) for s in group)
            taken = in_turn(
                {
                    "native": partial(native.sample, prompts, seeds, settings),
                    "continuous": partial(continuous.sample, prompts, seeds, settings),
                },
                rounds,
            )
        for name, values in taken.items():
            report.add(f"{case}, {lengths}", name, [written / s for s in values], "tokens/s")
        report.add(f"{case}, {lengths}", "continuous / native", ratios(taken["native"], taken["continuous"]))


def main(args: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser_ = parser(__doc__, rounds=3)
    parser_.add_argument("--peers", nargs="+", help="which of the pair; default: both")
    parser_.add_argument("--weights", nargs="+", default=["float32"], choices=["nf4", "float32", "bfloat16"])
    parser_.add_argument("--problems", nargs="+", type=int, default=[8, 32], help="prompts sampled together")
    parser_.add_argument("--new-tokens", type=int, default=64, help="token limit of a completion")
    options = parse(parser_, args)
    report = Report("engines", options)
    generation = GenerationSettings(temperature=0.7, max_new_tokens=options.new_tokens)
    pair = models(options.quick)
    for name in options.peers or pair:
        for kind in options.weights:
            peer = load_peer(pair[name], generation=generation, **weights(kind))
            for count in options.problems:
                measure(report, peer, f"{name} {kind}, {count} problems", count, options.rounds)
    report.finish()


if __name__ == "__main__":
    main()
