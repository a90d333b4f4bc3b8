"""Tokens per second of what samples on a processor: this library, and ``generate`` of transformers.

    python -m benchmarks.engines [--quick] [--peers smollm2 gemma3] [--weights float32 nf4] [--problems 8 32]

Two samples of each problem, temperature 0.7, top-p 1. Both read the layers below the head from the same weights. They draw
by random numbers of their own, so each is measured by the tokens that it wrote.

- even: every completion runs to the token limit, the best case for a batch that starts and ends together
- uneven: one token in 16 ends a completion; this library then drops rows that are done, ``generate`` carries them along
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from functools import partial
from typing import Any

import torch

from benchmarks.measure import Report, in_turn, parse, parser
from benchmarks.teams import PROMPTS, load_peer, models, problems, weights
from core_lightning.peers import GenerationSettings, Peer
from core_lightning.peers.sampling.native import NativeEngine

#: Every sixteenth token of the vocabulary.
ENDS = 16


def native(engine: NativeEngine, prompts: list[list[int]], settings: GenerationSettings) -> int:
    """Two completions of every prompt; returns the number of tokens written."""
    sampled = engine.sample(prompts, [[2 * i, 2 * i + 1] for i in range(len(prompts))], settings)
    return sum(len(s.token_ids) for group in sampled for s in group)


@torch.no_grad()
def generate(peer: Peer, prompts: list[list[int]], settings: GenerationSettings, ends: frozenset[int]) -> int:
    """The same by the model library."""
    torch.manual_seed(0)
    ids_of_ends = sorted(e for e in ends if e >= 0) or [peer.head.weight.shape[0]]  # an id that is never drawn
    longest = max(map(len, prompts))
    ids = torch.zeros(len(prompts), longest, dtype=torch.int64)
    mask = torch.zeros_like(ids)
    for row, seen, prompt in zip(ids, mask, prompts, strict=True):
        row[longest - len(prompt) :], seen[longest - len(prompt) :] = torch.tensor(prompt), 1
    written = peer.network.generate(
        input_ids=ids,
        attention_mask=mask,
        do_sample=True,
        temperature=settings.temperature,
        top_p=1.0,
        top_k=0,
        num_return_sequences=2,
        max_new_tokens=settings.max_new_tokens,
        eos_token_id=ids_of_ends,
        pad_token_id=0,
    )[:, longest:]
    ended = torch.isin(written, torch.tensor(ids_of_ends))
    before = ended.cumsum(1) - ended.long()  # ends met before a token: behind the first stands padding
    return int((before == 0).sum())


def measure(report: Report, peer: Peer, case: str, count: int, rounds: int) -> None:
    """Both in turn, on completions of equal and of unequal length."""
    prompts = [peer.encode(PROMPTS.render(problem)) for problem in problems(count)]
    settings = peer.config.generation
    kinds = {"even": peer.stop_ids, "uneven": frozenset(range(0, peer.head.weight.shape[0], ENDS))}
    for lengths, ends in kinds.items():
        own: Any = peer.engine
        engine = NativeEngine(dataclasses.replace(own.rig, stop_ids=ends))
        variants = {
            "native": partial(native, engine, prompts, settings),
            "generate": partial(generate, peer, prompts, settings, ends),
        }
        with peer.policy(), peer.sampling_weights():
            tokens = {name: work() for name, work in variants.items()}
            taken = in_turn(variants, rounds)
        speeds = {name: [tokens[name] / s for s in values] for name, values in taken.items()}
        for name, values in speeds.items():
            report.add(f"{case}, {lengths}", name, values, "tokens/s")
        ratio = [one / other for one, other in zip(speeds["native"], speeds["generate"], strict=True)]
        report.add(f"{case}, {lengths}", "native / generate", ratio)


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
