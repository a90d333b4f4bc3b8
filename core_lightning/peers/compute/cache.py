"""The key-value cache: the name models take it by, and layers that grow in place.

The cache of transformers is copied whole for every token it takes, in every layer. A completion's limit is known before it
begins, so the room for it can be, too.
"""

from __future__ import annotations

from importlib.metadata import version
from typing import Any

from torch import Tensor
from transformers.cache_utils import DynamicLayer, DynamicSlidingWindowLayer

#: Name of the argument by which a model takes its cache.
CACHE = "cache" if tuple(map(int, version("transformers").split(".")[:2])) >= (5, 24) else "past_key_values"


class RoomyLayer(DynamicLayer):
    """Keys and values of one layer, with room for more.

    Args:
        layer: A filled layer, whose keys and values are copied.
        room: Tokens that can be added.
    """

    def __init__(self, layer: Any, room: int) -> None:
        super().__init__()
        self.is_sliding = layer.is_sliding  # masks are made by kind of layer
        self.dtype, self.device = layer.keys.dtype, layer.keys.device
        self.is_initialized = True
        self._length = layer.keys.shape[2]
        self._all = tuple(_widened(states, room) for states in (layer.keys, layer.values))
        self._show()

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        """Write new keys and values behind the others, and return all."""
        end = self._length + key_states.shape[2]
        for states, new in zip(self._all, (key_states, value_states), strict=True):
            states[:, :, self._length : end] = new
        self._length = end
        return self._show()

    def batch_select_indices(self, indices: Tensor) -> None:
        """Keep some rows."""
        self._all = tuple(states[indices] for states in self._all)
        self._show()

    def _show(self) -> tuple[Tensor, Tensor]:
        keys, values = (states[:, :, : self._length] for states in self._all)
        self.keys, self.values = keys, values
        return keys, values


class FixedLayer(RoomyLayer):
    """The same, written where a tensor says: nothing in a step depends on how long the rows are.

    Args:
        layer: A layer with room, whose memory is taken over.
        place: Column of the next token, ``int64 Tensor[1]``. Who owns it moves it on.
    """

    extent: int
    """Columns that are shown. Those behind the last token hold zeros, and have to be hidden by the mask."""

    def __init__(self, layer: RoomyLayer, place: Tensor) -> None:
        vars(self).update(vars(layer))
        self._place = place
        self.extent = self._length
        for states in self._all:
            states[:, :, self._length :] = 0  # what is hidden is still multiplied, and memory may hold a NaN

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        """Write the keys and values of one token, and return what is shown."""
        for states, new in zip(self._all, (key_states, value_states), strict=True):
            states.index_copy_(2, self._place, new)
        return self._show()

    def _show(self) -> tuple[Tensor, Tensor]:
        self._length = self.extent
        return super()._show()


def _widened(states: Tensor, room: int) -> Tensor:
    rows, heads, length, size = states.shape
    wide = states.new_empty(rows, heads, length + room, size)
    wide[:, :, :length] = states
    return wide


def make_room(cache: Any, tokens: int) -> None:
    """Let a filled cache take so many more tokens in place.

    Layers that forget (a window shorter than what comes) or keep something else stay as they are.
    """
    cache.layers[:] = [RoomyLayer(layer, tokens) if _takes(layer, tokens) else layer for layer in cache.layers]


def can_make_room(cache: Any, tokens: int) -> bool:
    """Whether :func:`make_room` leaves no layer of a filled cache as it is."""
    return all(_takes(layer, tokens) for layer in cache.layers)


def _takes(layer: Any, tokens: int) -> bool:
    if type(layer) is DynamicSlidingWindowLayer:
        return layer.get_seq_length() + tokens <= layer.sliding_window
    return type(layer) is DynamicLayer
