"""Batched sampling with a key-value cache: one prefill per prompt, rows that are done leave the batch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from core_lightning.peers.config import GenerationSettings
from core_lightning.peers.drawing import draw, padded_vocabulary
from core_lightning.peers.head import LogitHead
from core_lightning.peers.prefill import Beginning, common_beginning, prefill


@dataclass(frozen=True)
class SampledTokens:
    """One sampled completion as token ids."""

    token_ids: list[int]
    """Exact ids, the end token included if one was sampled."""
    logprobs: list[float]
    """Of each id under the full distribution at the sampling temperature."""
    stopped: bool
    """An end token or a stop string ended it, not the token limit."""


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
    batches = _batches(prompts, seeds, settings)
    drawn = [prompts[i] for batch in batches for i in batch] if len(batches) > 1 else []  # one batch shares by itself
    shared = common_beginning(backbone, drawn, settings.max_new_tokens)
    beginning = Beginning(backbone, shared) if shared else None
    for batch in batches:
        sampled = _sample_batch(
            backbone,
            head,
            [prompts[i] for i in batch],
            [seeds[i] for i in batch],
            settings,
            beginning,
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
    beginning: Beginning | None,
    *,
    stop_ids: frozenset[int],
    pad_id: int,
    tokenizer: Any,
) -> list[list[SampledTokens]]:
    from core_lightning.peers.cache import CACHE, make_room

    device = backbone.device
    # The K samples of a prompt share its prefill: from here on a row is a completion.
    source = torch.tensor([i for i, s in enumerate(seeds) for _ in s], device=device)
    start = prefill(backbone, prompts, pad_id, settings.max_new_tokens, beginning).spread(source)
    cache, columns, position = start.cache, start.mask.shape[1], start.lengths
    make_room(cache, settings.max_new_tokens)
    hidden = start.last
    # Room for the whole completion: a step only looks at a longer slice.
    mask = torch.cat([start.mask, start.mask.new_ones(len(source), settings.max_new_tokens)], dim=1)
    row_seeds = torch.tensor([s for group in seeds for s in group], dtype=torch.int64, device=device)
    alive = torch.arange(len(source), device=device)
    stops = torch.tensor(sorted(stop_ids), device=device)

    tokens: list[list[int]] = [[] for _ in range(len(source))]
    logprobs: list[list[float]] = [[] for _ in range(len(source))]
    stopped = [False] * len(source)
    finished = torch.zeros(len(source), dtype=torch.bool, device=device)
    # One memory for the logits of all steps: getting it anew takes longer than filling it.
    memory = hidden.new_empty(len(source), padded_vocabulary(head.weight.shape[0]), dtype=torch.float32)
    for step in range(settings.max_new_tokens):
        logits = fill(memory[: len(alive)], head, hidden)
        drawn, drawn_logprobs = draw(logits, settings.temperature, settings.top_p, row_seeds[alive], step)
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
            use_cache=True,
            **{CACHE: cache},
        ).last_hidden_state[:, -1]

    rows = iter(zip(tokens, logprobs, stopped, strict=True))
    return [[SampledTokens(*next(rows)) for _ in group] for group in seeds]


def fill(memory: Tensor, head: LogitHead, hidden: Tensor) -> Tensor:
    """The logits of some rows in given memory, padded with minus infinity."""
    for tile in head.tiles(len(hidden)):
        head.logits(hidden, tile, out=memory[:, tile])
    memory[:, head.weight.shape[0] :] = -torch.inf
    return memory


def meets_stop(token_ids: Sequence[int], stop: Sequence[str], tokenizer: Any) -> bool:
    """Whether the last of these tokens completes a stop string."""
    # A character takes at most four byte tokens, so the last few ids show whether a stop string has just been completed.
    window = 4 * max(map(len, stop)) + 1
    tail = tokenizer.decode(token_ids[-window:], skip_special_tokens=False)
    return any(s in tail for s in stop)
