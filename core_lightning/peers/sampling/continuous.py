"""Sampling through the continuous batching of transformers: requests join and leave a running batch over a paged cache.

The library decides which requests run together; what is drawn is decided here, by the same numbers as in the native
engine. So a trace still depends on its seed alone, and both engines give the same tokens, up to the rounding of two
orders of summation.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor

from core_lightning.peers.compute.attention import library_attention
from core_lightning.peers.config import GenerationSettings
from core_lightning.peers.sampling.drawing import check_drawn, sample_tokens, seed_from
from core_lightning.peers.sampling.engine import Engine, Rig, SampledTokens
from core_lightning.peers.sampling.stop_strings import StopStrings
from core_lightning.peers.sources import PeerSourceError

#: Tokens of a page of the cache; the beginnings that prompts share are shared in whole pages.
_PAGE = 32
#: Prompt tokens of one forward pass at most, unless there are more requests: a mask of so many rows is held in memory.
_PREFILL = 512
#: Setting up a manager seeds torch's global generator.
_GLOBAL_RANDOM_STATE = threading.Lock()


@dataclass(frozen=True)
class ContinuousEngine(Engine):
    """Continuous batching on the peer's own network, made anew for every call so that no cache outlives it.

    Without CUDA graphs: they would freeze the choice of tokens, which looks at the seeds. Not every model of the library
    can be run this way in every release (GPT-NeoX cannot in transformers 5.24); its error says so at the first sample.

    Raises:
        PeerSourceError: The library's paged attention does not compute this model.
    """

    rig: Rig

    def __post_init__(self) -> None:
        if getattr(self.rig.network.config.get_text_config(), "attn_logit_softcapping", None):
            raise PeerSourceError(
                f"{self.rig.source}: continuous batching leaves out this model's cap on attention scores; "
                "set generation.engine to native"
            )

    def sample(
        self, prompts: Sequence[Sequence[int]], seeds: Sequence[Sequence[int]], settings: GenerationSettings
    ) -> list[list[SampledTokens]]:
        """Completions of every prompt, one per seed.

        Raises:
            RuntimeError: The library's loop gave a request up.
        """
        requests = {f"{i}/{j}": (prompts[i], seed) for i, group in enumerate(seeds) for j, seed in enumerate(group)}
        if not requests:
            return [[] for _ in prompts]
        draws = {name: _Draw(seed, [], []) for name, (_, seed) in requests.items()}
        with library_attention(self.rig.network):
            self._draw_all(requests, draws, settings)
        return [
            [self._completion(draws[f"{i}/{j}"], settings) for j in range(len(group))] for i, group in enumerate(seeds)
        ]

    def _draw_all(
        self, requests: dict[str, tuple[Sequence[int], int]], draws: dict[str, _Draw], settings: GenerationSettings
    ) -> None:
        manager = self._manager([prompt for prompt, _ in requests.values()], draws, settings)
        manager.start()
        try:
            for name, (prompt, _) in requests.items():
                manager.add_request(list(prompt), name, settings.max_new_tokens, eos_token_id=sorted(self.rig.stop_ids))
            finished = 0
            while finished < len(requests):
                output = manager.get_result(timeout=1.0)
                if output is None and not manager.is_running():
                    raise RuntimeError(
                        "continuous batching stopped before all completions were done; see its log above"
                    )
                if output is not None and output.error is not None:
                    raise RuntimeError(f"continuous batching gave up a completion: {output.error}")
                finished += output is not None
        finally:
            manager.stop(hard_stop=True)
            manager.destroy()

    def _manager(self, prompts: list[Sequence[int]], draws: dict[str, _Draw], settings: GenerationSettings) -> Any:
        """A manager with room for these prompts whose tokens are drawn by us."""
        from transformers import ContinuousBatchingConfig, GenerationConfig

        network = self.rig.network
        pages = [-(-(len(prompt) + settings.max_new_tokens) // _PAGE) + 1 for prompt in prompts]
        modes = {module: module.training for module in network.modules()}
        with _GLOBAL_RANDOM_STATE, torch.random.fork_rng([network.device] if network.device.type == "cuda" else []):
            manager = network.init_continuous_batching(
                GenerationConfig(do_sample=False, max_new_tokens=settings.max_new_tokens, eos_token_id=-1),
                ContinuousBatchingConfig(
                    page_size=_PAGE,
                    num_blocks=min(sum(pages), max(*pages, settings.max_batch_tokens // _PAGE)),
                    max_batch_tokens=max(_PREFILL, len(prompts)),
                    max_requests_per_batch=len(prompts),
                    use_async_batching=False,
                    use_cuda_graph=False,
                    auto_switch_to_flash=False,
                ),
            )
            processors = manager.logit_processor
            processors.logits_processor.append(_drawing()(draws, settings))
            processors.tensors_required += 1
            processors.do_processing = True
            manager.warmup()  # sets up, so that it happens under the lock
        for module, mode in modes.items():  # a 4-bit layer in evaluation mode is repacked into a form without gradient
            module.training = mode
        return manager

    def _completion(self, draw: _Draw, settings: GenerationSettings) -> SampledTokens:
        """What was drawn, up to its first end: the library does not know stop strings and runs past them."""
        stop = StopStrings(settings.stop, self.rig.tokenizer)
        for step, logprob in enumerate(draw.logprobs):
            check_drawn([logprob], step)
        for end, token in enumerate(draw.token_ids, 1):
            if token in self.rig.stop_ids or stop.met(draw.token_ids[:end]):
                return SampledTokens(draw.token_ids[:end], draw.logprobs[:end], True)
        return SampledTokens(draw.token_ids, draw.logprobs, False)


@dataclass(frozen=True)
class _Draw:
    """A completion so far."""

    seed: int
    token_ids: list[int]
    logprobs: list[float]


@cache
def _drawing() -> Any:
    """The processor class; made late, because its base is the library's."""
    from transformers.generation.continuous_batching.cb_logits_processors import ContinuousBatchingLogitsProcessor

    class Drawing(ContinuousBatchingLogitsProcessor):
        """Draws each row's token and leaves the library no other choice."""

        def __init__(self, draws: dict[str, _Draw], settings: GenerationSettings) -> None:
            self.supported_kwargs: dict[str, type] = {}
            self.ignored_kwargs: tuple[str, ...] = ()
            self.draws = draws
            self.settings = settings
            self.rows: list[_Draw] = []

        def fill_defaults(self, int32_tensor: Tensor) -> None:
            """Nothing travels as a tensor."""

        def prepare_tensor_args(self, requests_with_new_token: list[Any]) -> Tensor:
            """Note whose tokens come next, in the order of the rows."""
            self.rows = [self.draws[request.state.request_id] for request in requests_with_new_token]
            return torch.empty(0, dtype=torch.int32)

        def __call__(self, scores: Tensor, tensor_arg: Tensor) -> Tensor:
            """``Tensor[rows, vocabulary]`` of logits to scores that are finite at the drawn token only."""
            if not self.rows:
                return scores
            settings = self.settings
            seeds = torch.tensor([seed_from(r.seed, len(r.token_ids)) for r in self.rows], device=scores.device)
            tokens, logprobs = sample_tokens(scores[: len(seeds)], settings.temperature, settings.top_p, seeds, 0)
            tokens = tokens.clamp(
                max=scores.shape[-1] - 1
            )  # of logits that are no numbers; it is refused when all is done
            for row, token, logprob in zip(self.rows, tokens.tolist(), logprobs.tolist(), strict=True):
                row.token_ids.append(token)
                row.logprobs.append(logprob)
            # Behind the rows that draw stand those of prompts that are not read to their end; nobody looks at them.
            return torch.full_like(scores, -torch.inf).index_put_(
                (torch.arange(len(tokens), device=tokens.device), tokens), scores.new_zeros(())
            )

    return Drawing
