"""Tokens per second of the sampler against a bare loop of forwards, and what the unmerged adapter costs.

    python -m benchmarks.decode [--quick] [--peers smollm2 gemma3] [--weights nf4 float32 ...] [--batch 8 32]

All variants continue one prompt in so many rows by 64 tokens. The prompt is read once and its cache spread over the rows,
except by the library's ``generate``, which reads it in every row.

- sampler: this package, temperature 0.7, top-p 0.9
- bare loop: forwards and an argmax, through the same weights as the sampler (``-dense`` and ``-half``: ``sampling_weights``)
  and the library's cache, the adapter on or off
- generate: the library's own sampling, temperature 0.7, top-p 0.9, the layers below the head from the same weights; being
  slow, it writes a quarter of the tokens
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from benchmarks.measure import Report, in_turn, parse, parser, ratios
from benchmarks.teams import PROMPTS, WEIGHTS, load_peer, models, problems, weights
from core_lightning.peers import GenerationSettings, Peer
from core_lightning.peers.compute.cache import CACHE
from core_lightning.peers.sampling.decoding import fill
from core_lightning.peers.sampling.drawing import padded_vocabulary


@torch.no_grad()
def bare_loop(peer: Peer, prompt: list[int], rows: int, new_tokens: int, adapter: bool) -> None:
    """Greedy decoding with nothing around the model."""
    from transformers import DynamicCache

    model = peer.network.get_base_model().base_model
    head = peer.engine.rig.head
    cache = DynamicCache(config=model.config.get_text_config())
    memory = torch.empty(rows, padded_vocabulary(head.weight.shape[0]), device=peer.device)

    def likeliest(ids: Tensor) -> Tensor:
        hidden = model(ids, use_cache=True, **{CACHE: cache}).last_hidden_state[:, -1]
        return fill(memory[: len(ids)], head, hidden).argmax(-1, keepdim=True)

    with peer.sampling_weights(adapter), peer.policy("own" if adapter else "reference"):
        tokens = likeliest(torch.tensor([prompt], device=peer.device))
        cache.batch_repeat_interleave(rows)
        tokens = tokens.expand(rows, 1)
        for _ in range(new_tokens - 1):
            tokens = likeliest(tokens)


@torch.no_grad()
def generate(model: Any, prompts: Tensor, new_tokens: int) -> Tensor:
    """What the model library offers, ``int64 Tensor[rows, prompt + new_tokens]``."""
    return model.generate(
        input_ids=prompts,
        attention_mask=torch.ones_like(prompts),
        do_sample=True,
        temperature=0.7,
        top_p=0.9,
        top_k=0,
        min_new_tokens=new_tokens,
        max_new_tokens=new_tokens,
        pad_token_id=0,  # no row ends early, so that none is padded
    )


def peer_generate(peer: Peer, prompts: Tensor, new_tokens: int) -> None:
    """The same with the sampler's copies of the weights."""
    with peer.policy(), peer.sampling_weights():
        generate(peer.network, prompts, new_tokens)


def measure(report: Report, peer: Peer, case: str, rows: int, new_tokens: int, rounds: int) -> None:
    """All variants in turn on one batch."""
    prompt = peer.encode(PROMPTS.render(problems(1)[0]))
    taken = in_turn(
        {
            "sampler": lambda: peer.sample([prompt], [list(range(rows))]),
            "bare loop": lambda: bare_loop(peer, prompt, rows, new_tokens, adapter=True),
            "bare loop, adapter off": lambda: bare_loop(peer, prompt, rows, new_tokens, adapter=False),
            "generate": lambda: peer_generate(peer, torch.tensor([prompt] * rows), new_tokens // 4),
        },
        rounds,
    )
    taken["generate"] = [4 * s for s in taken["generate"]]
    for name, values in taken.items():
        report.add(case, name, [rows * new_tokens / s for s in values], "tokens/s")
    bare = taken["bare loop"]
    report.add(case, "sampler / bare loop", ratios(bare, taken["sampler"]), at_least=0.85)
    report.add(case, "generate / bare loop", ratios(bare, taken["generate"]))
    report.add(case, "time with / without adapter", ratios(bare, taken["bare loop, adapter off"]), at_most=1.25)


def main(args: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser_ = parser(__doc__, rounds=3)
    parser_.add_argument("--peers", nargs="+", help="which of the pair; default: both")
    parser_.add_argument("--weights", nargs="+", default=["nf4", "nf4-half", "bfloat16", "bfloat16-half"], choices=WEIGHTS)
    parser_.add_argument("--batch", nargs="+", type=int, default=[8, 32], help="rows decoded together")
    parser_.add_argument("--new-tokens", type=int, default=64, help="a multiple of 4")
    options = parse(parser_, args)
    report = Report("decode", options)
    generation = GenerationSettings(temperature=0.7, top_p=0.9, max_new_tokens=options.new_tokens)
    pair = models(options.quick)
    for name in options.peers or pair:
        for kind in options.weights:
            peer = load_peer(pair[name], generation=generation, **weights(kind))
            for rows in options.batch:
                measure(report, peer, f"{name} {kind}, batch {rows}", rows, options.new_tokens, options.rounds)
    report.finish()


if __name__ == "__main__":
    main()
