"""Rows of a hub data set, from the hub or from a local copy in the same schema, or one clear line why not."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from core_lightning.data.errors import DataError
from core_lightning.data.files import as_text, read_rows
from core_lightning.data.module import RescueDataModule
from core_lightning.hub import offline_if_unreachable

_SUFFIXES = (".parquet", ".jsonl", ".json", ".csv")


class Row(dict[str, Any]):
    """The columns of a row, and where it stands.

    Args:
        place: File and line, or the data set and the number of the row; for messages.
        columns: What is in it.
    """

    def __init__(self, place: str, columns: Iterable[tuple[str, Any]]) -> None:
        super().__init__(columns)
        self.place = place

    def text(self, column: str, optional: bool = False) -> str:
        """What a column holds, as text.

        Raises:
            DataError: It is no text and no number, or nothing and not ``optional``.
        """
        text = as_text(self[column], f"{self.place}: {column!r}")
        if not text and not optional:
            raise DataError(f"{self.place}: {column!r} is empty; fill it in or remove the row")
        return text


class HubDataModule(RescueDataModule):
    """Base class of sources with a home on the hub: where their rows come from, and which columns these must have.

    Args:
        repo: Hub id of the data set.
        path: Local copy to read instead of the hub: a file (one pool, which is split), or a folder with one or more
            ``.parquet``, ``.jsonl`` or ``.csv`` files for each split, named after it (``train.jsonl``,
            ``train-00000-of-00001.parquet``), directly in it or in a subfolder named after the configuration.
        revision: Hub commit, tag or branch; pin a commit for results that can be repeated.

    Attributes:
        commit: What the revision stood for when the rows were read from the hub; None before, and for a local copy.
    """

    split_mend = "is it the right data set?"
    """What to do where a split is missing."""

    def __init__(self, repo: str, path: str | None = None, revision: str | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.repo = repo
        self.path = None if path is None else Path(path)
        self.revision = revision
        self.commit: str | None = None
        if self.path is not None and not self.path.exists():
            raise DataError(
                f"data.path={path} does not exist; give an existing file or folder, or leave it out for the hub"
            )

    def rows(self, split: str, columns: Sequence[str], config: str | None = None) -> list[Row]:
        """Rows of one split.

        Args:
            split: Name of the split on the hub, ignored when the local copy is a single file.
            columns: Columns that must be there; a missing value in one of them is returned as an empty text.
            config: Configuration (subset) of the data set on the hub.

        Raises:
            DataError: If the hub or the files cannot be read, or a split or column is missing.
        """
        where = f"{self.path or self.repo}{f' ({config})' if config else ''}, split {split!r}"
        found: list[Row] = []
        if self.path is not None:
            # Not through datasets, which knows no lines, and reads the texts NA and 007 of a CSV as nothing and as 7.
            for file in local_files(self.path, split, config):
                for line, row in read_rows(file):
                    found.append(Row(f"{file}:{line}", _chosen(row, columns, f"{file}:{line}")))
            if not found:
                raise DataError(f"{where}: no rows")
            return found
        table = self._from_hub(split, config, where)
        _chosen(dict.fromkeys(table.column_names), columns, where)
        for number, row in enumerate(table, start=1):
            found.append(Row(f"{where}, row {number}", _chosen(row, columns, where)))
        return found

    def _from_hub(self, split: str, config: str | None, where: str) -> Any:
        import datasets.config
        from datasets import load_dataset_builder

        try:
            offline_if_unreachable(datasets.config.HF_ENDPOINT)
            builder = load_dataset_builder(self.repo, config, revision=self.revision)
            if type(builder).__module__.startswith("datasets.packaged_modules.cache"):
                builder = self._cached(builder, where)
            builder.download_and_prepare()
            self.commit = builder.hash
            return builder.as_dataset(split=split)
        except DataError:
            raise
        except Exception as error:
            raise DataError(explain(error, where, self.split_mend)) from error

    def _cached(self, newest: Any, where: str) -> Any:
        """The cached copy of the pinned revision: without the hub, ``datasets`` takes the newest of any revision."""
        if self.revision is None or newest.hash == self.revision:
            return newest
        if not re.fullmatch(r"[0-9a-f]{40}", self.revision):
            raise DataError(
                f"{where}: the hub cannot be reached, and whether the cached copy ({newest.hash}) is data.revision "
                f"{self.revision!r} cannot be known; pin that commit if it is, or give a local copy as data.path"
            )
        if not Path(newest.cache_dir).with_name(self.revision).is_dir():
            raise DataError(
                f"{where}: the hub cannot be reached, and the cache holds commit {newest.hash}, not data.revision "
                f"{self.revision}; connect once, or give a local copy as data.path"
            )
        return type(newest)(
            dataset_name=newest.dataset_name,
            repo_id=newest.repo_id,
            config_name=newest.config.name,
            version=str(newest.config.version),
            hash=self.revision,
        )


def _chosen(row: Mapping[str, Any], columns: Sequence[str], where: str) -> list[tuple[str, Any]]:
    if missing := [column for column in columns if column not in row]:
        raise DataError(f"{where}: no column {missing[0]!r} among {', '.join(row)[:200]}; is it the right data set?")
    return [(column, "" if row[column] is None else row[column]) for column in columns]


def local_files(path: Path, split: str, config: str | None = None) -> list[Path]:
    """The files of one split in a local copy of a hub data set.

    Raises:
        DataError: If there are none, or they are of different formats.
    """
    if path.is_file():
        files = [path] if path.suffix in _SUFFIXES else []
    else:
        folder = path / config if config and (path / config).is_dir() else path
        every = sorted(f for f in folder.rglob("*") if f.suffix in _SUFFIXES)
        # Not train_socratic.jsonl, which lies beside train.jsonl in the original GSM8K folder.
        named = re.compile(rf"{re.escape(split)}(-.*)?\.\w+")
        files = [f for f in every if f.parent.name == split or named.fullmatch(f.name)]
        # GPQA has no split in its file names: gpqa_main.csv, gpqa_diamond.csv, gpqa_extended.csv.
        files = files or [f for f in every if f.stem == config]
    if not files:
        raise DataError(
            f"{path} has no {split} split: expected {split}.parquet, .jsonl or .csv, or files named {split}-*"
        )
    if len({f.suffix for f in files}) > 1:
        raise DataError(
            f"{path} has the {split} split in several formats: keep one of {', '.join(f.name for f in files)}"
        )
    return files


def explain(error: Exception, where: str, split_mend: str = HubDataModule.split_mend) -> str:
    """One line for what ``datasets`` raised: what is wrong with the data at ``where``, and the mend."""
    from datasets.exceptions import DatasetGenerationError, DatasetNotFoundError

    reason = " ".join(str(error).split())
    local = "give a local copy as data.path"
    match error:
        case DatasetNotFoundError() if "gated" in reason:
            login = "accept its terms on its hub page, then log in with `hf auth login` or set HF_TOKEN"
            line = f"{where} is gated: {login}, or {local}"
        case DatasetNotFoundError() if "Revision" in reason:
            line = f"{where}: the hub has no such revision ({reason}); correct data.revision or leave it out"
        case DatasetNotFoundError():
            line = f"{where} is not on the hub, or is private: correct data.repo, log in, or {local}"
        case ValueError() if found := re.match(r"Unknown split .* one of \[(.*)\]", reason):
            line = f"{where}: no such split, only {found[1]}; {split_mend}"
        case ConnectionError():
            line = f"{where}: the hub cannot be reached; check the connection, or {local}"
        case DatasetGenerationError():
            cause = error.__cause__ or error
            line = f"{where}: a file is damaged or its rows differ in type: {' '.join(str(cause).split())[:300]}"
        case _:
            line = f"{where} cannot be loaded: {reason[:300]}"
    return line
