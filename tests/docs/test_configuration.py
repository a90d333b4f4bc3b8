"""The page of all settings leaves none out. (That it is fresh is asked in tests/test_house.py.)"""

from __future__ import annotations

import ast
import dataclasses
import inspect
import re
from pathlib import Path
from typing import Any, get_args, get_type_hints

import pytest

from core_lightning import callbacks, data, objectives, rewards
from core_lightning.module import CollaborativeReasoningModule
from docs import write_configuration as writer

ROOT = Path(__file__).parents[2]
SHOWN = {cls for _, _, cls in writer.SECTIONS}


def reached(cls: type, seen: set[type]) -> set[type]:
    """Every settings class that the type hints of a class lead to."""
    seen.add(cls)
    todo: list[Any] = list(get_type_hints(cls if dataclasses.is_dataclass(cls) else cls.__init__).values())
    while todo:
        hint = todo.pop()
        todo += get_args(hint)
        if dataclasses.is_dataclass(hint) and not inspect.isabstract(hint) and hint not in seen:
            reached(hint, seen)
    return seen


def test_every_group_of_settings_has_its_section() -> None:
    assert reached(CollaborativeReasoningModule, set()) <= SHOWN


@pytest.mark.parametrize(
    ("room", "base"),
    [
        (rewards, rewards.RewardTerm),
        (rewards, rewards.Embedder),
        (rewards, rewards.Schedule),
        (objectives, objectives.Objective),
        (data, data.RescueDataModule),
    ],
)
def test_every_class_to_choose_from_has_its_section(room: Any, base: type) -> None:
    shipped = [c for c in map(room.__dict__.get, room.__all__) if isinstance(c, type) and issubclass(c, base)]
    assert len(shipped) > 1
    assert {c for c in shipped if not inspect.isabstract(c)} <= SHOWN


def test_every_section_of_the_command_line_is_there() -> None:
    tree = ast.parse((ROOT / "core_lightning/cli/main.py").read_text(encoding="utf-8"))
    calls = [n for n in ast.walk(tree) if isinstance(n, ast.Call) and isinstance(n.func, ast.Attribute)]
    added = {(c.args[1].value, c.args[0].id) for c in calls if c.func.attr == "add_lightning_class_args"}
    assert len(added) > 5
    assert added <= {(key, cls.__name__) for _, key, cls in writer.SECTIONS}
    assert all(cls in SHOWN for _, name in added for cls in [getattr(callbacks, name)])


def test_every_variable_the_code_reads_is_there() -> None:
    code = "".join(f.read_text(encoding="utf-8") for f in (ROOT / "core_lightning").rglob("*.py"))
    read = set(re.findall(r'"(CORE_LIGHTNING_[A-Z0-9_]+)"', code))
    assert len(read) >= 3
    assert read <= set(re.findall(r"`(CORE_LIGHTNING_[A-Z0-9_]+)`", writer.ENVIRONMENT))


def test_a_row_says_what_the_code_says() -> None:
    """One setting of each kind, by hand: a choice, a number, a group, a default that is not the base's, an argument."""
    page = writer.page()
    assert "| `students` | `failed` | `failed`, `all` | Who samples the rescue round. `failed`: peers whose cold traces all failed." in page
    assert "| `temperature` | `0.7` | number | Sampling temperature." in page
    assert "| `lora` |  | see [Its adapter](#its-adapter) | The adapter that is trained. |" in page
    gspo = page.split("## Objective: GSPO")[1].split("## ")[0]
    assert "| `clip_high` | `0.0004` | number |" in gspo
    assert "`kl_estimator`" not in gspo
    assert "| `eval_samples` | `4` | integer | Cold traces per peer and problem in validation and test. |" in page
