"""Every trace of every training step on disk, readable without any tracker."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, Trainer

from core_lightning.callbacks.run_folder import leaves_files
from core_lightning.callbacks.whole_files import append
from core_lightning.records import Group


class TraceLog(Callback):
    """Appends one JSON line per trace to ``traces.jsonl`` in the run folder, ranks above 0 to ``traces.rank<r>.jsonl``.

    A line holds the step, problem, peer, round, completion, verdict, hint and teacher, reward terms, reward and
    advantage. A value that is not a finite number (a term without an opinion) is null. When a run is resumed, lines of
    the steps that will be run again are cut off first, so that the log equals that of an uninterrupted run.

    Args:
        every_n_steps: Log every n-th step.
        questions: Write the texts of questions. Switch it off if they must not be published (GPQA); completions and hints
            may still quote them.
    """

    def __init__(self, every_n_steps: int = 1, questions: bool = True) -> None:
        if every_n_steps < 1:
            raise ValueError(f"trace_log.every_n_steps is {every_n_steps}; set it to 1 or more")
        self.every_n_steps = every_n_steps
        self.questions = questions

    def on_train_start(self, trainer: Trainer, pl_module: Any) -> None:
        """Cut a log that reaches beyond the checkpoint."""
        if trainer.ckpt_path is not None:
            cut_lines(_path(trainer), lambda line: line["step"] < pl_module.batches_done)

    def on_train_batch_end(self, trainer: Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Append the step's traces."""
        record = pl_module.record
        if not leaves_files(trainer) or record.step % self.every_n_steps:
            return
        path = _path(trainer)
        path.parent.mkdir(parents=True, exist_ok=True)
        # Closed after every step, so that a run that is killed loses no finished one.
        # Half a surrogate pair, which UTF-8 has no bytes for, is then written as JSON escapes it.
        lines = (line for group in record.groups for line in trace_lines(group, record.step, self.questions))
        text = "".join(json.dumps(line, ensure_ascii=False, allow_nan=False) + "\n" for line in lines)
        append(path, text, errors="backslashreplace")


def trace_lines(group: Group, step: int, questions: bool = True) -> Iterator[dict[str, Any]]:
    """The traces of one problem as plain JSON data."""
    problem = group.problem
    for trace in group:
        yield {
            "step": step,
            "problem": problem.id,
            **({"question": problem.question} if questions else {}),
            "gold": problem.answer,
            "source": problem.source,
            **({"metadata": dict(problem.metadata)} if problem.metadata else {}),
            "peer": trace.peer,
            "round": trace.round,
            "index": trace.index,
            "text": trace.text,
            "answer": trace.answer,
            "correct": trace.correct,
            "flaw": trace.flaw,
            "teacher": trace.hint.teacher if trace.hint else None,
            "teacher_index": trace.hint.teacher_index if trace.hint else None,
            "hint": trace.hint.text if trace.hint else None,
            "hint_leaks": trace.hint.leaks if trace.hint else None,
            "terms": {name: _finite(value) for name, value in trace.terms.items()},
            "reward": _finite(trace.reward),
            "advantage": _finite(trace.advantage),
            "masked": trace.masked,
            "tokens": len(trace.token_ids),
            "truncated": trace.truncated,
        }


def cut_lines(path: Path, keep: Callable[[dict[str, Any]], bool]) -> None:
    """Truncate a file of JSON lines before the first line that is not to be kept or that a crash left unfinished."""
    if not path.exists():
        return
    end = 0
    with path.open("rb") as file:
        for line in file:
            if not line.endswith(b"\n") or not keep(json.loads(line)):
                break
            end += len(line)
    os.truncate(path, end)


def _path(trainer: Trainer) -> Path:
    rank = trainer.global_rank
    return Path(trainer.default_root_dir) / ("traces.jsonl" if rank == 0 else f"traces.rank{rank}.jsonl")


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None
