"""The models and the training step the benchmarks run: the embedded pair, or the nano pair for a quick look."""

from __future__ import annotations

import logging
import random
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unittest.mock import patch

import torch
from lightning.pytorch import Callback, Trainer
from torch.utils.data import DataLoader, Dataset

from benchmarks.measure import PeakMemory
from core_lightning import CollaborativeReasoningModule, PeerConfig
from core_lightning.peers import GenerationSettings, Peer, self_test
from core_lightning.protocol.prompts import PromptSettings
from core_lightning.protocol.rounds import RoundSettings
from core_lightning.records import Problem
from core_lightning.rewards import HashingEmbedder, MiniLMEmbedder

CPU = torch.device("cpu")
EMBEDDED = {"smollm2": "embedded/smollm2-135m-instruct", "gemma3": "embedded/gemma3-270m"}
NANO = {"a": "nano/a", "b": "nano/b"}
WEIGHTS = tuple(f"{kind}{copies}" for kind in ("nf4", "float32", "bfloat16") for copies in ("", "-dense", "-half"))
#: Two cold traces of every peer and problem, and always a second attempt: a step has a fixed number of rollouts.
ROUNDS = RoundSettings(k=2, k_rescue=1, students="all")
PROMPTS = PromptSettings(
    text="Question: {question}\nAnswer:", text_hinted="Question: {question}\nHint: {hint}\nAnswer:"
)


def models(quick: bool) -> dict[str, str]:
    """The pair by name."""
    return NANO if quick else EMBEDDED


def weights(kind: str) -> dict[str, Any]:
    """One of ``WEIGHTS`` as settings of a peer; NF4 computes in what the processor is good at."""
    base, _, copies = kind.partition("-")
    stored = {"quantization": "nf4"} if base == "nf4" else {"quantization": "none", "dtype": base}
    return {**stored, "sampling_weights": copies or "own"}


def quiet() -> None:
    """Leave the terminal to the figures."""
    from transformers.utils import logging as transformers_logging

    transformers_logging.disable_progress_bar()
    warnings.filterwarnings(
        "ignore", message=".*(is_gradient_checkpointing|LeafSpec|does not have many workers|eval mode).*"
    )
    warnings.filterwarnings("ignore", message=".*but have no `val_dataloader`.*")
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)


def endless() -> Any:
    """Peers made in this context know no end token, so that all variants write equally long completions."""
    return patch("core_lightning.peers.peer.stop_token_ids", return_value=frozenset({-1}))


def load_peer(model: str, device: torch.device = CPU, **options: Any) -> Peer:
    """A peer that always writes up to its token limit."""
    quiet()
    with endless():
        return self_test.load_peer("peer", PeerConfig(model, prompt_style="plain", **options), device)


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
        """Load peers without end tokens."""
        with endless():
            super().configure_model()

    def transfer_batch_to_device(self, batch: Any, device: torch.device, dataloader_idx: int) -> Any:
        """Problems are text and go nowhere."""
        return batch


def build_team(
    peers: Mapping[str, str],
    generation: GenerationSettings,
    quick: bool,
    peer_options: Mapping[str, Any],
    **options: Any,
) -> FixedLengthModule:
    """The published step: every peer K 2 cold and one rescue trace of every problem, GRPO with its KL term."""
    quiet()
    configs = {
        name: PeerConfig(model, prompt_style="plain", generation=generation, **peer_options)
        for name, model in peers.items()
    }
    embedder = HashingEmbedder() if quick else MiniLMEmbedder()
    return FixedLengthModule(configs, rounds=ROUNDS, prompt=PROMPTS, embedder=embedder, **options)


class Turns(Callback):
    """Seconds, metrics and peak memory of every training step.

    Before a step starts, each rival takes its turn; the first round does not count.
    """

    def __init__(self, rivals: Mapping[str, Callable[[Sequence[Problem]], float]] | None = None) -> None:
        self.rivals = dict(rivals or {})
        self.seconds: dict[str, list[float]] = {name: [] for name in ("step", *self.rivals)}
        self.metrics: list[dict[str, float]] = []
        self.peaks: list[float] = []

    def on_train_batch_start(self, trainer: Trainer, pl_module: Any, batch: list[Problem], batch_idx: int) -> None:
        """Let the rivals run, then start the clock."""
        for name, rival in self.rivals.items():
            self._note(name, rival(batch), batch_idx)
        self._memory = PeakMemory()
        self._start = time.perf_counter()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: Any, outputs: Any, batch: list[Problem], batch_idx: int
    ) -> None:
        """Stop the clock."""
        self._note("step", time.perf_counter() - self._start, batch_idx)
        if batch_idx:
            self.metrics.append(pl_module.record.metrics)
            self.peaks.append(self._memory.total)

    def _note(self, name: str, taken: float, batch_idx: int) -> None:
        if batch_idx:
            self.seconds[name].append(taken)


class Steps(Dataset[list[Problem]]):
    """The problems of every step: the first is a warm-up."""

    def __init__(self, sizes: Sequence[int]) -> None:
        self.batches = [problems(size, seed) for seed, size in enumerate(sizes)]

    def __len__(self) -> int:
        return len(self.batches)

    def __getitem__(self, index: int) -> list[Problem]:
        return self.batches[index]


@contextmanager
def bare_trainer(*callbacks: Callback) -> Iterator[Trainer]:
    """A Trainer of one epoch on the processor that leaves nothing behind."""
    with TemporaryDirectory() as folder:
        yield Trainer(
            accelerator="cpu",
            devices=1,
            max_epochs=1,
            default_root_dir=Path(folder),
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            callbacks=list(callbacks),
        )


def train(
    module: FixedLengthModule, batch_size: int, steps: int, *callbacks: Callback, warm_up: int | None = None
) -> None:
    """Real training steps through a Trainer; the first, of ``warm_up`` problems, is for warming up."""
    batches = Steps([warm_up or batch_size, *[batch_size] * steps])
    with bare_trainer(*callbacks) as trainer:
        trainer.fit(module, train_dataloaders=DataLoader(batches, batch_size=None, collate_fn=list))
