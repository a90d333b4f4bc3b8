"""What a later file or switch says holds, and nothing else moves with it."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

from core_lightning import PeerConfig, SoloReasoningModule, objectives
from core_lightning.cli.error_lines import accepted_settings
from core_lightning.cli.layers import merge, one_config
from core_lightning.objectives import DAPO, GRPO, DrGRPO, Objective
from core_lightning.peers.config import GenerationSettings
from core_lightning.rewards import Correctness, Rarity, WeightedTerm, default_terms
from core_lightning.training.settings import AdvantageSettings
from printed_config import settings_of

TASKS = ("quickstart", "nano", "gsm8k", "math", "aime", "gpqa")
OBJECTIVES = [getattr(objectives, name) for name in ("GRPO", "GSPO", "SAPO", "DrGRPO", "DAPO", "CISPO")]


def merged(arguments: Sequence[str], folder: Path) -> dict[str, Any]:
    first, *_ = one_config(arguments, folder, accepted_settings)
    return json.loads(Path(first.removeprefix("--config=")).read_text())


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("objective", OBJECTIVES, ids=lambda c: c.__name__)
@pytest.mark.parametrize("form", ["switch", "short file", "long file"])
def test_an_objective_over_a_task_brings_its_own_values(
    task: str, objective: type[Objective], form: str, tmp_path: Path
) -> None:
    name: Any = objective.__name__
    overlay = tmp_path / "overlay.yaml"
    value = {"class_path": name} if form == "long file" else name
    overlay.write_text(yaml.safe_dump({"model": {"init_args": {"objective": value}}}))
    switch = [f"--model.objective={name}"] if form == "switch" else [f"--config={overlay}"]
    config = merged([f"--config=configs/{task}.yaml", *switch], tmp_path)["model"]["init_args"]
    before = yaml.safe_load(Path(f"configs/{task}.yaml").read_text())["model"]["init_args"]
    if objective is not GRPO:
        assert config["objective"] == {"class_path": name}
    assert {k: v for k, v in config.items() if k != "objective"} == {
        k: v for k, v in before.items() if k != "objective"
    }


@pytest.mark.parametrize("objective", OBJECTIVES[1:], ids=lambda c: c.__name__)
def test_effective_values_are_the_class_defaults(objective: type[Objective]) -> None:
    settings = settings_of("--config=configs/gsm8k.yaml", "--model.objective", objective.__name__)
    init = settings["model"]["init_args"]["objective"]["init_args"]
    assert init == dataclasses.asdict(objective())


def test_settings_after_a_switch_are_those_given() -> None:
    switches = ["--model.objective.clip_high=0.3", "--model.objective=DAPO", "--model.objective.clip_low=0.1"]
    init = settings_of("--config=configs/gsm8k.yaml", *switches)["model"]["init_args"]["objective"]["init_args"]
    assert (init["clip_low"], init["clip_high"], init["beta"]) == (0.1, 0.3, 0.0)


def module(**settings: Any) -> SoloReasoningModule:
    return SoloReasoningModule(
        {"a": PeerConfig("nano/a", generation=GenerationSettings(max_new_tokens=77))}, **settings
    )


def test_the_other_half_of_an_objective_is_set_or_demanded() -> None:
    plain = module()
    assert (plain.advantage.normalize_std, plain.advantage.mask_truncated) == (True, False)
    doctor = module(objective=DrGRPO())
    assert (doctor.advantage.normalize_std, doctor.objective.max_tokens) == (False, 77)  # type: ignore[attr-defined]
    assert module(objective=DrGRPO(max_tokens=5)).objective.max_tokens == 5  # type: ignore[attr-defined]
    masked = module(objective=DAPO()).advantage
    assert (masked.mask_truncated, masked.mask_no_signal, masked.normalize_std) == (True, True, True)
    with pytest.raises(
        ValueError, match=r"advantage\.normalize_std is True, but DrGRPO is defined with False; leave it"
    ):
        module(objective=DrGRPO(), advantage=AdvantageSettings(normalize_std=True))
    with pytest.raises(
        ValueError, match=r"advantage\.mask_truncated is False, but DAPO is defined with True; leave it"
    ):
        module(objective=DAPO(), advantage=AdvantageSettings(mask_truncated=False))
    assert module(advantage=AdvantageSettings(normalize_std=False)).advantage.normalize_std is False


def test_an_optimizer_of_another_class_needs_its_own_rate(config: Callable[..., Path], refused: Any) -> None:
    arguments = ["fit", "--config=configs/gsm8k.yaml", "--model.optimizer=torch.optim.SGD"]
    assert refused(*arguments).endswith("was one for torch.optim.AdamW; give --model.optimizer.lr as well")


def test_rewards_merge_by_name(tmp_path: Path) -> None:
    switches = [
        "--model.rewards.rarity.term", "Rarity", "--model.rewards.diversity.weight=0.3", "--model.rewards.rescue=null",
        "--model.rewards.correctness.term.alpha=0.2",
    ]  # fmt: skip
    for task in ("gsm8k", "quickstart", "nano"):
        rewards = merged([f"--config=configs/{task}.yaml", *switches], tmp_path)["model"]["init_args"]["rewards"]
        assert rewards["rarity"] == {"term": "Rarity"}
        assert rewards["rescue"] is None
        assert (rewards["diversity"]["weight"], rewards["correctness"]["term"]["init_args"]) == (0.3, {"alpha": 0.2})
        assert rewards["diversity"]["term"]["class_path"].endswith("LogDetDiversity")
    settings = settings_of("--config=configs/gsm8k.yaml", *switches)["model"]["init_args"]["rewards"]
    assert settings["correctness"]["term"]["init_args"] == {"alpha": 0.2}
    assert settings["rescue"] is None


def test_a_term_that_an_earlier_layer_added_may_be_removed(tmp_path: Path) -> None:
    first, second = tmp_path / "first.yaml", tmp_path / "second.yaml"
    first.write_text("model: {init_args: {rewards: {mine: {term: Rarity}, yours: {term: Rarity}}}}")
    second.write_text("model: {init_args: {rewards: {mine: null}}}")
    files = [f"--config=configs/{task}.yaml" for task in ("gsm8k", "published")] + [f"--config={f}" for f in (first, second)]
    switches = ["--model.rewards.yours=null", "--model.rewards.mine=null", "--model.rewards.cross=null"]
    switches += ["--model.rewards.diversity=null", "--model.rewards.misspelt=null"]
    rewards = merged([*files, *switches], tmp_path)["model"]["init_args"]["rewards"]
    assert {"mine", "yours"}.isdisjoint(rewards)
    # A default term is removed by name; the module refuses what nobody added.
    assert {name for name, term in rewards.items() if term is None} == {"diversity", "misspelt"}


def test_terms_of_a_module_stand_beside_the_default_ones() -> None:
    names = ["correctness", "diversity"]
    assert list(module().rewards.terms) == names
    assert list(module(rewards={"rarity": WeightedTerm(Rarity())}).rewards.terms) == [*names, "rarity"]
    assert list(module(rewards={"diversity": None}).rewards.terms) == names[:1]
    assert list(module(rewards={"rescue": None}).rewards.terms) == names  # published ones, there or not
    assert Correctness() == default_terms()["correctness"].term  # by name alone it is the method's


@pytest.mark.parametrize(
    ("rewards", "mend"),
    [
        ({"diversty": None}, "model.rewards.diversty is null, .* no such term to remove; did you mean diversity?"),
        ({"mine": WeightedTerm(Rarity()), "mien": None}, "model.rewards.mien is null, .*; did you mean mine?"),
        ({"xyz": None}, "terms to remove are correctness, diversity, rescue, rarity, cross"),
    ],
)
def test_null_for_a_name_that_no_term_has_is_refused(rewards: dict[str, Any], mend: str) -> None:
    with pytest.raises(ValueError, match=mend):
        module(rewards=rewards)


@pytest.mark.parametrize(
    "switches",
    [
        ["--model.peers.smollm2.lr=null", "--model.peers.smollm2.revision", "null"],
        ["--model.peers.smollm2", "{lr: null, model: nano/a}"],
        ["--model.peers.smollm2.lr", "~", "--model.peers.smollm2.lora.r", "4"],
    ],
)
def test_null_in_a_setting_of_a_peer_is_no_text(switches: list[str]) -> None:
    peers = settings_of("--config=configs/quickstart.yaml", *switches)["model"]["init_args"]["peers"]
    assert peers["smollm2"]["lr"] is None
    assert peers["smollm2"]["revision"] is None
    assert list(peers) == ["smollm2", "gemma3"]
    assert peers["gemma3"]["model"] == "embedded/gemma3-270m"
    assert peers["smollm2"]["model"] == ("nano/a" if "{" in switches[1] else "embedded/smollm2-135m-instruct")
    assert peers["smollm2"]["lora"]["r"] == (4 if switches[-1] == "4" else 16)


def test_null_in_a_setting_of_a_peer_without_a_config(tmp_path: Path) -> None:
    config = merged(["--model.peers.a.model=x", "--model.peers.a.revision=null"], tmp_path)
    assert config == {"model": {"init_args": {"peers": {"a": {"revision": None}}}}}


def test_parts_of_a_group_leave_the_rest_alone() -> None:
    base = {"model": {"init_args": {"rounds": {"k": 3, "k_rescue": 2}, "peers": {"a": {"model": "x", "lr": 1.0}}}}}
    part = {"model": {"init_args": {"rounds": {"hint_tokens": 9}, "peers": {"a": {"lora": {"r": 4}}}}}}
    both = merge(base, part)["model"]["init_args"]
    assert both["rounds"] == {"k": 3, "k_rescue": 2, "hint_tokens": 9}
    assert both["peers"] == {"a": {"model": "x", "lr": 1.0, "lora": {"r": 4}}}
    team = {"model": {"init_args": {"peers": {"b": {"model": "y"}}}}}
    assert merge(base, team)["model"]["init_args"]["peers"] == {"b": {"model": "y"}}
    tasks = {"data": {"class_path": "ReasoningGym", "init_args": {"tasks": {"one": {}}, "seed": 1}}}
    other = {"data": {"init_args": {"tasks": {"two": {}}}}}
    assert merge(tasks, other)["data"]["init_args"] == {"tasks": {"two": {}}, "seed": 1}


def test_another_source_keeps_what_it_knows(tmp_path: Path) -> None:
    overlay = tmp_path / "overlay.yaml"
    overlay.write_text("data: {class_path: JsonLines, init_args: {path: x.jsonl}}")
    data = merged(["--config=configs/gpqa.yaml", f"--config={overlay}"], tmp_path)["data"]
    assert data["class_path"] == "JsonLines"
    assert data["init_args"]["limit_train"] == 348
    assert not {"subset", "option_seed"} & data["init_args"].keys()
