from __future__ import annotations

import dataclasses
import logging
import random
from pathlib import Path
from typing import Any

import pytest
import torch

from core_lightning import CollaborativeReasoningModule, PeerConfig
from core_lightning.peers import LoraSettings
from core_lightning.protocol.rounds import RoundSettings
from core_lightning.rewards import Linear, WeightedTerm
from core_lightning.training.checkpoint import plain
from counting_terms import Count
from runs import Diary, build, fit, peer, same, weights

#: A weight that changes at every step, so that a wrong progress shows in the rewards.
REWARDS = {"count": WeightedTerm(Count(), Linear(1.0, 3.0)), "a": WeightedTerm(Count("aeiou"), 0.4)}


@pytest.fixture(autouse=True, scope="module")
def scripted() -> None:
    """What is sampled must come again, so it is really sampled here; what it is does not matter."""


@pytest.fixture(scope="module")
def pair(llama_folder: Path, neox_folder: Path) -> dict[str, PeerConfig]:
    return {"a": peer(llama_folder), "b": peer(neox_folder, lr=2e-3)}


@pytest.fixture(scope="module")
def whole(pair: dict[str, PeerConfig], tmp_path_factory: pytest.TempPathFactory) -> tuple[Diary, Path, dict[str, Any]]:
    """Two epochs of three steps, saved after the second and the fifth, and the state at the end."""
    folder = tmp_path_factory.mktemp("whole")
    module = build(pair, rewards=REWARDS, updates_per_batch=2)

    class TwoSaves(Diary):
        def on_train_batch_end(self, trainer: Any, *rest: Any) -> None:
            super().on_train_batch_end(trainer, *rest)
            if len(self.weights) in (2, 5):
                trainer.save_checkpoint(folder / f"step-{len(self.weights)}.ckpt")

    diary = TwoSaves()
    run = fit(module, folder, diary, n=5, max_epochs=2)
    return diary, folder, end_state(run)


def end_state(run: Any) -> dict[str, Any]:
    return {
        "optimizer": run.optimizers[0].state_dict(),
        "schedule": run.lr_scheduler_configs[0].scheduler.state_dict(),
        "global_step": run.global_step,
        "counters": (run.lightning_module.batches_done, run.lightning_module.rescue_rates),
    }


def assert_equal(one: Any, other: Any) -> None:
    """Bitwise, through any containers."""
    if isinstance(one, torch.Tensor):
        assert torch.equal(one, other)
    elif isinstance(one, dict):
        assert one.keys() == other.keys()
        for key in one:
            assert_equal(one[key], other[key])
    elif isinstance(one, list | tuple):
        assert len(one) == len(other)
        for x, y in zip(one, other, strict=True):
            assert_equal(x, y)
    elif not callable(one):
        assert one == other


@pytest.mark.parametrize("saved", [2, 5])
def test_a_resumed_run_equals_one_that_was_not_interrupted(
    pair: dict[str, PeerConfig], whole: tuple[Diary, Path, dict[str, Any]], tmp_path: Path, saved: int
) -> None:
    expected, folder, end = whole
    torch.manual_seed(123)  # another process has other streams behind it
    random.seed(5)
    module, diary = build(pair, rewards=REWARDS, updates_per_batch=2), Diary()
    run = fit(module, tmp_path, diary, n=5, max_epochs=2, ckpt_path=folder / f"step-{saved}.ckpt")
    assert len(expected.weights) == 6
    assert same(diary.start, expected.weights[saved - 1])
    assert diary.order == expected.order[saved:]
    assert diary.traces == expected.traces[saved:]
    for one, other in zip(diary.weights, expected.weights[saved:], strict=True):
        assert same(one, other)
    assert_equal(end_state(run), end)
    for name in ("train/a/lr", "train/b/lr", "train/a/loss", "reward/count/mean"):
        assert [m[name] for m in diary.metrics] == [m[name] for m in expected.metrics[saved:]]


def test_a_checkpoint_holds_adapters_and_plain_data_only(
    pair: dict[str, PeerConfig], whole: tuple[Diary, Path, dict[str, Any]]
) -> None:
    diary, folder, _ = whole
    checkpoint = torch.load(folder / "step-2.ckpt", weights_only=True)
    assert same(checkpoint["state_dict"], diary.weights[1])
    assert all("lora_" in name for name in checkpoint["state_dict"])
    # Weights and two moments, all in float32; nothing of the size of a base model beside them.
    assert {v.dtype for v in checkpoint["state_dict"].values()} == {torch.float32}
    numbers = sum(v.numel() for v in checkpoint["state_dict"].values())
    assert (folder / "step-2.ckpt").stat().st_size < 3 * 4 * numbers + 300_000
    moments = checkpoint["optimizer_states"][0]["state"].values()
    assert sum(m["exp_avg"].numel() for m in moments) == numbers


def test_random_streams_are_restored(
    pair: dict[str, PeerConfig], whole: tuple[Diary, Path, dict[str, Any]], tmp_path: Path
) -> None:
    _, folder, _ = whole
    state = torch.load(folder / "step-2.ckpt", weights_only=True)["core_lightning"]
    seen: dict[str, Any] = {}

    class Look(Diary):
        def on_train_start(self, trainer: Any, pl_module: Any) -> None:
            seen["torch"], seen["python"] = torch.get_rng_state(), random.getstate()
            trainer.should_stop = True

    torch.manual_seed(99)
    fit(build(pair, rewards=REWARDS, updates_per_batch=2), tmp_path, Look(), n=5, max_epochs=2,
        ckpt_path=folder / "step-2.ckpt")  # fmt: skip
    assert torch.equal(seen["torch"], state["torch_rng"])
    assert list(seen["python"][1]) == state["python_rng"][1]


@pytest.mark.parametrize("wrong", ["another name", "a peer less", "another rank", "another model", "other targets"])
def test_the_wrong_peers_are_refused(
    pair: dict[str, PeerConfig],
    whole: tuple[Diary, Path, dict[str, Any]],
    llama_folder: Path,
    neox_folder: Path,
    tmp_path: Path,
    wrong: str,
) -> None:
    _, folder, _ = whole
    peers = {
        "another name": {"a": pair["a"], "c": pair["b"]},
        "a peer less": pair | {"c": peer(llama_folder)},
        "another rank": pair | {"b": peer(neox_folder, lora=LoraSettings(r=4, targets="all-linear"))},
        "another model": {"a": peer(neox_folder), "b": peer(llama_folder)},
        "other targets": pair | {"a": peer(llama_folder, lora=LoraSettings(r=2, targets=["q_proj"]))},
    }[wrong]
    module = build(peers)
    with pytest.raises(
        ValueError, match=r"the checkpoint (lacks|holds|has) .*resume with the peers and lora settings"
    ) as e:
        fit(module, tmp_path, n=5, max_epochs=2, ckpt_path=folder / "step-2.ckpt")
    assert "\n" not in str(e.value)
    assert {"a peer less": "c.", "another name": "c.", "another rank": "b."}.get(wrong, "a.") in str(e.value)


def test_a_checkpoint_of_something_else_is_refused(pair: dict[str, PeerConfig], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"the checkpoint was not made by core_lightning"):
        build(pair).on_load_checkpoint({"state_dict": {}})


def test_changed_settings_hold_and_are_printed(
    pair: dict[str, PeerConfig],
    whole: tuple[Diary, Path, dict[str, Any]],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    _, folder, _ = whole
    changed = pair | {"b": dataclasses.replace(pair["b"], score_batch_tokens=99)}
    module = build(changed, rewards=REWARDS, updates_per_batch=2, rounds=RoundSettings(k=3), max_grad_norm=0.5)
    diary = Diary()
    with caplog.at_level(logging.INFO):
        fit(module, tmp_path, diary, n=5, max_epochs=2, ckpt_path=folder / "step-5.ckpt")
    lines = {m for m in caplog.messages if m.startswith("resume:")}
    assert lines == {
        "resume: model.rounds.k was 2 in the checkpoint and is now 3; the new value holds",
        "resume: model.max_grad_norm was 1.0 in the checkpoint and is now 0.5; the new value holds",
        "resume: model.peers.b.score_batch_tokens was 16384 in the checkpoint and is now 99; the new value holds",
    }
    assert {key[3] for key in diary.traces[0] if key[2] == "cold"} == {0, 1, 2}


def test_every_setting_of_the_module_is_compared(pair: dict[str, PeerConfig]) -> None:
    """One that is not would change in silence when a run is resumed."""
    import inspect

    asked = set(inspect.signature(CollaborativeReasoningModule.__init__).parameters) - {"self", "optimizer"}
    assert asked == set(build(pair).settings())  # the optimizer is compared by its state


def test_objects_without_a_text_of_their_own_are_compared_by_class() -> None:
    assert plain(object()) == plain(object()) == {"class": "object"}
    assert plain(Path("a")) == "a"


def test_counts_since_the_run_began_go_on(
    pair: dict[str, PeerConfig], whole: tuple[Diary, Path, dict[str, Any]], tmp_path: Path
) -> None:
    _, folder, _ = whole
    checkpoint = torch.load(folder / "step-2.ckpt", weights_only=True)
    assert checkpoint["core_lightning"]["answers"] == {"timeouts": 0, "workers_lost": 0}
    checkpoint["core_lightning"]["answers"] = {"timeouts": 3, "workers_lost": 1}
    torch.save(checkpoint, tmp_path / "counted.ckpt")
    diary = Diary()
    fit(build(pair, rewards=REWARDS, updates_per_batch=2), tmp_path, diary, n=5, max_epochs=2, ckpt_path=tmp_path / "counted.ckpt")
    assert {m["train/answer_timeouts"] for m in diary.metrics} == {3.0}
    assert {m["train/answer_workers_lost"] for m in diary.metrics} == {1.0}


def test_a_changed_learning_rate_holds_too(
    pair: dict[str, PeerConfig],
    whole: tuple[Diary, Path, dict[str, Any]],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The optimizer's state would bring the old one back."""
    expected, folder, _ = whole
    changed = pair | {"b": dataclasses.replace(pair["b"], lr=1e-4)}
    module, diary = build(changed, rewards=REWARDS, updates_per_batch=2), Diary()
    with caplog.at_level(logging.INFO):
        fit(module, tmp_path, diary, n=5, max_epochs=2, ckpt_path=folder / "step-2.ckpt")
    assert "resume: lr of peer b's optimizer was 0.002 in the checkpoint and is now 0.0001; the new value holds" in (
        caplog.messages
    )
    before, now = ([m["train/b/lr"] for m in d.metrics][-3:] for d in (expected, diary))
    assert now == pytest.approx([rate / 20 for rate in before])
    assert [m["train/a/lr"] for m in diary.metrics] == [m["train/a/lr"] for m in expected.metrics[2:]]


def test_settings_of_a_module_are_plain_data(pair: dict[str, PeerConfig]) -> None:
    import json

    settings = build(pair, rewards=REWARDS).settings()
    assert json.loads(json.dumps(settings)) == settings
    assert settings["rewards"]["count"]["term"]["class"] == "Count"
    assert settings["rewards"]["count"]["weight"] == {"class": "Linear", "start": 1.0, "end": 3.0}
    assert settings["objective"]["class"] == "GRPO"
    assert settings["peers"]["a"]["lora"]["r"] == 2


def test_the_state_of_a_peer_moves_to_a_module_of_the_same_team(pair: dict[str, PeerConfig]) -> None:
    one, other = build(pair, seed=1), build(pair, seed=2)
    one.configure_model()
    other.configure_model()
    assert not same(weights(one), weights(other))
    other.load_state_dict(one.state_dict())
    assert same(weights(one), weights(other))
