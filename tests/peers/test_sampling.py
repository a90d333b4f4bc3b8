"""Batched sampling against the obvious loop, and scoring against full logits, on every kind of tiny model."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from core_lightning.peers import GenerationSettings, LoraSettings, Peer
from core_lightning.peers.sampling import native
from core_lightning.peers.sampling.drawing import draw
from core_lightning.protocol.prompts import Filled, Prompt, Turn
from core_lightning.protocol.rounds import Completion, trace_seed
from naive import Scored, alike_until, make_even, make_peer, naive_logprobs, naive_sample

KINDS = ["llama", "neox", "gemma3", "gemma2", "mistral3", "llama-nf4"]
TEXTS = [
    "7",
    "What is 3 + 4 ?",
    "a much longer question, with (many) more characters than the window",
    "12 * 3 =",
    "2 - 2",
]


@pytest.fixture(scope="module")
def peer_of(tiny_folder: Callable[[str], Path]) -> Callable[[str], Peer]:
    made: dict[str, Peer] = {}

    def peer(kind: str) -> Peer:
        if kind not in made:
            name, _, form = kind.partition("-")
            made[kind] = make_peer(tiny_folder(name), quantization="nf4" if form == "nf4" else "none")
            if form == "even":
                make_even(made[kind])
        return made[kind]

    return peer


def prompts_of(peer: Peer, texts: list[str] = TEXTS) -> list[list[int]]:
    return [peer.encode(Prompt((Turn("user", Filled((text,))),), Filled((text,)))) for text in texts]


def seeds_of(prompts: list[list[int]], k: int = 2) -> list[list[int]]:
    return [[trace_seed("test", i, j) for j in range(k)] for i in range(len(prompts))]


def with_settings(peer: Peer, **changes: object) -> Peer:
    """The same peer under other generation settings."""
    import copy
    import dataclasses

    other = copy.copy(peer)
    generation = dataclasses.replace(peer.config.generation, **changes)
    other.config = dataclasses.replace(peer.config, generation=generation)
    return other


def ids(completions: list[list[Completion]]) -> list[list[list[int]]]:
    return [[c.token_ids for c in group] for group in completions]


Sampled = list[list[Completion]]


def same_draws(peer: Peer, prompts: list[list[int]], seeds: list[list[int]], ones: Sampled, others: Sampled) -> None:
    for prompt, group, mine, yours in zip(prompts, seeds, ones, others, strict=True):
        for seed, one, other in zip(group, mine, yours, strict=True):
            alike_until(peer, prompt, seed, one.token_ids, other.token_ids)


@pytest.mark.parametrize("top_p", [1.0, 0.8])
@pytest.mark.parametrize("kind", KINDS)
def test_sampling_is_the_naive_loop(peer_of: Callable[[str], Peer], kind: str, top_p: float) -> None:
    peer = with_settings(peer_of(kind), top_p=top_p)
    prompts = prompts_of(peer)
    seeds = seeds_of(prompts)
    for prompt, group, completions in zip(prompts, seeds, peer.sample(prompts, seeds), strict=True):
        for seed, completion in zip(group, completions, strict=True):
            tokens, logprobs = naive_sample(peer, prompt, seed, completion.token_ids)
            same = alike_until(peer, prompt, seed, completion.token_ids, tokens)
            torch.testing.assert_close(completion.logprobs[:same], logprobs[:same], atol=2e-4, rtol=1e-4)
            assert completion.truncated == (completion.token_ids[-1] not in peer.stop_ids)


@pytest.mark.parametrize("top_p", [1.0, 0.5])
def test_a_completion_counts_its_tokens_that_were_drawn_again(
    peer_of: Callable[[str], Peer], top_p: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those of its own row, also where finished rows leave the batch."""
    drawn: dict[tuple[int, int], bool] = {}

    def noting(logits: torch.Tensor, temperature: float, top_p: float, seeds: torch.Tensor, step: int) -> tuple:
        tokens, logprobs, again = draw(logits, temperature, top_p, seeds, step)
        drawn.update({(seed, step): outside for seed, outside in zip(seeds.tolist(), again.tolist(), strict=True)})
        return tokens, logprobs, again

    monkeypatch.setattr(native, "draw", noting)
    peer = with_settings(peer_of("llama"), top_p=top_p)
    prompts = prompts_of(peer)
    seeds = seeds_of(prompts)
    for group, completions in zip(seeds, peer.sample(prompts, seeds), strict=True):
        for seed, c in zip(group, completions, strict=True):
            assert c.redrawn == sum(drawn[seed, step] for step in range(len(c.token_ids)))
    assert any(drawn.values()) == (top_p < 1)


@pytest.mark.parametrize("kind", KINDS)
def test_a_trace_does_not_depend_on_its_batch(peer_of: Callable[[str], Peer], kind: str) -> None:
    peer = peer_of(kind)
    prompts = prompts_of(peer)
    seeds = seeds_of(prompts)
    together = peer.sample(prompts, seeds)
    assert len({tuple(t) for group in ids(together) for t in group}) > 1
    same_draws(peer, prompts, seeds, together, [peer.sample([p], [s])[0] for p, s in zip(prompts, seeds, strict=True)])
    backwards = peer.sample(prompts[::-1], [s[::-1] for s in seeds[::-1]])
    same_draws(peer, prompts, seeds, together, [group[::-1] for group in backwards[::-1]])
    for room in (1, 200):
        same_draws(peer, prompts, seeds, together, with_settings(peer, max_batch_tokens=room).sample(prompts, seeds))


@pytest.mark.parametrize("kind", KINDS)
def test_recorded_logprobs_are_the_scores_and_those_of_the_full_logits(
    peer_of: Callable[[str], Peer], kind: str
) -> None:
    peer = with_settings(peer_of(kind), temperature=0.6)
    prompts = prompts_of(peer)
    sampled = peer.sample(prompts, seeds_of(prompts))
    traces = [(Scored(p, c.token_ids), c) for p, group in zip(prompts, sampled, strict=True) for c in group]
    with torch.no_grad():
        logprobs, entropies, mask = peer.logprobs([s for s, _ in traces])
        for row, (scored, completion) in enumerate(traces):
            n = len(scored.token_ids)
            assert mask[row].tolist() == [True] * n + [False] * (mask.shape[1] - n)
            assert not logprobs[row, n:].any()
            assert not entropies[row, n:].any()
            recorded = torch.tensor(completion.logprobs)
            torch.testing.assert_close(logprobs[row, :n], recorded, atol=2e-4, rtol=1e-4)
            expected, entropy = naive_logprobs(peer, scored, 0.6)
            torch.testing.assert_close(logprobs[row, :n].double(), expected, atol=2e-4, rtol=1e-4)
            torch.testing.assert_close(entropies[row, :n].double(), entropy, atol=2e-4, rtol=1e-4)
            alone = peer.logprobs([scored])[0][0]
            torch.testing.assert_close(logprobs[row, :n], alone, atol=2e-4, rtol=1e-4)


@pytest.mark.parametrize("kind", ["llama", "neox"])
def test_every_end_token_stops_and_stays_in_the_ids(peer_of: Callable[[str], Peer], kind: str) -> None:
    peer = with_settings(peer_of(f"{kind}-even"), max_new_tokens=100)
    # Llama: both of the model's list, <end> being the chat template's too. NeoX: the only one.
    assert peer.stop_ids == ({2, 3} if kind == "llama" else {2})
    prompts = prompts_of(peer)
    completions = [c for group in peer.sample(prompts, seeds_of(prompts, 16)) for c in group]
    finished = [c for c in completions if not c.truncated]
    assert {c.token_ids[-1] for c in finished} == peer.stop_ids
    assert any(c.truncated for c in completions)
    for completion in completions:
        assert not peer.stop_ids.intersection(completion.token_ids[:-1])
        assert len(completion.token_ids) == len(completion.logprobs or [])
        assert "<e" not in completion.text
        if completion.truncated:
            assert len(completion.token_ids) == 100
            assert completion.token_ids[-1] not in peer.stop_ids


def test_the_end_of_turn_of_the_chat_template_stops_even_if_the_model_does_not_list_it(tmp_path: Path) -> None:
    from transformers import LlamaForCausalLM

    import tiny

    tiny.save_llama(tmp_path)
    network = LlamaForCausalLM.from_pretrained(tmp_path)
    network.config.eos_token_id = network.generation_config.eos_token_id = 2
    network.save_pretrained(tmp_path)
    assert make_peer(tmp_path).stop_ids == {2, 3}


def test_a_stop_string_ends_a_completion_and_is_not_part_of_its_text(peer_of: Callable[[str], Peer]) -> None:
    free = with_settings(peer_of("neox-even"), max_new_tokens=60)
    prompts = prompts_of(free)
    seeds = seeds_of(prompts, 4)
    unstopped = [c for group in free.sample(prompts, seeds) for c in group]
    # Two characters that really follow each other, and one character.
    pair = next(c.text[5:7] for c in unstopped if len(c.text) > 20)
    stops = [pair, "Q"]
    stopped = [c for group in with_settings(free, stop=stops).sample(prompts, seeds) for c in group]
    met = 0
    for before, after in zip(unstopped, stopped, strict=True):
        cuts = [i for s in stops if (i := before.text.find(s)) >= 0]
        if cuts:
            met += 1
            assert after.text == before.text[: min(cuts)]
            assert not after.truncated
            # The ids are exact: they hold the stop string, and nothing behind it.
            assert before.token_ids[: len(after.token_ids)] == after.token_ids
            text = free.tokenizer.decode(after.token_ids, skip_special_tokens=True)
            assert any(text.endswith(s) for s in stops)
        else:
            assert (after.token_ids, after.text, after.truncated) == (before.token_ids, before.text, before.truncated)
            assert after.logprobs == pytest.approx(before.logprobs, abs=1e-4)
    assert 0 < met < len(stopped)


def test_prompts_may_ask_for_different_numbers_of_completions(peer_of: Callable[[str], Peer]) -> None:
    peer = peer_of("llama")
    prompts = prompts_of(peer)
    seeds = [[1], [], [2, 3, 4], [], [5]]
    sampled = peer.sample(prompts, seeds)
    assert [len(group) for group in sampled] == [1, 0, 3, 0, 1]
    same_draws(peer, prompts[2:3], [[2, 3, 4]], sampled[2:3], peer.sample(prompts[2:3], [[2, 3, 4]]))
    assert peer.sample([], []) == []


@pytest.mark.parametrize("kind", ["gpt2", "llama"])
def test_gradients_see_the_network_that_sampled(tiny_folder: Callable[[str], Path], kind: str) -> None:
    """Dropout of the base model is off while the loss is computed, too."""
    peer = make_peer(tiny_folder(kind))
    prompts = prompts_of(peer)
    sampled = peer.sample(prompts, seeds_of(prompts, 1))
    scored = [Scored(p, group[0].token_ids) for p, group in zip(prompts, sampled, strict=True)]
    with_gradient = peer.logprobs(scored)[0]
    with torch.no_grad():
        assert torch.equal(with_gradient, peer.logprobs(scored)[0])


def test_quantised_layers_keep_their_gradient_after_a_rollout(tiny_folder: Callable[[str], Path]) -> None:
    """On processors with native bfloat16, bitsandbytes repacks layers in evaluation mode into a form without one."""
    peer = make_peer(tiny_folder("llama"), quantization="nf4", lora=LoraSettings(r=4))
    prompts = prompts_of(peer)
    scored = [Scored(p, [10, 11, 12]) for p in prompts]

    def gradients() -> list[torch.Tensor]:
        peer.logprobs(scored)[0].sum().backward()
        grads = [p.grad for p in peer.adapter_parameters().values()]
        peer.zero_grad()
        return [g for g in grads if g is not None]

    before = gradients()
    assert len(before) == len(peer.adapter_parameters())
    for layer in peer.network.modules():
        if hasattr(layer, "support_avx512bf16_for_cpu"):
            layer.support_avx512bf16_for_cpu = True
    peer.sample(prompts, seeds_of(prompts))
    for one, other in zip(before, gradients(), strict=True):
        assert torch.equal(one, other)


def test_generation_runs_in_the_settings_given(peer_of: Callable[[str], Peer]) -> None:
    cold = with_settings(peer_of("llama"), temperature=1e-6)
    prompts = prompts_of(cold)
    groups = cold.sample(prompts, seeds_of(prompts, 4))
    assert all(len({tuple(c.token_ids) for c in group}) == 1 for group in groups)
    assert GenerationSettings().top_p == 1.0


@pytest.mark.parametrize("kind", ["llama", "neox"])
def test_what_all_prompts_begin_with_is_read_once_for_all_batches(
    peer_of: Callable[[str], Peer], kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    peer = with_settings(peer_of(kind), max_new_tokens=2)
    beginning = [5 + i % 7 for i in range(20)]
    prompts = [[*beginning, 20 + i] for i in range(5)]
    seeds = [[i] for i in range(5)]
    together = peer.sample(prompts, seeds)
    embedding = peer.network.get_input_embeddings()
    read: list[int] = []
    with monkeypatch.context() as patch:
        real = embedding.forward
        patch.setattr(embedding, "forward", lambda x: read.append(x.numel()) or real(x))
        one_by_one = with_settings(peer, max_batch_tokens=1).sample(prompts, seeds)
    same_draws(peer, prompts, seeds, together, one_by_one)
    assert read.count(20) == 1
    assert sum(read) <= 20 + 5 + 5
