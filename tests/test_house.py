"""Which room may know which: read from the sources, so that an arrow cannot turn back unnoticed."""

from __future__ import annotations

import ast
import re
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent / "core_lightning"


def _imports() -> dict[str, set[str]]:
    """For each module of the package everything it imports, also inside functions and for type checking."""
    files = {".".join(("core_lightning", *f.relative_to(ROOT).with_suffix("").parts)): f for f in ROOT.rglob("*.py")}
    files = {name.removesuffix(".__init__"): file for name, file in files.items()}
    found: dict[str, set[str]] = {}
    for name, file in files.items():
        names: set[str] = set()
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                names |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                whole = {f"{node.module}.{alias.name}" for alias in node.names}
                names |= {w if w in files else node.module for w in whole}
        found[name] = names
    return found


IMPORTS = _imports()


def _reached(start: str) -> set[str]:
    """All that importing a module leads to, within the package and one step out of it."""
    seen: set[str] = set()
    todo = [m for m in IMPORTS if m == start or m.startswith(f"{start}.")]
    while todo:
        module = todo.pop()
        if module not in seen:
            seen.add(module)
            todo.extend(IMPORTS.get(module, ()))
    return seen


def test_there_is_no_cycle():
    inside = {m: {i for i in names if i in IMPORTS and i != m} for m, names in IMPORTS.items()}
    assert len(list(TopologicalSorter(inside).static_order())) == len(IMPORTS)  # raises CycleError on a cycle


@pytest.mark.parametrize("room", ["records", "answers", "rewards", "objectives", "metrics", "protocol"])
def test_the_method_knows_no_trainer_and_no_model_library(room):
    reached = _reached(f"core_lightning.{room}")
    # The embedder of the rewards loads its model inside a function, where the trace distance is really asked for.
    allowed = {"transformers"} if room == "rewards" else set()
    assert not {m.split(".")[0] for m in reached} & ({"lightning", "transformers", "peft"} - allowed)


def test_a_room_knows_only_those_above_it_in_the_table():
    page = (ROOT.parent / "docs" / "concepts.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (`[^|]*) \|", page.split("## Which room holds what")[1].split("\n## ")[0], re.MULTILINE)
    floor = {name.rstrip("/").removesuffix(".py"): i for i, row in enumerate(rows) for name in re.findall("`([^`]+)`", row)}
    own = {p.stem for p in ROOT.iterdir() if p.is_dir() and any(p.rglob("*.py"))} | {p.stem for p in ROOT.glob("*.py")}
    assert own - {"__init__", "__main__"} == set(floor)
    for module, names in IMPORTS.items():
        here = [*module.split("."), ""][1]
        for name in names & IMPORTS.keys() - {"core_lightning"}:
            there = name.split(".")[1]
            if here in floor and there != here:
                assert floor[there] < floor[here], (module, name)


def test_the_steps_of_training_do_not_know_the_command_line():
    for room in ("training", "peers", "callbacks", "report", "data", "module"):
        assert not [m for m in _reached(f"core_lightning.{room}") if m.startswith("core_lightning.cli")], room


def test_pictures_and_tables_do_not_know_who_asks_for_them():
    assert not [m for m in _reached("core_lightning.report") if m.startswith("core_lightning.callbacks")]


def test_old_names_still_work():
    from core_lightning import CollaborativeReasoningModule, PeerConfig, RescueDataModule  # noqa: F401
    from core_lightning.answers import extract_answer, is_correct  # noqa: F401
    from core_lightning.data import RescueDataModule as Data
    from core_lightning.metrics import PassAtK, TeamPassAtK  # noqa: F401
    from core_lightning.objectives import GRPO, group_advantages  # noqa: F401
    from core_lightning.peers import GenerationSettings, LoraSettings, Peer  # noqa: F401
    from core_lightning.protocol import Group, Hint, Problem, Trace  # noqa: F401
    from core_lightning.rewards import Correctness, LogDetDiversity  # noqa: F401

    assert Data is RescueDataModule


def test_the_page_of_all_settings_is_fresh_or_run_python_m_docs_write_configuration():
    from docs.write_configuration import PAGE, page

    assert PAGE.read_text(encoding="utf-8") == page()
