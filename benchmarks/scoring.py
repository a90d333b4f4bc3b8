"""Token log-probabilities and their gradient: memory and time against full logits, and the share of padding.

    python -m benchmarks.scoring [--quick] [--tokens 4096]

- head: hidden states to log-probabilities and back, at the width of Gemma 3 270M and its vocabulary of 262,144. The naive
  way keeps the logits: it needs some 13 GB for 8 x 512 tokens. Every call has a process of its own, in turn.
- group: loss and gradient of one problem's six traces through the whole model. Naive: every row computes its own prompt,
  and all logits of the completions are kept.
- padding: positions computed for nothing in micro-batches of a token budget, for completions of all lengths.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from benchmarks.measure import PeakMemory, Report, in_turn, isolated, parse, parser, ratios, seconds
from benchmarks.teams import load_peer, models, weights
from core_lightning.peers import Peer
from core_lightning.peers.compute.head import LogitHead
from core_lightning.peers.scoring.token_logprobs import token_logprobs

TEMPERATURE = 0.7


@dataclass
class Scored:
    """A completion under its prompt."""

    prompt_ids: list[int]
    token_ids: list[int]


def naive_logprobs(logits: Tensor, targets: Tensor) -> Tensor:
    """``Tensor[tokens]`` from logits that stay in memory for the backward pass."""
    return torch.log_softmax(logits.float() / TEMPERATURE, dim=-1).gather(-1, targets[..., None]).squeeze(-1)


def score_head(way: str, tokens: int, vocabulary: int, width: int, threads: int) -> tuple[float, float]:
    """Seconds and extra MB of one forward and backward pass through a head."""
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    weight = torch.randn(vocabulary, width).mul_(width**-0.5)
    targets = torch.randint(vocabulary, (tokens,))

    def run(n: int) -> None:
        hidden = torch.randn(n, width, requires_grad=True)
        if way == "chunked":
            logprobs, _ = token_logprobs(hidden, targets[:n], LogitHead(weight), TEMPERATURE)
        else:
            logprobs = naive_logprobs(hidden @ weight.T, targets[:n])
        logprobs.sum().backward()

    run(2)  # starts the threads
    memory = PeakMemory()
    return seconds(lambda: run(tokens)), memory.extra


def measure_head(report: Report, tokens: int, vocabulary: int, width: int) -> None:
    """Both ways in turn, each call in a fresh process."""
    results: dict[str, list[tuple[float, float]]] = {"chunked": [], "naive": []}
    for _ in range(report.options.rounds):
        for way, values in results.items():
            values.append(isolated(score_head, way, tokens, vocabulary, width, report.options.threads))
    case = f"head, {tokens:,} tokens, vocabulary {vocabulary:,}"
    taken = {way: [s for s, _ in values] for way, values in results.items()}
    for way, values in results.items():
        limit = 300 if way == "chunked" else None
        report.add(case, f"{way}, extra memory", [memory for _, memory in values], "MB", at_most=limit)
        report.add(case, f"{way}, forward and backward", taken[way], "s")
    report.add(case, "time chunked / naive", ratios(taken["chunked"], taken["naive"]), at_most=1.0)


def measure_group(report: Report, name: str, peer: Peer, prompt: int, completion: int) -> None:
    """Six traces of one prompt, through the whole model."""
    rng = random.Random(0)
    vocabulary = peer.head.weight.shape[0]
    shared = [rng.randrange(vocabulary) for _ in range(prompt)]
    traces = [Scored(shared, [rng.randrange(vocabulary) for _ in range(completion)]) for _ in range(6)]
    ids = torch.tensor([t.prompt_ids + t.token_ids for t in traces])

    def ours() -> None:
        peer.logprobs(traces)[0].sum().backward()

    def naive() -> None:
        with peer.policy():
            logits = peer.network(input_ids=ids, logits_to_keep=completion + 1, use_cache=False).logits[:, :-1]
        naive_logprobs(logits, ids[:, prompt:]).sum().backward()

    taken = in_turn({"ours": ours, "naive": naive}, report.options.rounds)
    case = f"group of {name}, 6 x ({prompt} + {completion}) tokens"
    for way, values in taken.items():
        report.add(case, way, values, "s")
    report.add(case, "time ours / naive", ratios(taken["ours"], taken["naive"]), at_most=1.0)


def measure_padding(report: Report, peer: Peer, problems: int, longest: int) -> None:
    """A step's traces, six of every problem, with completions of all lengths up to the limit."""
    budget = peer.config.score_batch_tokens
    shares: dict[str, list[float]] = {"micro-batches": [], "in the order sampled": []}
    counts = []
    for seed in range(5):
        rng = random.Random(seed)
        prompts = [[rng.randrange(100) for _ in range(rng.randrange(40, 200))] for _ in range(problems)]
        traces = [Scored(p, [0] * rng.randrange(8, longest + 1)) for p in prompts for _ in range(6)]
        batches = [[traces[i] for i in batch] for batch in peer.micro_batches(traces)]
        counts.append(len(batches))
        shares["micro-batches"].append(padding(batches))
        shares["in the order sampled"].append(padding(filled(traces, budget)))
    case = f"padding, {problems} problems, completions of 8 to {longest} tokens, budget {budget:,}"
    for name, values in shares.items():
        report.add(case, name, values, "%", at_most=10 if name == "micro-batches" else None)
    report.add(case, "micro-batches", counts)


def filled(traces: Sequence[Scored], budget: int) -> list[list[Scored]]:
    """Batches filled up to the budget without looking at lengths."""
    batches: list[list[Scored]] = []
    for trace in traces:
        if not batches or computed([*batches[-1], trace]) > budget:
            batches.append([])
        batches[-1].append(trace)
    return batches


def padding(batches: Sequence[Sequence[Scored]]) -> float:
    """Percent of the computed positions that hold no token. A prompt that several traces of a batch share counts once."""
    real = sum(len(p) for batch in batches for p in {tuple(t.prompt_ids) for t in batch})
    real += sum(len(t.token_ids) for batch in batches for t in batch)
    return 100 * (1 - real / sum(map(computed, batches)))


def computed(batch: Sequence[Scored]) -> int:
    """Positions of a batch, its prompts and its completions padded to the longest."""
    prompts = {tuple(t.prompt_ids) for t in batch}
    return len(prompts) * max(map(len, prompts)) + len(batch) * max(len(t.token_ids) for t in batch)


def main(args: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser_ = parser(__doc__, rounds=3)
    parser_.add_argument("--tokens", type=int, default=8 * 512, help="completion tokens scored by the head")
    options = parse(parser_, args)
    report = Report("scoring", options)
    quick = options.quick
    measure_head(report, 64 if quick else options.tokens, 1_000 if quick else 262_144, 16 if quick else 640)
    for name, model in models(quick).items():
        peer = load_peer(model, score_batch_tokens=4096, **weights("float32"))
        measure_group(report, name, peer, prompt=64, completion=16 if quick else 48)
    for problems in (4, 32):
        measure_padding(report, peer, problems, longest=512)
    report.finish()


if __name__ == "__main__":
    main()
