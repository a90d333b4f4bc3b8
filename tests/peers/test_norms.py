"""Norms as one kernel compute what the model's own do, forwards and backwards."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

from core_lightning.peers.compute.norms import fuse_norms
from naive import make_peer


def norms(network: nn.Module) -> list[nn.Module]:
    return [m for m in network.modules() if type(m).__name__.endswith("RMSNorm")]


@pytest.mark.parametrize(("kind", "count"), [("llama", 5), ("mistral3", 5), ("phi3", 5), ("gemma3", 0), ("neox", 0)])
def test_values_and_gradients(tiny_folder: Callable[[str], Path], kind: str, count: int) -> None:
    network = make_peer(tiny_folder(kind)).network
    layers = [m for m in norms(network) if "vision" not in str(type(m)).lower() and "Pixtral" not in type(m).__name__]
    generator = torch.Generator().manual_seed(0)
    inputs, own = {}, {}
    for layer in layers:
        with torch.no_grad():
            layer.weight.copy_(torch.randn(layer.weight.shape, generator=generator))
        x = torch.randn(3, 5, len(layer.weight), generator=generator).requires_grad_()
        own[layer] = (layer(x), torch.autograd.grad(layer(x).square().sum(), x)[0])
        inputs[layer] = x
    kept = [layer.weight.clone() for layer in layers]
    fuse_norms(network)
    fused = [layer for layer in layers if "forward" in vars(layer)]
    assert len(fused) >= count
    assert count or not fused
    for layer, weight in zip(layers, kept, strict=True):
        x = inputs[layer]
        assert torch.equal(layer.weight, weight)
        torch.testing.assert_close(layer(x), own[layer][0], rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(
            torch.autograd.grad(layer(x).square().sum(), x)[0], own[layer][1], rtol=1e-4, atol=1e-4
        )


def test_a_norm_that_computes_something_else_keeps_its_own() -> None:
    class OddRMSNorm(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.ones(4))
            self.variance_epsilon = 1e-6

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return (1 + self.weight) * x

    class GatedRMSNorm(OddRMSNorm):
        def forward(self, x: torch.Tensor, gate: torch.Tensor) -> torch.Tensor:  # type: ignore[override]
            return x * gate

    network = nn.ModuleList([OddRMSNorm(), GatedRMSNorm()])
    fuse_norms(network)
    assert not any("forward" in vars(layer) for layer in network)
