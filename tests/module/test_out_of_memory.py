"""A loss that does not fit is cut smaller once; the step it happened in is the one it would have been."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from core_lightning.objectives import GRPO
from core_lightning.peers.peer import Peer
from core_lightning.training.out_of_memory import OutOfMemoryError
from runs import build, fit, peer, weights

REAL = Peer.logprobs


class Memory:
    """Takes micro-batches of so many traces with a gradient."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, traces: int, error: Exception) -> None:
        self.seen: list[int] = []

        def logprobs(self_: Peer, examples: Any, *rest: Any, **options: Any) -> Any:
            self.seen.append(len(examples))
            if len(examples) > traces and torch.is_grad_enabled():
                raise error
            return REAL(self_, examples, *rest, **options)

        monkeypatch.setattr(Peer, "logprobs", logprobs)


def run(folder: Path, llama: Path, neox: Path) -> Any:
    module = build({"a": peer(llama), "b": peer(neox)}, objective=GRPO(beta=0.1))
    fit(module, folder, n=4, batch_size=4)
    return module


@pytest.mark.parametrize(
    "error", [torch.OutOfMemoryError("CUDA out of memory"), MemoryError(), RuntimeError("can't allocate memory: 9 bytes")]
)
def test_the_step_goes_on(
    llama_folder: Path, neox_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    plain = run(tmp_path / "plain", llama_folder, neox_folder)
    largest = Memory(monkeypatch, 10**9, error)
    run(tmp_path / "seen", llama_folder, neox_folder)
    memory = Memory(monkeypatch, (max(largest.seen) + 1) // 2, error)
    with pytest.warns(UserWarning, match=r"no memory for the loss of peer a: peers\.a\.score_batch_tokens was 16384 and is 8192"):
        halved = run(tmp_path / "halved", llama_folder, neox_folder)
    assert max(largest.seen) in memory.seen
    assert halved.peers["a"].config.score_batch_tokens == 8192
    for name, value in weights(plain).items():
        torch.testing.assert_close(weights(halved)[name], value, rtol=1e-3, atol=1e-5)


def test_twice_is_too_often(llama_folder: Path, neox_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Memory(monkeypatch, 0, MemoryError())
    with pytest.warns(UserWarning, match="no memory"), pytest.raises(OutOfMemoryError, match=r"score_batch_tokens 8192 neither; lower it"):
        run(tmp_path, llama_folder, neox_folder)


def test_another_error_is_none_of_memory(
    llama_folder: Path, neox_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Memory(monkeypatch, 0, RuntimeError("shapes differ"))
    with pytest.raises(RuntimeError, match="shapes differ"):
        run(tmp_path, llama_folder, neox_folder)
