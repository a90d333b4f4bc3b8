"""What every source shares: limits, batches, chance, manifest; and the same through two processes."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.strategies import DDPStrategy

from core_lightning.data import DataError, RescueDataModule
from core_lightning.data.splits import Split
from core_lightning.records import Problem


class Listed(RescueDataModule):
    """Problems handed in by the test."""

    def __init__(self, problems: Mapping[Split, Sequence[Problem]], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.problems = problems

    def load(self) -> Mapping[Split, Sequence[Problem]]:
        return self.problems


def made(prefix: str, count: int, chance: float = 0.0) -> list[Problem]:
    return [Problem(f"{prefix}{i}", f"{prefix} {i}?", str(i), chance=chance) for i in range(count)]


def test_limits_take_a_subset_and_cap(caplog: pytest.LogCaptureFixture) -> None:
    pool = {"train": made("a", 30), "val": made("b", 10), "test": made("c", 10)}
    data = Listed(pool, limit_train=7, limit_val=10, limit_test=1)
    assert {n: len(p) for n, p in data.splits.items()} == {"train": 7, "val": 10, "test": 1}
    assert {p.id for p in data.splits["train"]} < {p.id for p in pool["train"]}
    assert len(Listed(pool, limit_test=11).splits["test"]) == 10
    assert "data.limit_test is 11; the test split of Listed holds 10 problems, and all of them are used" in caplog.messages


@pytest.mark.parametrize(
    ("settings", "line"),
    [
        ({"batch_size": 0}, "data.batch_size must be at least 1"),
        ({"limit_val": 0}, "data.limit_val must be at least 1"),
        ({"val_fraction": -0.1}, "data.val_fraction=-0.1"),
        ({"val_fraction": 0.5, "test_fraction": 0.5}, "leave something to train on"),
    ],
)
def test_settings_are_refused_at_once(settings: dict[str, Any], line: str) -> None:
    with pytest.raises(DataError, match=line):
        Listed({"train": made("a", 3)}, **settings)


@pytest.mark.parametrize(
    ("problems", "line"),
    [
        ({"train": []}, "Listed holds no problems"),
        ({"train": [Problem("x", "?", " ")]}, "problem 'x' has an empty answer"),
        ({"train": [Problem("x", "", "1")]}, "problem 'x' has an empty question"),
        ({"train": made("a", 2), "test": made("a", 1)}, "id 'a0' stands 2 times"),
        ({"train": made("a", 1)}, "leaves no problem to train on"),
    ],
)
def test_problems_are_checked_before_any_model_is_loaded(problems: dict[Split, list[Problem]], line: str) -> None:
    with pytest.raises(DataError, match=line):
        Listed(problems).prepare_data()


def test_loaders_yield_lists_of_problems() -> None:
    data = Listed({"train": made("a", 9), "test": made("c", 5)}, batch_size=2, val_fraction=0.0)
    batches = list(data.train_dataloader())
    assert [len(b) for b in batches] == [2, 2, 2, 2, 1]
    assert len(data.train_dataloader()) == 5
    assert {p.id for b in batches for p in b} == {p.id for p in data.splits["train"]}
    assert [p.id for b in data.test_dataloader() for p in b] == [f"c{i}" for i in range(5)]
    assert data.val_dataloader() == []
    fixed = Listed({"train": made("a", 9)}, shuffle=False, val_fraction=0.0, test_fraction=0.0)
    assert [p.id for b in fixed.train_dataloader() for p in b] == [f"a{i}" for i in range(9)]


def test_chance_is_the_mean_of_validation() -> None:
    data = Listed({"train": made("a", 3), "val": [*made("b", 1, chance=0.25), *made("c", 1)]})
    assert data.chance == 0.125


def test_manifest_is_json_and_tells_changed_data(tmp_path: Path) -> None:
    pool: dict[Split, list[Problem]] = {"train": made("a", 8), "val": made("b", 2), "test": made("c", 2)}
    pool["test"].append(Problem("twin", "A 1?", "1"))
    data = Listed(pool, limit_train=5, seed=3)
    manifest = json.loads(json.dumps(data.manifest()))
    assert (manifest["source"], manifest["seed"], manifest["arguments"]["limit_train"]) == ("Listed", 3, 5)
    assert manifest["versions"]["core-lightning"]
    assert manifest["repeats_dropped"] == 1  # "a 1?" stands in test, in other case
    assert manifest["splits"]["test"]["ids"] == ["c0", "c1", "twin"]
    assert len(manifest["splits"]["train"]["sha256"]) == 64

    data.check_manifest(manifest)
    Listed(pool, limit_train=5, seed=3, batch_size=1).check_manifest(manifest)
    with pytest.raises(DataError, match="the train problems of Listed are not those this run began with"):
        Listed(pool, limit_train=5, seed=4).check_manifest(manifest)
    changed = pool | {"val": [Problem("b0", "b 0?", "0"), Problem("b1", "b 1?", "2")]}
    with pytest.raises(DataError, match="the val problems"):
        Listed(changed, limit_train=5, seed=3).check_manifest(manifest)


def test_repeats_with_another_answer_are_said(caplog: pytest.LogCaptureFixture) -> None:
    Listed({"train": [*made("a", 3), Problem("p", "a 1?", "8"), Problem("q", "a 1?", "9")]}).setup()
    (line,) = [m for m in caplog.messages if "another answer" in m]
    assert line.startswith("Listed: repeated questions with another answer than before: 2, as 'p' (8) and 'a1' (1); training keeps")


def test_near_duplicates_are_reported_by_id() -> None:
    words = " ".join(f"word{i}" for i in range(20))
    pool: dict[Split, list[Problem]] = {
        "train": [*made("a", 3), Problem("near", f"{words} 12", "1")],
        "val": [Problem("v", f"12 {words}", "1"), Problem("w", "something new", "1")],
        "test": [Problem("t", f"{words} 13", "1"), Problem("u", "something else", "1")],
    }
    data = Listed(pool, val_fraction=0.0)
    assert data.near_duplicates == [("v", "near"), ("t", "near")]
    assert data.manifest()["near_duplicates"] == [["v", "near"], ["t", "near"]]


def test_a_question_that_no_file_takes_is_refused() -> None:
    with pytest.raises(DataError, match=r"the question of problem 'p' holds half of a character"):
        Listed({"train": [*made("a", 3), Problem("p", "1 \ud800?", "1")]}).setup()


class Writer(LightningModule):
    """Writes the ids of every batch into a file of its process."""

    def __init__(self, folder: str) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.folder = folder
        self.weight = torch.nn.Parameter(torch.zeros(()))

    def _write(self, stage: str, batch: list[Problem]) -> None:
        with open(f"{self.folder}/{stage}{self.global_rank}", "a") as file:
            file.write(" ".join(p.id for p in batch) + "\n")

    def training_step(self, batch: list[Problem], batch_idx: int) -> None:
        self._write("train", batch)

    def validation_step(self, batch: list[Problem], batch_idx: int) -> None:
        self._write("val", batch)

    def configure_optimizers(self) -> None:
        return None


def test_two_processes_share_an_epoch(tmp_path: Path) -> None:
    data = Listed({"train": made("a", 9), "val": made("b", 5)}, batch_size=2, test_fraction=0.0)
    trainer = Trainer(
        accelerator="cpu",
        strategy=DDPStrategy(start_method="forkserver"),
        devices=2,
        max_epochs=1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
    )
    trainer.fit(Writer(str(tmp_path)), datamodule=data)
    lines = {f.name: f.read_text().splitlines() for f in tmp_path.iterdir()}
    assert [len(lines["train0"]), len(lines["train1"])] == [3, 3]
    seen = " ".join(lines["train0"] + lines["train1"]).split()
    assert set(seen) == {f"a{i}" for i in range(9)}
    assert len(seen) == 10  # the last step has one problem: the other process takes one of the epoch's head
    assert sorted(" ".join(lines["val0"] + lines["val1"]).split()) == [f"b{i}" for i in range(5)]
