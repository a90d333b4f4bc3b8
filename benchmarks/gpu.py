"""Tokens per second, seconds of the loss and memory of a model of some billion parameters on one GPU.

    python -m benchmarks.gpu [--quick] [--shapes qwen3-4b] [--weights bfloat16 nf4-dense] [--batch 8 64]

No weights are needed: a model of the shape is filled with random numbers, which take as long as trained ones; ``--model``
measures one from the hub or a folder.

- sampler: this package, temperature 0.7, top-p 0.9; bare loop, generate: as in ``benchmarks.decode``. The sampler repeats
  recorded steps (CUDA graphs), which take some steps' time to record; so it is also measured over ``--long`` tokens
- loss: log-probabilities of completions and their gradient, with and without gradient checkpointing
"""

from __future__ import annotations

import gc
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from benchmarks.decode import bare_loop, generate
from benchmarks.measure import Report, in_turn, parse, parser, ratios
from benchmarks.teams import WEIGHTS, load_peer, weights
from core_lightning.peers import GenerationSettings, Peer

#: Configurations as the models' makers publish them.
SHAPES: dict[str, dict[str, Any]] = {
    "qwen2.5-3b": {
        "model_type": "qwen2",
        "hidden_size": 2048,
        "intermediate_size": 11008,
        "num_hidden_layers": 36,
        "num_attention_heads": 16,
        "num_key_value_heads": 2,
        "vocab_size": 151936,
        "max_position_embeddings": 32768,
        "rope_theta": 1e6,
        "tie_word_embeddings": True,
    },
    "qwen3-4b": {
        "model_type": "qwen3",
        "hidden_size": 2560,
        "intermediate_size": 9728,
        "num_hidden_layers": 36,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "head_dim": 128,
        "vocab_size": 151936,
        "max_position_embeddings": 262144,
        "rope_theta": 5e6,
        "tie_word_embeddings": True,
    },
    "tiny": {
        "model_type": "qwen3",
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 16,
        "vocab_size": 1000,
        "max_position_embeddings": 4096,
        "tie_word_embeddings": True,
    },
}


def save_random(shape: str, folder: Path, device: torch.device) -> Path:
    """A model of random weights in bfloat16, with the nano pair's tokenizer, for the loader to read."""
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

    from core_lightning.peers.sources import resolve

    config = AutoConfig.for_model(**SHAPES[shape])
    torch.manual_seed(0)
    with device:
        model = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
    model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(resolve("nano/a", None).name_or_path).save_pretrained(folder)
    return folder


@dataclass
class Scored:
    """A completion to score."""

    prompt_ids: list[int]
    token_ids: list[int]


@contextmanager
def on_device(device: torch.device) -> Iterator[Callable[[], float]]:
    """Gives peak megabytes since its beginning; leaves the device's memory empty."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    yield lambda: torch.cuda.max_memory_allocated() / 1e6 if device.type == "cuda" else float("nan")


def measure_sampling(report: Report, peer: Peer, case: str, rows: int) -> None:
    """All variants in turn on one batch of one prompt."""
    options = report.options
    prompt = list(range(10, 10 + options.prompt_tokens))
    seeds = [list(range(rows))]
    n = options.new_tokens
    settings = peer.config.generation

    def sampler() -> None:
        with peer.policy(), peer.sampling_weights():
            peer.engine.sample([prompt], seeds, settings)  # of the moment

    def library() -> None:
        with peer.policy(), peer.sampling_weights():
            generate(peer.network, torch.tensor([prompt] * rows, device=peer.device), n // 4)

    variants: dict[str, Callable[[], object]] = {
        "sampler": _waiting(peer, sampler),
        "bare loop": _waiting(peer, lambda: bare_loop(peer, prompt, rows, n, adapter=True)),
        "bare loop, adapter off": _waiting(peer, lambda: bare_loop(peer, prompt, rows, n, adapter=False)),
    }
    if options.generate:
        variants["generate"] = _waiting(peer, library)
    with on_device(peer.device) as peak:
        taken = in_turn(variants, options.rounds)
        memory = peak()
    if "generate" in taken:
        taken["generate"] = [4 * s for s in taken["generate"]]
    for name, values in taken.items():
        report.add(case, name, [rows * n / s for s in values], "tokens/s")
    bare = taken["bare loop"]
    report.add(case, "sampler / bare loop", ratios(bare, taken["sampler"]), at_least=0.85)
    if options.long:
        settings = replace(settings, max_new_tokens=options.long)
        long = in_turn({"sampler": variants["sampler"]}, options.rounds)["sampler"]
        report.add(case, f"sampler, {options.long} tokens", [rows * options.long / s for s in long], "tokens/s")
    report.add(case, "time with / without adapter", ratios(bare, taken["bare loop, adapter off"]), at_most=1.25)
    _add_memory(report, case, memory)


def measure_loss(report: Report, peer: Peer, case: str) -> None:
    """Log-probabilities and their gradient of one group of completions."""
    options = report.options
    prompt = list(range(10, 10 + options.prompt_tokens))
    sequences = [Scored(prompt, [(7 * i + j) % 90 for j in range(options.loss_tokens)]) for i in range(8)]

    def loss() -> None:
        for batch in peer.micro_batches(sequences):
            logprobs, _, _ = peer.logprobs([sequences[i] for i in batch])
            logprobs.sum().backward()
        peer.zero_grad()

    def reference() -> None:
        with torch.no_grad():
            for batch in peer.micro_batches(sequences):
                peer.logprobs([sequences[i] for i in batch], "reference")

    with on_device(peer.device) as peak:
        taken = in_turn({"loss": _waiting(peer, loss), "reference": _waiting(peer, reference)}, options.rounds)
        memory = peak()
    for name, values in taken.items():
        report.add(case, name, [8 * options.loss_tokens / s for s in values], "tokens/s")
    _add_memory(report, case, memory)


def _add_memory(report: Report, case: str, memory: float) -> None:
    if not math.isnan(memory):  # unknown on a processor
        report.add(case, "peak memory of the device", [memory], "MB")


def _waiting(peer: Peer, work: Callable[[], object]) -> Callable[[], object]:
    def run() -> None:
        work()
        if peer.device.type == "cuda":
            torch.cuda.synchronize()

    return run


def main(args: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser_ = parser(__doc__, rounds=3)
    parser_.add_argument("--shapes", nargs="+", default=["qwen2.5-3b", "qwen3-4b"], choices=SHAPES)
    parser_.add_argument("--model", help="a hub id or folder instead of shapes")
    parser_.add_argument("--weights", nargs="+", default=["bfloat16", "bfloat16-dense", "nf4", "nf4-dense"], choices=WEIGHTS)
    parser_.add_argument("--batch", nargs="+", type=int, default=[8, 64], help="rows decoded together")
    parser_.add_argument("--prompt-tokens", type=int, default=256)
    parser_.add_argument("--new-tokens", type=int, default=128, help="a multiple of 4")
    parser_.add_argument("--long", type=int, default=1024, help="new tokens of the sampler's longer run, 0 for none")
    parser_.add_argument("--loss-tokens", type=int, default=1024, help="of each of 8 completions")
    parser_.add_argument("--generate", action="store_true", help="measure the library's generate, too")
    parser_.add_argument("--device", default="cuda")
    parser_.add_argument("--folder", type=Path, help="where the models are written; default: a temporary folder")
    options = parse(parser_, args)
    if options.quick:
        options.shapes, options.batch, options.prompt_tokens = ["tiny"], [2], 20
        options.new_tokens, options.long, options.loss_tokens, options.device = 8, 8, 16, "cpu"
    device = torch.device(options.device)
    report = Report("gpu", options)
    generation = GenerationSettings(temperature=0.7, top_p=0.9, max_new_tokens=options.new_tokens)
    for shape in [options.model] if options.model else options.shapes:
        with TemporaryDirectory(dir=options.folder) as folder:
            model = options.model or str(save_random(shape, Path(folder), device))
            for kind in options.weights:
                peer = load_peer(model, device, generation=generation, **weights(kind))
                for rows in options.batch:
                    measure_sampling(report, peer, f"{shape} {kind}, batch {rows}", rows)
                if not kind.endswith(("-dense", "-half")):
                    measure_loss(report, peer, f"{shape} {kind}, 8 x {options.loss_tokens} tokens")
                    del peer
                    peer = load_peer(model, device, generation=generation, gradient_checkpointing=True, **weights(kind))
                    measure_loss(report, peer, f"{shape} {kind}, checkpointed, 8 x {options.loss_tokens} tokens")
                del peer
    report.finish()


if __name__ == "__main__":
    main()
