"""The Python of the README is run as it stands there."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from core_lightning.callbacks import TeamPassAtKCallback
from core_lightning.rewards import RewardContext, WeightedTerm
from runs import Diary, build, data, fit, of_peer, peer, same, trainer
from scripted_engine import nano, saying

README = Path(__file__).parents[2] / "README.md"


def sources() -> list[str]:
    return re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)


def blocks() -> dict[str, dict[str, Any]]:
    """What each Python block that defines a class defines, by its last name."""
    spaces = []
    for code in sources():
        if "class " not in code:
            continue
        space: dict[str, Any] = {"__name__": "readme"}
        exec(code, space)
        spaces.append(space)
    return {list(space)[-1]: space for space in spaces}


def test_a_team_of_four_trains(llama_folder: Path, neox_folder: Path, tmp_path: Path) -> None:
    quartet = blocks()["QuartetReasoningModule"]["QuartetReasoningModule"]
    peers = {"a": peer(llama_folder), "b": peer(neox_folder), "c": peer(llama_folder, lr=1e-3), "d": peer(neox_folder)}
    with pytest.raises(ValueError, match="QuartetReasoningModule needs 4 or more"):
        build({n: peers[n] for n in "abc"}, quartet)
    module, diary = build(peers, quartet), Diary()
    fit(module, tmp_path, diary, limit_train_batches=1)
    assert {key[1] for key in diary.traces[0]} == set("abcd")
    assert [n for n in "abcd" if same(of_peer(diary.start, n), of_peer(diary.weights[-1], n))] == []


def test_a_term_of_ones_own_scores(llama_folder: Path, neox_folder: Path, tmp_path: Path) -> None:
    brevity = blocks()["Brevity"]["Brevity"]()
    module = build({"a": peer(llama_folder), "b": peer(neox_folder)}, rewards={"brevity": WeightedTerm(brevity)})
    diary = Diary()
    fit(module, tmp_path, diary, limit_train_batches=1)
    assert "reward/brevity/mean" in diary.metrics[0]
    for group in module.record.groups:
        assert [t.terms["brevity"] for t in group] == brevity(group, RewardContext())
        assert all((t.terms["brevity"] > 0) == t.correct for t in group)


def test_a_training_without_a_config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (code,) = (c for c in sources() if "Trainer(" in c)
    for whole, short in (("max_steps=60", "max_steps=1"), ("batch_size=32", "batch_size=2"), ("val_size=200", "val_size=3")):
        assert whole in code
        code = code.replace(whole, short)
    monkeypatch.chdir(tmp_path)
    space: dict[str, Any] = {"__name__": "readme"}
    with saying(nano):
        exec(code, space)
    assert (tmp_path / "runs/python/adapters/a").is_dir()
    assert (tmp_path / "runs/python/traces.jsonl").stat().st_size > 0
    figures = space["figures"]
    for name in ("val/a/pass_at_1", "val/b/pass_at_2", "val/team_pass_at_2", "val/majority_vote"):
        assert figures[f"{name}/low"] <= figures[name] <= figures[f"{name}/high"]


def test_figures_of_a_trainer_without_callbacks(llama_folder: Path, neox_folder: Path, tmp_path: Path) -> None:
    module = build({"a": peer(llama_folder), "b": peer(neox_folder)}, eval_samples=1)
    run = trainer(tmp_path)
    (figures,) = run.validate(module, data(tmp_path, val_fraction=0.25), verbose=False)
    assert {"val/a/pass_at_1", "val/b/pass_at_1", "val/team_pass_at_1", "val/equal_budget"} <= figures.keys()
    own = TeamPassAtKCallback(k=1)
    run = trainer(tmp_path, own)
    run.test(module, data(tmp_path, val_fraction=0.25, test_fraction=0.25), verbose=False)
    assert [c for c in run.callbacks if isinstance(c, TeamPassAtKCallback)] == [own]
    assert own.history[-1]["stage"] == "test"
