"""The cache of a model: the name models take it by, rows that leave and are copied, and layers that grow in place.

Attention layers keep keys and values of every token. Layers of linear attention and of state spaces keep a state of fixed
size instead; transformers cannot select rows of these, and writes new states over those that a gradient still needs.

Keys and values are copied whole by transformers for every token they take, in every layer. A completion's limit is known
before it begins, so the room for it can be, too.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache as remembered
from importlib.metadata import version
from typing import Any

from torch import Tensor
from transformers import DynamicCache, PreTrainedModel, cache_utils
from transformers.cache_utils import CacheLayerMixin, DynamicLayer, DynamicSlidingWindowLayer


class _Absent:
    """Stands for a kind of layer that this release of transformers does not have."""


# Older releases lack one or both; their models have no such layers either.
DummyLayer: Any = getattr(cache_utils, "DummyLayer", _Absent)
LinearAttentionCacheLayerMixin: Any = getattr(cache_utils, "LinearAttentionCacheLayerMixin", _Absent)

#: Name of the argument by which a model takes its cache.
CACHE = "cache" if tuple(map(int, version("transformers").split(".")[:2])) >= (5, 24) else "past_key_values"

#: How the attributes end in which layers keep states, where these are not in the cache.
_STATE = ("_state", "_states")


def new_cache(backbone: Any) -> DynamicCache:
    """An empty cache for a model, whose rows can be selected and copied in every layer.

    Args:
        backbone: A transformers model.
    """
    cache = DynamicCache(config=backbone.config.get_text_config())
    cache.layers[:] = [_with_rows(x) if isinstance(x, LinearAttentionCacheLayerMixin) else x for x in cache.layers]
    return cache


def keeps_states(cache: Any) -> bool:
    """Whether some layer keeps a state that it has read all earlier columns into, padding included if nothing hides it."""
    return any(isinstance(layer, LinearAttentionCacheLayerMixin) for layer in cache.layers)


def keeps_attention(cache: Any) -> bool:
    """Whether some layer keeps keys and values."""
    return any(isinstance(layer, CacheLayerMixin) for layer in cache.layers)


def has_states(cache: Any) -> bool:
    """Whether the layers that keep a state have got one."""
    layers = [layer for layer in cache.layers if isinstance(layer, LinearAttentionCacheLayerMixin)]
    return all(any(s is not None for s in (*x.conv_states.values(), *x.recurrent_states.values())) for x in layers)


def keeps_only_attention(cache: Any) -> bool:
    """Whether every layer keeps keys and values of its own and nothing else."""
    return all(type(layer) in (DynamicLayer, DynamicSlidingWindowLayer) for layer in cache.layers)


class _StateRows:
    """What the library's layers of states lack: rows can be selected and copied, also under a gradient."""

    conv_states: dict[int, Tensor | None]
    recurrent_states: dict[int, Tensor | None]
    is_recurrent_states_initialized: dict[int, bool]

    def batch_select_indices(self, indices: Tensor) -> None:
        """Keep some rows."""
        for states in (self.conv_states, self.recurrent_states):
            states.update({i: s[indices] for i, s in states.items() if s is not None})
        if isinstance(self, CacheLayerMixin):
            super().batch_select_indices(indices)  # type: ignore[misc]

    def batch_repeat_interleave(self, repeats: int) -> None:
        """Copy every row."""
        for states in (self.conv_states, self.recurrent_states):
            states.update({i: s.repeat_interleave(repeats, dim=0) for i, s in states.items() if s is not None})
        if isinstance(self, CacheLayerMixin):
            super().batch_repeat_interleave(repeats)  # type: ignore[misc]

    def update_recurrent_state(self, recurrent_states: Tensor, state_idx: int = 0, **kwargs: Any) -> Tensor:
        """Take a new state. The library copies it over the old one, which a backward pass may still need."""
        self.recurrent_states[state_idx] = recurrent_states
        self.is_recurrent_states_initialized[state_idx] = True
        return recurrent_states


def _with_rows(layer: Any) -> Any:
    plain: Any = type(layer)
    kind: Any = _kind_with_rows(plain)
    able = kind.__new__(kind)
    vars(able).update(vars(layer))
    return able


@remembered
def _kind_with_rows(kind: type) -> type:
    return type(f"Rows{kind.__name__}", (_StateRows, kind), {})


class HeldStates(DummyLayer):
    """States that layers keep in themselves (RecurrentGemma's), so that their rows go the way of the cache.

    Args:
        backbone: The model that has read a batch.
        rows: Rows of that batch.
    """

    def __init__(self, backbone: Any, rows: int) -> None:
        super().__init__()
        self._places = [(m, n) for m, n, state in _held(backbone) if state.dim() and state.shape[0] == rows]

    def batch_select_indices(self, indices: Tensor) -> None:
        """Keep some rows."""
        for module, name in self._places:
            setattr(module, name, getattr(module, name)[indices])


def forget_held_states(backbone: Any) -> None:
    """Let layers that keep states in themselves begin anew."""
    for module, name, _ in list(_held(backbone)):
        setattr(module, name, None)


def _held(backbone: Any) -> Iterator[tuple[Any, str, Tensor]]:
    for module in backbone.modules():
        if not isinstance(module, PreTrainedModel):
            yield from ((module, n, v) for n, v in vars(module).items() if n.endswith(_STATE) and isinstance(v, Tensor))


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
    if getattr(layer, "keys", None) is None:  # a layer that keeps none, in a cache that has a place for it
        return False
    if type(layer) is DynamicSlidingWindowLayer:
        return layer.get_seq_length() + tokens <= layer.sliding_window
    return type(layer) is DynamicLayer
