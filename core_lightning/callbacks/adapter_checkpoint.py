"""Checkpoints on a batch count of their own, and the adapters in PEFT format beside them."""

from __future__ import annotations

import math
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import Checkpoint
from lightning.pytorch.utilities import rank_zero_info
from lightning.pytorch.utilities.exceptions import SIGTERMException

from core_lightning.callbacks.adapter_card import write_cards
from core_lightning.callbacks.run_folder import leaves_files
from core_lightning.callbacks.siblings import find_callback
from core_lightning.callbacks.team_pass_at_k import TeamPassAtKCallback
from core_lightning.callbacks.whole_files import replacing


class AdapterCheckpoint(Checkpoint):
    """Writes ``checkpoints/step-<n>.ckpt``, ``last.ckpt`` and ``best.ckpt``, and ``adapters/<peer>/``.

    The folder of an adapter holds its weights, the tokenizer and a card that says what it is and how to load it.

    Counts ``batches_done`` of the module: Lightning's own counters move with every optimizer step, and in manual mode
    its checkpoint callback misses steps. Every file is complete or absent, also after a crash. An exception or Ctrl-C
    saves the state after the last finished step, so that the resumed run repeats the unfinished one from its start.

    A run that is killed at any moment resumes from ``last.ckpt`` to what it would have been: the first one is written
    before the first step, one of a step only when the step's row of metrics is on disk, and one before an evaluation says
    that the evaluation is still to be done.

    Args:
        every_n_batches: Training steps between checkpoints.
        keep: How many of the last ``step-<n>.ckpt`` to keep.

    Attributes:
        best_score: Best Team Pass@k in validation so far; ``best.ckpt`` is from there. The earlier one stays on a tie.
        ended: Whether the run has made all of its steps and its last evaluation.
    """

    def __init__(self, every_n_batches: int = 50, keep: int = 2) -> None:
        if every_n_batches < 1:
            raise ValueError(f"checkpoint.every_n_batches is {every_n_batches}; set it to 1 or more")
        if keep < 1:
            raise ValueError(f"checkpoint.keep is {keep}; set it to 1 or more")
        self.every_n_batches = every_n_batches
        self.keep = keep
        self.best_score = -math.inf
        self.best_model_path = ""
        self.ended = False
        self._boundary: dict[str, Any] | None = None
        self._steps_at_boundary = -1
        self._saving_boundary = False
        self._end_is_best = False
        self._pending = False

    def on_train_start(self, trainer: Trainer, pl_module: Any) -> None:
        """Save the start, or remove checkpoints of steps that a resumed run is about to repeat."""
        self._boundary, self._pending, self._end_is_best, self.ended = None, False, False, False
        loop = trainer.fit_loop
        if loop.restarted_mid_epoch and loop.epoch_loop.batch_progress.is_last_batch:
            # Lightning closed the epoch of that batch while it loaded, and would not count the next one as begun.
            loop.reset_restart_stage()
        if trainer.ckpt_path is None:
            self._save_start(trainer)
        elif trainer.is_global_zero:
            for step, path in _numbered(trainer):
                if step > pl_module.batches_done:
                    path.unlink()

    def on_train_batch_end(self, trainer: Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Note where the step ended; it is saved, if that is due, once Lightning has logged its metrics."""
        self._boundary = trainer.fit_loop.state_dict()
        self._steps_at_boundary = _optimizer_steps(trainer)
        self._pending = self._due(pl_module)

    def on_train_batch_start(self, trainer: Trainer, pl_module: Any, batch: Any, batch_idx: int) -> None:
        """Save the step before, if it is due."""
        self._save_pending(trainer, pl_module)

    def on_validation_start(self, trainer: Trainer, pl_module: Any) -> None:
        """Make this the place to go on from: an evaluation that is interrupted is then done over from its start."""
        if trainer.sanity_checking or trainer.state.fn != "fit" or _closing(trainer):
            return
        begun: Any = trainer.fit_loop.epoch_loop.val_loop.batch_progress.total
        begun.ready = begun.started = begun.processed = begun.completed  # without the mark below, in a run that goes on
        self._boundary = trainer.fit_loop.state_dict()
        # Lightning passes by an evaluation it finds complete; one that has begun its first batch is gone back to.
        evaluated = self._boundary["epoch_loop.val_loop.batch_progress"]["total"]
        evaluated["ready"] += 1
        evaluated["started"] += 1
        if not _has_all_steps(trainer):
            # Lightning does nothing more with a run that has all of its steps: the last of them is saved evaluated.
            self._save_pending(trainer, pl_module)

    def on_validation_end(self, trainer: Trainer, pl_module: Any) -> None:
        """Save again if a checkpoint was due, now with this evaluation in it; and the best one."""
        if trainer.sanity_checking or trainer.state.fn != "fit" or not leaves_files(trainer):
            return
        score = _team_score(trainer)
        better = score is not None and score > self.best_score
        if better:
            assert score is not None
            self.best_score = score
            self.best_model_path = str(_folder(trainer) / "best.ckpt")
        if not _closing(trainer):
            self._boundary = trainer.fit_loop.state_dict()  # now with this evaluation in it
        if _closing(trainer) or _has_all_steps(trainer):
            self._end_is_best = better  # saved with the end of the run
            return
        if better:
            # Before the step's own: a run killed between the two does the evaluation over, and writes both again.
            self._save(trainer, "best.ckpt")
        if self._due(pl_module):
            self._save_step(trainer, pl_module)

    def on_train_end(self, trainer: Trainer, pl_module: Any) -> None:
        """Save the end of the run.

        Lightning closes the epoch also where ``max_steps`` ended it half-way; a longer run then goes on with the problems
        that were left, so the position after the last step is saved.
        """
        self.ended = True  # the evaluation at the end, if there is one, came before this
        halfway = not trainer.fit_loop.epoch_loop.batch_progress.is_last_batch
        # last.ckpt comes last: a run that is killed before it makes its last steps, and all of this, again.
        with self._at_boundary(halfway and self._boundary is not None):
            if self._end_is_best:
                self._save(trainer, "best.ckpt")
            if self._pending:
                self._save(trainer, f"step-{pl_module.batches_done}.ckpt")
                self._prune(trainer)
            self._save_adapters(trainer, pl_module)
            self._save(trainer, "last.ckpt")
        self._pending = False

    def on_fit_end(self, trainer: Trainer, pl_module: Any) -> None:
        """Write the cards again, now with the last evaluation and how long the run took."""
        if leaves_files(trainer) and trainer.is_global_zero:
            write_cards(trainer, pl_module)

    def on_exception(self, trainer: Trainer, pl_module: Any, exception: BaseException) -> None:
        """Save the state after the last finished step, if the weights are still those."""
        # Of several processes the others may not be here, and saving waits for them; an order to end reaches all.
        together = trainer.world_size == 1 or isinstance(exception, SIGTERMException)
        if self._boundary is None or not together or _optimizer_steps(trainer) != self._steps_at_boundary:
            return
        last = _folder(trainer) / "last.ckpt"
        try:
            with self._at_boundary(True):
                self._save(trainer, "last.ckpt")
            self._save_adapters(trainer, pl_module)
        except OSError as error:  # a full disk, which may be what ended the run
            rank_zero_info(f"the last finished step could not be saved ({error.strerror}); {last} is of an earlier one")
            return
        then = f"resume with --ckpt_path {last}"
        if _has_all_steps(trainer):  # nothing is left to resume for
            then = f"that is all of them; evaluate the last with: validate --run {trainer.default_root_dir}"
        rank_zero_info(f"saved the {pl_module.batches_done} finished steps; {then}")

    @contextmanager
    def _at_boundary(self, wanted: bool) -> Iterator[None]:
        self._saving_boundary = wanted
        try:
            yield
        finally:
            self._saving_boundary = False

    def on_save_checkpoint(self, trainer: Trainer, pl_module: Any, checkpoint: dict[str, Any]) -> None:
        """Give a checkpoint made in mid-step or at the end the loop and loader positions of the last finished step."""
        if self._saving_boundary:
            checkpoint["loops"]["fit_loop"] = self._boundary

    def state_dict(self) -> dict[str, Any]:
        """The best score and where it lies, and whether the run has ended."""
        return {"best_score": self.best_score, "best_model_path": self.best_model_path, "ended": self.ended}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Compare further evaluations with the best one of the run that is resumed."""
        self.best_score = state_dict["best_score"]
        self.best_model_path = state_dict["best_model_path"]

    def _due(self, pl_module: Any) -> bool:
        return pl_module.batches_done % self.every_n_batches == 0

    def _save_start(self, trainer: Trainer) -> None:
        start = trainer.fit_loop.state_dict()
        # Lightning takes it that a step was done which it had not counted yet, and would log every step one too high.
        start["epoch_loop.state_dict"]["_batches_that_stepped"] -= 1
        self._boundary = start
        with self._at_boundary(True):
            self._save(trainer, "last.ckpt")
        self._boundary = None

    def _save_pending(self, trainer: Trainer, pl_module: Any) -> None:
        if self._pending:
            with self._at_boundary(True):
                self._save_step(trainer, pl_module)

    def _save_step(self, trainer: Trainer, pl_module: Any) -> None:
        path = self._save(trainer, f"step-{pl_module.batches_done}.ckpt")
        self._save_adapters(trainer, pl_module)
        if path is not None and trainer.is_global_zero:
            _copy(path, "last.ckpt")
            self._prune(trainer)
        self._pending = False

    def _prune(self, trainer: Trainer) -> None:
        if trainer.is_global_zero and leaves_files(trainer):
            for _, old in _numbered(trainer)[: -self.keep]:
                old.unlink()

    def _save(self, trainer: Trainer, name: str) -> Path | None:
        if not leaves_files(trainer):
            return None
        path = _folder(trainer) / name
        if not trainer.is_global_zero:
            trainer.save_checkpoint(path, weights_only=False)  # every rank takes part, and only the first one writes
            return path
        with replacing(path) as fresh:
            trainer.save_checkpoint(fresh, weights_only=False)
        return path

    def _save_adapters(self, trainer: Trainer, pl_module: Any) -> None:
        if not leaves_files(trainer) or not trainer.is_global_zero:
            return
        for name, peer in pl_module.peers.items():
            folder = Path(trainer.default_root_dir) / "adapters" / name
            fresh = folder.with_name(f".{name}.new")
            peer.save_adapter(fresh)
            if hasattr(peer, "save_tokenizer") and not (folder / "tokenizer_config.json").exists():
                peer.save_tokenizer(fresh)
            folder.mkdir(parents=True, exist_ok=True)
            for file in fresh.iterdir():
                os.replace(file, folder / file.name)
            fresh.rmdir()
        write_cards(trainer, pl_module)


def _copy(path: Path, name: str) -> None:
    """Put a copy of a checkpoint beside it, whole or not at all."""
    with replacing(path.with_name(name)) as fresh:
        shutil.copyfile(path, fresh)


def _has_all_steps(trainer: Trainer) -> bool:
    return 0 < trainer.max_steps <= trainer.global_step


def _closing(trainer: Trainer) -> bool:
    evaluations = find_callback(trainer, TeamPassAtKCallback)
    return evaluations is not None and evaluations.closing


def _folder(trainer: Trainer) -> Path:
    return Path(trainer.default_root_dir) / "checkpoints"


def _numbered(trainer: Trainer) -> list[tuple[int, Path]]:
    """Numbered checkpoints, oldest first."""
    found = [(re.fullmatch(r"step-(\d+)\.ckpt", p.name), p) for p in _folder(trainer).glob("step-*.ckpt")]
    return sorted((int(match[1]), path) for match, path in found if match)


def _optimizer_steps(trainer: Trainer) -> int:
    """Optimizer steps begun, also those that were not completed."""
    return trainer.fit_loop.epoch_loop.manual_optimization.optim_step_progress.total.ready


def _team_score(trainer: Trainer) -> float | None:
    scores = [float(v) for n, v in trainer.callback_metrics.items() if re.fullmatch(r"val/team_pass_at_\d+", n)]
    return scores[0] if scores else None
