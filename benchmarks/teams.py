"""The models and the training step the benchmarks run: the embedded pair, or the nano pair for a quick look."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from lightning.pytorch import Callback, Trainer
from torch.utils.data import DataLoader

from core_lightning import CollaborativeReasoningModule, PeerConfig
from core_lightning.peers import GenerationSettings, Peer
from core_lightning.protocol.prompts import PromptSettings
from core_lightning.protocol.records import Problem
from core_lightning.protocol.rounds import RoundSettings
from core_lightning.rewards import HashingEmbedder, MiniLMEmbedder

EMBEDDED = {"smollm2": "embedded/smollm2-135m-instruct", "gemma3": "embedded/gemma3-270m"}
NANO = {"a": "nano/a", "b": "nano/b"}
#: No token has this id, so nothing ends a completion before its token limit: all variants do the same work.
NEVER = frozenset({-1})
#: One forward in K (2 + 1) rollouts of a problem, as in the paper.
ROUNDS = RoundSettings(k=2, k_rescue=1, students="all")
PROMPTS = PromptSettings(text="Question: {question}\nAnswer:", text_hinted="Question: {question}\nHint: {hint}\nAnswer:")


def models(quick: bool) -> dict[str, str]:
    """The pair by name."""
    return NANO if quick else EMBEDDED


def weights(name: str) -> dict[str, Any]:
    """``nf4``, ``float32`` or ``bfloat16`` as settings of a peer; NF4 computes in what the processor is good at."""
    return {"quantization": "nf4"} if name == "nf4" else {"quantization": "none", "dtype": name}


def load_peer(model: str, **options: Any) -> Peer:
    """A peer on the CPU that always writes up to its token limit."""
    peer = Peer("peer", PeerConfig(model, prompt_style="plain", **options), torch.device("cpu"))
    peer.stop_ids = NEVER
    return peer


def problems(count: int, seed: int = 0) -> list[Problem]:
    """Word problems of one form, a few tokens apart in length."""
    rng = random.Random(seed)
    made = []
    for i in range(count):
        a, b, c = rng.randrange(3, 10), rng.randrange(3, 10), rng.randrange(2, 9)
        question = (
            f"A baker sells {a} boxes with {b} rolls each in the morning and {c} single rolls in the afternoon. "
            "How many rolls does she sell on that day?"
        )
        made.append(Problem(f"rolls-{seed}-{i}", question, str(a * b + c)))
    return made


class FixedLengthModule(CollaborativeReasoningModule):
    """A team of any size whose every completion is as long as the token limit."""

    min_peers = 1

    def configure_model(self) -> None:
        """Load the peers and take their end tokens away."""
        super().configure_model()
        for peer in self._peers.values():
            peer.stop_ids = NEVER


def build_team(
    peers: Mapping[str, str], generation: GenerationSettings, quick: bool, peer_options: Mapping[str, Any], **options: Any
) -> FixedLengthModule:
    """The published step: every peer K 2 cold and one rescue trace of every problem, GRPO with its KL term."""
    configs = {
        name: PeerConfig(model, prompt_style="plain", generation=generation, **peer_options)
        for name, model in peers.items()
    }
    embedder = HashingEmbedder() if quick else MiniLMEmbedder()
    return FixedLengthModule(configs, rounds=ROUNDS, prompt=PROMPTS, embedder=embedder, **options)


class Turns(Callback):
    """Times every training step. Before it starts, each rival takes its turn; the first round does not count."""

    def __init__(self, rivals: Mapping[str, Callable[[Sequence[Problem]], float]] | None = None) -> None:
        self.rivals = dict(rivals or {})
        self.seconds: dict[str, list[float]] = {name: [] for name in ("step", *self.rivals)}
        self.metrics: list[dict[str, float]] = []

    def on_train_batch_start(self, trainer: Trainer, pl_module: Any, batch: list[Problem], batch_idx: int) -> None:
        for name, rival in self.rivals.items():
            self._note(name, rival(batch), batch_idx)
        self._start = time.perf_counter()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: Any, outputs: Any, batch: list[Problem], batch_idx: int
    ) -> None:
        self._note("step", time.perf_counter() - self._start, batch_idx)
        if batch_idx:
            self.metrics.append(pl_module.record.metrics)

    def _note(self, name: str, taken: float, batch_idx: int) -> None:
        if batch_idx:
            self.seconds[name].append(taken)


def train(module: FixedLengthModule, batch_size: int, steps: int, *callbacks: Callback, warm_up: int | None = None) -> None:
    """Real training steps through a Trainer; the first, of ``warm_up`` problems, is for warming up."""
    first = problems(warm_up or batch_size, seed=-1)
    batches = [first, *(problems(batch_size, seed) for seed in range(steps))]
    with TemporaryDirectory() as folder:
        Trainer(
            accelerator="cpu",
            devices=1,
            max_epochs=1,
            default_root_dir=Path(folder),
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            callbacks=list(callbacks),
        ).fit(module, train_dataloaders=DataLoader(batches, batch_size=None, collate_fn=list))
