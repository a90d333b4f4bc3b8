"""Sampling from copies of the weights is sampling from the weights, and leaves no trace."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

from core_lightning.peers import LoraSettings, Peer
from core_lightning.peers.compute.head import LogitHead, half_head
from core_lightning.peers.compute.processor import VARIABLE
from core_lightning.peers.compute.products import half, has_half_kernel
from naive import Scored, alike_until, learn, make_peer, wake_adapter

PROMPTS, SEEDS = [[5, 6, 7] * 4, [8, 9, 10]], [[1, 2], [3, 4]]
#: A float16 weight is rounded by 5e-4 of itself, and logits of these random models are some tens.
ROUNDING = 0.02
TARGETS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


def pair(folder: Path, weights: str, **options: object) -> tuple[Peer, Peer]:
    return make_peer(folder, **options), make_peer(folder, sampling_weights=weights, **options)


def replaced(peer: Peer) -> list[nn.Module]:
    return [m for m in peer.network.modules() if "forward" in vars(m)]


@pytest.mark.parametrize("kind", ["llama", "gemma3", "neox"])
@pytest.mark.parametrize("quantization", ["none", "nf4"])
def test_dense_copies_give_the_same_completions(
    tiny_folder: Callable[[str], Path], kind: str, quantization: str
) -> None:
    own, copied = pair(tiny_folder(kind), "dense", quantization=quantization)
    groups = zip(PROMPTS, SEEDS, own.sample(PROMPTS, SEEDS), copied.sample(PROMPTS, SEEDS), strict=True)
    for prompt, seeds, ones, others in groups:
        for seed, one, other in zip(seeds, ones, others, strict=True):
            same = alike_until(own, prompt, seed, one.token_ids, other.token_ids)
            torch.testing.assert_close(one.logprobs[:same], other.logprobs[:same], atol=1e-4, rtol=1e-5)


@pytest.mark.parametrize("kind", ["llama", "gemma3", "neox"])
@pytest.mark.parametrize(
    ("options", "processor"),
    [({}, ""), ({"quantization": "nf4"}, ""), ({"dtype": "bfloat16"}, "native"), ({"dtype": "bfloat16"}, "emulated")],
    ids=["float32", "nf4", "bf16-native", "bf16-emulated"],
)
def test_what_half_copies_sampled_is_scored_alike(
    tiny_folder: Callable[[str], Path],
    kind: str,
    options: dict[str, str],
    processor: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Rounding may turn a close draw, so tokens are not compared: the probability they were drawn with is."""
    monkeypatch.setenv(VARIABLE, processor)
    own, copied = pair(tiny_folder(kind), "half", **options)
    if options.get("dtype") == "bfloat16":
        # How far bfloat16 itself is off hangs on the model: that is the measure, taken from products in float32.
        exact = make_peer(tiny_folder(kind))
        for weight in exact.network.parameters():
            if not weight.requires_grad:
                weight.data = weight.data.bfloat16().float()
        assert agreement(exact, copied) < 2 * agreement(exact, own) + ROUNDING
        assert agreement(exact, own) < 1
    else:
        assert agreement(own, copied) < ROUNDING


def agreement(own: Peer, copied: Peer) -> float:
    """Largest difference between the log-probabilities a peer sampled with and those another one scores them with."""
    drawn = [(p, c) for p, cs in zip(PROMPTS, copied.sample(PROMPTS, SEEDS), strict=True) for c in cs]
    with torch.no_grad():
        scored = own.logprobs([Scored(p, c.token_ids) for p, c in drawn])[0]
    differences = [
        (row[: len(c.logprobs)] - torch.tensor(c.logprobs)).abs().max()
        for row, (_, c) in zip(scored, drawn, strict=True)
    ]
    return float(torch.stack(differences).max())


@pytest.mark.parametrize("weights", ["dense", "half"])
def test_layers_that_read_the_same_run_as_one_and_come_back(llama_folder: Path, weights: str) -> None:
    peer = make_peer(llama_folder, sampling_weights=weights, lora=LoraSettings(r=4, targets=TARGETS))
    before = {m: vars(m)["forward"] for m in replaced(peer)}
    x = torch.randn(2, 3, 32)
    attention = peer.network.get_base_model().base_model.layers[0].self_attn
    projections = (attention.q_proj, attention.k_proj, attention.v_proj)
    with torch.no_grad():
        expected = [layer(x) for layer in projections]
        with peer.policy(), peer.sampling_weights():
            got = [layer(x) for layer in projections]
            assert got[0]._base is got[1]._base is got[2]._base is not None  # views of one product
    torch.testing.assert_close(got, expected, atol=2e-3, rtol=2e-3)
    assert {m: vars(m)["forward"] for m in replaced(peer)} == before


def test_kept_copies_follow_the_adapter(llama_folder: Path) -> None:
    own, copied = pair(llama_folder, "half", lora=LoraSettings(r=4, targets=TARGETS))
    copied.sample(PROMPTS, SEEDS)
    wake_adapter(copied, seed=5)
    assert agreement(own, copied) > 0.1
    wake_adapter(own, seed=5)
    assert agreement(own, copied) < ROUNDING


def test_adapter_off_is_the_base(llama_folder: Path) -> None:
    peer = make_peer(llama_folder, sampling_weights="dense", lora=LoraSettings(r=4, targets=TARGETS))
    ids = torch.tensor([[5, 6, 7]])
    with torch.no_grad(), peer.policy("reference"):
        expected = peer.network(input_ids=ids).logits
        with peer.sampling_weights(adapter=False):
            torch.testing.assert_close(peer.network(input_ids=ids).logits, expected, atol=1e-4, rtol=1e-4)


def test_a_peer_learns_after_it_sampled_from_copies(llama_folder: Path) -> None:
    own, copied = pair(llama_folder, "half")
    copied.sample(PROMPTS, SEEDS)
    for peer in (own, copied):
        learn(peer, [Scored([5, 6], [7, 8])], lr=1e-2)
    for a, b in zip(own.adapter_parameters().values(), copied.adapter_parameters().values(), strict=True):
        torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-4)


needs_half = pytest.mark.skipif(not has_half_kernel(torch.zeros(1, 1)), reason="no float16 kernel on this processor")


@needs_half
@pytest.mark.parametrize("biased", [False, True])
@pytest.mark.parametrize("stored", [torch.float32, torch.bfloat16])
def test_half_products_equal_float64_products_of_the_rounded_weight(biased: bool, stored: torch.dtype) -> None:
    torch.manual_seed(0)
    weight, x = (torch.randn(70, 33) * 0.1).to(stored), torch.randn(2, 5, 33)
    bias = torch.randn(70) if biased else None
    oracle = x.double() @ weight.half().double().T + (0.0 if bias is None else bias.double())
    torch.testing.assert_close(half(weight, bias)(x).double(), oracle, atol=1e-5, rtol=1e-5)


@needs_half
def test_weights_of_16_bits_keep_their_value() -> None:
    """bfloat16 has fewer digits than float16, which only ends sooner: nothing above 6e-5 in size is rounded."""
    weight = torch.logspace(-4, 4, 400).to(torch.bfloat16)[:, None]
    assert torch.equal(half(weight)(torch.ones(1, 1))[0], weight[:, 0].float())


@needs_half
@pytest.mark.parametrize("rows", [1, 70])
def test_a_half_head_is_the_head(rows: int) -> None:
    torch.manual_seed(0)
    head = LogitHead(torch.randn(1000, 16), torch.randn(1000), scale=0.5, softcap=3.0)
    hidden, halved = torch.randn(rows, 16), half_head(head)
    logits = torch.cat([halved.logits(hidden, tile) for tile in halved.tiles(rows)], dim=1)
    torch.testing.assert_close(logits, head.logits(hidden), atol=5e-3, rtol=5e-3)
