"""``<run>/evaluations/<stage>-step<N>-<time>/``: what validate, test and predict leave behind, beside the run."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, Trainer
from lightning.pytorch.utilities import rank_zero_info

from core_lightning.callbacks.ranks import gather_rows
from core_lightning.callbacks.run_facts import run_facts
from core_lightning.callbacks.run_folder import leaves_files, run_manifest
from core_lightning.callbacks.siblings import find_callback
from core_lightning.callbacks.team_pass_at_k import TeamPassAtKCallback
from core_lightning.callbacks.trace_log import TraceLog, trace_lines
from core_lightning.callbacks.whole_files import replacing
from core_lightning.records import Group
from core_lightning.report.answers import told
from core_lightning.report.evaluation import Evaluation, as_json
from core_lightning.report.explore import MISSING, can_explore, render_explore, some_traces
from core_lightning.report.page import render_report
from core_lightning.report.plotting import RunData
from core_lightning.report.tables import Table, evaluation_tables, to_text

SHOWN = 3
"""Predictions that are printed."""
STAGES = ("validate", "test", "predict")


def run_of(checkpoint: str | Path | None, root: str | Path) -> Path:
    """The run that an evaluation belongs to: the checkpoint's own, or the trainer's root folder.

    Args:
        checkpoint: The checkpoint that is evaluated, if there is one.
        root: ``trainer.default_root_dir``.
    """
    folder = Path(checkpoint).resolve().parent if checkpoint else None
    return folder.parent if folder is not None and folder.name == "checkpoints" else Path(root)


class EvaluationFolder(Callback):
    """Gives every validation, test and prediction outside of training a folder of its own; the run stays as it is.

    It holds ``evaluation.json`` (figures with their intervals, and every problem's scores), ``table.txt``,
    ``traces.jsonl``, ``manifest.json`` and ``report.html``; after ``predict`` there are the manifest and
    ``predictions.jsonl``: every question with each peer's samples and answers, the majority and its share.

    Attributes:
        path: Where the present evaluation is written; None in training and where no files are left.
    """

    def __init__(self) -> None:
        self.path: Path | None = None
        self._rows: list[dict[str, Any]] = []

    def on_validation_start(self, trainer: Trainer, pl_module: Any) -> None:
        """Choose the folder, now that the checkpoint has told how far training went."""
        self.path, self._rows = None, []
        stage = str(trainer.state.fn.value) if trainer.state.fn else ""
        if stage not in STAGES or not leaves_files(trainer):
            return
        run = run_of(trainer.ckpt_path, trainer.default_root_dir)
        name = f"{stage}-step{pl_module.batches_done}-{datetime.now():%Y%m%d-%H%M%S}"
        self.path = trainer.strategy.broadcast(_free(run / "evaluations" / name))
        if trainer.ckpt_path is None:
            rank_zero_info("no --ckpt_path: the peers are evaluated as they are before training")

    on_test_start = on_validation_start
    on_predict_start = on_validation_start

    def on_validation_batch_end(
        self, trainer: Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """Keep the traces."""
        if self.path is not None:
            log = find_callback(trainer, TraceLog)
            groups: Sequence[Group] = outputs
            questions = log is None or log.questions
            self._rows += [line for g in groups for line in trace_lines(g, pl_module.batches_done, questions)]

    on_test_batch_end = on_validation_batch_end

    def on_predict_batch_end(
        self, trainer: Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """Append the predictions, each process to a file of its own; a run that is stopped keeps them."""
        if self.path is None:
            return
        self.path.mkdir(parents=True, exist_ok=True)
        with (self.path / _predictions(trainer.global_rank)).open("a", encoding="utf-8") as file:
            file.write(_lines(outputs))
        self._rows += outputs

    def on_predict_end(self, trainer: Trainer, pl_module: Any) -> None:
        """Bring the predictions of all processes into one file, in the order of the problems; show some."""
        if self.path is None:
            return
        rows = gather_rows(self._rows)
        if trainer.is_global_zero:
            self.path.mkdir(parents=True, exist_ok=True)
            if trainer.world_size > 1:
                loader: Any = trainer.predict_dataloaders
                order = {problem.id: i for i, problem in enumerate(getattr(loader, "problems", ()))}
                rows.sort(key=lambda row: order.get(row["id"], len(order)))
                write(self.path / _predictions(0), _lines(rows))
                for rank in range(1, trainer.world_size):
                    (self.path / _predictions(rank)).unlink(missing_ok=True)
            manifest = run_manifest(trainer, pl_module) | {"checkpoint": str(trainer.ckpt_path or "")}
            write(self.path / "manifest.json", json.dumps(manifest, indent=1, default=str) + "\n")
            print("\n\n".join(map(told, rows[:SHOWN])), flush=True)
            rank_zero_info(f"{len(rows)} predictions: {self.path / _predictions(0)}")

    def on_validation_end(self, trainer: Trainer, pl_module: Any) -> None:
        """Print the tables and write the files."""
        if self.path is None:
            return
        rows = gather_rows(self._rows)
        callback = find_callback(trainer, TeamPassAtKCallback)
        if not trainer.is_global_zero or callback is None or not callback.history:
            return
        evaluation = callback.history[-1]
        tables = list(evaluation_tables(evaluation))
        manifest = run_manifest(trainer, pl_module) | {"checkpoint": str(trainer.ckpt_path or "")}
        write_evaluation(
            self.path, evaluation, tables, manifest, list(pl_module.peer_configs), rows, run_facts(trainer, pl_module)
        )
        print(to_text(tables), flush=True)
        rank_zero_info(f"evaluation: {self.path}")

    on_test_end = on_validation_end


def write_evaluation(
    folder: Path,
    evaluation: Evaluation,
    tables: Sequence[Table],
    manifest: dict[str, Any],
    peers: Sequence[str],
    traces: Sequence[dict[str, Any]],
    facts: Mapping[str, str] | None = None,
) -> None:
    """The files of one evaluation.

    Args:
        folder: Made if it is not there.
        evaluation: The figures.
        tables: In reading order.
        manifest: What was evaluated.
        peers: Names of the team.
        traces: Lines of ``traces.jsonl``.
        facts: Settings that matter, by name.
    """
    folder.mkdir(parents=True, exist_ok=True)
    write(folder / "evaluation.json", json.dumps(as_json(evaluation), indent=1, allow_nan=False) + "\n")
    write(folder / "manifest.json", json.dumps(manifest, indent=1, default=str) + "\n")
    write(folder / "table.txt", to_text(tables) + "\n")
    write(folder / "traces.jsonl", _lines(traces))
    run = RunData(list(peers), {"step": []}, [evaluation])
    explored = can_explore()
    if explored:
        write(folder / "explore.html", render_explore(folder.name, run, *some_traces(folder / "traces.jsonl")))
    page = render_report(
        folder.name,
        run,
        tables,
        manifest=manifest,
        facts=facts,
        explore="explore.html" if explored else None,
        explore_hint=MISSING,
    )
    write(folder / "report.html", page)


def write(path: Path, text: str) -> None:
    """Write a file that is complete or absent."""
    with replacing(path) as fresh:
        fresh.write_text(text, encoding="utf-8")


def _predictions(rank: int) -> str:
    return f"predictions.rank{rank}.jsonl" if rank else "predictions.jsonl"


def _lines(rows: Sequence[dict[str, Any]]) -> str:
    return "".join(json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n" for row in rows)


def _free(folder: Path) -> Path:
    """The folder, or the first of ``<folder>-2``, ``<folder>-3``, ... that is not there: a second has room for several."""
    number, free = 1, folder
    while free.exists():
        number += 1
        free = folder.with_name(f"{folder.name}-{number}")
    return free
