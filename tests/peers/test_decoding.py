"""Steps in memory that stays where it is equal the loop that grows. What a GPU records of them: test_cuda.py."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import tiny
from core_lightning.peers import GenerationSettings, LoraSettings, Peer
from core_lightning.peers.compute.prefill import prefill
from core_lightning.peers.sampling import decoding
from naive import alike_until, make_even, make_peer, naive_sample

PROMPTS = [[10 + i % 9 for i in range(n)] for n in (3, 24, 17, 24)]
SEEDS = [[100 * i + j for j in range(3)] for i in range(len(PROMPTS))]
SETTINGS = GenerationSettings(max_new_tokens=40, temperature=3.0)


@pytest.fixture
def fixed(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Processors decode as GPUs do, but for the recording; collects the columns that were looked at."""
    looked: list[int] = []

    class Watched(decoding.FixedDecoder):
        def _step(self) -> None:
            super()._step()
            looked.append(self._extent)

    monkeypatch.setattr(decoding, "_BLOCK", 16)
    monkeypatch.setattr(decoding, "make_decoder", lambda *args: Watched(*args[:-1]))
    return looked


def peer_of(folder: Path, **options: Any) -> Peer:
    return make_peer(folder, generation=SETTINGS, lora=LoraSettings(r=4, targets="all-linear"), **options)


@pytest.mark.parametrize("copies", ["own", "dense"])
@pytest.mark.parametrize("kind", ["llama", "neox", "mistral3", "gpt2", "phi3", "llama-nf4"])
def test_tokens_are_those_of_the_naive_loop(
    tiny_folder: Callable[[str], Path], kind: str, copies: str, fixed: list[int]
) -> None:
    name, _, quantization = kind.partition("-")
    peer = peer_of(tiny_folder(name), quantization=quantization or "none", sampling_weights=copies)
    sampled = peer.sample(PROMPTS, SEEDS)
    for prompt, seeds, group in zip(PROMPTS, SEEDS, sampled, strict=True):
        for seed, completion in zip(seeds, group, strict=True):
            tokens, logprobs = naive_sample(peer, prompt, seed, completion.token_ids)
            same = alike_until(peer, prompt, seed, completion.token_ids, tokens)
            assert completion.logprobs[:same] == pytest.approx(logprobs[:same], abs=2e-4)
    assert fixed


def test_rows_leave_and_the_room_grows_block_by_block(llama_folder: Path, fixed: list[int]) -> None:
    peer = make_even(peer_of(llama_folder))
    sampled = peer.sample(PROMPTS, SEEDS)
    assert len({len(c.token_ids) for group in sampled for c in group}) > 2
    assert sorted(set(fixed)) == [32, 48, 64]  # up to the last column


def test_a_window_that_everything_fits_into(tmp_path: Path, fixed: list[int]) -> None:
    tiny.save_gemma3(tmp_path, window=100)
    peer = peer_of(tmp_path)
    for prompt, seeds, group in zip(PROMPTS, SEEDS, peer.sample(PROMPTS, SEEDS), strict=True):
        for seed, completion in zip(seeds, group, strict=True):
            tokens, _ = naive_sample(peer, prompt, seed, completion.token_ids)
            alike_until(peer, prompt, seed, completion.token_ids, tokens)
    assert fixed


def test_who_can_stay(tiny_folder: Callable[[str], Path], tmp_path: Path) -> None:
    def can_stay(peer: Peer, room: int = 40) -> bool:
        backbone = peer.network.get_base_model().base_model
        return decoding.can_stay(backbone, prefill(backbone, PROMPTS, 0, room).cache, room)

    assert can_stay(peer_of(tiny_folder("llama")))
    assert not can_stay(peer_of(tiny_folder("gemma3")))  # layers with a window of 8 forget
    tiny.save_gemma3(tmp_path / "wide", window=100)
    wide = peer_of(tmp_path / "wide")
    assert can_stay(wide)
    assert not can_stay(wide, room=90)
    rope = {
        "rope_type": "longrope", "short_factor": [1.0] * 4, "long_factor": [2.0] * 4,
        "original_max_position_embeddings": 256, "rope_theta": 1e4,
    }  # fmt: skip
    tiny.save(tmp_path / "long", "Phi3", 0, **tiny.GROUPED, rope_parameters=rope)
    assert not can_stay(peer_of(tmp_path / "long"))  # Phi-4-mini's: it asks for the longest row in every step
    eight_bits = make_peer(tiny_folder("llama"), quantization="int8", lora=LoraSettings(r=4))
    assert not can_stay(eight_bits)


def test_a_processor_decodes_in_the_loop_that_grows(tiny_folder: Callable[[str], Path]) -> None:
    backbone = peer_of(tiny_folder("llama")).network.get_base_model().base_model
    start = prefill(backbone, PROMPTS, 0, 40)
    head = decoding.LogitHead(torch.ones(8, 32))
    assert type(decoding.make_decoder(backbone, head, start, 40, True)) is decoding.Decoder
