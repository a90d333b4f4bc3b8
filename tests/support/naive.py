"""Slow and obvious: what sampling and scoring must agree with. No cache, no padding, no chunks, one sequence at a time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from core_lightning.peers import GenerationSettings, LoraSettings, Peer, PeerConfig
from core_lightning.peers.sampling.drawing import sample_tokens
from core_lightning.peers.self_test import load_peer

CPU = torch.device("cpu")


@dataclass
class Scored:
    prompt_ids: list[int]
    token_ids: list[int]
    advantage: float = 0.0
    weight: float = 1.0


def make_peer(
    folder: Path,
    name: str = "a",
    *,
    base: Peer | None = None,
    wake: bool = True,
    device: str = "cpu",
    **options: object,
) -> Peer:
    """A peer in float32 with an adapter that does something, as after some training."""
    options = {
        "quantization": "none",
        "dtype": "float32",
        "self_test": False,  # it has tests of its own
        "lora": LoraSettings(r=4, targets="all-linear"),
        "generation": GenerationSettings(max_new_tokens=12, temperature=0.8),
    } | options
    with torch.random.fork_rng():
        torch.manual_seed(7)
        peer = load_peer(name, PeerConfig(str(folder), **options), torch.device(device), base=base)  # type: ignore[arg-type]
        if wake:
            wake_adapter(peer)
    return peer


def wake_adapter(peer: Peer, seed: int = 0) -> None:
    """Random numbers in place of the zeros that B starts with."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, weight in peer.adapter_parameters().items():
            if "lora_B" in name:
                weight.copy_(torch.randn(weight.shape, generator=generator) * 0.05)


def make_even(peer: Peer) -> Peer:
    """Every token as likely as any other, so that what is drawn depends on the seeds alone; for what needs ends and lengths."""
    with torch.no_grad():
        peer.head.weight.zero_()
    return peer


def naive_logits(network: torch.nn.Module, ids: Sequence[int]) -> torch.Tensor:
    """Full logits of one sequence, ``Tensor[tokens, vocabulary]``."""
    device = next(network.parameters()).device
    return network(input_ids=torch.tensor([list(ids)], device=device), use_cache=False).logits[0]


def naive_logprobs(peer: Peer, sequence: Scored, temperature: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Log-probabilities and entropies of one completion from the full logits, in float64."""
    with peer.policy():
        logits = naive_logits(peer.network, [*sequence.prompt_ids, *sequence.token_ids]).double() / temperature
    start = len(sequence.prompt_ids) - 1
    logp = torch.log_softmax(logits[start:-1], dim=-1)
    return logp.gather(1, torch.tensor(sequence.token_ids, device=logp.device)[:, None])[:, 0], -(logp.exp() * logp).sum(-1)


@torch.no_grad()
def naive_sample(peer: Peer, prompt: list[int], seed: int, guess: Sequence[int] = ()) -> tuple[list[int], list[float]]:
    """One completion, its whole history run through the network for every token.

    A guess saves passes and changes nothing: no token sees a later one, so one pass over the guess holds the logits of
    every history in it. From the first token that is not as guessed, every history has a pass of its own.
    """
    settings = peer.config.generation
    ids, logprobs = list(prompt), []
    with peer.policy():
        guessed = naive_logits(peer.network, [*prompt, *guess])[len(prompt) - 1 : -1] if guess else ()
        for step in range(settings.max_new_tokens):
            known = step < len(guessed) and ids[len(prompt) :] == list(guess[:step])
            logits = guessed[step : step + 1] if known else naive_logits(peer.network, ids)[-1:]
            token, logprob = sample_tokens(logits, settings.temperature, settings.top_p, torch.tensor([seed]), step)
            ids.append(int(token))
            logprobs.append(float(logprob))
            if int(token) in peer.stop_ids:
                break
    return ids[len(prompt) :], logprobs


def alike_until(peer: Peer, prompt: list[int], seed: int, one: Sequence[int], other: Sequence[int]) -> int:
    """How many tokens two completions of one seed begin with alike.

    All of them, unless a number fell so close to the border of two tokens that rounding decides, which another processor, or
    another batch, does otherwise. What follows is then another text.

    Raises:
        AssertionError: They part where rounding does not decide.
    """
    same = next((i for i, (x, y) in enumerate(zip(one, other, strict=False)) if x != y), min(len(one), len(other)))
    if same == len(one) == len(other):
        return same
    assert same < min(len(one), len(other)), "one completion ends where the other goes on"
    with torch.no_grad(), peer.policy():
        logits = naive_logits(peer.network, [*prompt, *one[:same]])[-1]
    settings = peer.config.generation
    drawn = drawn_if_rounded_otherwise(logits, settings.temperature, settings.top_p, seed, same)
    assert {one[same], other[same]} <= drawn, f"token {same}: {one[same]} and {other[same]}, rounding gives {drawn}"
    return same


def drawn_if_rounded_otherwise(
    logits: torch.Tensor, temperature: float, top_p: float, seed: int, step: int
) -> set[int]:
    """The tokens one number draws from logits that are off by some 1e-4, several times the rounding of a tiny model."""
    noise = 1e-4 * torch.randn(500, len(logits), generator=torch.Generator().manual_seed(0))
    seeds = torch.full((len(noise),), seed)
    return set(sample_tokens(logits.cpu() + noise, temperature, top_p, seeds, step)[0].tolist())


def learn(peer: Peer, examples: Sequence[Scored], lr: float, steps: int = 4) -> list[float]:
    """Raise the likelihood of some completions, with autograd and AdamW; the mean log-probability before each step."""
    optimizer = torch.optim.AdamW(peer.adapter_parameters().values(), lr=lr)
    values = []
    for _ in range(steps):
        logprobs, _, _ = peer.logprobs(examples)
        values.append(float(logprobs.detach().mean()))
        optimizer.zero_grad()
        (-logprobs.mean()).backward()
        optimizer.step()
    return values
