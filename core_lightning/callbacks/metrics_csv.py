"""A logger that writes one growing CSV file and never deletes what is there."""

from __future__ import annotations

import csv
import io
from argparse import Namespace
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import Logger
from lightning.pytorch.utilities import rank_zero_only

from core_lightning.callbacks.whole_files import append, replacing

FILE = "metrics.csv"


class MetricsCsv(Logger):
    """Appends a row per logged step to ``metrics.csv``.

    A row of a training step carries that step's index, a row of an evaluation the number of steps done before it; a
    metric that was not logged is an empty cell. When a new metric appears the file is rewritten once with the wider
    header, atomically.

    Args:
        folder: The run folder.
    """

    def __init__(self, folder: str | Path) -> None:
        super().__init__()
        self.path = Path(folder) / FILE
        self._columns: list[str] | None = None

    @property
    def name(self) -> str:
        """Empty: the folder is the run's own."""
        return ""

    @property
    def version(self) -> str:
        """Empty: the folder is the run's own."""
        return ""

    @property
    def save_dir(self) -> str:
        """The run folder; the saved config goes there too."""
        return str(self.path.parent)

    @rank_zero_only
    def log_hyperparams(self, params: dict[str, Any] | Namespace, *args: Any, **kwargs: Any) -> None:
        """Nothing: ``config.yaml`` holds them."""

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Append a row."""
        row = {"step": "" if step is None else str(step), **{n: _cell(n, v) for n, v in metrics.items()}}
        columns = self._known_columns()
        if new := [name for name in row if name not in columns]:
            self._rewrite([*columns, *new], read_metrics(self.path))
        append(self.path, _line([row.get(name, "") for name in self._known_columns()]))

    @rank_zero_only
    def rewind(self, step: int, evaluated: bool = True) -> None:
        """Drop what a run resumed at ``step`` writes again: training rows from there on, and evaluations after it.

        Args:
            step: Steps done.
            evaluated: Whether the evaluation after so many steps was done before the checkpoint; it is done again otherwise.
        """
        if not self.path.exists():
            return
        columns = self._known_columns()

        def stays(row: Mapping[str, str]) -> bool:
            at = int(row["step"] or 0)
            return at < step or (
                evaluated and at == step and not any(v for n, v in row.items() if n.startswith("train/"))
            )

        self._rewrite(columns, [row for row in read_metrics(self.path) if stays(row)])

    def _known_columns(self) -> list[str]:
        if self._columns is None:
            self._columns = ["step", "epoch"]
            if self.path.exists():
                with self.path.open(encoding="utf-8", newline="") as file:
                    self._columns = next(csv.reader(file), self._columns)
                self._rewrite(self._columns, read_metrics(self.path))  # without the half row a crash may have left
        return self._columns

    def _rewrite(self, columns: list[str], rows: list[dict[str, str]]) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(self.path) as fresh, fresh.open("w", encoding="utf-8", newline="") as file:
            file.write(_line(columns))
            file.writelines(_line([row.get(name, "") for name in columns]) for row in rows)
        self._columns = columns


def read_metrics(path: Path) -> list[dict[str, str]]:
    """The complete rows of a metrics file as text; an empty cell was not logged. No rows when there is no file."""
    if not path.exists():
        return []
    with path.open(encoding="utf-8", newline="") as file:
        text = file.read()
    return list(csv.DictReader(io.StringIO(text[: text.rfind("\n") + 1])))


def _line(cells: list[str]) -> str:
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="\n").writerow(cells)
    return buffer.getvalue()


def _cell(name: str, value: float) -> str:
    return str(int(value)) if name == "epoch" else repr(float(value))
