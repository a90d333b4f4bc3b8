"""Peers that work at the same time do what they do one after the other."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from lightning.pytorch.profilers import SimpleProfiler

from core_lightning import PeerConfig
from runs import build, fit, peer, same, weights


@pytest.fixture(autouse=True, scope="module")
def scripted() -> None:
    """What samples must bear company, too, so it is the real sampler here."""


@pytest.fixture
def one_thread() -> object:
    """The order of a sum depends on the number of threads, and the lanes divide them."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("one_thread")
def test_lanes_reach_the_weights_of_turns(llama_folder: Path, neox_folder: Path, tmp_path: Path) -> None:
    reached = []
    for parallel in ("never", "always"):
        pair: dict[str, PeerConfig] = {"a": peer(llama_folder), "b": peer(neox_folder)}
        module = build(pair, parallel_peers=parallel)
        # A profiler of Lightning keeps one open action per name and refuses a second.
        fit(module, tmp_path / parallel, profiler=SimpleProfiler(), max_steps=3)
        reached.append(weights(module))
    assert same(*reached)


def test_processors_are_divided_among_lanes_and_given_back() -> None:
    from core_lightning.training.lanes import on_their_devices

    class Here:
        device = "cpu"

        def __init__(self) -> None:
            self.network = self

    before = torch.get_num_threads()
    torch.set_num_threads(4)
    try:
        seen = on_their_devices(lambda peer: torch.get_num_threads(), [Here(), Here()], "always")  # type: ignore[arg-type, list-item, misc]
        assert seen == [2, 2]
        assert torch.get_num_threads() == 4
        assert on_their_devices(lambda peer: torch.get_num_threads(), [Here(), Here()], "auto") == [4, 4]  # type: ignore[arg-type, list-item, misc]
    finally:
        torch.set_num_threads(before)
