"""Rotary positions that depend on the longest row of a batch: one table for the run, in every path."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

import tiny
from core_lightning.peers import GenerationSettings, Peer
from core_lightning.peers.sources import PeerSourceError
from core_lightning.training.team import load_peers
from naive import CPU, Scored, make_peer, naive_logits

SWITCH = 64
LONGROPE = {
    "rope_type": "longrope",
    "rope_theta": 10000.0,
    "short_factor": [1.0, 1.0, 1.0, 1.0],
    "long_factor": [4.0, 5.0, 7.0, 9.0],
    "original_max_position_embeddings": SWITCH,
}
DYNAMIC = {"rope_type": "dynamic", "rope_theta": 10000.0, "factor": 4.0}
#: A short prompt and a long one, with completions that cross the switch.
SHORT, LONG = [5 + i % 40 for i in range(20)], [7 + i * 3 % 40 for i in range(SWITCH - 4)]
TOKENS = [11, 30, 12, 9, 40, 22, 8, 17]
ROWS = [Scored(SHORT, TOKENS), Scored(LONG, TOKENS)]


def save(folder: Path, kind: str) -> Path:
    if kind == "longrope":
        shape = tiny.GROUPED | {"max_position_embeddings": 256, "original_max_position_embeddings": SWITCH}
        return tiny.save(folder, "Phi3", 6, **shape, rope_parameters=LONGROPE)
    return tiny.save(
        folder, "Llama", 6, **(tiny.GROUPED | {"max_position_embeddings": SWITCH}), rope_parameters=DYNAMIC
    )


def oracle(folder: Path, row: Scored, longest: int, temperature: float) -> torch.Tensor:
    """A plain pass of a row that is filled up to the longest row of the run: no token sees what comes behind it."""
    network = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    ids = row.prompt_ids + row.token_ids
    with torch.no_grad():
        logits = naive_logits(network, ids + [6] * (longest - len(ids))) / temperature
    logprobs = logits[len(row.prompt_ids) - 1 : len(ids) - 1].log_softmax(-1)
    return logprobs.gather(1, torch.tensor(row.token_ids)[:, None])[:, 0]


def peer_of(folder: Path, kind: str, room: int, new: int, **options: object) -> Peer:
    peer = make_peer(
        folder,
        wake=False,
        generation=GenerationSettings(max_prompt_tokens=room, max_new_tokens=new, temperature=0.8),
        **options,
    )
    if (
        kind == "dynamic"
    ):  # the library counts up to max_position_embeddings, beyond which this library lets nothing pass
        assert peer.room() + new <= SWITCH
    return peer


def scores(peer: Peer, rows: Sequence[Scored]) -> list[torch.Tensor]:
    return list(peer.logprobs(rows)[0].detach())


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize(("kind", "room", "new"), [("longrope", 72, 8), ("longrope", 40, 8), ("dynamic", 40, 8)])
def test_a_trace_has_the_same_numbers_alone_and_beside_a_longer_one(
    tmp_path: Path, kind: str, room: int, new: int, checkpointing: bool
) -> None:
    folder = save(tmp_path / kind, kind)
    peer = peer_of(folder, kind, room, new, gradient_checkpointing=checkpointing)
    together = scores(peer, ROWS)
    with torch.no_grad():
        without_gradient = scores(peer, ROWS)
    for i, row in enumerate(ROWS):
        (alone,) = scores(peer, [row])
        torch.testing.assert_close(together[i], alone, atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(without_gradient[i], alone, atol=1e-4, rtol=1e-4)
        expected = oracle(folder, row, room + new, 0.8) if len(row.prompt_ids) <= room else alone
        torch.testing.assert_close(alone, expected, atol=1e-4, rtol=1e-4)


def test_the_two_tables_are_told_apart(tmp_path: Path) -> None:
    folder = save(tmp_path / "m", "longrope")
    (short,) = scores(peer_of(folder, "longrope", 40, 8), ROWS[:1])
    (long,) = scores(peer_of(folder, "longrope", 72, 8), ROWS[:1])
    assert (short - long).abs().max() > 0.05


@pytest.mark.parametrize(("room", "new"), [(56, 24), (40, 8)])
def test_what_is_sampled_across_the_switch_is_scored_the_same(tmp_path: Path, room: int, new: int) -> None:
    folder = save(tmp_path / "m", "longrope")
    peer = peer_of(folder, "longrope", room, new)
    prompts = [SHORT, LONG[:room]]
    for prompt, (completion,) in zip(prompts, peer.sample(prompts, [[1], [2]]), strict=True):
        row = Scored(prompt, completion.token_ids)
        with torch.no_grad():
            scored = peer.logprobs([row])[0][0]
        torch.testing.assert_close(torch.tensor(completion.logprobs), scored, atol=2e-4, rtol=1e-4)
        torch.testing.assert_close(scored, oracle(folder, row, room + new, 0.8), atol=2e-4, rtol=1e-4)


@pytest.mark.parametrize(("room", "fits"), [(20, True), (SWITCH, False)])
def test_a_layer_that_looks_in_a_way_of_its_own_is_refused_where_it_matters(
    tmp_path: Path, room: int, fits: bool
) -> None:
    """Phi-3.5-MoE scales its rotations by the longest row of a batch, beside the table."""
    shape = tiny.GROUPED | {"max_position_embeddings": 256, "original_max_position_embeddings": SWITCH}
    scales = {"short_mscale": 1.0, "long_mscale": 1.3}
    experts = {"num_local_experts": 4, "num_experts_per_tok": 2}
    folder = tiny.save(tmp_path, "Phimoe", 6, **shape, **experts, rope_parameters=LONGROPE | scales)
    generation = GenerationSettings(max_prompt_tokens=room, max_new_tokens=8)
    if fits:
        assert make_peer(folder, generation=generation).room() == room
        return
    with pytest.raises(PeerSourceError, match=r"other numbers beside a longer one: .*PhimoeRotaryEmbedding.* up to 72 tokens"):
        make_peer(folder, generation=generation)


def test_a_line_says_which_table_it_is(tmp_path: Path, llama_folder: Path) -> None:
    peer = peer_of(save(tmp_path / "m", "longrope"), "longrope", 72, 8)
    assert any("longrope rotary positions are those of rows of 80 tokens" in line for line in peer.notes)
    assert not any("rotary" in line for line in make_peer(llama_folder).notes)


def test_peers_on_one_base_need_one_table(tmp_path: Path) -> None:
    folder = save(tmp_path / "m", "longrope")
    long, short = (peer_of(folder, "longrope", room, 8).config for room in (72, 40))
    load_peers({"a": long, "b": long}, CPU, share_base=True)
    with pytest.raises(ValueError, match="set share_base to false"):
        load_peers({"a": long, "b": short}, CPU, share_base=True)
