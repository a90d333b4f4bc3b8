"""The doors to what samples: same seeds, same tokens through either loop; and what vLLM would be asked for."""

from __future__ import annotations

import copy
import dataclasses
import importlib.machinery
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import ClassVar

import pytest
import torch

from core_lightning.peers import GenerationSettings, LoraSettings, Peer, PeerSourceError, config
from core_lightning.peers.sampling.native import NativeEngine
from core_lightning.peers.sampling.settings import VllmSettings
from core_lightning.protocol.rounds import Completion, trace_seed
from naive import Scored, alike_until, make_even, make_peer, wake_adapter

TEXTS = ["7", "What is 3 + 4 ?", "a much longer question, with (many) more characters than the window", "2 - 2"]


@pytest.fixture(scope="module")
def pair_of(tiny_folder: Callable[[str], Path]) -> Callable[[str], tuple[Peer, Peer]]:
    """Peers that differ in their engine alone: native and continuous."""
    made: dict[str, tuple[Peer, Peer]] = {}

    def pair(kind: str) -> tuple[Peer, Peer]:
        if kind not in made:
            name, _, form = kind.partition("-")
            native, continuous = (
                make_peer(
                    tiny_folder(name),
                    quantization="nf4" if form == "nf4" else "none",
                    generation=GenerationSettings(max_new_tokens=12, temperature=0.8, engine=engine),
                )
                for engine in ("native", "continuous")
            )
            made[kind] = (make_even(native), make_even(continuous)) if form == "even" else (native, continuous)
        return made[kind]

    return pair


def under(peer: Peer, **changes: object) -> Peer:
    """The same peer and engine under other generation settings."""
    other = copy.copy(peer)
    other.config = dataclasses.replace(peer.config, generation=dataclasses.replace(peer.config.generation, **changes))
    return other


def prompts_of(peer: Peer, texts: Sequence[str] = TEXTS) -> list[list[int]]:
    return [peer.tokenizer(t, add_special_tokens=False)["input_ids"] for t in texts]


def seeds_of(prompts: Sequence[object], k: int = 3) -> list[list[int]]:
    return [[trace_seed("engine", i, j) for j in range(k)] for i in range(len(prompts))]


Sampled = list[list[Completion]]


def same(
    peer: Peer, prompts: Sequence[list[int]], seeds: Sequence[Sequence[int]], ours: Sampled, theirs: Sampled
) -> None:
    for prompt, numbers, mine, yours in zip(prompts, seeds, ours, theirs, strict=True):
        for seed, one, other in zip(numbers, mine, yours, strict=True):
            alike = alike_until(peer, prompt, seed, one.token_ids, other.token_ids)
            assert one.logprobs[:alike] == pytest.approx(other.logprobs[:alike], abs=2e-4)
            if one.token_ids == other.token_ids:
                assert (one.text, one.truncated) == (other.text, other.truncated)


@pytest.mark.parametrize(
    ("kind", "top_p"),
    [("llama", 1.0), ("llama", 0.7), ("llama-even", 1.0), ("gemma3", 1.0), ("mistral3", 0.7), ("llama-nf4", 1.0)],
)
def test_same_seeds_give_the_same_completions(
    pair_of: Callable[[str], tuple[Peer, Peer]], kind: str, top_p: float
) -> None:
    native, continuous = (under(p, top_p=top_p) for p in pair_of(kind))
    prompts = prompts_of(native)
    seeds = seeds_of(prompts, 12 if kind == "llama-even" else 3)
    ours = native.sample(prompts, seeds)
    same(native, prompts, seeds, continuous.sample(prompts, seeds), ours)
    if kind == "llama-even":
        assert {c.truncated for g in ours for c in g} == {True, False}  # both kinds of end are met
    backwards = continuous.sample(prompts[::-1], [g[::-1] for g in seeds[::-1]])
    same(native, prompts, seeds, [g[::-1] for g in backwards[::-1]], ours)


def test_a_cache_for_one_request_at_a_time_changes_nothing(pair_of: Callable[[str], tuple[Peer, Peer]]) -> None:
    native, continuous = pair_of("gemma3")
    prompts = prompts_of(native, TEXTS[1:3])
    seeds = seeds_of(prompts, 2)
    tight = under(continuous, max_batch_tokens=1)
    same(native, prompts, seeds, tight.sample(prompts, seeds), native.sample(prompts, seeds))


def test_prompts_read_in_parts_change_nothing(
    pair_of: Callable[[str], tuple[Peer, Peer]], monkeypatch: pytest.MonkeyPatch
) -> None:
    native, continuous = pair_of("llama")
    monkeypatch.setattr("core_lightning.peers.sampling.continuous._PREFILL", 9)
    prompts = prompts_of(native, TEXTS[1:3])
    seeds = seeds_of(prompts, 2)
    assert max(map(len, prompts)) > 3 * 9
    same(native, prompts, seeds, continuous.sample(prompts, seeds), native.sample(prompts, seeds))


def test_a_stop_string_ends_a_completion_at_the_same_token(pair_of: Callable[[str], tuple[Peer, Peer]]) -> None:
    native, continuous = pair_of("llama-even")
    prompts = prompts_of(native)
    seeds = seeds_of(prompts)
    free = [c for g in native.sample(prompts, seeds) for c in g]
    stop = sorted({c.text[4:6] for c in free if len(c.text) > 8})[:2]
    stopping = under(native, stop=stop)
    ours = stopping.sample(prompts, seeds)
    assert sum(len(c.token_ids) for g in ours for c in g) < sum(len(c.token_ids) for c in free)
    same(stopping, prompts, seeds, under(continuous, stop=stop).sample(prompts, seeds), ours)


def test_a_model_whose_attention_would_change_is_refused(tiny_folder: Callable[[str], Path]) -> None:
    with pytest.raises(PeerSourceError, match="leaves out this model's cap on attention scores"):
        make_peer(tiny_folder("gemma2"), generation=GenerationSettings(engine="continuous"))


def test_no_prompts_and_prompts_without_seeds(pair_of: Callable[[str], tuple[Peer, Peer]]) -> None:
    native, continuous = pair_of("llama")
    prompts = prompts_of(native)[:2]
    assert continuous.sample([], []) == []
    seeds = [[], [5, 6]]
    same(native, prompts, seeds, continuous.sample(prompts, seeds), native.sample(prompts, seeds))


@pytest.mark.parametrize("kind", ["gemma3", "llama-nf4"])  # 4-bit layers may not be repacked
def test_sampling_leaves_network_and_random_state_as_they_were(
    pair_of: Callable[[str], tuple[Peer, Peer]], kind: str
) -> None:
    native, continuous = pair_of(kind)
    prompts = prompts_of(native)
    continuous.sample([], [])  # sets the mode of sampling
    state = torch.get_rng_state()
    modes = [m.training for m in continuous.network.modules()]
    sampled = continuous.sample(prompts, seeds_of(prompts))
    assert torch.equal(torch.get_rng_state(), state)
    assert [m.training for m in continuous.network.modules()] == modes
    scored = [Scored(p, c.token_ids) for p, g in zip(prompts, sampled, strict=True) for c in g]
    gradients = []
    for peer in (native, continuous):
        peer.zero_grad()
        peer.logprobs(scored)[0].sum().backward()
        gradients.append([p.grad.clone() for p in peer.adapter_parameters().values()])
    for ours, theirs in zip(*gradients, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-4)


def test_peers_that_share_a_base_sample_with_their_own_adapters(tiny_folder: Callable[[str], Path]) -> None:
    settings = GenerationSettings(max_new_tokens=12, temperature=0.8, engine="continuous")
    first = make_peer(tiny_folder("llama"), "a", generation=settings)
    second = make_peer(tiny_folder("llama"), "b", base=first, generation=settings, wake=False)
    wake_adapter(second, seed=5)
    prompts = prompts_of(first)
    drawn = []
    for peer in (first, second):
        ours = peer.sample(prompts, seeds_of(prompts))
        peer.engine = NativeEngine(peer.engine.rig)
        same(peer, prompts, seeds_of(prompts), ours, peer.sample(prompts, seeds_of(prompts)))
        drawn.append([c.token_ids for g in ours for c in g])
    assert drawn[0] != drawn[1]


def test_a_loop_that_breaks_is_an_error(
    pair_of: Callable[[str], tuple[Peer, Peer]], monkeypatch: pytest.MonkeyPatch
) -> None:
    _, continuous = pair_of("llama")

    def broken(*args: object, **kwargs: object) -> None:
        raise ArithmeticError("no such number")

    with monkeypatch.context() as patch:
        patch.setattr("core_lightning.peers.sampling.continuous.sample_tokens", broken)
        with pytest.raises(RuntimeError, match="gave up a completion: no such number"):
            continuous.sample(prompts_of(continuous), seeds_of(TEXTS))
    assert continuous.sample(prompts_of(continuous), seeds_of(TEXTS))


def test_settings_that_cannot_work_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="choose native, continuous, vllm or server"):
        GenerationSettings(engine="tgi")  # type: ignore[arg-type]
    with monkeypatch.context() as patch:
        patch.setattr(config, "version", lambda name: "5.9.1")
        with pytest.raises(ValueError, match=r"needs transformers 5.23, this is 5.9.1"):
            GenerationSettings(engine="continuous")
    monkeypatch.setattr(config, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"pip install 'core-lightning\[vllm\]', or choose native"):
        GenerationSettings(engine="vllm")
    monkeypatch.setattr(config, "find_spec", lambda name: importlib.machinery.ModuleSpec(name, None))


class Server:
    """Answers as vLLM documents it, with tokens that tell which request they are of."""

    asked: ClassVar[list[tuple]] = []
    made: ClassVar[list[dict]] = []

    def __init__(self, **options: object) -> None:
        self.made.append(options)
        self.llm_engine = SimpleNamespace(engine_core=SimpleNamespace(shutdown=lambda: None))

    def generate(self, prompts: list, params: list, lora_request: tuple, use_tqdm: bool) -> list[SimpleNamespace]:
        self.asked.append((prompts, params, lora_request))
        answers = []
        for prompt, wanted in zip(prompts, params, strict=True):
            ids = [wanted.seed, len(prompt["prompt_token_ids"])]
            steps = [
                {t: SimpleNamespace(logprob=-float(i + 1)), 99: SimpleNamespace(logprob=0.0)} for i, t in enumerate(ids)
            ]
            end = "length" if wanted.seed == 7 else "stop"
            output = SimpleNamespace(token_ids=tuple(ids), logprobs=steps, finish_reason=end)
            answers.append(SimpleNamespace(outputs=[output]))
        return answers


def test_what_vllm_is_asked_for(tiny_folder: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch) -> None:
    # This holds the questions and how answers are read; that vLLM gives them is for tests/real_vllm to see.
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    vllm = ModuleType("vllm")
    vllm.__spec__ = importlib.machinery.ModuleSpec("vllm", None)
    vllm.LLM, vllm.SamplingParams = Server, SimpleNamespace
    request = ModuleType("vllm.lora.request")
    request.LoRARequest = lambda *about: about
    for name, module in (("vllm", vllm), ("vllm.lora", ModuleType("vllm.lora")), ("vllm.lora.request", request)):
        monkeypatch.setitem(sys.modules, name, module)
    folder = tiny_folder("llama")
    settings = GenerationSettings(
        max_new_tokens=5, temperature=0.7, stop=["Q:"], engine="vllm", max_prompt_tokens=50,
        vllm=VllmSettings(memory_share=0.3, tolerance=1e3),  # the numbers below are made up
    )  # fmt: skip
    peer = make_peer(folder, generation=settings, lora=LoraSettings(r=12))

    sampled = peer.sample([[5, 6], [7], [8, 9, 5]], [[7, 8], [], [9]])
    assert [[c.token_ids for c in g] for g in sampled] == [[[7, 2], [8, 2]], [], [[9, 3]]]
    assert [[c.logprobs for c in g] for g in sampled] == [[[-1.0, -2.0]] * 2, [], [[-1.0, -2.0]]]
    assert [[c.truncated for c in g] for g in sampled] == [[True, False], [], [False]]
    (made,) = Server.made
    assert made["model"] == str(folder)
    assert (made["enable_lora"], made["max_lora_rank"], made["logprobs_mode"]) == (True, 16, "processed_logprobs")
    assert (made["max_model_len"], made["gpu_memory_utilization"], made["enable_sleep_mode"]) == (55, 0.3, False)
    _, params, (_, number, path) = Server.asked[-1]
    wanted = vars(params[0])
    assert {k: wanted[k] for k in ("temperature", "top_p", "max_tokens", "stop")} == {
        "temperature": 0.7, "top_p": 1.0, "max_tokens": 5, "stop": ["Q:"],
    }  # fmt: skip
    assert wanted["stop_token_ids"] == sorted(peer.stop_ids)

    peer.sample([[5]], [[7]])
    assert Server.asked[-1][2] == ("1", number, path)  # nothing moved, nothing to bring
    with torch.no_grad():
        next(iter(peer.adapter_parameters().values())).add_(1.0)
    peer.sample([[5]], [[7]])
    assert Server.asked[-1][2][1] == number + 1
    assert not Path(path).exists()
    assert Path(Server.asked[-1][2][2]).is_dir()
    ids = torch.tensor([[5, 6, 7]])
    served = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(folder), Server.asked[-1][2][2])
    with peer.policy(), torch.no_grad():
        logits = (network(input_ids=ids).logits for network in (served, peer.network))
        torch.testing.assert_close(*logits, atol=1e-4, rtol=1e-4)
    assert len(Server.made) == 1


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"memory_share": 0.0}, r"vllm.memory_share is 0.0; set it in \(0, 1\]"),
        ({"tensor_parallel": 2}, "vllm.tensor_parallel is 2; name as many GPUs in generation.vllm.devices"),
        ({"devices": "cuda:1"}, "vllm.devices is 'cuda:1'; give numbers"),
    ],
)
def test_vllm_settings_that_cannot_work(options: dict, match: str) -> None:
    with pytest.raises(ValueError, match=match):
        VllmSettings(**options)
    assert VllmSettings(devices="2,3", tensor_parallel=2)
