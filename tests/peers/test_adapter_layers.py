"""An adapter as one node of the graph gives the values and gradients of PEFT's own layers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

from core_lightning.peers.compute.adapter_layers import merge_nodes
from core_lightning.peers.compute.processor import VARIABLE
from naive import make_peer

IDS = torch.tensor([[5, 6, 7, 8], [9, 10, 11, 12]])


def layers(network: nn.Module) -> list[nn.Module]:
    return [m for m in network.modules() if "forward" in vars(m)]


def run(network: nn.Module, parameters: list[nn.Parameter]) -> tuple[torch.Tensor, ...]:
    logits = network(input_ids=IDS).logits.float()
    pull = torch.randn(logits.shape, generator=torch.Generator().manual_seed(0))
    return (logits.detach(), *torch.autograd.grad((logits * pull).sum(), parameters))


@pytest.mark.parametrize("kind", ["llama", "gemma3", "phi3"])
@pytest.mark.parametrize(
    ("options", "processor", "tolerance"),
    [
        ({}, "", 1e-4),
        ({"quantization": "nf4"}, "", 1e-4),
        ({"dtype": "bfloat16"}, "native", 0.1),
        ({"dtype": "bfloat16"}, "emulated", 0.1),
    ],
    ids=["float32", "nf4", "bf16-native", "bf16-emulated"],
)
def test_values_and_gradients_are_those_of_peft(
    tiny_folder: Callable[[str], Path],
    kind: str,
    options: dict[str, str],
    processor: str,
    tolerance: float,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv(VARIABLE, processor)
    peer = make_peer(tiny_folder(kind), **options)
    parameters = list(peer.adapter_parameters().values())
    with peer.policy():
        ours = run(peer.network, parameters)
        with torch.no_grad():
            sampled = peer.network(input_ids=IDS).logits.float()
        merged = layers(peer.network)
        assert merged
        for layer in merged:
            del layer.forward
        theirs = run(peer.network, parameters)
    for a, b in zip((sampled, *ours), (theirs[0], *theirs), strict=True):
        assert (a - b).norm() <= tolerance * b.norm()


def test_adapter_off_and_a_second_call(llama_folder: Path) -> None:
    peer = make_peer(llama_folder)
    merge_nodes(peer.network)  # again: layers that run this way already stay as they are
    ids = torch.tensor([[5, 6, 7]])
    with torch.no_grad(), peer.policy("reference"):
        ours = peer.network(input_ids=ids).logits
        for layer in layers(peer.network):
            del layer.forward
        torch.testing.assert_close(ours, peer.network(input_ids=ids).logits, atol=1e-4, rtol=1e-4)
