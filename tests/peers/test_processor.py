"""What follows from how a processor multiplies bfloat16, on either kind of processor, whichever this one is."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from core_lightning.peers.compute.processor import VARIABLE, _has_bfloat16, native_bfloat16, onednn_types
from core_lightning.peers.compute.products import frozen_linear, has_half_kernel, has_kernel, product_type
from core_lightning.peers.config import PeerConfig
from core_lightning.peers.loading import compute_dtype
from naive import Scored, make_peer

CPU = torch.device("cpu")
PROMPTS, SEEDS = [[5, 6, 7] * 4, [8, 9, 10]], [[1, 2], [3, 4]]


def test_what_is_told_holds_and_everything_follows(bfloat16: str) -> None:
    native = bfloat16 == "native"
    assert native_bfloat16() == native
    expected = torch.bfloat16 if native else torch.float32
    assert product_type(torch.bfloat16, CPU) == expected
    assert compute_dtype(PeerConfig("any"), CPU) == expected
    assert product_type(torch.float32, CPU) == torch.float32
    assert product_type(torch.bfloat16, torch.device("cuda")) == torch.bfloat16  # asked of the processor alone
    weight = torch.zeros(2, 2, dtype=torch.bfloat16)
    assert has_kernel(weight) == (native and torch.bfloat16 in onednn_types())
    assert has_kernel(weight.float()) == (torch.float32 in onednn_types())
    # float16 copies are for what is multiplied in float32.
    assert has_half_kernel(weight) == (not native and has_half_kernel(weight.float()))


def test_the_processor_answers_where_nobody_else_does(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    assert native_bfloat16() == _has_bfloat16()
    assert not _has_bfloat16() or torch.bfloat16 in onednn_types()
    monkeypatch.setenv(VARIABLE, "fast")
    with pytest.raises(ValueError, match="CORE_LIGHTNING_BFLOAT16 is 'fast'; set it to native or emulated"):
        native_bfloat16()


def test_sums_are_rounded_once_where_products_are_emulated(bfloat16: str) -> None:
    """The result is then the nearest bfloat16, whatever the processor; native sums may be off by their own rounding."""
    torch.manual_seed(0)
    x, weight = torch.randn(5, 512).bfloat16(), torch.randn(9, 512).bfloat16()
    nearest = (x.double() @ weight.double().T).float().bfloat16()
    if bfloat16 == "emulated":
        assert torch.equal(frozen_linear(x, weight), nearest)
    torch.testing.assert_close(frozen_linear(x, weight), nearest, atol=0.2, rtol=0.02)


@pytest.mark.parametrize("copies", ["own", "dense", "half"])
@pytest.mark.parametrize("quantization", ["none", "nf4"])
def test_a_peer_samples_scores_and_learns(llama_folder: Path, bfloat16: str, copies: str, quantization: str) -> None:
    peer = make_peer(llama_folder, dtype="auto", quantization=quantization, sampling_weights=copies)
    native = bfloat16 == "native"
    assert peer.head.weight.dtype == (torch.bfloat16 if native else torch.float32)
    sampled = peer.sample(PROMPTS, SEEDS)
    drawn = [(Scored(p, c.token_ids), c.logprobs) for p, group in zip(PROMPTS, sampled, strict=True) for c in group]
    logprobs, _, mask = peer.logprobs([s for s, _ in drawn])
    noted = torch.tensor([x for _, values in drawn for x in values])
    # Activations of 8 bits are rounded another way in another batch; see test_rollout_weights.py for the bound of float16.
    assert (logprobs[mask].detach() - noted).abs().mean() < (0.1 if native else 5e-3)
    logprobs.sum().backward()
    gradients = [p.grad for p in peer.adapter_parameters().values()]
    assert all(g is not None and g.dtype == torch.float32 and g.isfinite().all() for g in gradients)
    assert any(g.abs().sum() > 0 for g in gradients)
