"""A peer that samples from a server: what is asked, how answers are read, and which line a failure ends with."""

from __future__ import annotations

import dataclasses
import gc
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Trainer
from pytest_httpserver import HTTPServer

import runs
import tiny
from core_lightning import SoloReasoningModule
from core_lightning.objectives import GRPO
from core_lightning.peers import GenerationSettings, Peer, PeerConfig
from core_lightning.peers.sampling.agreement import DisagreementError
from core_lightning.peers.sampling.client import ServerError
from core_lightning.peers.sampling.settings import ServerSettings
from core_lightning.protocol.credit import CreditSettings, Example
from core_lightning.training.checks import check_off_policy
from core_lightning.training.team import load_peers
from core_lightning.training.update import accumulate, freeze
from naive import Scored, make_peer, naive_logits, naive_logprobs, wake_adapter
from served import ServedModel

PROMPTS = [[5, 6], [7], [8, 9, 5]]
SEEDS = [[7, 8], [], [9]]
SHORT = {"max_new_tokens": 12, "max_prompt_tokens": 100, "temperature": 0.8}


@pytest.fixture
def served(httpserver: HTTPServer, llama_folder: Path) -> ServedModel:
    return ServedModel(httpserver, llama_folder)


@pytest.fixture
def settings(httpserver: HTTPServer) -> Callable[..., GenerationSettings]:
    def made(stop: list[str] | None = None, **options: Any) -> GenerationSettings:
        server = ServerSettings(url=httpserver.url_for("/").rstrip("/"), **({"retries": 0} | options))
        return GenerationSettings(engine="server", server=server, stop=stop or [], **SHORT)

    return made


@torch.no_grad()
def gap(peer: Peer, completions: list[list[Any]]) -> float:
    """Largest difference between what the server says and the peer's log-probabilities, computed the slow way."""
    pairs = [(p, c) for p, group in zip(PROMPTS, completions, strict=True) for c in group]
    return max(
        float((naive_logprobs(peer, Scored(p, c.token_ids), 0.8)[0] - torch.tensor(c.logprobs)).abs().max())
        for p, c in pairs
    )


def test_completions_come_in_order_with_the_peers_own_logprobs(
    served: ServedModel, settings: Callable[..., GenerationSettings], llama_folder: Path
) -> None:
    peer = make_peer(llama_folder, generation=settings())
    sampled = peer.sample(PROMPTS, SEEDS)
    assert [len(g) for g in sampled] == [2, 0, 1]
    assert gap(peer, sampled) < 1e-4
    assert sampled == peer.sample(PROMPTS, SEEDS)
    flipped = peer.sample(PROMPTS[::-1], [g[::-1] for g in SEEDS[::-1]])
    assert flipped == [g[::-1] for g in sampled[::-1]]
    for completion in (c for g in sampled for c in g):
        ended = completion.token_ids[-1] in peer.stop_ids
        assert completion.truncated is not ended
        assert not set(completion.token_ids[:-1]) & peer.stop_ids
    assert peer.sample([], []) == []


def test_a_request_says_all_that_the_models_own_defaults_could_change(
    served: ServedModel, settings: Callable[..., GenerationSettings], llama_folder: Path
) -> None:
    peer = make_peer(llama_folder, generation=settings(stop=["Q:"]))
    peer.sample([[5, 6]], [[7]])
    asked = served.asked[-1]
    expected = {
        "prompt": [5, 6], "seed": 7, "max_tokens": 12, "temperature": 0.8, "top_p": 1.0, "top_k": 0, "min_p": 0.0,
        "repetition_penalty": 1.0, "presence_penalty": 0.0, "frequency_penalty": 0.0, "stop": ["Q:"],
        "stop_token_ids": sorted(peer.stop_ids), "skip_special_tokens": False, "logprobs": 0, "return_token_ids": True,
    }  # fmt: skip
    assert {k: v for k, v in asked.items() if k != "model"} == expected


def test_an_adapter_that_moved_is_handed_over_and_the_earlier_one_taken_away(
    served: ServedModel, settings: Callable[..., GenerationSettings], llama_folder: Path, tmp_path: Path
) -> None:
    peer = make_peer(llama_folder, generation=settings(adapter_folder=str(tmp_path / "shared")))
    before = peer.sample(PROMPTS, SEEDS)
    first = list(served.paths)
    peer.sample(PROMPTS, SEEDS)
    assert list(served.paths) == first  # nothing moved, nothing to bring
    for _ in range(3):
        with torch.no_grad():
            for weight in peer.adapter_parameters().values():
                weight.add_(0.2)
        after = peer.sample(PROMPTS, SEEDS)
        assert after != before
        assert gap(peer, after) < 1e-4
        before = after
        (path,) = served.paths.values()
        assert Path(path).parent.parent == tmp_path / "shared"
        assert [f.name for f in Path(path).parent.iterdir()] == list(served.paths)  # earlier folders are gone
    assert len(served.unloaded) == 3
    assert first[0] == served.unloaded[0]


def test_two_peers_on_one_server_have_an_adapter_each(
    served: ServedModel, settings: Callable[..., GenerationSettings], llama_folder: Path
) -> None:
    first = make_peer(llama_folder, "a", generation=settings())
    second = make_peer(llama_folder, "b", base=first, generation=settings(), wake=False)
    wake_adapter(second, seed=5)
    ours, theirs = first.sample(PROMPTS, SEEDS), second.sample(PROMPTS, SEEDS)
    assert ours != theirs
    assert gap(first, ours) < 1e-4
    assert gap(second, theirs) < 1e-4
    assert [n.split("-")[0] for n in served.paths] == ["a", "b"]


def test_the_end_of_a_peer_leaves_nothing_behind(
    served: ServedModel, settings: Callable[..., GenerationSettings], llama_folder: Path
) -> None:
    peer = make_peer(llama_folder, generation=settings())
    peer.sample(PROMPTS, SEEDS)
    folder = Path(next(iter(served.paths.values()))).parent
    assert folder.is_dir()
    del peer
    gc.collect()
    assert not served.paths
    assert not folder.exists()


def test_a_server_that_was_started_again_is_given_the_adapter_again(
    served: ServedModel, settings: Callable[..., GenerationSettings], llama_folder: Path
) -> None:
    peer = make_peer(llama_folder, generation=settings())
    sampled = peer.sample(PROMPTS, SEEDS)
    served.adapters.clear()
    served.paths.clear()
    assert peer.sample(PROMPTS, SEEDS) == sampled


def test_a_busy_server_is_asked_again(
    served: ServedModel, settings: Callable[..., GenerationSettings], llama_folder: Path
) -> None:
    peer = make_peer(llama_folder, generation=settings(retries=2))
    sampled = peer.sample(PROMPTS, SEEDS)
    served.failures = [503, 429]
    assert peer.sample(PROMPTS, SEEDS) == sampled
    assert not served.failures


def test_a_server_that_fails_for_good_is_one_line(
    served: ServedModel, settings: Callable[..., GenerationSettings], llama_folder: Path
) -> None:
    peer = make_peer(llama_folder, generation=settings())
    served.failures = [503] * 9
    with pytest.raises(ServerError, match=r"peer 'a': the server at http://\S+ answers 503: later"):
        peer.sample(PROMPTS, SEEDS)


def refused(folder: Path, generation: GenerationSettings, match: str, **options: Any) -> None:
    with pytest.raises(ServerError, match=match) as error:
        make_peer(folder, generation=generation, **options).sample(PROMPTS, SEEDS)
    assert "\n" not in str(error.value)


def test_a_server_that_is_away(llama_folder: Path) -> None:
    # Port 9 of this machine: nothing listens there.
    generation = GenerationSettings(engine="server", server=ServerSettings("http://127.0.0.1:9", retries=1), **SHORT)
    refused(llama_folder, generation, r"does not answer \(.*refused.*\); start it, or set generation.server.url")


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"max_model_len": 64}, "takes 64 tokens, prompt and completion; start it with --max-model-len 112"),
        ({"max_lora_rank": 2}, r"LoRA rank 4 is greater .*; its --max-lora-rank must be 4 or more"),
        ({"runtime": False}, "VLLM_ALLOW_RUNTIME_LORA_UPDATING=1"),
        ({"processed": False}, "start it with --logprobs-mode processed_logprobs"),
        ({"key": "secret"}, "refuses the key; put the right one into the environment variable VLLM_API_KEY"),
    ],
)
def test_a_server_that_cannot_do_it(
    httpserver: HTTPServer,
    settings: Callable[..., GenerationSettings],
    llama_folder: Path,
    options: dict[str, Any],
    match: str,
) -> None:
    ServedModel(httpserver, llama_folder, **options)
    refused(llama_folder, settings(), match)


def test_other_weights_under_the_right_name(
    httpserver: HTTPServer, settings: Callable[..., GenerationSettings], llama_folder: Path, tmp_path: Path
) -> None:
    ServedModel(httpserver, llama_folder, weights=tiny.save_llama(tmp_path, seed=9))
    match = r"peer's own differ by \d\.\d+ nats a token \(allowed: 0.1\); the server at \S+ must have the same weights"
    with pytest.raises(DisagreementError, match=match):
        make_peer(llama_folder, generation=settings()).sample(PROMPTS, SEEDS)


def test_another_base_model_is_refused_before_any_is_loaded(
    served: ServedModel,
    settings: Callable[..., GenerationSettings],
    neox_folder: Path,
    llama_folder: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    loaded: list[str] = []
    monkeypatch.setattr("core_lightning.peers.assembly.load_base", lambda *_: loaded.append("model"))
    peers = {
        "a": PeerConfig(str(llama_folder), quantization="none"),
        "b": PeerConfig(str(neox_folder), quantization="none", generation=settings()),
    }
    with pytest.raises(ServerError, match=f"serves {llama_folder}, not {neox_folder}; start it with that model"):
        load_peers(peers, torch.device("cpu"), share_base=False)
    assert not loaded


def test_a_model_of_another_name_there(
    served: ServedModel, settings: Callable[..., GenerationSettings], llama_folder: Path, tmp_path: Path
) -> None:
    elsewhere = tiny.save_llama(tmp_path / "elsewhere")
    peer = make_peer(elsewhere, generation=settings(model=str(llama_folder)))
    assert gap(peer, peer.sample(PROMPTS, SEEDS)) < 1e-4


def test_the_key_comes_from_the_environment_and_stays_there(
    httpserver: HTTPServer,
    settings: Callable[..., GenerationSettings],
    llama_folder: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ServedModel(httpserver, llama_folder, key="secret")
    monkeypatch.setenv("MY_KEY", "secret")
    peer = make_peer(llama_folder, generation=settings(api_key_env="MY_KEY"))
    peer.sample(PROMPTS, SEEDS)
    assert "secret" not in json.dumps(dataclasses.asdict(peer.config))


def test_a_run_whose_server_dies_keeps_its_finished_steps(
    served: ServedModel, settings: Callable[..., GenerationSettings], llama_folder: Path, tmp_path: Path
) -> None:
    from core_lightning.callbacks import AdapterCheckpoint

    class Kill(AdapterCheckpoint):
        def on_train_batch_end(self, trainer: Trainer, pl_module: Any, *args: Any) -> None:
            super().on_train_batch_end(trainer, pl_module, *args)
            if pl_module.batches_done == 2:
                served.failures = [503] * 99

    generation = dataclasses.replace(settings(), max_prompt_tokens=400, temperature=1.0)
    module = runs.build({"a": runs.peer(llama_folder, generation=generation)}, SoloReasoningModule)
    trainer = Trainer(
        max_steps=4, accelerator="cpu", callbacks=[Kill()], logger=False, default_root_dir=tmp_path, num_sanity_val_steps=0,
        enable_progress_bar=False, enable_model_summary=False,
    )  # fmt: skip
    with pytest.raises(ServerError, match="answers 503"):
        trainer.fit(module, datamodule=runs.data(tmp_path))
    state = torch.load(tmp_path / "checkpoints" / "last.ckpt", weights_only=True)
    assert state["core_lightning"]["batches_done"] == 2


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"url": "127.0.0.1:8000"}, "server.url is '127.0.0.1:8000'; give http://host:port"),
        ({"url": "http://127.0.0.1:8000/v1"}, "leave out the path"),
        ({"url": "http://me:word@host:1"}, "holds a name or password; put the key into the variable VLLM_API_KEY"),
        ({"concurrency": 0}, "server.concurrency is 0; set it to 1 or more"),
        ({"timeout": 0.0}, "server.timeout is 0.0; set it above 0"),
        ({"retries": -1}, "server.retries is -1"),
        ({"tolerance": 0.0}, "server.tolerance is 0.0"),
    ],
)
def test_settings_that_cannot_work(options: dict[str, Any], match: str) -> None:
    with pytest.raises(ValueError, match=match) as error:
        ServerSettings(**options)
    assert "word" not in str(error.value).replace("password", "")


def test_settings_that_do_not_go_together() -> None:
    server = GenerationSettings(engine="server")
    with pytest.raises(ValueError, match="sampling_weights is half; leave it at own"):
        PeerConfig("a/b", quantization="none", sampling_weights="half", generation=server)
    never = GRPO(off_policy="never")
    check_off_policy({"a": PeerConfig("a/b", generation=server)}, GRPO())  # corrected for
    with pytest.raises(ValueError, match=r"peers\.a\.quantization is nf4 and generation\.engine server has plain weights"):
        check_off_policy({"a": PeerConfig("a/b", generation=server)}, never)
    nucleus = PeerConfig("a/b", quantization="none", generation=dataclasses.replace(server, top_p=0.9))
    with pytest.raises(ValueError, match=r"peers\.a\.generation\.top_p is 0\.9 and nothing corrects"):
        check_off_policy({"a": nucleus}, never)
    check_off_policy({"a": PeerConfig("a/b")}, never)


def test_a_nucleus_and_what_it_leaves_out(
    served: ServedModel, settings: Callable[..., GenerationSettings], llama_folder: Path
) -> None:
    """Log-probabilities are the nucleus's; the policy's own are lower by the mass that it holds, which is the mean ratio."""
    generation = dataclasses.replace(settings(tolerance=1e-3), top_p=0.7)
    peer = make_peer(llama_folder, generation=generation)
    sampled = peer.sample(PROMPTS, SEEDS)
    examples, masses = [], []
    for prompt, group in zip(PROMPTS, sampled, strict=True):
        for c in group:
            examples.append(Example(prompt, c.token_ids, advantage=1.0, sampled_logprobs=c.logprobs))
            with torch.no_grad(), peer.policy():
                logits = naive_logits(peer.network, [*prompt, *c.token_ids])[len(prompt) - 1 : -1].double() / 0.8
            for row in torch.softmax(logits, -1):
                masses.append(float(sum(p for p in row if row[row > p].sum() < 0.7)))
    frozen = freeze(peer, examples, need_old=False, need_reference=False)
    report = accumulate(peer, frozen, GRPO(beta=0.0), CreditSettings(), torch.Tensor.backward)
    assert report["off_policy_ratio"] == pytest.approx(sum(masses) / len(masses), abs=1e-4)
    assert 0.7 <= report["off_policy_ratio"] < 1
    # All ratios are 1 in the surrogate, so the loss is minus the mean over traces of each one's mean weight.
    each = iter(masses)
    means = [sum(next(each) for _ in e.token_ids) / len(e.token_ids) for e in examples]
    assert report["loss"] == pytest.approx(-sum(means) / len(means), abs=1e-4)
    uncorrected = accumulate(peer, frozen, GRPO(beta=0.0, off_policy="never"), CreditSettings(), torch.Tensor.backward)
    assert uncorrected["loss"] == pytest.approx(-1.0, abs=1e-4)
