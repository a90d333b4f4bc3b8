"""What follows the progress of a run: reward weights, the KL weight, and how many batches a run has."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import pytest

from core_lightning import PeerConfig
from core_lightning.objectives import GRPO
from core_lightning.rewards import Constant, Linear, WeightedTerm
from core_lightning.schedule import Step
from counting_terms import Count
from runs import Diary, build, fit, peer


@pytest.fixture
def pair(llama_folder: Path, neox_folder: Path) -> dict[str, PeerConfig]:
    return {"a": peer(llama_folder), "b": peer(neox_folder)}


def test_reward_weights_follow_the_run(pair: dict[str, PeerConfig], tmp_path: Path) -> None:
    rewards: list[set[tuple[float, ...]]] = []

    class Weights(Diary):
        def on_train_batch_end(self, trainer: Any, pl_module: Any, *rest: Any) -> None:
            super().on_train_batch_end(trainer, pl_module, *rest)
            traces = [t for g in pl_module.record.groups for t in g]
            for t in traces:
                count = sum(c.isdigit() for c in t.text)
                late = float(len(pl_module.record.groups) > 0 and pl_module.record.step >= 2)
                expected = count * (1.0 + pl_module.record.step) + 0.5 * count + late * 5.0 * count
                assert t.reward == pytest.approx(expected)
            rewards.append({tuple(sorted(t.terms)) for t in traces})

    terms = {
        "line": WeightedTerm(Count(), Linear(1.0, 5.0)),  # 1, 2, 3, 4 in four steps
        "flat": WeightedTerm(Count(), Constant(0.5)),
        "late": WeightedTerm(Count(), Step(0.0, 5.0)),
    }
    fit(build(pair, rewards=terms), tmp_path, Weights())
    assert rewards == [{("flat", "line")}] * 2 + [{("flat", "late", "line")}] * 2


class Noted(GRPO):
    """Keeps the KL weight it was called with, and whether there were reference log-probabilities."""

    seen: ClassVar[list[tuple[Any, bool]]] = []

    def __call__(self, logprobs: Any, old: Any, reference: Any, *args: Any, **kwargs: Any) -> Any:
        self.seen.append((self.beta, reference is not None))
        return super().__call__(logprobs, old, reference, *args, **kwargs)


def test_the_kl_weight_follows_the_run_and_costs_nothing_while_it_is_zero(
    pair: dict[str, PeerConfig], tmp_path: Path
) -> None:
    Noted.seen.clear()
    diary = Diary()
    fit(build(pair, objective=Noted(beta=Step(0.0, 0.2))), tmp_path, diary)
    assert Noted.seen == [(0.0, False)] * 4 + [(0.2, True)] * 4  # two peers, four steps
    assert [m["train/a/kl"] == m["train/a/kl"] for m in diary.metrics] == [False, False, True, True]


@pytest.mark.parametrize("updates", [1, 3])
def test_max_steps_counts_optimizer_steps(pair: dict[str, PeerConfig], tmp_path: Path, updates: int) -> None:
    progress = []

    class Progress(Diary):
        def on_train_batch_start(self, trainer: Any, pl_module: Any, *rest: Any) -> None:
            progress.append(pl_module.progress)

    module = build(pair, updates_per_batch=updates)
    run = fit(module, tmp_path, Progress(), max_steps=2 * updates, max_epochs=-1)
    assert (run.global_step, module.batches_done) == (2 * updates, 2)
    assert progress == [0.0, 0.5]


def test_max_steps_that_would_end_within_a_batch_are_refused(pair: dict[str, PeerConfig], tmp_path: Path) -> None:
    module = build(pair, updates_per_batch=3)
    with pytest.raises(ValueError, match=r"trainer.max_steps is 4 .* every batch takes 3 .*; set it to a multiple"):
        fit(module, tmp_path, max_steps=4)
    assert len(module.peers) == 0  # no model was loaded
