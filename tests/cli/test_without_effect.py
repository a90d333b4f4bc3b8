"""A setting that does nothing is said; a limit above the data caps; a finished run is not resumed in silence."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from core_lightning import CollaborativeReasoningModule, PeerConfig, SoloReasoningModule
from core_lightning.cli.command_checks import check_unfinished
from core_lightning.cli.main import main
from core_lightning.cli.no_effect import without_effect
from core_lightning.objectives import GRPO, SAPO, DrGRPO
from core_lightning.protocol.credit import CreditSettings
from core_lightning.protocol.faithful import FaithfulSettings
from core_lightning.protocol.prompts import PromptSettings
from core_lightning.protocol.rounds import RoundSettings
from core_lightning.rewards import Correctness, HashingEmbedder, HybridDistance, RescueBonus, WeightedTerm
from core_lightning.training.settings import AdvantageSettings

PARTLY = RoundSettings(students="all", hint_probability=0.5)
WORDS = HybridDistance(0.0, 1.0)


def said(**settings: Any) -> list[str]:
    style = settings.pop("style", "auto")
    peers = {name: PeerConfig(f"nano/{name}", prompt_style=style) for name in "ab"}
    by = AdvantageSettings("peer")  # with a baseline per round a single rescue has nothing to be compared with
    settings = {"rounds": RoundSettings(k_rescue=1), "credit": CreditSettings("hinted"), "advantage": by} | settings
    module = CollaborativeReasoningModule(peers, **settings)
    return [line.partition(" has no effect: ")[0] for line in without_effect(module)]


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({}, []),
        ({"rounds": RoundSettings(k_rescue=0, students="all", hint_think=True)}, ["rounds.students", "rounds.hint_think"]),
        ({"rounds": RoundSettings(k_rescue=0), "rewards": {"mine": WeightedTerm(RescueBonus())}}, ["rewards.mine"]),
        ({"rounds": RoundSettings(k_rescue=1, hint_fraction=0.2)}, ["rounds.hint_fraction"]),
        ({"rounds": RoundSettings(k_rescue=1, hint_fraction=0.2, hint_form="first_fraction")}, []),
        ({"credit": CreditSettings("hinted", adaptive_below=0.9)}, ["credit.adaptive_below"]),
        ({"credit": CreditSettings("hinted", imitation_weight=0.9)}, ["credit.imitation_weight"]),
        ({"objective": DrGRPO(), "advantage": AdvantageSettings("peer", std_floor=0.5)}, ["advantage.std_floor"]),
        ({"objective": GRPO(clip_low=0.1)}, ["objective.clip_low"]),
        ({"objective": GRPO(clip_low=0.1), "updates_per_batch": 2}, []),
        ({"objective": SAPO(temperature_rescue=0.7)}, ["objective.temperature_rescue"]),
        (
            {"rounds": RoundSettings(k_rescue=0, rescue_temperature=0.5, rescue_top_p=0.9)},
            ["rounds.rescue_temperature", "rounds.rescue_top_p"],
        ),
        ({"rounds": RoundSettings(k_rescue=0, rescue_top_p=0.9), "eval_rescue": True}, []),
        ({"rounds": RoundSettings(teacher="shortest", teacher_ties="length")}, ["rounds.teacher_ties"]),
        ({"rounds": RoundSettings(teacher_ties="length")}, []),
        ({"credit": CreditSettings("peer_trace", weight=0.5)}, ["credit.weight"]),
        ({"credit": CreditSettings("both", weight=0.5)}, []),
        ({"rounds": PARTLY, "credit": CreditSettings("peer_trace", weight=0.5)}, []),
        (
            {"rounds": RoundSettings(k_rescue=0), "credit": CreditSettings("hinted", 0.5, probability_floor=0.1)},
            ["credit.probability_floor", "credit.weight"],
        ),
        ({"credit": CreditSettings("peer_trace", probability_floor=0.1)}, []),
        (
            {"credit": CreditSettings("peer_trace", importance_bound=2.0, rescue_imitation_weight=0.1)},
            ["credit.rescue_imitation_weight", "credit.importance_bound"],
        ),
        ({"credit": CreditSettings("cold", importance_bound=2.0, faithful=FaithfulSettings(0.5))}, []),
        ({"credit": CreditSettings("hinted", faithful=FaithfulSettings(0.5, False))}, [
            "credit.faithful.min_probability", "credit.faithful.equations",
        ]),
        ({"credit": CreditSettings("cold", imitation_weight=0.5, rescue_imitation_weight=0.1)}, ["credit.imitation_weight"]),
        ({"objective": GRPO(kl_estimator="k1", beta=0.0)}, ["objective.kl_estimator"]),
        ({"objective": GRPO(kl_estimator="k1", beta=0.1)}, []),
        ({"objective": GRPO(off_policy_bound=3.0, off_policy="never")}, ["objective.off_policy_bound"]),
        ({"objective": GRPO(off_policy_bound=3.0)}, ["objective.off_policy_bound"]),
        ({"objective": GRPO(off_policy_bound=3.0, off_policy="always")}, []),
        ({"style": "plain", "prompt": PromptSettings(system="You add.", date="2026-01-31")}, ["prompt.system", "prompt.date"]),
        ({"style": "plain"}, []),
        ({"prompt": PromptSettings(system="You add.")}, []),
        ({"distance": WORDS, "rewards": {"diversity": None}}, ["distance.embedding_weight", "distance.operation_weight"]),
        ({"embedder": HashingEmbedder(), "rewards": {"diversity": None}}, ["model.embedder"]),
        ({"embedder": HashingEmbedder(), "distance": WORDS}, ["model.embedder"]),
        ({"embedder": HashingEmbedder()}, []),
    ],
)  # fmt: skip
def test_settings_without_effect(settings: dict[str, Any], named: list[str]) -> None:
    assert said(**settings) == named


@pytest.mark.parametrize("mode", ["teacher_and_rescue", "own_trace"])
def test_a_single_peer_has_nobody_to_learn_from(mode: Any) -> None:
    credit = CreditSettings(mode, weight=0.5, imitation_weight=0.1, importance_bound=2.0)
    lines = list(without_effect(SoloReasoningModule({"a": PeerConfig("nano/a")}, credit=credit)))
    named = ["imitation_weight"] if mode != "own_trace" else []
    named += ["importance_bound", "weight"]
    assert [line.partition(" has no effect: ")[0] for line in lines[1:]] == [f"credit.{name}" for name in named]


@pytest.mark.parametrize(
    ("rewards", "line"),
    [
        (dict.fromkeys(("correctness", "diversity")), "model.rewards has no term that counts, so there is nothing to learn from"),
        ({"correctness": None}, "model.rewards has only diversity, which shades what another term rewards, so there is nothing"),
        ({"correctness": WeightedTerm(Correctness(), 0.0)}, "model.rewards has only diversity, which shades what another"),
    ],
)
def test_rewards_of_which_nothing_is_learned_are_refused(rewards: dict[str, Any], line: str) -> None:
    with pytest.raises(ValueError, match=r"^model\.rewards has .*; keep correctness with a weight above 0, or add a") as caught:
        said(rewards=rewards)
    assert str(caught.value).startswith(line)


def test_limits_cap_and_a_finished_run_says_so(
    config: Callable[..., Path], tmp_path: Path, refused: Callable[..., str], caplog: pytest.LogCaptureFixture
) -> None:
    file = config()
    main(["fit", f"--config={file}", "--data.limit_train=500", "--data.limit_val=200"])
    assert "data.limit_val is 200; the val split of JsonLines holds 2 problems, and all of them are used" in caplog.messages
    kept = {f: f.read_bytes() for f in (tmp_path / "run").rglob("*") if f.is_file()}
    line = refused("fit", f"--run={tmp_path}/run")
    assert line == "the run is complete at step 2; raise trainer.max_steps, which is 2, to go on"
    main(["preview", f"--run={tmp_path}/run", "--problems=1"])
    assert {f: f.read_bytes() for f in (tmp_path / "run").rglob("*") if f.is_file()} == kept


def test_a_run_of_epochs_is_complete_after_the_last(tmp_path: Path) -> None:
    loops = {"fit_loop": {"epoch_progress": {"current": {"completed": 2}}}}
    held = {"global_step": 12, "loops": loops}
    check_unfinished(held, SimpleNamespace(max_steps=-1, max_epochs=2, default_root_dir=tmp_path))  # it lacks the report
    (tmp_path / "report.html").touch()
    with pytest.raises(ValueError, match=r"complete at step 12, the end of epoch 2; raise trainer\.max_epochs"):
        check_unfinished(held, SimpleNamespace(max_steps=-1, max_epochs=2, default_root_dir=tmp_path))
    check_unfinished(held, SimpleNamespace(max_steps=-1, max_epochs=3, default_root_dir=tmp_path))
    check_unfinished(held, SimpleNamespace(max_steps=13, max_epochs=None, default_root_dir=tmp_path))
