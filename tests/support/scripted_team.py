"""A team whose traces are written down instead of sampled: the fixture around the callbacks.

Everything else is real: a Trainer, manual optimization with one optimizer, the data module with its resumable loader.
"""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from torch import nn

from core_lightning.data import RescueDataModule
from core_lightning.module import StepRecord
from core_lightning.peers.config import PeerConfig
from core_lightning.protocol import Group, Hint, Problem, Trace
from core_lightning.protocol.prompts import PromptSettings
from core_lightning.training.step_metrics import of_all_processes, step_metrics


def problem(i: int, **settings: Any) -> Problem:
    return Problem(
        **({"id": f"p{i:03d}", "question": f"What is {i} plus {i} and {i} more?", "answer": str(3 * i)} | settings)
    )


def trace(peer: str, round: str, index: int, correct: bool, answer: str | None, **settings: Any) -> Trace:
    text = f"{peer} thinks, then says {answer}"
    values = {"prompt_ids": [1], "token_ids": [2] * (3 + index), "text": text, "truncated": False}
    return Trace(peer=peer, round=round, index=index, correct=correct, answer=answer, **(values | settings))


def group_of(task: Problem, cold: dict[str, Sequence[bool]], rescue: dict[str, Sequence[bool]] | None = None) -> Group:
    """A group from verdicts: right answers are gold, a wrong one is -(index + 1)."""
    group = Group(task)
    for peer, verdicts in cold.items():
        group.add(trace(peer, "cold", i, ok, task.answer if ok else str(-i - 1)) for i, ok in enumerate(verdicts))
    for peer, verdicts in (rescue or {}).items():
        teacher = next(t for t in group.of(round="cold") if t.correct and t.peer != peer)
        hint = Hint(f"add {task.id} three times", teacher.peer, teacher.index, leaks=task.id.endswith("0"))
        group.add(trace(peer, "rescue", i, ok, task.answer if ok else "-9", hint=hint) for i, ok in enumerate(verdicts))
    return group


def written_group(task: Problem, peers: Sequence[str], skill: float, key: str, k: int = 2) -> Group:
    """A reproducible group: every peer is right with probability ``skill``, a hint helps half of the time."""
    draw = random.Random(f"{key}/{task.id}")
    cold = {peer: [draw.random() < skill for _ in range(k)] for peer in peers}
    failed = [p for p in peers if not any(cold[p]) and any(any(cold[q]) for q in peers if q != p)]
    group = group_of(task, cold, {p: [draw.random() < 0.5] for p in failed})
    for t in group:
        t.terms = {"correctness": float(t.correct), "rarity": None if t.round == "rescue" else draw.random()}
        t.reward = float("nan") if t.round == "rescue" else float(t.correct)
        t.advantage = draw.gauss(0, 1)
    return group


class WrittenPeer(nn.Linear):
    """One weight matrix that counts its steps."""

    def __init__(self) -> None:
        super().__init__(1, 1, bias=False)
        nn.init.zeros_(self.weight)

    def save_adapter(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        torch.save(self.weight.detach(), folder / "adapter_model.bin")


class ScriptedTeam(LightningModule):
    """Returns written groups and moves each peer's weight by one per step.

    ``fail_at`` raises in that step; with ``in_evaluation``, in the second batch of the evaluation after so many steps.
    """

    def __init__(
        self,
        peers: Sequence[str] = ("a", "b"),
        eval_samples: int = 4,
        fail_at: tuple[int, BaseException] | None = None,
        in_evaluation: bool = False,
    ) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.peer_configs = {name: PeerConfig(model=f"nano/{name}") for name in peers}
        self.eval_samples = eval_samples
        self.prompt = PromptSettings().dated()
        self.fail_at = None if in_evaluation else fail_at
        self.fail_evaluation_at = fail_at if in_evaluation else None
        self.seed = 42
        self.peers = nn.ModuleDict({name: WrittenPeer() for name in peers})
        self.record = StepRecord()
        self.batches_done = 0

    def training_step(self, batch: list[Problem], batch_idx: int) -> None:
        groups = [written_group(p, list(self.peer_configs), 0.35, f"train/{self.current_epoch}") for p in batch]
        if self.fail_at and self.batches_done == self.fail_at[0]:
            raise self.fail_at[1]
        optimizer: Any = self.optimizers()
        optimizer.zero_grad()
        self.manual_backward(-sum(p.weight.sum() for p in self.peers.values()))
        optimizer.step()
        self.batches_done += 1
        names = list(self.peer_configs)
        seconds = {f"{phase}/{n}": 1.0 for phase in ("sample", "rescue", "score", "backward") for n in names}
        terms = {"correctness/mean": 0.4, "rarity/mean": 0.1}
        metrics = step_metrics(groups, names, terms, {}, seconds | {"verify": 0.5, "reward": 0.5, "step": 0.25})
        metrics = of_all_processes(metrics, self.device)
        self.record = StepRecord(self.batches_done - 1, groups, metrics)
        self.log_dict(metrics, batch_size=len(groups))

    def validation_step(self, batch: list[Problem], batch_idx: int, dataloader_idx: int = 0) -> list[Group]:
        if self.fail_evaluation_at and (self.fail_evaluation_at[0], 1) == (self.batches_done, batch_idx):
            raise self.fail_evaluation_at[1]
        # Skill rises with training, so that before and after differ.
        skill = 0.3 + 0.4 * min(1.0, self.batches_done / 8)
        groups = [written_group(p, list(self.peer_configs), skill, "eval", self.eval_samples) for p in batch]
        return [Group(g.problem, g.of(round="cold")) for g in groups]

    test_step = validation_step

    def total_batches(self) -> float:
        return self.trainer.estimated_stepping_batches

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=1.0)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["batches_done"] = self.batches_done

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self.batches_done = checkpoint["batches_done"]


class WrittenProblems(RescueDataModule):
    def __init__(self, train: int = 12, val: int = 20, batch_size: int = 2, chance: float = 0.25) -> None:
        super().__init__(batch_size=batch_size)
        self.sizes = {"train": train, "val": val, "test": 6}
        self.chance_level = chance

    def load(self) -> dict[Any, list[Problem]]:
        out, start = {}, 0
        for split, size in self.sizes.items():
            out[split] = [problem(i, chance=self.chance_level) for i in range(start, start + size)]
            start += size
        return out


def trainer_in(folder: Path, callbacks: list[Any], **settings: Any) -> Trainer:
    defaults = {
        "accelerator": "cpu",
        "devices": 1,
        "max_epochs": 2,
        "logger": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "enable_checkpointing": any("Checkpoint" in type(c).__name__ for c in callbacks),
        "num_sanity_val_steps": -1,
        "log_every_n_steps": 1,
    }
    return Trainer(default_root_dir=str(folder), callbacks=callbacks, **(defaults | settings))


def without_times(text: str) -> str:
    return re.sub(r"\d+\.\d+", "#", text)
