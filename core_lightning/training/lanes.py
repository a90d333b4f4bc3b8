"""Which peers work at the same time, and which take turns: a lane for each device, or for each base model."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Literal, TypeVar

import torch

from core_lightning.peers.peer import Peer

Result = TypeVar("Result")
Parallel = Literal["auto", "always", "never"]


def lanes(peers: Sequence[Peer], parallel: Parallel) -> list[list[int]]:
    """Which peers take turns; the lanes work at the same time."""
    if parallel == "never":
        return [list(range(len(peers)))]
    taking_turns: dict[object, list[int]] = {}
    for i, peer in enumerate(peers):
        # Peers that share a base model switch its adapters, so they always take turns.
        lane = id(peer.network) if parallel == "always" else str(peer.device)
        taking_turns.setdefault(lane, []).append(i)
    return list(taking_turns.values())


def on_their_devices(work: Callable[[Peer], Result], peers: Sequence[Peer], parallel: Parallel) -> list[Result]:
    """Apply ``work`` to every peer, several at the same time, results in the peers' order.

    Processors are divided among those that work at the same time: the small products of a small model do not keep many
    busy, so two peers on one core each are done sooner than one after the other on both.
    """
    if len(order := lanes(peers, parallel)) < 2:
        return [work(p) for p in peers]
    results: dict[int, Result] = {}
    threads = torch.get_num_threads()

    def drive(lane: list[int]) -> None:
        torch.set_num_threads(max(1, threads // len(order)))
        for i in lane:
            results[i] = work(peers[i])

    try:
        with ThreadPoolExecutor(len(order)) as pool:
            list(pool.map(drive, order))
    finally:
        torch.set_num_threads(threads)  # the number is each thread's own, but new threads start with the last one set
    return [results[i] for i in range(len(peers))]


def return_free_memory() -> None:
    """Give what is free on the heaps of threads that have ended back to the system.

    glibc keeps it, a heap for every thread, and it adds up over the first steps. Other allocators have no such call.
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None
    if trim is not None:
        trim(0)
