"""Batched sampling with a key-value cache: one prefill per prompt, rows that are done leave the batch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from core_lightning.peers.compute.architecture import backbone_of
from core_lightning.peers.compute.head import LogitHead
from core_lightning.peers.compute.paths import Paths
from core_lightning.peers.compute.prefill import Beginning, common_beginning, prefill
from core_lightning.peers.config import GenerationSettings
from core_lightning.peers.sampling.drawing import check_drawn, draw
from core_lightning.peers.sampling.engine import Engine, Rig, SampledTokens
from core_lightning.peers.sampling.stop_strings import StopStrings


@dataclass(frozen=True)
class NativeEngine(Engine):
    """This library's sampler on the peer's own network: what a trace becomes depends on its seed alone."""

    rig: Rig

    def sample(
        self, prompts: Sequence[Sequence[int]], seeds: Sequence[Sequence[int]], settings: GenerationSettings
    ) -> list[list[SampledTokens]]:
        """See :func:`sample`."""
        return sample(
            backbone_of(self.rig.network),
            self.rig.head,
            prompts,
            seeds,
            settings,
            stop_ids=self.rig.stop_ids,
            pad_id=self.rig.tokenizer.pad_token_id,
            tokenizer=self.rig.tokenizer,
            paths=self.rig.paths,
        )


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
    paths: Paths | None = None,
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
        paths: Short cuts of the model; what its cache allows if None.

    Returns:
        For each prompt its completions, in the order of its seeds.
    """
    paths = Paths.of(backbone) if paths is None else paths
    results: list[list[SampledTokens]] = [[] for _ in prompts]
    batches = _batches(prompts, seeds, settings, paths)
    drawn = [prompts[i] for batch in batches for i in batch] if len(batches) > 1 else []  # one batch shares by itself
    shared = common_beginning(backbone, drawn, settings.max_new_tokens, paths)
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
            paths=paths,
        )
        for i, completions in zip(batch, sampled, strict=True):
            results[i] = completions
    return results


def _batches(
    prompts: Sequence[Sequence[int]], seeds: Sequence[Sequence[int]], settings: GenerationSettings, paths: Paths
) -> list[list[int]]:
    """Prompts sorted by length and cut so that a batch stays within the token budget, and needs no padding if it may not."""
    batches: list[list[int]] = []
    rows = 0
    for i in sorted((i for i in range(len(prompts)) if seeds[i]), key=lambda i: len(prompts[i])):
        rows += len(seeds[i])
        full = rows * (len(prompts[i]) + settings.max_new_tokens) > settings.max_batch_tokens
        longer = paths.padding == "nowhere" and bool(batches) and len(prompts[i]) > len(prompts[batches[-1][0]])
        if not batches or full or longer:
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
    paths: Paths,
) -> list[list[SampledTokens]]:
    from core_lightning.peers.sampling.decoding import make_decoder

    device = backbone.device
    # The K samples of a prompt share its prefill: from here on a row is a completion.
    source = [i for i, s in enumerate(seeds) for _ in s]
    start = prefill(backbone, prompts, pad_id, settings.max_new_tokens, beginning, paths).spread(
        torch.tensor(source, device=device)
    )
    decoder = make_decoder(backbone, head, start, settings.max_new_tokens, settings.cuda_graphs)
    row_seeds = torch.tensor([s for group in seeds for s in group], dtype=torch.int64, device=device)

    tokens: list[list[int]] = [[] for _ in source]
    logprobs: list[list[float]] = [[] for _ in source]
    redrawn = [0] * len(source)
    stopped = [False] * len(source)
    stop = StopStrings(settings.stop, tokenizer)
    rows = list(range(len(source)))  # completions in the batch
    logits = decoder.first()
    for step in range(settings.max_new_tokens):
        drawn, drawn_logprobs, again = draw(logits, settings.temperature, settings.top_p, row_seeds, step)
        values = drawn_logprobs.tolist()
        check_drawn(values, step)
        for i, token, logprob, outside in zip(rows, drawn.tolist(), values, again.tolist(), strict=True):
            if stopped[i]:
                continue
            tokens[i].append(token)
            logprobs[i].append(logprob)
            redrawn[i] += outside
            stopped[i] = token in stop_ids or stop.met(tokens[i])
        going = [place for place, i in enumerate(rows) if not stopped[i]]
        if not going or step + 1 == settings.max_new_tokens:
            break
        # Finished rows cost as much as live ones, but dropping them has its price, too.
        if len(going) <= decoder.shrink_at * len(rows):
            kept = torch.tensor(going, device=device)
            decoder.keep(kept)
            rows, drawn, row_seeds = [rows[place] for place in going], drawn[kept], row_seeds[kept]
        logits = decoder.next(drawn)

    sampled = iter(zip(tokens, logprobs, stopped, redrawn, strict=True))
    return [[SampledTokens(*next(sampled)) for _ in group] for group in seeds]
