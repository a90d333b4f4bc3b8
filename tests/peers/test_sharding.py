"""A base whose layers are sharded computes what it computed whole: samples, scores, and the adapter's gradient."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import distributed, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import DTensor

import families
import tiny
from core_lightning.peers import GenerationSettings, LoraSettings, Peer
from core_lightning.peers.compute.sharding import ShardedLayers
from core_lightning.peers.peer import Scored
from core_lightning.peers.turns import Turns
from naive import make_peer

PROMPTS = [[5, 6, 7, 8], [9, 10, 11]]
SEEDS = [[1, 2], [3]]
#: Everything between the layers: attention, windows, experts, states, other norms; a tower beside the text; dropout.
MODELS = ["llama", "gemma3", "mistral3", "gpt2", "qwen3_moe", "falcon_h1", "qwen3_next"]


@pytest.fixture
def turns() -> Iterator[Turns]:
    """As in a run of one process: layers are taken apart and put together as in one of many."""
    distributed.init_process_group("gloo", store=distributed.HashStore(), rank=0, world_size=1)
    yield Turns(torch.device("cpu"))
    distributed.destroy_process_group()


def model(folder: Path, name: str, **options: object) -> Peer:
    of_family = name in families.FAMILIES and name != "llama"
    targets = list(families.FAMILIES[name].targets) if of_family else "all-linear"
    made = families.save(folder, name) if of_family else getattr(tiny, f"save_{name}")(folder)
    peer = make_peer(
        made, lora=LoraSettings(r=2, targets=targets), generation=GenerationSettings(max_new_tokens=6, temperature=1.0), **options
    )
    for i, weight in enumerate(peer.adapter_parameters().values()):
        weight.data += 0.05 * torch.randn(weight.shape, generator=torch.Generator().manual_seed(i))
    return peer


def shard(peer: Peer, turns: Turns) -> None:
    peer.shards = turns.add(peer, ShardedLayers(peer.backbone, init_device_mesh("cpu", (1,))))


def scored(peer: Peer, rows: list[Scored]) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    logprobs = peer.logprobs(rows)[0]
    (logprobs * torch.linspace(0.5, 1.5, len(rows))[:, None]).sum().backward()
    gradient = {n: p.grad for n, p in peer.adapter_parameters().items() if p.grad is not None}
    for parameter in peer.adapter_parameters().values():
        parameter.grad = None
    return logprobs.detach(), gradient


@pytest.mark.parametrize(("name", "options"), [*((n, {}) for n in MODELS), ("llama", {"gradient_checkpointing": True})])
def test_sharded_equals_whole(tmp_path: Path, turns: Turns, name: str, options: dict[str, object]) -> None:
    peer = model(tmp_path, name, **options)
    drawn = peer.draw(PROMPTS, SEEDS, peer.generation)
    rows = [Scored(p, s.token_ids) for p, group in zip(PROMPTS, drawn, strict=True) for s in group]
    logprobs, gradient = scored(peer, rows)
    shard(peer, turns)
    for _ in range(2):  # what was put together once is put together again
        now, gradient_now = scored(peer, rows)
        torch.testing.assert_close(now, logprobs, atol=1e-5, rtol=0)
        assert gradient_now.keys() == gradient.keys()
        largest = max(float(g.abs().max()) for g in gradient.values())
        for n, g in gradient.items():
            torch.testing.assert_close(gradient_now[n], g, atol=2e-5 * largest, rtol=0)
        sampled = peer.draw(PROMPTS, SEEDS, peer.generation)
        for group, given in zip(sampled, PROMPTS, strict=True):
            for s in group:  # drawn from the network that scores them, whatever was drawn
                with torch.no_grad():
                    own = peer.logprobs([Scored(given, s.token_ids)])[0][0]
                torch.testing.assert_close(torch.tensor(s.logprobs), own, atol=1e-4, rtol=0)


def test_what_is_in_parts_and_what_is_whole(tmp_path: Path, turns: Turns) -> None:
    peer = model(tmp_path, "llama")
    names = [n for n, _ in peer.network.named_parameters()]
    adapter = peer.adapter_parameters()
    shard(peer, turns)
    apart = {n for n, p in peer.network.named_parameters() if isinstance(p, DTensor)}
    assert [n for n, _ in peer.network.named_parameters()] == names
    assert apart == {n for n in names if ".layers." in n and "lora_" not in n}
    assert all(p is adapter[n] for n, p in peer.adapter_parameters().items())
    assert not isinstance(peer.head.weight, DTensor)
    with peer.shards.whole():
        assert not any(isinstance(p, DTensor) for p in peer.network.parameters())
    assert {n for n, p in peer.network.named_parameters() if isinstance(p, DTensor)} == apart


def test_a_pass_for_others_leaves_no_trace(tmp_path: Path, turns: Turns) -> None:
    peer = model(tmp_path, "llama")
    shard(peer, turns)
    parameters = list(peer.adapter_parameters().values())
    parameters[0].grad = torch.ones_like(parameters[0])
    peer.training_mode = True
    state = torch.get_rng_state()
    for kind in range(3):
        peer.shards.empty_pass(kind)
    assert torch.equal(torch.get_rng_state(), state)
    assert peer.training_mode is True
    assert bool((parameters[0].grad == 1).all())
    assert all(p.grad is None for p in parameters[1:])
    assert peer.network.active_adapter == "peer_a"


class Body(nn.Module):
    """Layers that cannot be sharded."""

    def __init__(self, *layers: nn.Module) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)


def layer(weight: torch.Tensor) -> nn.Module:
    from transformers.modeling_layers import GradientCheckpointingLayer

    made = GradientCheckpointingLayer()
    made.weight = nn.Parameter(weight, requires_grad=False)
    return made


def test_layers_that_cannot_be_sharded(turns: Turns) -> None:
    mesh = init_device_mesh("cpu", (1,))
    shared = layer(torch.ones(2, 2))
    twin = layer(torch.ones(2, 2))
    twin.weight = shared.weight
    for body, line in (
        (Body(nn.Linear(2, 2)), "has no layers that are known"),
        (Body(shared, twin), "shares weights between its layers"),
        (Body(layer(torch.ones(2, 2, dtype=torch.uint8))), "is stored packed"),
    ):
        with pytest.raises(ValueError, match=f"^{line}"):
            ShardedLayers(body, mesh)
