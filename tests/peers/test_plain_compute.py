"""``compute: plain``: the same numbers on public operators alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from core_lightning.peers import Peer, PeerConfig
from core_lightning.peers.compute import products
from core_lightning.peers.compute.attention import NAME, is_replaced
from naive import Scored, alike_until, make_peer

SCORED = [Scored([*range(5, 45), *[7] * n], [9, 10, 30 + n, 2][: n + 1]) for n in (1, 2, 3)]
PROMPTS, SEEDS = [[5, 6, 7] * 8, [5, 6, 7] * 7 + [8, 9, 10]], [[1, 2], [3, 4]]
#: Operators that torch keeps for its own compiler and quantized models.
PRIVATE = ("mkldnn", "quantized")


class Operators(TorchDispatchMode):
    """Notes the operators that run."""

    def __init__(self) -> None:
        super().__init__()
        self.names: set[str] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.names.add(str(func))
        return func(*args, **(kwargs or {}))

    @property
    def private(self) -> set[str]:
        return {name for name in self.names if name.startswith(PRIVATE)}


def everything(peer: Peer) -> tuple[list[Any], list[torch.Tensor], dict[str, torch.Tensor], set[str]]:
    """Samples, log-probabilities and entropies, gradients, and the private operators that took part."""
    with Operators() as seen:
        sampled = peer.sample(PROMPTS, SEEDS)
        logprobs, entropies, _ = peer.logprobs(SCORED, entropy_grad=True)
        (logprobs.sum() + entropies.sum()).backward()
    gradients = {n: p.grad.clone() for n, p in peer.adapter_parameters().items()}
    return sampled, [logprobs.detach(), entropies.detach()], gradients, seen.private


@pytest.mark.parametrize("kind", ["llama", "gemma2"])
@pytest.mark.parametrize("checkpointing", [False, True])
def test_it_is_the_same_step(tiny_folder: Any, kind: str, checkpointing: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(products, "_SMALL", 0)  # tiny weights are worth a kernel of their own here
    folder = tiny_folder(kind)
    own, plain = (make_peer(folder, compute=c, gradient_checkpointing=checkpointing) for c in ("native", "plain"))
    sampled, scores, gradients, private = everything(own)
    plain_sampled, plain_scores, plain_gradients, plain_private = everything(plain)
    if torch.backends.mkldnn.is_available():
        assert private
    assert plain_private == set()
    for mine, other in zip(scores, plain_scores, strict=True):
        torch.testing.assert_close(mine, other, atol=2e-5, rtol=1e-4)
    assert gradients.keys() == plain_gradients.keys()
    for name, mine in gradients.items():
        assert mine.abs().max() > 0
        torch.testing.assert_close(mine, plain_gradients[name], atol=1e-4, rtol=1e-3)
    for prompt, seeds, group, others in zip(PROMPTS, SEEDS, sampled, plain_sampled, strict=True):
        for seed, mine, other in zip(seeds, group, others, strict=True):
            same = alike_until(plain, prompt, seed, mine.token_ids, other.token_ids)
            torch.testing.assert_close(mine.logprobs[:same], other.logprobs[:same], atol=2e-5, rtol=1e-4)


def test_no_layer_is_ours(llama_folder: Path) -> None:
    own, plain = make_peer(llama_folder), make_peer(llama_folder, compute="plain")
    assert any(map(is_replaced, own.network.modules()))
    assert not any(map(is_replaced, plain.network.modules()))
    assert own.network.config._attn_implementation == NAME
    assert plain.network.config._attn_implementation == "sdpa"
    with plain.shortened():
        assert plain.head.plain


def test_copies_of_weights_are_refused() -> None:
    with pytest.raises(ValueError, match=r"sampling_weights is half, .*; leave it at own for compute plain"):
        PeerConfig("nano/a", compute="plain", sampling_weights="half")
    with pytest.raises(ValueError, match="compute is 'fast'; choose native or plain"):
        PeerConfig("nano/a", compute="fast")  # type: ignore[arg-type]
