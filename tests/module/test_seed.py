"""One seed for a run, unless the module is given its own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from core_lightning import PeerConfig, SoloReasoningModule


def test_the_seed_is_that_of_the_run_unless_it_is_set(
    monkeypatch: pytest.MonkeyPatch, tiny_folder: Callable[[str], Path]
) -> None:
    peers = {"a": PeerConfig(str(tiny_folder("llama")))}
    monkeypatch.delenv("PL_GLOBAL_SEED", raising=False)
    assert SoloReasoningModule(peers).seed == 42
    monkeypatch.setenv("PL_GLOBAL_SEED", "7")  # what seed_everything leaves behind
    assert SoloReasoningModule(peers).seed == 7
    assert SoloReasoningModule(peers, seed=3).seed == 3
