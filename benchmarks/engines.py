"""Tokens per second of what samples: this library, ``generate`` of transformers, and vLLM where it is installed or serves.

    python -m benchmarks.engines [--quick] [--peers smollm2 gemma3] [--weights float32 nf4] [--problems 4 16 32]
    .venv-vllm/bin/python -m benchmarks.engines --peers smollm2 --engines native vllm   # made by make test-vllm
    python -m benchmarks.engines --peers smollm2 --engines native server --url http://127.0.0.1:8000

Two samples of each problem, temperature 0.7, top-p 1. Each draws by random numbers of its own, so it is measured by the
tokens that it wrote. This library and ``generate`` read the layers below the head from the same weights; vLLM has its own
copy of them, and ends a completion at the model's own end token, too.

- even: every completion runs to the token limit, the best case for a batch that starts and ends together
- uneven: one token in 16 ends a completion; this library then drops rows that are done, ``generate`` carries them along
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import torch

from benchmarks.measure import Report, in_turn, parse, parser
from benchmarks.teams import PROMPTS, load_peer, models, problems, weights
from core_lightning.peers import GenerationSettings, Peer
from core_lightning.peers.sampling.choice import make_engine
from core_lightning.peers.sampling.engine import Engine
from core_lightning.peers.sampling.native import NativeEngine
from core_lightning.peers.sampling.settings import ServerSettings

#: Every sixteenth token of the vocabulary.
ENDS = 16


def written(engine: Engine, prompts: list[list[int]], settings: GenerationSettings) -> int:
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


def measure(report: Report, peer: Peer, engines: Mapping[str, Any], case: str, count: int, rounds: int) -> None:
    """All in turn, on completions of equal and of unequal length.

    Args:
        report: Where the figures go.
        peer: Who samples.
        engines: By name; None for ``generate``, which is none.
        case: The rows' name.
        count: Problems.
        rounds: How often each has its turn.
    """
    prompts = [peer.encode(PROMPTS.render(problem)) for problem in problems(count)]
    settings = peer.config.generation
    kinds = {"even": peer.stop_ids, "uneven": frozenset(range(0, peer.head.weight.shape[0], ENDS))}
    for lengths, ends in kinds.items():
        variants: dict[str, Callable[[], int]] = {}
        for name, engine in engines.items():
            if engine is None:
                variants[name] = partial(generate, peer, prompts, settings, ends)
                continue
            rig = dataclasses.replace(engine.rig, stop_ids=frozenset(e for e in ends if e >= 0))
            if name == "native":
                engine = NativeEngine(rig)  # noqa: PLW2901
            else:
                engine.rig = rig  # one that was begun holds a model
            variants[name] = partial(written, engine, prompts, settings)
        with peer.policy(), peer.sampling_weights():
            tokens = {name: work() for name, work in variants.items()}
            taken = in_turn(variants, rounds)
        speeds = {name: [tokens[name] / s for s in values] for name, values in taken.items()}
        for name, values in speeds.items():
            report.add(f"{case}, {lengths}", name, values, "tokens/s")
        for name in speeds.keys() - {"native"}:
            ratio = [one / other for one, other in zip(speeds["native"], speeds[name], strict=True)]
            report.add(f"{case}, {lengths}", f"native / {name}", ratio)


def made(peer: Peer, name: str, url: str) -> Engine | None:
    """One of the engines of a peer, with its adapter."""
    own: Any = peer.engine
    if name == "generate":
        return None
    if name == "native":
        return NativeEngine(own.rig)
    settings = dataclasses.replace(peer.config.generation, engine=name, server=ServerSettings(url=url))  # type: ignore[arg-type]
    engine = make_engine(settings, own.rig)
    engine.sync(peer.save_adapter)
    return engine


def main(args: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser_ = parser(__doc__, rounds=3)
    parser_.add_argument("--peers", nargs="+", help="which of the pair; default: both")
    parser_.add_argument("--weights", nargs="+", default=["float32"], choices=["nf4", "float32", "bfloat16"])
    parser_.add_argument("--problems", nargs="+", type=int, default=[4, 16, 32], help="prompts sampled together")
    parser_.add_argument("--new-tokens", type=int, default=64, help="token limit of a completion")
    parser_.add_argument(
        "--engines",
        nargs="+",
        default=["native", "generate"],
        choices=["native", "generate", "vllm", "server"],
        help="native is always among them",
    )
    parser_.add_argument("--url", default="http://127.0.0.1:8000", help="of the vLLM server")
    options = parse(parser_, args)
    others = [name for name in options.engines if name != "native"]
    report = Report("engines_server" if "server" in others else "engines", options)
    generation = GenerationSettings(temperature=0.7, max_new_tokens=options.new_tokens, max_prompt_tokens=192)
    pair = models(options.quick)
    for name in options.peers or pair:
        for kind in options.weights:
            peer = load_peer(pair[name], generation=generation, **weights(kind))
            engines = {engine: made(peer, engine, options.url) for engine in ("native", *others)}
            for count in options.problems:
                measure(report, peer, engines, f"{name} {kind}, {2 * count} rows", count, options.rounds)
    report.finish()


if __name__ == "__main__":
    main()
