"""Lightning calls ``configure_model`` with its own device as the default of every tensor; a GPU is imitated by "meta"."""

from __future__ import annotations

from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from lightning.pytorch.strategies import Strategy

from core_lightning import CollaborativeReasoningModule
from core_lightning.rewards import HashingEmbedder
from runs import fit, peer, weights


@contextmanager
def elsewhere(*_: object):
    with torch.device("meta"):
        yield


class Noting(HashingEmbedder):
    def prepare(self) -> None:
        self.device = torch.zeros(1).device


def test_peers_are_loaded_and_tested_whatever_the_default_device(
    llama_folder: Path, neox_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def team() -> CollaborativeReasoningModule:
        return CollaborativeReasoningModule(
            {"a": peer(llama_folder, self_test=True), "b": peer(neox_folder, self_test=True)},
            embedder=Noting(),
            seed=3,
        )

    here = team()
    fit(here, tmp_path / "here", n=2, max_steps=0)
    monkeypatch.setattr(Strategy, "tensor_init_context", elsewhere)
    there = team()
    fit(there, tmp_path / "there", n=2, max_steps=1)
    started = team()
    fit(started, tmp_path / "started", n=2, max_steps=0)
    assert all(torch.equal(v, weights(started)[n]) for n, v in weights(here).items())
    assert there.embedder.device.type == "cpu"
    assert not any(value.is_meta for value in weights(there).values())
