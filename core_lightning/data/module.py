"""RescueDataModule: problems in, seeded disjoint splits, stateful loaders and a manifest out."""

from __future__ import annotations

import json
import re
from abc import abstractmethod
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, is_dataclass
from functools import cached_property
from hashlib import sha256
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import LightningDataModule
from lightning.pytorch.utilities import rank_zero_info

from core_lightning.data.errors import DataError
from core_lightning.data.files import is_blank
from core_lightning.data.loader import ProblemLoader, TrainLoader
from core_lightning.data.questions import read_questions
from core_lightning.data.splits import SPLITS, Split, assign_splits, disagreements, near_duplicates, take
from core_lightning.records import Problem

_UNWRITABLE = re.compile("[\ud800-\udfff]")  # lone surrogates, which no tokenizer and no file takes


def content_hash(problems: Iterable[Problem]) -> str:
    """SHA-256 over what a peer is asked and judged by, in order."""
    digest = sha256()
    for problem in problems:
        digest.update(json.dumps([problem.id, problem.question, problem.answer, problem.kind]).encode())
    return digest.hexdigest()


def _plain(value: Any) -> Any:
    return asdict(value) if is_dataclass(value) and not isinstance(value, type) else str(value)


def _versions(packages: Iterable[str]) -> dict[str, str]:
    found = {}
    for package in packages:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


class RescueDataModule(LightningDataModule):
    """Base class of every source of problems: a subclass says in :meth:`load` where they come from, the rest is done here.

    Splits are disjoint by question text, official where the source has them, otherwise carved with the seed. Train
    batches are reshuffled every epoch, sharded over processes, and continue mid-epoch after a resume; validation and
    test yield every problem exactly once. A batch is a ``list[Problem]``.

    Args:
        batch_size: Problems in one step, in each process.
        seed: Decides how problems are split, which of them a limit takes, and the order in training.
        limit_train: Use only so many training problems, a random subset; unset, all.
        limit_val: Use only so many validation problems; unset, all.
        limit_test: Use only so many test problems; unset, all.
        val_fraction: Share of the training problems that is held out for validation, if the source has no such split.
        test_fraction: Share of the training problems that is held out for the test, if the source has no such split.
        shuffle: Put the training problems in a new order every epoch.
        predict_path: A file of questions for ``predict``, with or without gold answers: ``.txt`` with one in a line, or
            ``.jsonl``, ``.csv``, ``.parquet`` with a column ``question``, and ``choices`` where it has options. Unset, the
            test problems.
    """

    def __init__(
        self,
        batch_size: int = 4,
        seed: int = 42,
        limit_train: int | None = None,
        limit_val: int | None = None,
        limit_test: int | None = None,
        val_fraction: float = 0.05,
        test_fraction: float = 0.1,
        shuffle: bool = True,
        predict_path: str | None = None,
    ) -> None:
        super().__init__()
        if batch_size < 1:
            raise DataError(f"data.batch_size must be at least 1 problem a step, got {batch_size}")
        if min(val_fraction, test_fraction) < 0 or val_fraction + test_fraction >= 1:
            raise DataError(
                f"data.val_fraction={val_fraction} and data.test_fraction={test_fraction} must not be negative, and "
                "must leave something to train on: choose a sum below 1"
            )
        self.batch_size = batch_size
        self.seed = seed
        self.val_fraction = val_fraction
        self.test_fraction = test_fraction
        self.shuffle = shuffle
        self.predict_path = predict_path
        self.limits: dict[Split, int | None] = {"train": limit_train, "val": limit_val, "test": limit_test}
        for split, limit in self.limits.items():
            if limit is not None and limit < 1:
                raise DataError(f"data.limit_{split} must be at least 1, got {limit}; leave it out for all problems")
        # This reaches up to the outermost __init__, so the subclass's settings are in it too. Not for the logger, which
        # refuses a name the model has as well; and plain containers only, because checkpoints are read weights-only.
        self.save_hyperparameters(logger=False)
        self.hparams.update(json.loads(json.dumps(dict(self.hparams), default=_plain)))

    @abstractmethod
    def load(self) -> Mapping[Split, Sequence[Problem]]:
        """Read or make the problems: ``train``, and ``val`` and ``test`` where the source has official ones.

        Raises:
            DataError: With one line that says what is wrong and how to mend it.
        """

    @cached_property
    def _assigned(self) -> tuple[dict[Split, list[Problem]], int]:
        problems = self.load()
        self._check(p for split in problems.values() for p in split)
        if apart := disagreements(problems):
            first, other = apart[0]
            rank_zero_info(
                f"{self.source}: repeated questions with another answer than before: {len(apart)}, as {other.id!r} "
                f"({other.answer[:40]}) and {first.id!r} ({first.answer[:40]}); training keeps the first, or none where the "
                "question is held out, so correct the data where that is wrong"
            )
        splits, dropped = assign_splits(problems, self.seed, self.val_fraction, self.test_fraction)
        if not splits["train"]:
            raise DataError(
                f"{self.origin} leaves no problem to train on: all are held out; add problems, or set data.val_fraction and "
                "data.test_fraction to 0"
            )
        for split, limit in self.limits.items():
            if limit is not None:
                if limit > len(splits[split]):
                    rank_zero_info(
                        f"data.limit_{split} is {limit}; the {split} split of {self.source} holds {len(splits[split])} "
                        "problems, and all of them are used"
                    )
                splits[split] = take(splits[split], limit, self.seed)
        return splits, dropped

    @property
    def splits(self) -> dict[Split, list[Problem]]:
        """The problems of every split, loaded and checked on first use."""
        return self._assigned[0]

    @property
    def repeats_dropped(self) -> int:
        """Problems left out because their question stands twice in train, or in a split it is held out for."""
        return self._assigned[1]

    @cached_property
    def near_duplicates(self) -> list[tuple[str, str]]:
        """(id, train id) pairs of validation and test questions that share 90 % of their words with a training one.

        One pair at most for each question.
        """
        return near_duplicates([*self.splits["val"], *self.splits["test"]], self.splits["train"])

    @property
    def source(self) -> str:
        """Name of the source in messages and in the manifest."""
        return type(self).__name__

    @property
    def origin(self) -> str:
        """Where the problems come from, in messages: the file, where there is one."""
        return self.source

    @property
    def chance(self) -> float:
        """Mean probability that a blind guess solves a validation problem; with no validation split, a training one."""
        problems = self.splits["val"] or self.splits["train"]
        return sum(p.chance for p in problems) / len(problems)

    def prepare_data(self) -> None:
        """Load on one process first: the others find downloads in the cache, and an error comes before any model."""
        self.setup()

    def setup(self, stage: str | None = None) -> None:
        """Load and split, once; say how large the splits are and how clean."""
        if "_assigned" not in vars(self):
            sizes = ", ".join(f"{len(problems)} {split}" for split, problems in self.splits.items())
            rank_zero_info(
                f"{self.source}: {sizes}; {self.repeats_dropped} repeated questions dropped, "
                f"{len(self.near_duplicates)} validation and test questions have a near-duplicate in train"
            )

    def train_dataloader(self) -> TrainLoader:
        """Shuffled, sharded, resumable batches; every rank takes part in every step."""
        seed = self.seed if self.shuffle else None
        return TrainLoader(self.splits["train"], self.batch_size, seed, *self._place())

    def val_dataloader(self) -> ProblemLoader | list[Any]:
        """Every validation problem exactly once, in a fixed order."""
        return self._evaluation("val")

    def test_dataloader(self) -> ProblemLoader | list[Any]:
        """Every test problem exactly once, in a fixed order."""
        return self._evaluation("test")

    def predict_dataloader(self) -> ProblemLoader | list[Any]:
        """Every question of ``predict_path``, or every test problem, in a fixed order."""
        return ProblemLoader(self.questions, self.batch_size, *self._place())

    @cached_property
    def questions(self) -> list[Problem]:
        """What ``predict`` asks.

        Raises:
            DataError: There is nothing to ask.
        """
        if self.predict_path is not None:
            return self.read_questions(Path(self.predict_path))
        if not self.splits["test"]:
            raise DataError(f"{self.source} has no test problems to predict; give questions with --data.predict_path")
        return self.splits["test"]

    def read_questions(self, file: Path) -> list[Problem]:
        """The questions of a file for ``predict``.

        Raises:
            DataError: One line with the file, the row and the mend.
        """
        return read_questions(file)

    def transfer_batch_to_device(self, batch: Any, device: torch.device, dataloader_idx: int) -> Any:
        """Problems are text and stay where they are; Lightning would try to rebuild the frozen records."""
        return batch

    def manifest(self) -> dict[str, Any]:
        """What this run is trained and judged on, as plain JSON data: settings, versions, ids and content hashes."""
        splits = self.splits  # loaded first: a source on the hub then knows its commit
        return {
            "source": self.source,
            "arguments": {name: value for name, value in self.hparams.items() if not name.startswith("_")},
            "seed": self.seed,
            "revision": getattr(self, "revision", None),
            "commit": getattr(self, "commit", None),
            "versions": _versions(["core-lightning", "datasets", "reasoning-gym"]),
            "chance": self.chance,
            "repeats_dropped": self.repeats_dropped,
            "near_duplicates": [list(pair) for pair in self.near_duplicates],
            "splits": {
                split: {"size": len(problems), "sha256": content_hash(problems), "ids": [p.id for p in problems]}
                for split, problems in splits.items()
            },
        }

    def check_manifest(self, previous: Mapping[str, Any]) -> None:
        """Refuse to go on with other data than a run began with.

        Args:
            previous: The manifest of that run, or a data module state of one of its checkpoints.

        Raises:
            DataError: Naming the split that differs.
        """
        for split in SPLITS:
            before, now = previous["splits"][split], self.splits[split]
            if before["sha256"] != content_hash(now):
                raise DataError(
                    f"the {split} problems of {self.source} are not those this run began with ({before['size']} then, "
                    f"{len(now)} now): restore the data and its settings (seed, limits, revision), or use a new run"
                )

    def state_dict(self) -> dict[str, Any]:
        """The content hashes, for the check at resume; the position is in the state of the train loader."""
        return {"splits": {s: {"size": len(p), "sha256": content_hash(p)} for s, p in self.splits.items()}}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Check that training goes on with the same data; testing a checkpoint on other data is nobody's mistake."""
        if self.trainer is None or self.trainer.state.fn == "fit":
            self.check_manifest(state_dict)

    def _check(self, problems: Iterable[Problem]) -> None:
        ids: Counter[str] = Counter()
        for problem in problems:
            ids[problem.id] += 1
            for field in ("question", "answer"):
                if is_blank(getattr(problem, field)):
                    raise DataError(
                        f"{self.source}: problem {problem.id!r} has an empty {field}; fill it in or remove it"
                    )
                if _UNWRITABLE.search(getattr(problem, field)):
                    raise DataError(
                        f"{self.source}: the {field} of problem {problem.id!a} holds half of a character, which is no "
                        "text; correct or remove it"
                    )
        if not ids:
            raise DataError(f"{self.source} holds no problems")
        repeated, count = ids.most_common(1)[0]
        if count > 1:
            raise DataError(f"{self.source}: id {repeated!r} stands {count} times; ids must be unique over all splits")

    def _place(self) -> tuple[int, int]:
        """Rank and number of processes."""
        return (0, 1) if self.trainer is None else (self.trainer.global_rank, self.trainer.world_size)

    def _evaluation(self, split: Split) -> ProblemLoader | list[Any]:
        # Lightning skips an evaluation whose list of loaders is empty, and warns about a loader of length zero.
        problems = self.splits[split]
        return ProblemLoader(problems, self.batch_size, *self._place()) if problems else []
