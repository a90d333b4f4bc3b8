"""A run on two processes, for ``test_two_processes.py``: ``two_processes.py <folder> <llama> <neox> <url of a server>``."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar
from unittest import mock

import torch

import sharded_processes
from core_lightning.objectives import GRPO
from core_lightning.peers import LoraSettings
from core_lightning.protocol.credit import CreditSettings
from core_lightning.protocol.rounds import RoundSettings
from core_lightning.rewards import WeightedTerm
from core_lightning.training.settings import AdvantageSettings, RolloutSettings
from counting_terms import Count
from numerics import round_otherwise
from runs import GENERATION, SGD_RATE, Diary, build, fit, peer, sgd
from scripted_engine import saying, sums


@dataclass(frozen=True)
class InfiniteOnRankZero(GRPO):
    """On one rank the first loss is infinite, its gradient is not: nothing but word of mouth can tell the other rank."""

    calls: ClassVar[list[int]] = []

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        loss, diagnostics = super().__call__(*args, **kwargs)
        self.calls.append(1)
        if len(self.calls) == 1 and os.environ.get("LOCAL_RANK", "0") == "0":
            loss = loss + torch.inf
        return loss, diagnostics


def run_broken(folder: Path, llama: Path, neox: Path) -> Diary:
    """One step that both ranks must leave out for peer a, and one that they take."""
    module = build({"a": peer(llama), "b": peer(neox)}, objective=InfiniteOnRankZero(beta=0.0))
    diary = Diary()
    fit(module, folder, diary, limit_train_batches=2, devices=2, strategy="ddp")
    return diary


def small_sgd(params: Any) -> torch.optim.Optimizer:
    """Steps that are not clipped, so that their lengths are compared, too; long ones enlarge what two ways to add round differently."""
    return torch.optim.SGD(params, lr=SGD_RATE / 10)


def run(folder: Path, llama: Path, neox: Path, batch_size: int, **options: object) -> Diary:
    """Peer a has a signal on some problems only, peer b on one: steps on which a rank has none, and on which none has."""
    lora = LoraSettings(r=2, targets="all-linear")
    terms = {
        "mine": WeightedTerm(Count("abcdefghij0123456789", peers=("a",), problems=("p0", "p1", "p2", "p5"))),
        "yours": WeightedTerm(Count("abcdefghij0123456789", peers=("b",), problems=("p3",))),
    }
    module = build(
        {"a": peer(llama, lora=lora), "b": peer(neox, lora=lora)},
        rewards=terms,
        optimizer=small_sgd,
        objective=GRPO(beta=0.0),
        advantage=AdvantageSettings("peer", normalize_std=False),
        rounds=RoundSettings(k=6),
        credit=CreditSettings("cold"),
        max_grad_norm=100.0,
    )
    diary = Diary()
    fit(module, folder, diary, n=8, batch_size=batch_size, max_epochs=2, **options)
    return diary


def run_drawing(folder: Path, llama: Path, neox: Path, batch_size: int, **options: object) -> Diary:
    """Few problems have a signal, so steps draw further ones: perhaps fewer than there are ranks."""
    terms = {"count": WeightedTerm(Count("abcdefghij0123456789", problems=("p1", "p4", "p6", "p9")))}
    module = build(
        {"a": peer(llama), "b": peer(neox)},
        rewards=terms,
        optimizer=sgd,
        objective=GRPO(beta=0.0),
        advantage=AdvantageSettings("peer", normalize_std=False),
        rounds=RoundSettings(k=6),
        max_grad_norm=1.0,  # larger steps enlarge what two ways to add round differently
        rollout=RolloutSettings(max_draws=2),
    )
    diary = Diary()
    fit(module, folder, diary, n=12, batch_size=batch_size, **options)
    return diary


def run_ahead(folder: Path, llama: Path, neox: Path) -> tuple[Diary, ...]:
    """A step ahead, and the same gone on from a checkpoint after two steps, with whole peers and with parts of them."""
    served = replace(GENERATION, engine="server")  # which is scripted here, like any engine
    diaries = (Diary(2, folder / "ahead.ckpt"), Diary(), Diary())
    for diary, strategy in zip(diaries, ("ddp", "ddp", "sharded"), strict=True):
        ckpt_path = folder / "ahead.ckpt" if diary is not diaries[0] else None
        module = build({"a": peer(llama, generation=served), "b": peer(neox, generation=served)}, rollout=RolloutSettings(lag=1))
        fit(module, folder, diary, n=16, devices=2, strategy=strategy, ckpt_path=ckpt_path)
    return diaries


if __name__ == "__main__":
    folder, llama, neox = map(Path, sys.argv[1:4])
    torch.set_num_threads(1)
    round_otherwise()  # as the test's own process does, which runs the other side of the comparison
    with saying(sums):
        diary = run(folder, llama, neox, 2, devices=2, strategy="team")
        broken = run_broken(folder, llama, neox)
        sharded = run(folder, llama, neox, 2, devices=2, strategy="sharded")
        drawing = run_drawing(folder, llama, neox, 2, devices=2, strategy="ddp")
        sharded_drawing = run_drawing(folder, llama, neox, 2, devices=2, strategy="sharded")
        with mock.patch("core_lightning.training.team.check_engine"):
            ahead, resumed, resumed_in_parts = run_ahead(folder, llama, neox)
    parts = sharded_processes.main(folder, llama, neox, sys.argv[4])
    rank = int(os.environ.get("LOCAL_RANK", "0"))
    torch.save(
        {
            "ahead": ahead.weights,
            "resumed": resumed.weights,
            "resumed_in_parts": resumed_in_parts.weights,
            "sharded_drawing": sharded_drawing.weights,
            "drawing": drawing.weights,
            "drawing_metrics": drawing.metrics,
            "sampled": [sorted({key[0] for key in step}) for step in drawing.traces],
            "broken": [broken.start, *broken.weights],
            "start": diary.start,
            "weights": diary.weights,
            "order": diary.order,
            "metrics": diary.metrics,
            "rates": diary.rates,
            "sharded": sharded.weights,
            "empty": sharded.empty,
            "parts": parts,
        },
        folder / f"rank-{rank}.pt",
    )
