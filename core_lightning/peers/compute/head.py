"""The last layer of a language model as a formula, read in tiles of the vocabulary, so that logits need not be in memory."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import linear

from core_lightning.peers.compute.products import float_product, half, has_half_kernel

#: Logits of one tile, in numbers: small enough for a processor's cache, and for memory that is not handed back in between.
TILE_ELEMENTS = 1 << 21
#: Columns of a tile at least: a narrower product is slower than the sweeps over it that it saves.
_NARROWEST = 256
#: A head in float16 is cut once; its tiles are those of so many rows.
_HALF_TILE_ROWS = 64


@dataclass(frozen=True)
class LogitHead:
    """The last layer of a language model as a formula: ``softcap(scale * (h W^T + b))``."""

    weight: Tensor
    bias: Tensor | None = None
    scale: float = 1.0
    softcap: float | None = None
    plain: bool = False
    """Multiply by torch's own linear layer, in float32."""

    @classmethod
    def of(cls, network: Any, plain: bool = False) -> LogitHead:
        """Read the head of a transformers model (Gemma's softcap, Cohere's, Granite's and Falcon-H1's scale included)."""
        layer = network.get_output_embeddings()
        config = network.config.get_text_config()
        factors = (getattr(config, name, None) for name in ("logit_scale", "lm_head_multiplier"))
        scale = next((f for f in factors if f), 1.0 / (getattr(config, "logits_scaling", None) or 1.0))
        caps = (getattr(config, name, None) for name in ("final_logit_softcapping", "logits_soft_cap"))
        return cls(layer.weight, getattr(layer, "bias", None), scale, next((c for c in caps if c), None), plain)

    def logits(self, hidden: Tensor, part: slice = slice(None), out: Tensor | None = None) -> Tensor:
        """``float32 Tensor[n, part of the vocabulary]`` for ``hidden: Tensor[n, d]``, in given memory if there is some."""
        raw = self._raw(hidden, part)
        logits = raw.float() if out is None else out.copy_(raw)
        if self.scale != 1.0:
            logits.mul_(self.scale)
        return logits if self.softcap is None else logits.div_(self.softcap).tanh_().mul_(self.softcap)

    def _raw(self, hidden: Tensor, part: slice) -> Tensor:
        return self.product(hidden, self.weight[part], None if self.bias is None else self.bias[part])

    def product(self, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        """``x W^T + b`` by some rows or columns of the head, without gradient, ``float32 Tensor[n, out]``."""
        if self.plain:
            return linear(x.float(), weight.float(), None if bias is None else bias.float())
        return float_product(x.to(weight.dtype), weight, bias)

    def tiles(self, rows: int) -> list[slice]:
        """Parts of the vocabulary, one after the other, whose logits of so many rows fit a tile."""
        vocabulary = self.weight.shape[0]
        columns = max(TILE_ELEMENTS // max(rows, 1), _NARROWEST)
        return [slice(start, min(start + columns, vocabulary)) for start in range(0, vocabulary, columns)]

    def bend(self, logits: Tensor) -> Tensor | None:
        """Slope of the softcap at these logits, ``None`` without one."""
        return None if self.softcap is None else 1 - (logits / self.softcap) ** 2


@dataclass(frozen=True)
class _HalfHead(LogitHead):
    """A head without gradient that is read as float16, in parts that are made at first use and kept."""

    products: dict[int, Callable[[Tensor], Tensor]] = field(default_factory=dict)

    def tiles(self, rows: int) -> list[slice]:
        """Always the same parts, whatever the rows."""
        return super().tiles(_HALF_TILE_ROWS)

    def _raw(self, hidden: Tensor, part: slice) -> Tensor:
        if part.start not in self.products:
            self.products[part.start] = half(self.weight[part], None if self.bias is None else self.bias[part])
        return self.products[part.start](hidden)


def half_head(head: LogitHead) -> LogitHead:
    """The head for sampling from float16 copies, where the processor has a kernel for them."""
    if not has_half_kernel(head.weight):
        return head
    return _HalfHead(head.weight, head.bias, head.scale, head.softcap)


@torch.no_grad()
def is_head_of(head: LogitHead, network: Any, backbone: Any, device: torch.device) -> bool:
    """Whether a model's logits are ``head(last hidden state)``; where they are not, scores would be silently wrong.

    Args:
        head: As it was read.
        network: The whole model.
        backbone: The same without its head.
        device: Where it lies.
    """
    ids = torch.tensor([[1, 2, 3]], device=device) % head.weight.shape[0]
    hidden: list[Tensor] = []  # of the backbone in the network's own pass: a second pass would take as long
    with backbone.register_forward_hook(lambda _, __, output: hidden.append(output.last_hidden_state[0])):
        theirs = network(input_ids=ids).logits[0].float()
    if not hidden:  # the network calls a part of the backbone, as OPT does
        hidden.append(backbone(input_ids=ids).last_hidden_state[0])
    own = head.logits(hidden[0])
    spread = theirs.std().clamp_min(1e-3)
    return own.shape == theirs.shape and not bool((own - theirs).abs().max() / spread > 0.05)
