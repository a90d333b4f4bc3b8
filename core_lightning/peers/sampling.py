"""Batched sampling with a key-value cache: one prefill per prompt, exact nucleus sampling without a sort.

Randomness is stateless: the noise of a token is a hash of its trace's seed and its position, so what a trace becomes does
not depend on its batch, on the order of problems or on the number of processes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from core_lightning.peers.config import GenerationSettings
from core_lightning.peers.prefill import prefill
from core_lightning.peers.scoring import LogitHead

_BLOCK = 512
#: Rejections after which the few rows that are left are sorted; with top-p 0.9 one row in 10^8 gets there.
_TRIALS = 8
#: What a SplitMix64 stream advances by.
_GOLDEN = 0x9E3779B97F4A7C15


@dataclass(frozen=True)
class SampledTokens:
    """One sampled completion as token ids."""

    token_ids: list[int]
    """Exact ids, the end token included if one was sampled."""
    logprobs: list[float]
    """Of each id under the full distribution at the sampling temperature."""
    stopped: bool
    """An end token or a stop string ended it, not the token limit."""


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


def seed_from(seed: int, step: int) -> int:
    """The seed whose numbers from position 0 on are those of ``seed`` from ``step`` on, for rows at different positions."""
    return _wrap(seed + step * (_TRIALS + 1) * _GOLDEN)


def _wrap(value: int) -> int:
    """An unsigned 64-bit constant as the int64 with the same bits."""
    return (value + (1 << 63)) % (1 << 64) - (1 << 63)


def sample_tokens(logits: Tensor, temperature: float, top_p: float, seeds: Tensor, step: int) -> tuple[Tensor, Tensor]:
    """Draw one token per row from the nucleus of ``softmax(logits / temperature)``.

    A token is in the nucleus when the mass strictly above it is below ``top_p``. Drawing from the whole distribution and
    rejecting what lies outside gives exactly the renormalised nucleus, and deciding it takes one masked sum: no sort of the
    vocabulary, which costs several times the model's own forward step.

    Args:
        logits: ``Tensor[rows, vocabulary]``.
        temperature: Above 0.
        top_p: Nucleus mass in (0, 1].
        seeds: Seed of each row's trace, ``int64 Tensor[rows]``.
        step: Position in the completion.

    Returns:
        ``int64 Tensor[rows]`` tokens and their ``float32 Tensor[rows]`` log-probabilities under the full distribution.
    """
    rows, vocabulary = logits.shape
    weights = logits.float()
    weights = torch.exp((weights - weights.amax(-1, keepdim=True)).div_(temperature))
    if vocabulary % _BLOCK:
        weights = torch.nn.functional.pad(weights, (0, _BLOCK - vocabulary % _BLOCK))
    blocks = weights.view(rows, -1, _BLOCK)
    cumulative = blocks.sum(-1).double().cumsum(-1)
    total = cumulative[:, -1]
    last = torch.searchsorted(cumulative, total[:, None].contiguous())  # the last block with any weight

    tokens = torch.empty(rows, dtype=torch.int64, device=logits.device)
    pending = torch.arange(rows, device=logits.device)
    for trial in range(_TRIALS):
        target = uniform(seeds[pending], step * (_TRIALS + 1) + trial) * total[pending]
        block = torch.minimum(torch.searchsorted(cumulative[pending], target[:, None], right=True), last[pending])
        before = torch.where(block > 0, cumulative[pending].gather(1, (block - 1).clamp(min=0)), 0.0)
        inside = blocks[pending, block.squeeze(1)].double().cumsum(-1)
        # The last token with positive weight at or before the target: rounding must never pick one of weight 0.
        offset = torch.searchsorted(inside, target[:, None] - before, right=True)
        offset = torch.minimum(offset, torch.searchsorted(inside, inside[:, -1:].contiguous()))
        tokens[pending] = (block * _BLOCK + offset).squeeze(1)
        if top_p >= 1:
            break
        drawn = weights[pending].gather(1, tokens[pending, None])
        doubtful = (drawn < 1).squeeze(1)  # weight 1 is the mode, which is always in the nucleus
        pending, drawn = pending[doubtful], drawn[doubtful]
        if not len(pending):
            break
        mine = weights[pending]
        above = torch.where(mine > drawn, mine, 0.0).sum(-1, dtype=torch.float64)
        pending = pending[above >= top_p * total[pending]]
        if not len(pending):
            break
    else:
        ordered, order = weights[pending].double().sort(-1, descending=True)
        mass = ordered.cumsum(-1)
        least = ordered.gather(1, ((mass - ordered) < top_p * total[pending, None]).sum(-1, keepdim=True) - 1)
        keep = ordered >= least  # tokens as likely as the last one of the nucleus belong to it
        kept = torch.where(keep, ordered, 0.0).cumsum(-1)
        # A number of its own: those of the trials are known to lie outside the nucleus.
        target = uniform(seeds[pending], step * (_TRIALS + 1) + _TRIALS) * kept[:, -1]
        place = torch.searchsorted(kept, target[:, None], right=True).clamp_(max=keep.sum(-1, keepdim=True) - 1)
        tokens[pending] = order.gather(1, place).squeeze(1)
    chosen = weights.gather(1, tokens[:, None]).squeeze(1)
    return tokens, (chosen.double().log() - total.log()).float()


@torch.no_grad()
def sample(
    backbone: Any,
    head: LogitHead,
    prompts: Sequence[Sequence[int]],
    seeds: Sequence[Sequence[int]],
    settings: GenerationSettings,
    *,
    stop_ids: frozenset[int],
    pad_id: int,
    tokenizer: Any,
) -> list[list[SampledTokens]]:
    """Sample completions of many prompts, as many of each as it has seeds.

    Args:
        backbone: A transformers model without its head, adapter included, in evaluation mode.
        head: Its head.
        prompts: Token ids of each prompt.
        seeds: For each prompt one seed per completion.
        settings: Temperature, nucleus, limits and stop strings.
        stop_ids: Token ids that end a completion.
        pad_id: Fills prompts on the left; it is masked.
        tokenizer: Only asked when there are stop strings.

    Returns:
        For each prompt its completions, in the order of its seeds.
    """
    results: list[list[SampledTokens]] = [[] for _ in prompts]
    for batch in _batches(prompts, seeds, settings):
        sampled = _sample_batch(
            backbone,
            head,
            [prompts[i] for i in batch],
            [seeds[i] for i in batch],
            settings,
            stop_ids=stop_ids,
            pad_id=pad_id,
            tokenizer=tokenizer,
        )
        for i, completions in zip(batch, sampled, strict=True):
            results[i] = completions
    return results


def _batches(
    prompts: Sequence[Sequence[int]], seeds: Sequence[Sequence[int]], settings: GenerationSettings
) -> list[list[int]]:
    """Prompts sorted by length and cut so that a batch stays within the token budget."""
    batches: list[list[int]] = []
    rows = 0
    for i in sorted((i for i in range(len(prompts)) if seeds[i]), key=lambda i: len(prompts[i])):
        rows += len(seeds[i])
        if not batches or rows * (len(prompts[i]) + settings.max_new_tokens) > settings.max_batch_tokens:
            batches.append([])
            rows = len(seeds[i])
        batches[-1].append(i)
    return batches


def _sample_batch(
    backbone: Any,
    head: LogitHead,
    prompts: list[Sequence[int]],
    seeds: list[Sequence[int]],
    settings: GenerationSettings,
    *,
    stop_ids: frozenset[int],
    pad_id: int,
    tokenizer: Any,
) -> list[list[SampledTokens]]:
    device = backbone.device
    # The K samples of a prompt share its prefill: from here on a row is a completion.
    source = torch.tensor([i for i, s in enumerate(seeds) for _ in s], device=device)
    start = prefill(backbone, prompts, pad_id, settings.max_new_tokens).spread(source)
    cache, columns, position = start.cache, start.mask.shape[1], start.lengths
    logits = head.logits(start.last)
    # Room for the whole completion: a step only looks at a longer slice.
    mask = torch.cat([start.mask, start.mask.new_ones(len(source), settings.max_new_tokens)], dim=1)
    row_seeds = torch.tensor([s for group in seeds for s in group], dtype=torch.int64, device=device)
    alive = torch.arange(len(source), device=device)
    stops = torch.tensor(sorted(stop_ids), device=device)

    tokens: list[list[int]] = [[] for _ in range(len(source))]
    logprobs: list[list[float]] = [[] for _ in range(len(source))]
    stopped = [False] * len(source)
    finished = torch.zeros(len(source), dtype=torch.bool, device=device)
    for step in range(settings.max_new_tokens):
        drawn, drawn_logprobs = sample_tokens(logits, settings.temperature, settings.top_p, row_seeds[alive], step)
        ended = torch.isin(drawn, stops)
        for row, (trace, token, logprob, done, over) in enumerate(
            zip(alive.tolist(), drawn.tolist(), drawn_logprobs.tolist(), finished.tolist(), ended.tolist(), strict=True)
        ):
            if done:
                continue
            tokens[trace].append(token)
            logprobs[trace].append(logprob)
            if over or (settings.stop and meets_stop(tokens[trace], settings.stop, tokenizer)):
                stopped[trace] = True
                finished[row] = True
        if bool(finished.all()) or step + 1 == settings.max_new_tokens:
            break
        # Finished rows cost as much as live ones; dropping them copies the cache once, so it waits until a quarter is done.
        if int(finished.sum()) * 4 >= len(finished):
            live = (~finished).nonzero().squeeze(1)
            cache.batch_select_indices(live)
            alive, drawn, mask, position, finished = (
                alive[live],
                drawn[live],
                mask[live],
                position[live],
                finished[live],
            )
        hidden = backbone(
            input_ids=drawn[:, None],
            attention_mask=mask[:, : columns + step + 1],
            position_ids=position[:, None] + step,
            past_key_values=cache,
            use_cache=True,
        ).last_hidden_state
        logits = head.logits(hidden[:, -1])

    rows = iter(zip(tokens, logprobs, stopped, strict=True))
    return [[SampledTokens(*next(rows)) for _ in group] for group in seeds]


def meets_stop(token_ids: Sequence[int], stop: Sequence[str], tokenizer: Any) -> bool:
    """Whether the last of these tokens completes a stop string."""
    # A character takes at most four byte tokens, so the last few ids show whether a stop string has just been completed.
    window = 4 * max(map(len, stop)) + 1
    tail = tokenizer.decode(token_ids[-window:], skip_special_tokens=False)
    return any(s in tail for s in stop)
