from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from core_lightning.peers.compute import head as head_module
from core_lightning.peers.compute.head import LogitHead
from core_lightning.peers.scoring.token_logprobs import token_logprobs
from naive import Scored, make_peer, naive_logprobs

HEADS = {
    "plain": {},
    "bias": {"bias": True},
    "softcap": {"softcap": 3.0},
    "scale": {"scale": 0.25},
    "all": {"bias": True, "softcap": 2.0, "scale": 1.7},
}


def make_head(vocabulary: int, width: int, *, bias: bool = False, **options: Any) -> LogitHead:
    generator = torch.Generator().manual_seed(1)
    weight = torch.randn(vocabulary, width, generator=generator)
    return LogitHead(weight, torch.randn(vocabulary, generator=generator) if bias else None, **options)


def full(hidden: torch.Tensor, targets: torch.Tensor, head: LogitHead, temperature: float) -> tuple[torch.Tensor, ...]:
    """Everything in float64, with the whole matrix of logits, differentiated by autograd."""
    logits = hidden @ head.weight.double().T
    if head.bias is not None:
        logits = logits + head.bias.double()
    logits = logits * head.scale
    if head.softcap is not None:
        logits = head.softcap * torch.tanh(logits / head.softcap)
    logp = torch.log_softmax(logits / temperature, -1)
    return logp.gather(1, targets[:, None])[:, 0], -(logp.exp() * logp).sum(-1)


@pytest.mark.parametrize("columns", [1, 7, 25, 1000])
@pytest.mark.parametrize("temperature", [1.0, 0.6])
@pytest.mark.parametrize("options", HEADS.values(), ids=HEADS)
def test_values_and_gradients_are_those_of_autograd(
    options: dict[str, Any], temperature: float, columns: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    n, width, vocabulary = 13, 6, 50
    monkeypatch.setattr(head_module, "TILE_ELEMENTS", columns * n)
    monkeypatch.setattr(head_module, "_NARROWEST", 1)
    head = make_head(vocabulary, width, **options)
    generator = torch.Generator().manual_seed(2)
    hidden = torch.randn(n, width, generator=generator)
    targets = torch.randint(vocabulary, (n,), generator=generator)
    # Any weights on both outputs, so that neither gradient hides behind the other.
    a, b = torch.randn(2, n, generator=generator)

    ours = hidden.clone().requires_grad_()
    logprobs, entropy = token_logprobs(ours, targets, head, temperature, entropy_grad=True)
    (a @ logprobs + b @ entropy).backward()
    exact = hidden.double().requires_grad_()
    expected, expected_entropy = full(exact, targets, head, temperature)
    (a.double() @ expected + b.double() @ expected_entropy).backward()

    torch.testing.assert_close(logprobs.double(), expected, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(entropy.double(), expected_entropy, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(ours.grad.double(), exact.grad, atol=2e-5, rtol=1e-4)

    # Without it the entropy is a constant.
    ours.grad = None
    logprobs, entropy = token_logprobs(ours, targets, head, temperature)
    assert not entropy.requires_grad
    (a @ logprobs).backward()
    only = torch.autograd.grad(a.double() @ full(exact, targets, head, temperature)[0], exact)[0]
    torch.testing.assert_close(ours.grad.double(), only, atol=2e-5, rtol=1e-4)


def test_the_gradient_is_the_slope() -> None:
    """Central differences, which know nothing of softmax."""
    head = make_head(30, 4, softcap=4.0, bias=True)
    head = LogitHead(head.weight.double(), head.bias.double(), softcap=4.0)
    hidden = torch.randn(3, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).requires_grad_()
    targets = torch.tensor([0, 7, 29])
    token_logprobs(hidden, targets, head, 0.7)[0].sum().backward()
    step = 1e-2
    for i in range(3):
        for j in range(4):
            ends = []
            for sign in (step, -step):
                moved = hidden.detach().clone()
                moved[i, j] += sign
                ends.append(full(moved, targets, head, 0.7)[0].sum())
            assert float(hidden.grad[i, j]) == pytest.approx(float((ends[0] - ends[1]) / (2 * step)), abs=5e-3)


def test_extreme_logits_stay_finite() -> None:
    head = make_head(40, 5)
    hidden = (torch.randn(6, 5, generator=torch.Generator().manual_seed(0)) * 1e3).requires_grad_()
    logprobs, entropy = token_logprobs(hidden, torch.arange(6), head, 0.1, entropy_grad=True)
    (logprobs.sum() + entropy.sum()).backward()
    for values in (logprobs, entropy, hidden.grad):
        assert torch.isfinite(values).all()


def test_half_precision_hidden_states_get_a_gradient_of_their_type() -> None:
    head = make_head(64, 8)
    head = LogitHead(head.weight.bfloat16())
    hidden = torch.randn(5, 8, generator=torch.Generator().manual_seed(0)).bfloat16().requires_grad_()
    logprobs, _ = token_logprobs(hidden, torch.arange(5), head)
    assert logprobs.dtype == torch.float32
    logprobs.sum().backward()
    assert hidden.grad.dtype == torch.bfloat16
    exact = hidden.detach().double().requires_grad_()
    full(exact, torch.arange(5), LogitHead(head.weight.float()), 1.0)[0].sum().backward()
    assert (hidden.grad.double() - exact.grad).abs().max() < 0.02 * exact.grad.abs().max()


class TensorSizes(TorchDispatchMode):
    """Numbers held by the largest tensor that any operation returned."""

    def __init__(self) -> None:
        super().__init__()
        self.largest = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(out):
            if isinstance(leaf, torch.Tensor):
                self.largest = max(self.largest, leaf.numel())
        return out


def test_no_tensor_of_tokens_times_vocabulary_ever_exists(monkeypatch: pytest.MonkeyPatch) -> None:
    tokens, vocabulary, width = 8 * 512, 32_768, 8
    monkeypatch.setattr(head_module, "TILE_ELEMENTS", 1 << 21)
    head = make_head(vocabulary, width)
    hidden = torch.randn(tokens, width).requires_grad_()
    targets = torch.randint(vocabulary, (tokens,))
    with TensorSizes() as sizes:
        logprobs, entropy = token_logprobs(hidden, targets, head, 0.7, entropy_grad=True)
        kept = [t.numel() for t in logprobs.grad_fn.saved_tensors]
        (logprobs.sum() + entropy.sum()).backward()
    assert kept == [tokens * width] * 2  # all that waits for the backward pass
    assert 0 < sizes.largest <= 1 << 21 < tokens * vocabulary / 50
    assert hidden.grad.abs().sum() > 0


def test_a_peer_applies_its_head_to_completion_positions_only(
    tiny_folder: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    peer = make_peer(tiny_folder("llama"))
    seen: list[int] = []
    real = LogitHead.logits
    monkeypatch.setattr(LogitHead, "logits", lambda self, h, *a, **k: seen.append(len(h)) or real(self, h, *a, **k))
    peer.logprobs([Scored([5] * 200, [9, 10, 11]), Scored([6] * 3, [9] * 7)])
    assert set(seen) == {10}


@pytest.mark.parametrize("kind", ["llama", "neox", "gemma3", "gemma2"])
def test_adapter_gradients_are_those_of_the_full_logits(tiny_folder: Callable[[str], Path], kind: str) -> None:
    peer = make_peer(tiny_folder(kind))
    scored = [Scored([5, 6, 7] * n, [9, 10, 30 + n, 2]) for n in (1, 4, 9)]
    weights = torch.tensor([0.3, -1.0, 2.0])
    logprobs, entropy, _ = peer.logprobs(scored, entropy_grad=True)
    (weights @ (logprobs + 0.1 * entropy).sum(1)).backward()
    parameters = peer.adapter_parameters()
    ours = {n: p.grad.clone() for n, p in parameters.items()}
    peer.zero_grad()
    loss = torch.tensor(0.0, dtype=torch.float64)
    for weight, sequence in zip(weights, scored, strict=True):
        expected, expected_entropy = naive_logprobs(peer, sequence, peer.config.generation.temperature)
        loss = loss + weight * (expected + 0.1 * expected_entropy).sum()
    loss.backward()
    for name, parameter in parameters.items():
        scale = parameter.grad.abs().max().clamp_min(1e-3)
        assert (ours[name] - parameter.grad).abs().max() / scale < 1e-3, name
