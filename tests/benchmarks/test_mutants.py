"""Mutants of a small file: which there are, and that one takes the place of the code as it is."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

from benchmarks.changes import functions_of, mutants, put_in

CODE = '''"""Text."""

LIMIT = 3


def least(values: list[int], start: int = 7) -> int:
    """Text."""
    if not values or len(values) > LIMIT:
        raise ValueError(f"needs 1 to {LIMIT} values, got {len(values)}")
    return min(start, *values)


class Counter:
    step = 2

    def after(self, n: int) -> int:
        return n + self.step
'''


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    file = tmp_path / "to_be_changed.py"
    file.write_text(CODE)
    spec = importlib.util.spec_from_file_location("to_be_changed", file)
    loaded = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "to_be_changed", loaded)
    spec.loader.exec_module(loaded)
    return loaded


def test_every_part_that_counts_is_changed(module: ModuleType) -> None:
    assert [m.change for m in mutants(module.__file__)] == [
        "3 -> 4", "3 -> 2",
        "7 -> 8", "7 -> 6",
        "not values -> values",
        "len(values) > LIMIT -> len(values) >= LIMIT", "len(values) > LIMIT -> len(values) <= LIMIT",
        "not values or len(values) > LIMIT -> not values and len(values) > LIMIT",
        "not values or len(values) > LIMIT -> len(values) > LIMIT",
        "not values or len(values) > LIMIT -> not values",
        "raise ValueError(f'needs 1 to {LIMIT} values, got {len(values)}') -> left out",
        "min -> max", "return min(start, *values) -> return None",
        "2 -> 3", "2 -> 1",
        "n + self.step -> n - self.step", "return n + self.step -> return None",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("change", "after"),
    [
        ("min -> max", "9 refused 9 12"),
        ("3 -> 4", "5 5 7 12"),  # a value of the module
        ("7 -> 6", "5 refused 6 12"),  # of an argument
        ("2 -> 1", "5 refused 7 11"),  # of a class
        ("n + self.step -> n - self.step", "5 refused 7 8"),
    ],
)
def test_a_mutant_takes_the_place_of_the_code(module: ModuleType, change: str, after: str) -> None:
    def least(*values: int) -> str:
        try:
            return str(module.least(list(values)))
        except ValueError:
            return "refused"

    def behaviour() -> str:
        return " ".join([least(9, 5), least(9, 8, 5, 9), least(9), str(module.Counter().after(10))])

    assert behaviour() == "5 refused 7 12"
    (mutant,) = (m for m in mutants(module.__file__) if m.change == change)
    put_in(mutant, functions_of([module.__file__])[module.__file__])
    assert behaviour() == after
