"""The doors to what samples: which there are, and what vLLM in this process is asked for."""

from __future__ import annotations

import importlib.machinery
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import ClassVar

import pytest
import torch

from core_lightning.peers import GenerationSettings, LoraSettings, config
from core_lightning.peers.sampling.native import NativeEngine
from core_lightning.peers.sampling.settings import VllmSettings
from naive import make_peer


def test_settings_that_cannot_work_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("tgi", "continuous"):
        with pytest.raises(ValueError, match="choose native, vllm or server"):
            GenerationSettings(engine=name)  # type: ignore[arg-type]
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
    assert made.get("enable_chunked_prefill") is (False if peer.device.type == "cpu" else None)
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


def test_an_engine_of_the_users_own_says_whether_it_runs_the_peers_network(llama_folder: Path) -> None:
    class Foreign(NativeEngine):
        own = False

    peer = make_peer(llama_folder)
    assert peer.sampler.in_process
    peer.engine = Foreign(peer.sampler._rig)
    assert not peer.sampler.in_process
