"""Attention by products equals the kernel of the library, forwards and backwards."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from core_lightning.peers.compute import attention as module
from core_lightning.peers.compute.attention import NAME, attention, library_attention
from naive import make_peer

ROWS, HEADS, KEYS, SIZE = 3, 4, 7, 8


def inputs(shared: int, queries: int, dtype: torch.dtype = torch.float32) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(queries)
    shapes = ((HEADS, queries), (shared, KEYS), (shared, KEYS))
    return [torch.randn(ROWS, h, n, SIZE, generator=generator).to(dtype).requires_grad_() for h, n in shapes]


def bias(queries: int) -> torch.Tensor:
    """Causal, and the first row is padded on the left."""
    hidden = torch.ones(queries, KEYS).triu(KEYS - queries + 1).expand(ROWS, 1, queries, KEYS).clone().bool()
    hidden[0, :, :, :2] = True
    return torch.zeros(ROWS, 1, queries, KEYS).masked_fill(hidden, torch.finfo(torch.float32).min)


def by_hand(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, mask: torch.Tensor | None, scale: float) -> torch.Tensor:
    """Softmax of scaled scores in float64, every head with a copy of its keys and values."""
    k, v = (t.double().repeat_interleave(HEADS // t.shape[1], dim=1) for t in (k, v))
    scores = q.double() @ k.transpose(2, 3) * scale
    return (torch.softmax(scores if mask is None else scores + mask, dim=-1) @ v).transpose(1, 2)


@pytest.mark.parametrize("shared", [1, 2, 4])
@pytest.mark.parametrize("queries", [1, 5])
@pytest.mark.parametrize("scale", [None, 0.5])
def test_values_and_gradients(shared: int, queries: int, scale: float | None) -> None:
    mask = bias(queries)
    q, k, v = inputs(shared, queries)
    out, weights = attention(SimpleNamespace(), q, k, v, mask, scaling=scale)
    expected = by_hand(q, k, v, mask, scale or SIZE**-0.5)
    assert weights is None
    torch.testing.assert_close(out.double(), expected, atol=1e-5, rtol=1e-5)
    pull = torch.randn_like(expected)
    ours = torch.autograd.grad((out * pull).sum(), (q, k, v))
    theirs = torch.autograd.grad((expected * pull).sum(), (q, k, v))
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)


def test_one_query_without_a_mask_sees_all_keys() -> None:
    q, k, v = inputs(2, 1)
    out, _ = attention(SimpleNamespace(), q, k, v, None)
    torch.testing.assert_close(out.double(), by_hand(q, k, v, None, SIZE**-0.5), atol=1e-5, rtol=1e-5)


def test_bfloat16_is_rounded_once() -> None:
    q, k, v = inputs(2, 5, torch.bfloat16)
    out, _ = attention(SimpleNamespace(), q, k, v, bias(5))
    assert out.dtype == torch.bfloat16
    torch.testing.assert_close(out.double(), by_hand(q, k, v, bias(5), SIZE**-0.5), atol=0.02, rtol=0.02)


@pytest.mark.parametrize("kind", ["llama", "gemma3", "mistral3"])
def test_models_use_it_and_compute_what_the_library_computes(
    tiny_folder: Callable[[str], Path], kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    peer = make_peer(tiny_folder(kind))
    model = peer.network.get_base_model()
    assert model.config.get_text_config()._attn_implementation == NAME
    ids = torch.tensor([[0, 0, 5, 6, 7, 8, 9], [5, 6, 7, 8, 9, 10, 11]])
    padded = {"input_ids": ids, "attention_mask": (ids > 0).long(), "use_cache": False}
    with torch.no_grad():
        ours = model(**padded).logits
        monkeypatch.setattr(module, "MOST_SCORES", 0)
        above_the_limit = model(**padded).logits
        with library_attention(model):
            theirs = model(**padded).logits
    assert model.config.get_text_config()._attn_implementation == NAME
    real = ids > 0
    torch.testing.assert_close(ours[real], theirs[real], atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(above_the_limit[real], theirs[real], atol=1e-4, rtol=1e-4)
