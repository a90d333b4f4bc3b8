"""Decoding: rows that grow by one token at a time.

A step of a small model is some thousand small operations, and a GPU does them in a fraction of the time a processor takes
to name them. So on a GPU a step runs in memory that stays where it is: what it does is recorded once (a CUDA graph) and
repeated by one call, until rows leave or the room that is looked at grows.
"""

from __future__ import annotations

import logging
from contextlib import suppress
from typing import Any

import torch
from torch import Tensor

from core_lightning.peers.compute.attention import NAME, products_attention
from core_lightning.peers.compute.cache import CACHE, FixedLayer, can_make_room, make_room
from core_lightning.peers.compute.head import LogitHead
from core_lightning.peers.compute.prefill import Prefilled
from core_lightning.peers.sampling.drawing import padded_vocabulary

logger = logging.getLogger(__name__)

#: A recorded step looks at whole blocks of so many columns of the cache: recording takes as long as several steps.
_BLOCK = 256
#: Position encodings that ask how far the longest row has come, which no recording can.
_LOOKING = ("dynamic", "longrope")


class Decoder:
    """The forward passes of rows that grow.

    Args:
        backbone: A transformers model without its head, adapter included, in evaluation mode.
        head: Its head.
        start: Prompts that have been read, one row per completion. The cache changes hands.
        room: Tokens that will be added to a row at most.
    """

    shrink_at = 0.75
    """Finished rows are to be dropped when no more than this share of the rows goes on: dropping copies the cache."""

    def __init__(self, backbone: Any, head: LogitHead, start: Prefilled, room: int) -> None:
        make_room(start.cache, room)
        self._backbone = backbone
        self._head = head
        self._cache = start.cache
        self._last = start.last
        self._columns = start.mask.shape[1]
        self._position = start.lengths[:, None]
        # Room for the whole completion: a step only looks at a longer slice.
        self._mask = torch.cat([start.mask, start.mask.new_ones(len(start.mask), room)], dim=1)
        # One memory for the logits of all steps: getting it anew takes longer than filling it.
        self._memory = start.last.new_empty(
            len(start.mask), padded_vocabulary(head.weight.shape[0]), dtype=torch.float32
        )

    def first(self) -> Tensor:
        """Logits of the first token, ``float32 Tensor[rows, padded vocabulary]``, the caller's until the next call."""
        return fill(self._memory, self._head, self._last)

    def next(self, tokens: Tensor) -> Tensor:
        """Logits behind another token of each row, ``int64 Tensor[rows]``."""
        self._columns += 1
        hidden = self._backbone(
            input_ids=tokens[:, None],
            attention_mask=self._mask[:, : self._columns],
            position_ids=self._position,
            use_cache=True,
            **{CACHE: self._cache},
        ).last_hidden_state[:, -1]
        self._position = self._position + 1
        return fill(self._memory[: len(tokens)], self._head, hidden)

    def keep(self, rows: Tensor) -> None:
        """Go on with some of the rows, ``int64 Tensor[kept]``. Copies the cache."""
        self._cache.batch_select_indices(rows)
        self._mask, self._position = self._mask[rows], self._position[rows]


class FixedDecoder(Decoder):
    """The same in memory that stays where it is, recorded and repeated on a GPU.

    A step writes where tensors say, and looks at columns that are not written yet, which its mask hides.
    """

    shrink_at = 0.5  # fewer rows are recorded anew

    def __init__(self, backbone: Any, head: LogitHead, start: Prefilled, room: int) -> None:
        super().__init__(backbone, head, start, room)
        self._place = torch.full((1,), self._columns, dtype=torch.int64, device=backbone.device)
        self._cache.layers[:] = [FixedLayer(layer, self._place) for layer in self._cache.layers]
        hidden = torch.finfo(start.last.dtype).min
        self._bias = start.last.new_full((*self._mask.shape[:1], 1, 1, self._mask.shape[1]), hidden)
        self._bias[:, 0, 0, : self._columns].masked_fill_(start.mask.bool(), 0.0)
        self._position = self._position.clone()
        self._tokens = torch.zeros_like(self._position)
        self._extent = 0
        self._graph: torch.cuda.CUDAGraph | None = None
        self._recorded = False  # the graph is of the present memory
        self._can_record = backbone.device.type == "cuda"
        self._warm = False

    def next(self, tokens: Tensor) -> Tensor:
        """Logits behind another token of each row, ``int64 Tensor[rows]``."""
        self._columns += 1
        if self._columns > self._extent:
            self._extent = min(-(-self._columns // _BLOCK) * _BLOCK, self._mask.shape[1])
            self._recorded = False
        self._tokens.copy_(tokens[:, None])
        if self._warm and self._can_record and not self._recorded:
            self._record()
        if self._recorded and self._graph is not None:
            self._graph.replay()
        else:
            self._step()
            self._warm = True  # libraries have set themselves up, which no recording can hold
        return self._memory[: len(tokens)]

    def keep(self, rows: Tensor) -> None:
        """Go on with some of the rows, ``int64 Tensor[kept]``. Copies the cache."""
        super().keep(rows)
        self._bias, self._tokens = self._bias[rows], self._tokens[rows]
        self._recorded = False

    def _step(self) -> None:
        """What is recorded: it reads and writes tensors only, whose addresses stay."""
        for layer in self._cache.layers:
            layer.extent = self._extent
        self._bias.index_fill_(-1, self._place, 0.0)
        with products_attention(self._backbone):
            hidden = self._backbone(
                input_ids=self._tokens,
                attention_mask=self._bias[..., : self._extent],
                position_ids=self._position,
                use_cache=True,
                **{CACHE: self._cache},
            ).last_hidden_state[:, -1]
        fill(self._memory[: len(self._tokens)], self._head, hidden)
        self._place.add_(1)
        self._position.add_(1)

    def _record(self) -> None:
        """Make the step a graph. A model that asks its GPU for a value in between cannot be recorded; it goes on without."""
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.device(self._backbone.device):
            random = torch.cuda.default_generators[torch.cuda.current_device()]
            state = random.clone_state()
            here, aside = torch.cuda.current_stream(), torch.cuda.Stream()
            aside.wait_stream(here)
            try:
                with torch.cuda.stream(aside):
                    # In the memory of the graph before, if there is one; another thread's peer may be allocating meanwhile.
                    pool = None if self._graph is None else self._graph.pool()
                    graph.capture_begin(pool=pool, capture_error_mode="thread_local")
                    try:
                        self._step()
                    except BaseException:
                        with suppress(RuntimeError):
                            graph.capture_end()
                        raise
                    graph.capture_end()
            except RuntimeError as error:
                self._can_record = False
                random.graphsafe_set_state(state)  # it still believes in the recording
                logger.warning("a decoding step cannot be recorded and runs as it is: %s", str(error).splitlines()[0])
                return
            here.wait_stream(aside)
        self._graph, self._recorded = graph, True


def make_decoder(backbone: Any, head: LogitHead, start: Prefilled, room: int, cuda_graphs: bool) -> Decoder:
    """The fastest decoder for a model on its device; arguments as for :class:`Decoder`."""
    if cuda_graphs and backbone.device.type == "cuda" and can_stay(backbone, start.cache, room):
        return FixedDecoder(backbone, head, start, room)
    return Decoder(backbone, head, start, room)


def can_stay(backbone: Any, cache: Any, room: int) -> bool:
    """Whether a model's steps can run in memory that stays where it is."""
    config = backbone.config.get_text_config()
    rope = getattr(config, "rope_parameters", None) or {}
    kinds = [rope.get("rope_type"), *(r.get("rope_type") for r in rope.values() if isinstance(r, dict))]
    eight_bits = any(type(m).__name__ == "Linear8bitLt" for m in backbone.modules())  # looks for outliers in every call
    return (
        can_make_room(cache, room)
        and config._attn_implementation in ("sdpa", "eager", NAME)
        and not any(kind in _LOOKING for kind in kinds)
        and not eight_bits
    )


def fill(memory: Tensor, head: LogitHead, hidden: Tensor) -> Tensor:
    """The logits of some rows in given memory, padded with minus infinity."""
    for tile in head.tiles(len(hidden)):
        head.logits(hidden, tile, out=memory[:, tile])
    memory[:, head.weight.shape[0] :] = -torch.inf
    return memory
