"""Token log-probabilities and their gradient without the logits in memory.

For hidden states ``h`` and head ``W`` the gradient of ``log p(y)`` is ``(W_y - sum_v p_v W_v) / T``: a vector of the
hidden size. It is made in the forward pass, chunk by chunk, while the chunk's probabilities exist, and kept instead of the
logits. So nothing of size tokens x vocabulary outlives a chunk, and nothing is computed twice.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from core_lightning.peers.products import frozen_linear

#: Logits of one chunk, in numbers: 2**24 floats are 64 MiB, and two more tensors of that size live beside them. Every chunk
#: reads the head twice, so smaller ones are slower.
CHUNK_ELEMENTS = 1 << 24


@dataclass(frozen=True)
class LogitHead:
    """The last layer of a language model as a formula: ``softcap(scale * (h W^T + b))``."""

    weight: Tensor
    bias: Tensor | None = None
    scale: float = 1.0
    softcap: float | None = None

    @classmethod
    def of(cls, network: Any) -> LogitHead:
        """Read the head of a transformers model (Gemma's softcap, Cohere's and Granite's scale included)."""
        layer = network.get_output_embeddings()
        config = network.config.get_text_config()
        scale = getattr(config, "logit_scale", None) or 1.0 / (getattr(config, "logits_scaling", None) or 1.0)
        return cls(layer.weight, getattr(layer, "bias", None), scale, getattr(config, "final_logit_softcapping", None))

    def logits(self, hidden: Tensor) -> Tensor:
        """``float32 Tensor[n, vocabulary]`` for ``hidden: Tensor[n, d]``."""
        raw = frozen_linear(hidden.to(self.weight.dtype), self.weight, self.bias).float()
        if self.scale != 1.0:
            raw = raw * self.scale
        return raw if self.softcap is None else self.softcap * torch.tanh(raw / self.softcap)

    def pull_back(self, grad: Tensor, bend: Tensor | None) -> Tensor:
        """Gradient with respect to the hidden states, given one with respect to the logits and their :meth:`bend`."""
        if bend is not None:
            grad = grad * bend
        return (grad.to(self.weight.dtype) @ self.weight).float() * self.scale

    def bend(self, logits: Tensor) -> Tensor | None:
        """Slope of the softcap at these logits, ``None`` without one."""
        return None if self.softcap is None else 1 - (logits / self.softcap) ** 2


class _TokenLogprobs(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, targets: Tensor, head: LogitHead, temperature: float, entropy_grad: bool
    ) -> tuple[Tensor, Tensor]:
        n = hidden.shape[0]
        rows = max(1, CHUNK_ELEMENTS // head.weight.shape[0])
        logprobs, entropy = hidden.new_empty(n, dtype=torch.float32), hidden.new_empty(n, dtype=torch.float32)
        keep = ctx.needs_input_grad[0]
        slope = hidden.new_empty(hidden.shape, dtype=torch.float32) if keep else None
        entropy_slope = hidden.new_empty(hidden.shape, dtype=torch.float32) if keep and entropy_grad else None
        for start in range(0, n, rows):
            part = slice(start, start + rows)
            target = targets[part, None]
            logits = head.logits(hidden[part])
            bend = head.bend(logits) if keep else None
            # In place from here on: the chunk is as large as the memory it may take.
            logits.div_(temperature)
            logits -= logits.amax(-1, keepdim=True)
            at_target = logits.gather(-1, target)
            p = logits.exp()
            total = p.sum(-1, keepdim=True)
            p /= total
            logprobs[part] = (at_target - total.log()).squeeze(-1)
            if entropy_slope is None:
                entropy[part] = total.log().squeeze(-1) - logits.mul_(p).sum(-1)
            else:
                logp = logits.sub_(total.log())
                entropy[part] = -(p * logp).sum(-1)
                entropy_slope[part] = head.pull_back(-p * (logp + entropy[part, None]), bend) / temperature
            if slope is not None:
                grad = p.neg_()
                grad.scatter_add_(-1, target, torch.ones_like(target, dtype=grad.dtype))
                slope[part] = head.pull_back(grad, bend) / temperature
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
