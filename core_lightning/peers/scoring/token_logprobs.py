"""Token log-probabilities and their gradient without the logits in memory.

For hidden states ``h`` and head ``W`` the gradient of ``log p(y)`` is ``(W_y - sum_v p_v W_v) / T``: a vector of the
hidden size, and its sum is what attention computes, with ``W`` as keys and as values. So it is made as attention kernels
do it (the online softmax of arXiv 1805.02867 and 2205.14135): the head is read once, tile by tile, for all tokens, sums are
kept relative to the largest logit so far, and neither logits nor probabilities outlive a tile. Nothing is computed twice.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from core_lightning.peers.compute.head import LogitHead


class _Sums:
    """Sums over the vocabulary seen so far, each relative to ``exp`` of the largest logit among it.

    With ``e = exp(logit - top)``: ``total`` of ``e``, ``mean`` of ``e (logit - top)``, and the same two weighing the rows of
    the head, ``rows`` and ``mean_rows``, where the gradients ask for them.
    """

    def __init__(self, hidden: Tensor, slopes: bool, entropy_slopes: bool) -> None:
        n = hidden.shape[0]
        self.top = hidden.new_full((n, 1), torch.finfo(torch.float32).min, dtype=torch.float32)
        self.total = torch.zeros_like(self.top)
        self.mean = torch.zeros_like(self.top)
        self.rows = torch.zeros_like(hidden, dtype=torch.float32) if slopes else None
        self.mean_rows = torch.zeros_like(hidden, dtype=torch.float32) if entropy_slopes else None

    def add(self, logits: Tensor, bend: Tensor | None, head: LogitHead, tile: slice, spare: Tensor) -> None:
        """Add a tile: its logits, the slope of their softcap, and which rows of the head it is.

        The memory of the logits, and as much that is spare, is written over: getting it anew takes longer than filling it.
        """
        top = torch.maximum(self.top, logits.amax(-1, keepdim=True))
        self._move(top)
        e = torch.exp(logits.sub_(top), out=spare)
        self.total += e.sum(-1, keepdim=True)
        shifted = logits.mul_(e)
        self.mean += shifted.sum(-1, keepdim=True)
        if self.rows is not None:
            self.rows += _weighed(e, bend, head, tile)
        if self.mean_rows is not None:
            self.mean_rows += _weighed(shifted, bend, head, tile)

    def _move(self, top: Tensor) -> None:
        down = self.top - top
        shrink = down.exp()
        self.mean = shrink * (self.mean + down * self.total)
        if self.mean_rows is not None and self.rows is not None:
            self.mean_rows = shrink * (self.mean_rows + down * self.rows)
        if self.rows is not None:
            self.rows *= shrink
        self.total *= shrink
        self.top = top


def _weighed(values: Tensor, bend: Tensor | None, head: LogitHead, tile: slice) -> Tensor:
    """Rows of the head, each as often as its value says, ``Tensor[n, d]``."""
    return head.product(values if bend is None else values * bend, head.weight[tile].t())


class _TokenLogprobs(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, targets: Tensor, head: LogitHead, temperature: float, entropy_grad: bool
    ) -> tuple[Tensor, Tensor]:
        keep = ctx.needs_input_grad[0]
        sums = _Sums(hidden, keep, keep and entropy_grad)
        at_target = torch.zeros_like(sums.top)
        tiles = head.tiles(len(targets))
        memory = hidden.new_empty(len(targets), tiles[0].stop, dtype=torch.float32)
        spare = torch.empty_like(memory)
        for tile in tiles:
            columns = slice(tile.stop - tile.start)
            logits = head.logits(hidden, tile, out=memory[:, columns])
            bend = head.bend(logits) if keep else None
            here = (targets >= tile.start) & (targets < tile.stop)
            at_target[here, 0] = logits[here, targets[here] - tile.start]
            sums.add(logits.div_(temperature), bend, head, tile, spare[:, columns])
        log_total = sums.total.log()
        logprobs = (at_target / temperature - sums.top - log_total).squeeze(-1)
        mean = sums.mean / sums.total
        entropy = (log_total - mean).squeeze(-1)
        slope = entropy_slope = None
        if sums.rows is not None:
            rows = sums.rows / sums.total
            own = head.weight[targets].float()
            bend = head.bend(at_target)
            slope = ((own if bend is None else own * bend) - rows) * (head.scale / temperature)
            if sums.mean_rows is not None:
                entropy_slope = (mean * rows - sums.mean_rows / sums.total) * (head.scale / temperature)
        ctx.save_for_backward(slope, entropy_slope)
        ctx.dtype = hidden.dtype
        if not entropy_grad:
            ctx.mark_non_differentiable(entropy)
        return logprobs, entropy

    @staticmethod
    def backward(ctx: Any, grad: Tensor, grad_entropy: Tensor | None) -> tuple[Tensor, None, None, None, None]:
        slope, entropy_slope = ctx.saved_tensors
        total = grad[:, None] * slope
        if entropy_slope is not None and grad_entropy is not None:
            total = total + grad_entropy[:, None] * entropy_slope
        return total.to(ctx.dtype), None, None, None, None


def token_logprobs(
    hidden: Tensor, targets: Tensor, head: LogitHead, temperature: float = 1.0, *, entropy_grad: bool = False
) -> tuple[Tensor, Tensor]:
    """Log-probability of each target token and the entropy of the distribution it came from.

    Args:
        hidden: Last hidden states at the positions that predict the targets, ``Tensor[n, d]``.
        targets: Token ids, ``int64 Tensor[n]``.
        head: The model's head; it is frozen and gets no gradient.
        temperature: Logits are divided by it, as in sampling.
        entropy_grad: Let gradients flow through the entropy too (an entropy bonus needs it).

    Returns:
        ``float32 Tensor[n]`` log-probabilities and ``float32 Tensor[n]`` entropies, in nats.
    """
    return _TokenLogprobs.apply(hidden, targets, head, temperature, entropy_grad)
