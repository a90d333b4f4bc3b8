"""Sampling through vLLM, which holds a copy of the base model of its own and is handed the adapter as a folder.

Written against vLLM's documented interface and never run: there has been no machine with it. Tests only hold what is asked
of it and how its answers are read. Before trusting a run, compare ``train/<peer>/sampled_nll`` with the same run's under
``generation.engine: native``: other kernels and another type of the adapter's arithmetic shift log-probabilities a little,
a wrong adapter shifts them a lot.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from core_lightning.peers.config import GenerationSettings
from core_lightning.peers.sampling.engine import Engine, Rig, SampledTokens

#: Share of the device's memory that vLLM takes for weights and cache; the peer that is trained needs the rest.
_MEMORY_SHARE = 0.4
#: What vLLM accepts as the largest rank.
_RANKS = (8, 16, 32, 64, 128, 256, 320, 512)


class VllmEngine(Engine):
    """A serving engine beside the peer, on the same device.

    It has its own random numbers: a seed gives the same trace again on the same machine and batch, not elsewhere. Its
    log-probabilities are taken after the temperature, which is the full distribution as long as ``top_p`` is 1.
    """

    def __init__(self, rig: Rig) -> None:
        self.rig = rig
        self._folder = tempfile.TemporaryDirectory(prefix="core-lightning-adapter-")
        self._version = 0

    @cached_property
    def _server(self) -> Any:
        from vllm import LLM

        return LLM(
            model=self.rig.source,
            revision=self.rig.revision,
            dtype=str(self.rig.network.dtype).removeprefix("torch."),
            enable_lora=True,
            max_lora_rank=next(rank for rank in _RANKS if rank >= self.rig.rank),
            logprobs_mode="processed_logprobs",
            gpu_memory_utilization=_MEMORY_SHARE,
        )

    def sync(self, save_adapter: Callable[[Path], None]) -> None:
        """Write the adapter under a new number: vLLM loads a number once."""
        self._version += 1
        save_adapter(self._adapter)

    @property
    def _adapter(self) -> Path:
        return Path(self._folder.name) / str(self._version)

    def sample(
        self, prompts: Sequence[Sequence[int]], seeds: Sequence[Sequence[int]], settings: GenerationSettings
    ) -> list[list[SampledTokens]]:
        """Completions of every prompt, one per seed, under the adapter of the last :meth:`sync`."""
        from vllm import SamplingParams
        from vllm.lora.request import LoRARequest

        outputs = iter(
            self._server.generate(
                [{"prompt_token_ids": list(p)} for p, group in zip(prompts, seeds, strict=True) for _ in group],
                [
                    SamplingParams(
                        temperature=settings.temperature,
                        top_p=settings.top_p,
                        max_tokens=settings.max_new_tokens,
                        stop=settings.stop or None,
                        stop_token_ids=sorted(self.rig.stop_ids),
                        seed=seed,
                        logprobs=0,  # only the sampled token's
                    )
                    for group in seeds
                    for seed in group
                ],
                lora_request=LoRARequest(str(self._version), self._version, str(self._adapter)),
                use_tqdm=False,
            )
        )
        return [[_read(next(outputs).outputs[0]) for _ in group] for group in seeds]


def _read(output: Any) -> SampledTokens:
    ids = list(output.token_ids)
    logprobs = [float(step[token].logprob) for step, token in zip(output.logprobs, ids, strict=True)]
    return SampledTokens(ids, logprobs, output.finish_reason == "stop")
