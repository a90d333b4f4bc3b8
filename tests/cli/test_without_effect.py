"""A setting that does nothing is said; a limit above the data caps; a finished run is not resumed in silence."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from core_lightning import CollaborativeReasoningModule, PeerConfig
from core_lightning.cli.command_checks import check_unfinished
from core_lightning.cli.main import main
from core_lightning.cli.no_effect import without_effect
from core_lightning.objectives import GRPO, SAPO, DrGRPO
from core_lightning.protocol.credit import CreditSettings
from core_lightning.protocol.rounds import RoundSettings
from core_lightning.rewards import RescueBonus, WeightedTerm
from core_lightning.training.settings import AdvantageSettings


def said(**settings: Any) -> list[str]:
    peers = {name: PeerConfig(f"nano/{name}") for name in "ab"}
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
    ],
)  # fmt: skip
def test_settings_without_effect(settings: dict[str, Any], named: list[str]) -> None:
    assert said(**settings) == named


def test_limits_cap_and_a_finished_run_says_so(
    config: Callable[..., Path], tmp_path: Path, refused: Callable[..., str], caplog: pytest.LogCaptureFixture
) -> None:
    file = config()
    main(["fit", f"--config={file}", "--data.limit_train=500", "--data.limit_val=200"])
    assert "data.limit_val is 200; the val split of JsonLines holds 2 problems, and all of them are used" in caplog.messages
    kept = {f: f.read_bytes() for f in (tmp_path / "run").rglob("*") if f.is_file()}
    line = refused("fit", f"--run={tmp_path}/run")
    assert line == "the run is complete at step 2; raise trainer.max_steps, which is 2, to go on"
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
