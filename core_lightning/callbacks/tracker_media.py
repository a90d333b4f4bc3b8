"""Figures and a table of traces in the trackers that can show them."""

from __future__ import annotations

import json
from collections import deque
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, Trainer
from lightning.pytorch.loggers import MLFlowLogger, TensorBoardLogger, WandbLogger

from core_lightning.callbacks.run_folder import leaves_files
from core_lightning.callbacks.trackio_logger import TrackioLogger
from core_lightning.report.visible import visible

COLUMNS = ("step", "problem", "peer", "round", "question", "hint", "text", "answer", "gold", "correct")


class TrackerMedia(Callback):
    """Puts the figures of the report and the last traces into TensorBoard, W&B, MLflow and trackio when a training ends.

    It comes after :class:`RunReport`, which draws the figures, and :class:`TraceLog`.

    Args:
        traces: How many traces; 0 leaves the table out.
    """

    def __init__(self, traces: int = 100) -> None:
        if traces < 0:
            raise ValueError(f"tracker.traces is {traces}; set it to 0 or more")
        self.traces = traces

    def on_fit_end(self, trainer: Trainer, pl_module: Any) -> None:
        """Hand everything over."""
        if not trainer.is_global_zero or not leaves_files(trainer):
            return
        folder = Path(trainer.default_root_dir)
        figures = sorted(p for p in (folder / "figures").glob("*.png") if not p.stem.endswith("-dark"))
        rows = last_traces(folder / "traces.jsonl", self.traces)
        for logger in trainer.loggers:
            if isinstance(logger, TensorBoardLogger):
                _to_tensorboard(logger, figures, rows, pl_module.batches_done)
            elif isinstance(logger, WandbLogger):
                for path in figures:
                    logger.log_image(f"report/{path.stem}", [str(path)])
                if rows:
                    logger.log_table("traces", columns=list(COLUMNS), data=rows)
            elif isinstance(logger, MLFlowLogger):
                client, run = logger.experiment, logger.run_id
                for path in figures:
                    client.log_artifact(run, str(path), "report")
                if rows:
                    client.log_dict(run, {"columns": list(COLUMNS), "data": rows}, "traces.json")
            elif isinstance(logger, TrackioLogger):
                logger.log_media(figures, COLUMNS, rows, pl_module.batches_done)


def last_traces(path: Path, count: int) -> list[list[Any]]:
    """The last traces of a log as rows of :data:`COLUMNS`; what a trace does not have is an empty text."""
    if not count or not path.exists():
        return []
    with path.open(encoding="utf-8", errors="replace") as file:
        lines = [json.loads(line) for line in deque(file, maxlen=count)]
    return [["" if line.get(c) is None else _cell(line[c]) for c in COLUMNS] for line in lines]


def markdown_table(rows: list[list[Any]]) -> str:
    r"""Rows as a table of Markdown, in which foreign text is text.

    >>> print(markdown_table([["1", "p", "a", "cold", "1|1", "", "2\n<b>", "2", "2", "True"]]).splitlines()[2])
    | 1 | p | a | cold | 1&#124;1 |  | 2 &lt;b&gt; | 2 | 2 | True |
    """
    lines = [f"| {' | '.join(COLUMNS)} |", "|---" * len(COLUMNS) + "|"]
    return "\n".join([*lines, *(f"| {' | '.join(_escaped(str(cell)) for cell in row)} |" for row in rows)])


def _cell(value: Any) -> Any:
    return visible(value) if isinstance(value, str) else str(value)


def _escaped(text: str) -> str:
    plain = " ".join(text.split()).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return "".join(f"&#{ord(c)};" if c in "|*_`[]!\\#~" else c for c in plain)


def _to_tensorboard(logger: TensorBoardLogger, figures: list[Path], rows: list[list[Any]], step: int) -> None:
    from matplotlib.image import imread

    writer = logger.experiment
    for path in figures:
        writer.add_image(f"report/{path.stem}", imread(path)[:, :, :3], step, dataformats="HWC")
    if rows:
        writer.add_text("traces", markdown_table(rows), step)
    writer.flush()
