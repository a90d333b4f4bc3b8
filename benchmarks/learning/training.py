"""One run: an arm trained on a pair from one pretraining seed and one RL seed, then measured on held-out problems."""

from __future__ import annotations

import json
import logging
import tempfile
import time
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningDataModule, Trainer

from benchmarks.learning.arms import Arm
from benchmarks.learning.budget import BudgetLoader
from benchmarks.learning.held_out import Collector, measure
from benchmarks.learning.pairs import Pair
from benchmarks.learning.training_curve import TrainingCurve
from core_lightning import CollaborativeReasoningModule, PeerConfig, SoloReasoningModule
from core_lightning.data import ProblemLoader
from core_lightning.objectives import GRPO
from core_lightning.records import Group, Problem
from core_lightning.rewards import Correctness, WeightedTerm, default_terms
from core_lightning.training.settings import ScheduleSettings


class Data(LightningDataModule):
    """Hands loaders of problems to a trainer."""

    def __init__(self, train: BudgetLoader | None = None, test: ProblemLoader | None = None) -> None:
        super().__init__()
        self.train, self.test = train, test

    def train_dataloader(self) -> BudgetLoader | None:
        return self.train

    def test_dataloader(self) -> ProblemLoader | None:
        return self.test

    def transfer_batch_to_device(self, batch: Any, device: torch.device, dataloader_idx: int) -> Any:
        """Problems are text and stay where they are."""
        return batch


def run(
    pair: Pair,
    arm: Arm,
    pretraining_seed: int,
    seed: int,
    lr: float | None = None,
    accelerator: str = "cpu",
    check: Path | None = None,
) -> dict[str, Any]:
    """Train and measure.

    Args:
        pair: Models, data and scale.
        arm: What is tried.
        pretraining_seed: Which models.
        seed: Of adapters, problems and samples; held-out samples use the same noise in all arms.
        lr: Learning rate instead of the pair's.
        accelerator: Of the trainer.
        check: JSON lines with ``question`` and ``answer``, on which the peers are measured, too.

    Returns:
        Plain data for one line of the results: ``budget`` really spent, ``training`` curves, ``held_out`` counts, and the
        same counts as ``check``.
    """
    start, cpu = time.perf_counter(), time.process_time()
    modules, curves, loaders = train(pair, arm, pretraining_seed, seed, lr, accelerator)
    trained, trained_cpu = time.perf_counter(), time.process_time()

    def counts(problems: Sequence[Problem]) -> dict[str, Any]:
        groups = _merged(evaluate(module, problems, accelerator) for module in modules)
        return measure(groups, {name: peer for module in modules for name, peer in module.team.peers.items()})

    measured = {"held_out": counts(pair.data().splits["test"])}
    if check is not None:
        measured["check"] = counts(check_problems(check))
    return {
        "budget": {
            "completions": sum(loader.spent for loader in loaders),
            "planned_completions": sum(loader.completions for loader in loaders) * pair.steps if arm.trained else 0,
            "problems": max(loader.drawn for loader in loaders),
            "optimizer_steps": pair.steps if arm.trained else 0,
            "training_seconds": round(trained - start, 1),
            "training_cpu_seconds": round(trained_cpu - cpu, 1),
            "evaluation_cpu_seconds": round(time.process_time() - trained_cpu, 1),
        },
        "training": TrainingCurve.joined(curves),
        **measured,
    }


def train(
    pair: Pair,
    arm: Arm,
    pretraining_seed: int,
    seed: int,
    lr: float | None = None,
    accelerator: str = "cpu",
    callbacks: Sequence[Callback] = (),
) -> tuple[list[CollaborativeReasoningModule], list[TrainingCurve], list[BudgetLoader]]:
    """Train the teams of an arm: one, or of a solo arm one for each peer.

    Args:
        pair: As of :func:`run`.
        arm: As of :func:`run`.
        pretraining_seed: As of :func:`run`.
        seed: As of :func:`run`.
        lr: As of :func:`run`.
        accelerator: As of :func:`run`.
        callbacks: Look on, in the training of every team.

    Returns:
        For each team its module, its curve and what it was given.
    """
    lr = lr or pair.lr
    configs = {
        name: replace(config, lr=lr * pair.lr_factors.get(name, 1.0))
        for name, config in pair.peers(pretraining_seed).items()
    }
    modules, curves, loaders = [], [], []
    for team in [{name: config} for name, config in configs.items()] if arm.solo else [configs]:
        module = make_module(pair, arm, team, seed, lr)
        curve = TrainingCurve()
        loader = _loader(pair, arm, len(team), seed)
        if arm.trained:
            with _trainer(accelerator, loader, curve, *callbacks, max_steps=pair.steps) as trainer:
                trainer.fit(module, datamodule=Data(loader))
        modules.append(module)
        curves.append(curve)
        loaders.append(loader)
    return modules, curves, loaders


def check_problems(file: Path) -> list[Problem]:
    """Problems of a file of JSON lines with ``question`` and ``answer``, answered by a number."""
    lines = map(json.loads, file.read_text(encoding="utf-8").splitlines())
    return [Problem(f"{i:05d}", line["question"], str(line["answer"])) for i, line in enumerate(lines)]


def make_module(
    pair: Pair, arm: Arm, team: Mapping[str, PeerConfig], seed: int, lr: float, **evaluation: Any
) -> CollaborativeReasoningModule:
    """The module of an arm; ``evaluation`` replaces settings of its evaluations."""
    rewards = {"correctness": WeightedTerm(Correctness(alpha=pair.alpha)), **arm.rewards}
    needs_distance = any(t.term.needs_distance for t in rewards.values())
    return (SoloReasoningModule if arm.solo else CollaborativeReasoningModule)(
        dict(team),
        rounds=replace(arm.rounds, hint_tokens=pair.hint_tokens),
        prompt=pair.prompt,
        rewards=dict.fromkeys(default_terms()) | rewards,  # these and no others
        embedder=pair.embedder() if needs_distance else None,
        advantage=arm.advantage,
        credit=arm.credit,
        objective=GRPO(beta=0.0),
        optimizer=partial(torch.optim.AdamW, lr=lr, weight_decay=0.0),
        schedule=ScheduleSettings(shape="constant", warmup=0.0),
        share_base=pair.share_base and len(team) > 1,
        seed=seed,
        **{"eval_samples": pair.eval_samples, **evaluation},
    )


def _loader(pair: Pair, arm: Arm, peers: int, seed: int) -> BudgetLoader:
    return BudgetLoader(
        pair.data().splits["train"],
        steps=pair.steps,
        completions=pair.completions * peers,
        cost=peers * (arm.rounds.k + 0.5 * arm.rounds.k_rescue),
        seed=seed,
        prefer_disagreement=arm.prefer_disagreement,
    )


def evaluate(module: CollaborativeReasoningModule, problems: Sequence[Problem], accelerator: str) -> list[Group]:
    """The traces of a test run."""
    collector = Collector()
    with _trainer(accelerator, collector) as trainer:
        trainer.test(module, datamodule=Data(test=ProblemLoader(problems, 400)), verbose=False)
    return collector.groups


def _merged(evaluations: Iterable[list[Group]]) -> list[Group]:
    """Groups of the same problems by several modules, as one group a problem."""
    merged: dict[str, Group] = {}
    for groups in evaluations:
        for group in groups:
            merged.setdefault(group.problem.id, Group(group.problem)).add(group.traces)
    return list(merged.values())


@contextmanager
def _trainer(accelerator: str, *callbacks: Callback, max_steps: int = -1) -> Iterator[Trainer]:
    """A trainer that leaves nothing behind and says nothing."""
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield Trainer(
            accelerator=accelerator,
            devices=1,
            max_steps=max_steps,
            default_root_dir=folder,
            logger=False,
            callbacks=list(callbacks),
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )
