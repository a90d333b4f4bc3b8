from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM

from core_lightning.peers import LoraSettings, Peer, PeerConfig
from core_lightning.training.team import load_peers
from naive import CPU, Scored, learn, make_peer, naive_logits, wake_adapter

SCORED = [Scored([5, 6, 7] * n, [9, 10, 30 + n, 2]) for n in (1, 2, 3)]


def plain_base(folder: Path, dtype: torch.dtype = torch.float32) -> torch.nn.Module:
    return AutoModelForCausalLM.from_pretrained(folder, dtype=dtype).eval()


def base_logprobs(network: torch.nn.Module, temperature: float) -> torch.Tensor:
    with torch.no_grad():
        rows = []
        for s in SCORED:
            logits = naive_logits(network, s.prompt_ids + s.token_ids)[len(s.prompt_ids) - 1 : -1] / temperature
            rows.append(logits.log_softmax(-1).gather(1, torch.tensor(s.token_ids)[:, None])[:, 0])
        return torch.stack(rows)


def loss_gradients(peer: Peer) -> dict[str, torch.Tensor]:
    peer.zero_grad()
    logprobs, entropy, _ = peer.logprobs(SCORED, entropy_grad=True)
    (torch.tensor([1.0, -2.0, 0.5]) @ (logprobs + entropy).sum(1)).backward()
    return {n: p.grad.clone() for n, p in peer.adapter_parameters().items()}


@pytest.mark.parametrize("kind", ["llama", "neox"])
def test_the_reference_is_the_plain_base_model(tiny_folder: Callable[[str], Path], kind: str) -> None:
    peer = make_peer(tiny_folder(kind))
    expected = base_logprobs(plain_base(tiny_folder(kind)), peer.config.generation.temperature)
    with torch.no_grad():
        reference = peer.logprobs(SCORED, "reference")[0]
        own = peer.logprobs(SCORED)[0]
        again = peer.logprobs(SCORED, "reference")[0]
    torch.testing.assert_close(reference, expected, atol=1e-4, rtol=1e-4)
    assert torch.equal(reference, again)
    assert (own - reference).abs().max() > 0.01


def test_a_fresh_adapter_changes_nothing(llama_folder: Path) -> None:
    peer = make_peer(llama_folder, wake=False)
    with torch.no_grad():
        assert torch.equal(peer.logprobs(SCORED)[0], peer.logprobs(SCORED, "reference")[0])


@pytest.mark.parametrize("kind", ["llama", "neox"])
def test_a_saved_adapter_loads_onto_the_plain_base_and_acts_as_the_peer(
    tiny_folder: Callable[[str], Path], tmp_path: Path, kind: str
) -> None:
    peer = make_peer(tiny_folder(kind))
    peer.save_adapter(tmp_path / "adapter")
    assert {f.name for f in (tmp_path / "adapter").iterdir()} >= {"adapter_config.json", "adapter_model.safetensors"}
    plain = base_logprobs(plain_base(tiny_folder(kind)), 0.8)
    adapted = base_logprobs(PeftModel.from_pretrained(plain_base(tiny_folder(kind)), tmp_path / "adapter").eval(), 0.8)
    with torch.no_grad():
        own = peer.logprobs(SCORED)[0]
    torch.testing.assert_close(adapted, own, atol=1e-4, rtol=1e-4)
    assert (adapted - plain).abs().max() > 0.01


def test_a_peer_that_starts_from_an_adapter_is_kept_near_it(llama_folder: Path, tmp_path: Path) -> None:
    first = make_peer(llama_folder)
    first.save_adapter(tmp_path / "start")
    peer = make_peer(llama_folder, wake=False, adapter=str(tmp_path / "start"))
    with torch.no_grad():
        trained = first.logprobs(SCORED)[0]
        torch.testing.assert_close(peer.logprobs(SCORED)[0], trained, atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(peer.logprobs(SCORED, "reference")[0], trained, atol=1e-4, rtol=1e-4)
    grads = loss_gradients(peer)
    assert set(grads) == set(first.adapter_parameters())  # the frozen copy is not among them
    assert any(g.abs().sum() > 0 for g in grads.values())
    wake_adapter(peer, seed=1)
    with torch.no_grad():
        torch.testing.assert_close(peer.logprobs(SCORED, "reference")[0], trained, atol=1e-4, rtol=1e-4)
        assert (peer.logprobs(SCORED)[0] - trained).abs().max() > 0.01
    frozen = [p for n, p in peer.network.named_parameters() if "__reference" in n]
    assert frozen
    assert not any(p.requires_grad or p.grad is not None for p in frozen)


@pytest.mark.parametrize(
    ("quantization", "dtype"), [("none", "bfloat16"), ("none", "float16"), ("nf4", "bfloat16"), ("nf4", "float32")]
)
@pytest.mark.parametrize("start", [False, True])
def test_adapters_are_float32_on_any_base_and_learn(
    llama_folder: Path, tmp_path: Path, quantization: str, dtype: str, start: bool
) -> None:
    options: dict[str, object] = {"quantization": quantization, "dtype": dtype}
    if start:
        make_peer(llama_folder).save_adapter(tmp_path)
        options["adapter"] = str(tmp_path)
    peer = make_peer(llama_folder, wake=False, **options)
    parameters = peer.adapter_parameters()
    assert {p.dtype for p in parameters.values()} == {torch.float32}
    assert all(p.requires_grad for p in parameters.values())
    trainable = {id(p) for p in peer.network.parameters() if p.requires_grad}
    assert trainable == {id(p) for p in parameters.values()}
    values = learn(peer, SCORED, lr=1e-3)
    assert values == sorted(values)
    assert values[-1] > values[0] + 1e-3


def test_nf4_stores_four_bits(llama_folder: Path) -> None:
    peer = make_peer(llama_folder, quantization="nf4")
    layers = [m for m in peer.network.modules() if type(getattr(m, "weight", None)).__name__ == "Params4bit"]
    assert layers
    for layer in layers:
        assert layer.weight.dtype == torch.uint8
        assert layer.weight.numel() * 2 == layer.weight.quant_state.shape.numel()
        assert layer.weight.quant_state.quant_type == "nf4"
    exact = make_peer(llama_folder)
    with torch.no_grad():
        difference = (peer.logprobs(SCORED, "reference")[0] - exact.logprobs(SCORED, "reference")[0]).abs().max()
    assert difference > 0.01  # it really is quantized


def test_peers_on_one_base_learn_apart(llama_folder: Path) -> None:
    alone = make_peer(llama_folder, "b", lora=LoraSettings(r=4))
    config = alone.config
    peers = load_peers({"a": config, "b": config}, CPU, share_base=True)
    a, b = peers["a"], peers["b"]
    assert isinstance(a, Peer)
    assert isinstance(b, Peer)
    assert a.network.get_base_model() is b.network.get_base_model()
    adapter = sum(p.numel() for p in b.adapter_parameters().values())
    total = sum(p.numel() for p in {id(p): p for peer in (a, b) for p in peer.network.parameters()}.values())
    assert total == sum(p.numel() for p in alone.network.parameters()) + adapter
    assert {p.dtype for p in b.adapter_parameters().values()} == {torch.float32}
    assert not {id(p) for p in a.adapter_parameters().values()} & {id(p) for p in b.adapter_parameters().values()}

    wake_adapter(a, 1)
    wake_adapter(b, 2)
    with torch.no_grad():
        before = {"a": a.logprobs(SCORED)[0], "b": b.logprobs(SCORED)[0]}
        torch.testing.assert_close(*(p.logprobs(SCORED, "reference")[0] for p in (a, b)), atol=1e-4, rtol=1e-4)
    assert (before["a"] - before["b"]).abs().max() > 0.01

    loss_gradients(a)
    assert all(p.grad is None for p in b.adapter_parameters().values())
    torch.optim.SGD(a.adapter_parameters().values(), lr=0.1).step()
    with torch.no_grad():
        assert torch.equal(b.logprobs(SCORED)[0], before["b"])
        assert (a.logprobs(SCORED)[0] - before["a"]).abs().max() > 1e-3

    # As alone: the same adapter on a base of its own has the same gradient.
    with torch.no_grad():
        for name, weight in alone.adapter_parameters().items():
            weight.copy_(b.adapter_parameters()[name])
    shared, own = loss_gradients(b), loss_gradients(alone)
    assert all(torch.equal(shared[n], own[n]) for n in own)


def test_bases_are_shared_only_when_they_are_the_same(llama_folder: Path, neox_folder: Path) -> None:
    def config(folder: Path, **options: str) -> PeerConfig:
        return PeerConfig(
            str(folder), **({"quantization": "none"} | options), lora=LoraSettings(r=2, targets="all-linear")
        )

    configs = {
        "a": config(llama_folder),
        "b": config(neox_folder),
        "c": config(llama_folder, quantization="nf4"),
        "d": config(llama_folder, dtype="bfloat16"),
        "e": config(llama_folder),
    }
    peers = load_peers(configs, CPU, share_base=True)
    assert len({id(p.network.get_base_model()) for p in peers.values()}) == 4
    apart = load_peers({"a": configs["a"], "e": configs["e"]}, CPU, share_base=False)
    assert apart["a"].network.get_base_model() is not apart["e"].network.get_base_model()


def passes_in_backward(peer: Peer) -> int:
    """How often the first layer runs again while gradients are computed."""
    logprobs, _, _ = peer.logprobs(SCORED)
    norm = next(m for n, m in peer.network.named_modules() if n.endswith("layers.0.input_layernorm"))
    passes: list[int] = []
    hook = norm.register_forward_hook(lambda *_: passes.append(1))
    logprobs.sum().backward()
    hook.remove()
    return len(passes)


@pytest.mark.parametrize("kind", ["llama", "neox", "gemma3"])
def test_gradient_checkpointing_recomputes_and_changes_nothing(tiny_folder: Callable[[str], Path], kind: str) -> None:
    plain = make_peer(tiny_folder(kind))
    thrifty = make_peer(tiny_folder(kind), gradient_checkpointing=True)
    assert (passes_in_backward(plain), passes_in_backward(thrifty)) == (0, 1)
    expected, gradients = loss_gradients(plain), loss_gradients(thrifty)
    for name, gradient in gradients.items():
        torch.testing.assert_close(gradient, expected[name], atol=1e-4, rtol=1e-3)
    # A rollout in between keeps its cache, and the next loss is recomputed again.
    prompts, seeds = [[5, 6, 7]], [[1, 2]]
    assert [c.token_ids for c in thrifty.sample(prompts, seeds)[0]] == [
        c.token_ids for c in plain.sample(prompts, seeds)[0]
    ]
    assert all(torch.equal(g, gradients[n]) for n, g in loss_gradients(thrifty).items())


def test_adapter_dropout_and_gradient_checkpointing_go_together(llama_folder: Path) -> None:
    peer = make_peer(llama_folder, gradient_checkpointing=True, lora=LoraSettings(r=4, dropout=0.5))
    torch.manual_seed(3)
    recomputed = loss_gradients(peer)
    peer.network.get_base_model().gradient_checkpointing_disable()
    torch.manual_seed(3)
    kept = loss_gradients(peer)
    # Dropout is on in the loss, the same noise in the recomputation, and off everywhere else.
    for name, gradient in kept.items():
        torch.testing.assert_close(recomputed[name], gradient, atol=1e-4, rtol=1e-3)
    torch.manual_seed(4)
    assert any((loss_gradients(peer)[n] - g).abs().max() > 1e-3 for n, g in kept.items())
    with torch.no_grad():
        assert torch.equal(peer.logprobs(SCORED)[0], peer.logprobs(SCORED)[0])


def test_moving_the_whole_module_leaves_a_peer_as_it_is(llama_folder: Path) -> None:
    peer = make_peer(llama_folder)
    torch.nn.ModuleDict({"a": peer}).to(torch.bfloat16)
    assert {p.dtype for p in peer.network.parameters()} == {torch.float32}
