"""What is excused as rounding is rounding: a number on the border of two tokens, and no other."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from core_lightning.peers.sampling.drawing import uniform
from naive import alike_until, drawn_if_rounded_otherwise, make_peer, naive_sample


@pytest.mark.parametrize(("off", "expected"), [(0.0, {0, 1}), (1e-6, {0, 1}), (1e-3, {0}), (-1e-3, {1})])
def test_a_number_on_the_border_of_two_tokens(off: float, expected: set[int]) -> None:
    border = float(uniform(torch.tensor([5]), 0)) + off  # token 0 is drawn by the numbers below it
    logits = torch.tensor([border, 1 - border], dtype=torch.float64).log().float()
    assert drawn_if_rounded_otherwise(logits, 1.0, 1.0, seed=5, step=0) == expected


def test_another_token_is_another_token(llama_folder: Path) -> None:
    peer = make_peer(llama_folder)
    tokens, _ = naive_sample(peer, [5, 6, 7], 1)
    assert alike_until(peer, [5, 6, 7], 1, tokens, list(tokens)) == len(tokens)
    changed = [tokens[0], (tokens[1] + 1) % 90, *tokens[2:]]
    with pytest.raises(AssertionError, match="rounding gives"):
        alike_until(peer, [5, 6, 7], 1, tokens, changed)
    with pytest.raises(AssertionError, match="ends where the other goes on"):
        alike_until(peer, [5, 6, 7], 1, tokens, tokens[:-1])


@pytest.mark.parametrize("kind", ["llama", "gemma3"])
def test_a_guess_changes_nothing(tiny_folder: Callable[[str], Path], kind: str) -> None:
    peer, prompt = make_peer(tiny_folder(kind)), [5 + i for i in range(12)]
    tokens, logprobs = naive_sample(peer, prompt, 1)
    for guess in (tokens, tokens[:4], [*tokens, 7], [*tokens[:2], (tokens[2] + 1) % 90, *tokens[3:]], [9] * 20):
        same, scores = naive_sample(peer, prompt, 1, guess)
        until = alike_until(peer, prompt, 1, same, tokens)
        assert scores[:until] == pytest.approx(logprobs[:until], abs=1e-4)
