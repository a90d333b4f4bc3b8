"""A cache with room holds what the library's cache holds."""

from __future__ import annotations

import torch
from transformers import DynamicCache, LlamaConfig
from transformers.cache_utils import DynamicLayer, DynamicSlidingWindowLayer

from core_lightning.peers.compute.cache import RoomyLayer, make_room

ROWS, HEADS, SIZE = 3, 2, 4


def states(tokens: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return tuple(torch.randn(ROWS, HEADS, tokens, SIZE, generator=generator) for _ in range(2))  # type: ignore[return-value]


def filled() -> DynamicCache:
    cache = DynamicCache(config=LlamaConfig(num_hidden_layers=2))
    for layer in range(2):
        cache.update(*states(5, layer), layer)
    return cache


def test_it_grows_and_loses_rows_like_the_library() -> None:
    theirs, ours = filled(), filled()
    make_room(ours, 3)
    assert all(isinstance(layer, RoomyLayer) for layer in ours.layers)
    for step in range(3):
        if step == 1:
            for cache in (theirs, ours):
                cache.batch_select_indices(torch.tensor([2, 0]))
        for layer in range(2):
            new = tuple(s[: 2 if step else 3] for s in states(1, 10 * step + layer))
            for a, b in zip(theirs.update(*new, layer), ours.update(*new, layer), strict=True):
                assert torch.equal(a, b)
        assert ours.get_seq_length() == theirs.get_seq_length() == 6 + step


def test_it_does_not_move_its_memory() -> None:
    cache = filled()
    make_room(cache, 2)
    before = cache.layers[0].keys.data_ptr()
    cache.update(*states(1, 9), 0)
    assert cache.layers[0].keys.data_ptr() == before


def test_a_layer_that_forgets_stays_itself() -> None:
    cache = filled()
    short, wide = (DynamicSlidingWindowLayer(sliding_window=window) for window in (6, 100))
    for layer in (short, wide):
        layer.update(*states(5, 0))
    cache.layers = [short, wide, DynamicLayer()]
    cache.layers[2].update(*states(5, 0))
    make_room(cache, 3)
    assert cache.layers[0] is short
    assert isinstance(cache.layers[1], RoomyLayer)
    assert cache.layers[1].is_sliding
    assert isinstance(cache.layers[2], RoomyLayer)
