"""The recipes of docs/recipes.md run as they stand there, only shorter and with tiny models, and do what they say."""

from __future__ import annotations

import ast
import re
import shlex
import sys
import types
from pathlib import Path
from typing import Any

import pytest
import torch

from core_lightning.answers import read_equations
from core_lightning.objectives import Totals
from core_lightning.records import Group, Problem, Trace
from printed_config import settings_of
from scripted_engine import nano, saying

PAGE = (Path(__file__).parents[2] / "docs/recipes.md").read_text(encoding="utf-8")
RECIPES = {
    heading: re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    for heading, text in re.findall(r"^## (.+?)\n(.*?)(?=^## |\Z)", PAGE, re.DOTALL | re.MULTILINE)
}
SHORTER = (
    ("max_steps=20", "max_steps=1"), ("train_size=320", "train_size=2"), ("batch_size=16", "batch_size=2"),
    ("val_size=20", "val_size=2"), ("test_size=20", "test_size=2"),
)  # fmt: skip


def said(prompt: str, seed: int) -> str:
    """The nano pair's script; some answer where a prompt asks in other words."""
    return nano(prompt, seed) if re.search(r"Q:\S+", prompt) else "7+7=14 #### 14"


@pytest.fixture
def cook(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Runs recipes by their headings, one after the other, and returns the names they leave behind."""
    monkeypatch.chdir(tmp_path)

    def run(*headings: str, **replaced: str) -> dict[str, Any]:
        names: dict[str, Any] = {"__name__": "recipes"}
        with saying(said):
            for heading in ("Start here", *headings):
                for block in RECIPES[heading]:
                    code = block
                    for long, short in (*SHORTER, *replaced.items()):
                        code = code.replace(long, short)
                    exec(compile(code, heading, "exec"), names)
        return names

    return run


def test_recipes_are_short_and_none_is_left_out() -> None:
    assert list(RECIPES) == [
        "Start here", "Your own models", "Your own data", "A third peer", "A reward", "An objective", "A metric", "A callback",
        "An engine",
    ]  # fmt: skip
    for heading, blocks in RECIPES.items():
        assert blocks, heading
        assert all(len(code.splitlines()) < 30 for code in blocks), heading
    for long, _ in SHORTER:
        assert long in RECIPES["Start here"][0]


def test_your_own_models(cook: Any, llama_folder: Path, neox_folder: Path) -> None:
    hub = {"Qwen/Qwen3-4B-Instruct-2507": str(llama_folder), "microsoft/Phi-4-mini-reasoning": str(neox_folder)}
    module = cook("Your own models", **hub, **{"max_new_tokens=1024": "max_new_tokens=24"})["module"]
    assert set(module.peers) == {"qwen", "phi"}
    assert module.peers["qwen"].chats
    assert not module.peers["phi"].chats  # the tiny one has no template
    assert module.peers["phi"].config.lora.r == 32
    assert {g["name"]: g["initial_lr"] for g in module.optimizers().param_groups} == {"qwen": 1e-3, "phi": 5e-6}


def test_your_own_data(cook: Any) -> None:
    names = cook("Your own data")
    assert names["doubles"].splits["train"][0].answer == str(2 * int(names["doubles"].splits["train"][0].question[:3]))
    problems = [p for split in names["module"].trainer.datamodule.splits.values() for p in split]
    assert len(problems) == 60
    assert all(eval(p.question) == int(p.answer) for p in problems)
    assert {g.problem.id for g in names["module"].record.groups} <= {p.id for p in problems}


def test_a_third_peer(cook: Any) -> None:
    module = cook("A third peer")["module"]
    assert {t.peer for g in module.record.groups for t in g} == {"a", "b", "late"}


def test_a_reward(cook: Any, capsys: pytest.CaptureFixture[str]) -> None:
    module = cook("A reward")["module"]
    traces = [t for g in module.record.groups for t in g]
    for trace in traces:
        assert trace.terms["steps"] == (1.0 if trace.correct and len(read_equations(trace.text)) > 1 else 0.0)
    mean = sum(t.terms["steps"] for t in traces) / len(traces)
    assert module.record.metrics["reward/steps/mean"] == pytest.approx(mean)
    assert str(module.record.metrics["reward/steps/mean"]) in capsys.readouterr().out


def test_an_objective(cook: Any) -> None:
    names = cook("An objective")
    torch.manual_seed(0)
    new, old = torch.randn(3, 4, dtype=torch.float64), torch.randn(3, 4, dtype=torch.float64)
    gains, mask = torch.tensor([1.0, -2.0, 0.5]), torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0], [1, 0, 0, 0]])
    loss, report = names["Reinforce"]()(new, old, None, gains, mask, total=Totals.of(mask))
    by_hand = 0.0
    for row in range(3):
        tokens = [column for column in range(4) if mask[row, column]]
        by_hand -= sum(float((new - old)[row, c].exp() * gains[row]) for c in tokens) / len(tokens) / 3
    assert float(loss) == pytest.approx(by_hand, rel=1e-5)
    assert report["clip_fraction"] == 0
    assert names["module"].objective.beta == 0.01


def trace(peer: str, answer: str | None, gold: str) -> Trace:
    return Trace(peer, "cold", 0, [], [], "", False, answer=answer, correct=answer == gold)


def test_a_metric(cook: Any) -> None:
    metric = cook("A metric")["SameWrongAnswer"]()
    answers = [("7", "7"), ("7", "8"), ("5", "5"), (None, None), ("5", "7")]  # gold is 5: only the first is alike and wrong
    for a, b in answers:
        metric.update([Group(Problem("p", "2+3", "5"), [trace("a", a, "5"), trace("b", b, "5")])])
    assert metric.compute() == pytest.approx(1 / 5)


def test_a_callback(cook: Any, capsys: pytest.CaptureFixture[str]) -> None:
    module = cook("A metric", "A callback")["module"]
    assert 0 <= module.trainer.callback_metrics["val/same_wrong_answer"] <= 1
    out = capsys.readouterr().out
    for group in module.record.groups:
        for name in ("a", "b"):
            assert f"{group.problem.question} {name} {[t.answer for t in group.rescues(name)]}" in out


def test_an_engine(cook: Any, capsys: pytest.CaptureFixture[str]) -> None:
    module = cook("An engine")["module"]
    for name, peer in module.peers.items():
        trained = sum(len(t.token_ids) for g in module.record.groups for t in g if t.peer == name)
        assert peer.engine.tokens > trained > 0  # evaluations sample as well
    assert str({name: peer.engine.tokens for name, peer in module.peers.items()}) in capsys.readouterr().out


def test_the_flags_name_the_same_classes(monkeypatch: pytest.MonkeyPatch) -> None:
    """All classes of the page in modules of the names that the flags give them; one command takes all flags."""
    flags = [shlex.split(f) for f in re.findall(r"`(--(?:model|trainer|data)[^`]*my_[^`]*)`", PAGE)]
    assert len(flags) == 5
    trees = [ast.parse(code) for blocks in RECIPES.values() for code in blocks]
    classes = [n for t in trees for n in t.body if isinstance(n, ast.Import | ast.ImportFrom | ast.ClassDef)]
    for name in set(re.findall(r"\b(my_\w+)\.", PAGE)):
        module = types.ModuleType(name)
        monkeypatch.setitem(sys.modules, name, module)
        exec(compile(ast.Module(classes, []), name, "exec"), vars(module))
    nano_config = str(Path(__file__).parents[2] / "configs/nano.yaml")
    settings = settings_of("--config", nano_config, *(word for words in flags for word in words))
    assert settings["model"]["class_path"] == "my_team.CountedTeam"
    own = settings["model"]["init_args"]
    assert own["rewards"]["steps"]["term"]["class_path"] == "my_terms.ShowsSteps"
    assert own["rewards"]["steps"]["weight"] == 0.2
    assert own["objective"]["class_path"] == "my_objectives.Reinforce"
    assert own["objective"]["init_args"]["beta"] == 0.01
    assert settings["data"]["class_path"] == "my_data.Multiples"
    assert [c["class_path"] for c in settings["trainer"]["callbacks"]] == ["my_callbacks.LogSameWrongAnswer"]
