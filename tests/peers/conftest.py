"""Tiny models take the ways of large ones."""

import pytest

from core_lightning.peers.compute import processor, products


@pytest.fixture(autouse=True)
def no_weight_is_small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Weights of tiny models go through oneDNN, as those of language models do."""
    monkeypatch.setattr(products, "_SMALL", 0)


@pytest.fixture(params=["native", "emulated"])
def bfloat16(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Both kinds of processor, whichever this one is."""
    monkeypatch.setenv(processor.VARIABLE, request.param)
    return request.param
