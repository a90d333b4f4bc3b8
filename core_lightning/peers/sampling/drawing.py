"""One token for each row of logits: exact nucleus sampling without a sort, by numbers that depend on the trace alone.

Randomness is stateless: the noise of a token is a hash of its trace's seed and its position, so what a trace becomes does
not depend on its batch, on the order of problems or on the number of processes.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import isfinite

import torch
from torch import Tensor

#: The vocabulary is summed in blocks of so many tokens.
BLOCK = 512
#: Weights are counted in whole units, so many in the largest: sums of whole numbers are the same in any order, on any
#: device. A vocabulary of 2^18 equal tokens sums up to 2^62.
_UNITS = 2.0**44
#: Rejections after which the few rows that are left are sorted; with top-p 0.9 one row in 10^8 gets there.
_TRIALS = 8
#: What a SplitMix64 stream advances by.
_GOLDEN = 0x9E3779B97F4A7C15


def uniform(seeds: Tensor, counter: int) -> Tensor:
    """Uniform numbers in [0, 1), a pure function of seed and counter (SplitMix64, Steele et al. 2014).

    Args:
        seeds: ``int64 Tensor[rows]``.
        counter: Which number of each row's stream.

    Returns:
        ``float64 Tensor[rows]``.
    """

    def shift(x: Tensor, bits: int) -> Tensor:  # logical, not arithmetic
        return (x >> bits) & ((1 << (64 - bits)) - 1)

    x = seeds + _wrap((counter + 1) * _GOLDEN)
    x = (x ^ shift(x, 30)) * _wrap(0xBF58476D1CE4E5B9)
    x = (x ^ shift(x, 27)) * _wrap(0x94D049BB133111EB)
    x = x ^ shift(x, 31)
    return shift(x, 11).double() * 2.0**-53


def _wrap(value: int) -> int:
    """An unsigned 64-bit constant as the int64 with the same bits."""
    return (value + (1 << 63)) % (1 << 64) - (1 << 63)


class NotFiniteError(ValueError):
    """Logits are not numbers, so no token can be drawn from them."""


def check_drawn(logprobs: Sequence[float], step: int) -> None:
    """Refuse tokens that were drawn from logits that are not numbers.

    Args:
        logprobs: Log-probabilities of the tokens of one step.
        step: Which token of its completion it was, from 0.

    Raises:
        NotFiniteError: One of them is not finite.
    """
    if not all(map(isfinite, logprobs)):
        raise NotFiniteError(f"logits are not finite at token {step + 1} of a completion")


def sample_tokens(logits: Tensor, temperature: float, top_p: float, seeds: Tensor, step: int) -> tuple[Tensor, Tensor]:
    """Draw one token per row from the nucleus of ``softmax(logits / temperature)``.

    Args:
        logits: ``Tensor[rows, vocabulary]``.
        temperature: Above 0.
        top_p: Nucleus mass in (0, 1].
        seeds: Seed of each row's trace, ``int64 Tensor[rows]``.
        step: Position in the completion.

    Returns:
        ``int64 Tensor[rows]`` tokens and their ``float32 Tensor[rows]`` log-probabilities under the full distribution.
    """
    padded = logits.new_full((logits.shape[0], padded_vocabulary(logits.shape[1])), -torch.inf, dtype=torch.float32)
    padded[:, : logits.shape[1]] = logits
    tokens, logprobs, _ = draw(padded, temperature, top_p, seeds, step)
    return tokens, logprobs


def padded_vocabulary(vocabulary: int) -> int:
    """Columns of whole blocks that hold a vocabulary."""
    return -(-vocabulary // BLOCK) * BLOCK


def draw(logits: Tensor, temperature: float, top_p: float, seeds: Tensor, step: int) -> tuple[Tensor, Tensor, Tensor]:
    """:func:`sample_tokens` in the memory of the logits, which are lost.

    A token is in the nucleus when the mass strictly above it is below ``top_p``. Drawing from the whole distribution and
    rejecting what lies outside gives exactly the renormalised nucleus, and deciding it takes the sum over the few blocks
    that hold something larger: no sort of the vocabulary, which costs several times the model's own forward step.

    Args:
        logits: ``float32 Tensor[rows, padded_vocabulary]``, the padding at minus infinity.
        temperature: Above 0.
        top_p: Nucleus mass in (0, 1].
        seeds: Seed of each row's trace, ``int64 Tensor[rows]``.
        step: Position in the completion.

    Returns:
        As :func:`sample_tokens`, and ``bool Tensor[rows]``: the first token drawn lay outside the nucleus. This happens
        with exactly the probability that the nucleus leaves out.
    """
    rows = logits.shape[0]
    highest = logits.view(rows, -1, BLOCK).amax(-1)
    top = highest.amax(-1, keepdim=True)
    weights = logits.sub_(top).div_(temperature).exp_()
    highest = highest.sub_(top).div_(temperature).exp_()
    blocks = weights.view(rows, -1, BLOCK)
    cumulative = _counted(blocks.sum(-1)).cumsum(-1)
    total = cumulative[:, -1]
    last = torch.searchsorted(cumulative, total[:, None].contiguous())  # the last block with any weight

    tokens = torch.empty(rows, dtype=torch.int64, device=logits.device)
    pending = torch.arange(rows, device=logits.device)
    again = torch.zeros(rows, dtype=torch.bool, device=logits.device)
    for trial in range(_TRIALS):
        target = _share(uniform(seeds[pending], step * (_TRIALS + 1) + trial), total[pending])
        block = torch.minimum(torch.searchsorted(cumulative[pending], target[:, None], right=True), last[pending])
        block = block.clamp_(max=blocks.shape[1] - 1)  # a row of NaN has no last block; its log-probability shows it
        before = torch.where(block > 0, cumulative[pending].gather(1, (block - 1).clamp(min=0)), 0)
        inside = _counted(blocks[pending, block.squeeze(1)]).cumsum(-1)
        # The last token with positive weight at or before the target: rounding must never pick one of weight 0.
        offset = torch.searchsorted(inside, target[:, None] - before, right=True)
        offset = torch.minimum(offset, torch.searchsorted(inside, inside[:, -1:].contiguous())).clamp_(max=BLOCK - 1)
        tokens[pending] = (block * BLOCK + offset).squeeze(1)
        if top_p >= 1:
            break
        drawn = weights[pending, tokens[pending]]
        doubtful = drawn < 1  # weight 1 is the mode, which is always in the nucleus
        pending, drawn = pending[doubtful], drawn[doubtful]
        if not len(pending):
            break
        above = _mass_above(blocks, highest, pending, drawn)
        pending = pending[above * _UNITS >= top_p * total[pending]]
        if not len(pending):
            break
        if trial == 0:
            again[pending] = True
    else:
        ordered, order = _counted(weights[pending]).sort(-1, descending=True)
        mass = ordered.cumsum(-1)
        inside = ((mass - ordered) < top_p * total[pending, None]).sum(-1, keepdim=True)
        least = ordered.gather(1, (inside - 1).clamp_(min=0))
        keep = ordered >= least  # tokens as likely as the last one of the nucleus belong to it
        kept = torch.where(keep, ordered, 0).cumsum(-1)
        # A number of its own: those of the trials are known to lie outside the nucleus.
        target = _share(uniform(seeds[pending], step * (_TRIALS + 1) + _TRIALS), kept[:, -1])
        place = torch.searchsorted(kept, target[:, None], right=True).clamp_(
            max=(keep.sum(-1, keepdim=True) - 1).clamp_(min=0)
        )
        tokens[pending] = order.gather(1, place).squeeze(1)
    chosen = weights.gather(1, tokens[:, None]).squeeze(1)
    return tokens, (chosen.double().log() - (total / _UNITS).log()).float(), again


def _counted(weights: Tensor) -> Tensor:
    return (weights.double() * _UNITS).long()


def _share(numbers: Tensor, of: Tensor) -> Tensor:
    """The unit at a place in [0, 1) of so many, below all of them."""
    return torch.minimum((numbers * of).long(), of - 1)


def _mass_above(blocks: Tensor, highest: Tensor, rows: Tensor, drawn: Tensor) -> Tensor:
    """Sum of the weights above a drawn one in each of some rows, ``float64 Tensor[rows]``."""
    # A block's largest weight was computed apart from the weights and may differ from itself in its last bit.
    which, block = (highest[rows] >= drawn[:, None] * (1 - 1e-6)).nonzero(as_tuple=True)
    values = blocks[rows[which], block]
    sums = torch.where(values > drawn[which, None], values, 0.0).sum(-1, dtype=torch.float64)
    return torch.zeros(len(rows), dtype=torch.float64, device=blocks.device).index_add_(0, which, sums)
