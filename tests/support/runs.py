"""Short runs of the module with tiny models through a real Trainer."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, Trainer

from core_lightning import CollaborativeReasoningModule, PeerConfig
from core_lightning.answers import Verdict, Verifier
from core_lightning.data import JsonLines
from core_lightning.objectives import GRPO
from core_lightning.peers import GenerationSettings, LoraSettings
from core_lightning.protocol.credit import CreditSettings
from core_lightning.protocol.rounds import RoundSettings
from core_lightning.records import Group, Problem
from core_lightning.rewards import Correctness, HashingEmbedder, WeightedTerm, default_terms
from core_lightning.training.settings import AdvantageSettings
from counting_terms import Count

GENERATION = GenerationSettings(max_new_tokens=10, temperature=1.0)
SGD_RATE = 0.05
ACCELERATOR = os.environ.get("TEST_ACCELERATOR", "cpu")  # make test-gpu


def peer(folder: Path, **options: Any) -> PeerConfig:
    options = {"quantization": "none", "dtype": "float32", "self_test": False, "generation": GENERATION} | options
    return PeerConfig(str(folder), lora=options.pop("lora", LoraSettings(r=2, targets="all-linear")), **options)


def adamw(params: Any) -> torch.optim.Optimizer:
    return torch.optim.AdamW(params, lr=5e-3, weight_decay=0.1)


def sgd(params: Any) -> torch.optim.Optimizer:
    return torch.optim.SGD(params, lr=SGD_RATE)


class Generous(Verifier):
    """Right is what holds the gold digit anywhere: untrained models hardly ever state an answer."""

    def check(self, completions: Sequence[str], golds: Sequence[str], kinds: object = "auto") -> list[Verdict]:
        return [Verdict(g if g in c else None, correct=g in c) for c, g in zip(completions, golds, strict=True)]


def build(
    peers: dict[str, PeerConfig], cls: type[CollaborativeReasoningModule] = CollaborativeReasoningModule, **options: Any
) -> CollaborativeReasoningModule:
    """The two rounds as published, with a signal in every group; the answer also counts, so that there are rescues."""
    options = {
        "rounds": None if cls.max_peers == 1 else RoundSettings(k=2, k_rescue=1),
        "credit": CreditSettings("hinted"),
        "advantage": AdvantageSettings("problem", std_floor=1e-4),
        "rewards": {"correctness": WeightedTerm(Correctness(alpha=0.3)), "count": WeightedTerm(Count(), 0.3)},
        "embedder": HashingEmbedder(),
        "objective": GRPO(beta=0.0),
        "optimizer": adamw,
        "seed": 7,
    } | options
    if options["rewards"] is not None:
        options["rewards"] = dict.fromkeys(default_terms()) | options["rewards"]  # these and no others
    module = cls(peers, **options)
    module.verifier = Generous()
    return module


def problems(n: int = 12) -> list[Problem]:
    return [Problem(f"p{i}", f"What is {i} + 1 ?", str((i + 1) % 10)) for i in range(n)]


def data(folder: Path, n: int = 8, batch_size: int = 2, **options: Any) -> JsonLines:
    file = folder / f"problems-{n}.jsonl"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(
        "\n".join(json.dumps({"id": p.id, "question": p.question, "answer": p.answer}) for p in problems(n))
    )
    options = {"val_fraction": 0.0, "test_fraction": 0.0} | options
    return JsonLines(str(file), batch_size=batch_size, **options)


def trainer(folder: Path, *callbacks: Callback, **options: Any) -> Trainer:
    options = {"max_epochs": 1, "accelerator": ACCELERATOR, "devices": 1, "num_sanity_val_steps": 0} | options
    if ACCELERATOR != "cpu":
        options["deterministic"] = True  # kernels of a GPU may add in any order
    return Trainer(
        default_root_dir=folder,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=list(callbacks),
        **options,
    )


def fit(module: CollaborativeReasoningModule, folder: Path, *callbacks: Callback, **options: Any) -> Trainer:
    """Train on eight problems, two a step, unless told otherwise."""
    loader = data(folder, options.pop("n", 8), options.pop("batch_size", 2))
    ckpt_path = options.pop("ckpt_path", None)
    run = trainer(folder, *callbacks, **options)
    run.fit(module, datamodule=loader, ckpt_path=ckpt_path)
    return run


def weights(module: CollaborativeReasoningModule) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in module.state_dict().items()}


def of_peer(values: dict[str, torch.Tensor], name: str) -> dict[str, torch.Tensor]:
    return {n: v for n, v in values.items() if n.startswith(f"{name}.")}


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[n], other[n]) for n in one)


def written(groups: Sequence[Group]) -> dict[tuple[str, str, str, int], tuple[Any, ...]]:
    """Everything about every trace that must be reproducible, by problem, peer, round and index."""
    return {
        (g.problem.id, t.peer, t.round, t.index): (
            t.prompt_ids, t.token_ids, t.text, t.correct, t.hint and t.hint.text, t.reward, t.advantage,
        )
        for g in groups
        for t in g
    }  # fmt: skip


class Diary(Callback):
    """Notes weights and traces after every step, and may save a checkpoint after one of them."""

    def __init__(self, save_after: int | None = None, path: Path | None = None) -> None:
        self.weights: list[dict[str, torch.Tensor]] = []
        self.traces: list[dict] = []
        self.metrics: list[dict[str, float]] = []
        self.order: list[list[str]] = []
        self.rates: list[dict[str, float]] = []  # running rescue rates
        self.save_after, self.path = save_after, path
        self.empty = 0  # passes of sharded peers for the sake of another process

    def on_train_start(self, trainer: Trainer, pl_module: Any) -> None:
        self.start = weights(pl_module)

    def on_train_batch_end(self, trainer: Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        self.weights.append(weights(pl_module))
        self.traces.append(written(pl_module.record.groups))
        self.metrics.append(pl_module.record.metrics)
        self.order.append([p.id for p in batch])
        self.rates.append({name: rate.value for name, rate in pl_module.rescue_rates.items()})
        self.empty = getattr(getattr(trainer.strategy, "turns", None), "empty", 0)
        if len(self.weights) == self.save_after:
            trainer.save_checkpoint(self.path)
