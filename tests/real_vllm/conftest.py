"""The models that a real vLLM runs here."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

import tiny
from core_lightning.peers.sources import resolve


@pytest.fixture(scope="session")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """A tiny model with heads of a size that vLLM's attention knows, and SmolLM2."""
    made = tmp_path_factory.mktemp("llama")
    shape = tiny.GROUPED | {"hidden_size": 128, "head_dim": 32, "initializer_range": 0.15}
    tiny.save(made, "Llama", 0, chat=True, **shape, tie_word_embeddings=True, eos_token_id=[2, 3])
    return lambda name: made if name == "tiny" else Path(resolve("embedded/smollm2-135m-instruct").name_or_path)
