"""Pass@k of every peer and of the team on held-out problems, before, during and after training."""

from __future__ import annotations

import copy
import time
from collections.abc import Sequence
from typing import Any

from lightning.pytorch import Callback, Trainer
from lightning.pytorch.utilities import rank_zero_info, rank_zero_only
from lightning.pytorch.utilities.seed import isolate_rng

from core_lightning.callbacks.ranks import gather_rows
from core_lightning.records import Group
from core_lightning.report.evaluation import Evaluation, ProblemScore, evaluate, sampled_k, score_problem


class TeamPassAtKCallback(Callback):
    """Evaluates the peers' cold traces in validation and test.

    A sanity check over the whole validation set (``trainer.num_sanity_val_steps: -1``) is kept as the evaluation before
    training, at step 0. Figures are logged as ``val/...`` or ``test/...``, the bounds of their intervals as
    ``.../low`` and ``.../high``; :func:`core_lightning.report.evaluation.evaluate` names them. Loggers get the
    number of training steps done as the step of an evaluation.

    A training that ends between two evaluations is followed by one more. It is no part of the run's course: a run that is
    resumed and prolonged drops it, so that its history is that of a run that was longer from the start.

    Args:
        k: Samples of each peer that count for Pass@k and Team Pass@k; at most ``model.eval_samples``.
        at_end: Evaluate once more at the end of a training, if its last step was not evaluated.

    Attributes:
        history: Every evaluation so far; it is saved in checkpoints.
        closing: The evaluation at the end of a training is running.

    Raises:
        ValueError: More samples are asked for than the module takes.
    """

    def __init__(self, k: int = 2, at_end: bool = True) -> None:
        if k < 1:
            raise ValueError(f"pass_at_k.k is {k}; set it to 1 or more")
        self.k = k
        self.at_end = at_end
        self.history: list[Evaluation] = []
        self.closing = False
        self._scores: list[ProblemScore] = []
        self._began = self._took = 0.0
        self._sanity_steps: int | float | None = None

    def setup(self, trainer: Trainer, pl_module: Any, stage: str) -> None:
        """Refuse a k that the evaluation does not sample for."""
        if stage != "predict" and self.k > pl_module.eval_samples:
            raise ValueError(
                f"pass_at_k.k is {self.k}, but model.eval_samples is {pl_module.eval_samples}; "
                "sample at least k traces per peer, or lower k"
            )

    def on_fit_start(self, trainer: Trainer, pl_module: Any) -> None:
        """Leave the evaluation before training out where a run goes on: Lightning repeats it after a finished one."""
        check_k(self.history, self.k)
        if trainer.ckpt_path is not None and pl_module.batches_done > 0:
            self._sanity_steps, trainer.num_sanity_val_steps = trainer.num_sanity_val_steps, 0

    def on_train_start(self, trainer: Trainer, pl_module: Any) -> None:
        """Drop the evaluation at the end of the shorter run that is resumed."""
        if self._sanity_steps is not None:
            trainer.num_sanity_val_steps, self._sanity_steps = self._sanity_steps, None
        self.history = [e for e in self.history if not e.get("closing")]

    def on_validation_start(self, trainer: Trainer, pl_module: Any) -> None:
        """Announce the evaluation at the end of a training, with its size and cost."""
        if self.closing:
            size = f"{problems_to_evaluate(trainer)} problems, {pl_module.eval_samples} samples of each peer"
            cost = f", about {self._took:.0f} s" if self._took else ""
            rank_zero_info(
                f"the last step is not evaluated yet; that follows now: {size}{cost} (pass_at_k.at_end: false leaves it out)"
            )

    def on_train_end(self, trainer: Trainer, pl_module: Any) -> None:
        """Evaluate what the training ended with, unless its last step just was."""
        evaluated = [e["step"] for e in self.history if e["stage"] == "val"]
        if (
            not self.at_end
            or not trainer.enable_validation
            or trainer.fast_dev_run  # type: ignore[attr-defined]
            or pl_module.batches_done in evaluated
        ):
            return
        loop, connector = trainer.fit_loop.epoch_loop.val_loop, trainer._logger_connector
        # The loop's counters are saved in checkpoints, and a run that goes on must not find an evaluation it did not make.
        progress, first = copy.deepcopy(loop.batch_progress), connector._first_loop_iter
        self.closing = trainer.validating = True
        try:
            with isolate_rng():
                loop.run()
        finally:
            self.closing, trainer.training = False, True
            loop.batch_progress, connector._first_loop_iter = progress, first

    def on_validation_epoch_start(self, trainer: Trainer, pl_module: Any) -> None:
        """Forget an evaluation that was interrupted."""
        self._scores = []
        self._began = time.monotonic()

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: Any,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Reduce the groups of a batch to their counts."""
        groups: list[Group] = outputs
        rescue = bool(getattr(pl_module, "eval_rescue", False))
        self._scores += [score_problem(g, list(pl_module.peer_configs), self.k, rescue) for g in groups]

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: Any) -> None:
        """Compute, keep and log the figures over all ranks."""
        self._conclude(trainer, pl_module, "val")

    on_test_epoch_start = on_validation_epoch_start
    on_test_batch_end = on_validation_batch_end

    def on_test_epoch_end(self, trainer: Trainer, pl_module: Any) -> None:
        """As in validation, on the test split."""
        self._conclude(trainer, pl_module, "test")

    def state_dict(self) -> dict[str, Any]:
        """The history, so that a resumed run still knows what was before it."""
        return {"history": self.history}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take up the history of the run that is resumed."""
        self.history = list(state_dict["history"])

    def _conclude(self, trainer: Trainer, pl_module: Any, stage: str) -> None:
        scores, self._scores = gather_rows(self._scores), []
        partial = trainer.sanity_checking and trainer.num_sanity_val_batches != trainer.num_val_batches
        if partial or not scores:
            return
        self._took = time.monotonic() - self._began
        step = pl_module.batches_done
        result = evaluate(scores, list(pl_module.peer_configs), self.k, step, stage)
        result["sampling"] = sampling(pl_module)
        if self.closing:
            result["closing"] = True
        # Lightning repeats the evaluation at the end of a run that is resumed from there.
        others = [e for e in self.history if (e["step"], e["stage"]) != (step, stage)]
        known, self.history = len(others) < len(self.history), [*others, result]
        flat = {f"{stage}/{name}": figure["value"] for name, figure in result["values"].items()}
        bounds = {
            f"{stage}/{name}/{bound}": figure[bound]
            for name, figure in result["values"].items()
            for bound in ("low", "high")
            if not name.startswith("chance_")  # known, not estimated
        }
        if trainer.state.fn == "fit":
            # Lightning would log under the index of the last training batch, and the sanity check not at all.
            pl_module.log_dict(flat, batch_size=len(scores), logger=False)
            if not known:
                _write(trainer, flat | bounds | {"epoch": float(trainer.current_epoch)}, step)
        else:
            pl_module.log_dict(flat | bounds | {"step": float(step)}, batch_size=len(scores))


def check_k(history: Sequence[Evaluation], k: int) -> None:
    """Refuse a run whose earlier evaluations were made with another k: its tables compare the first with the last.

    Raises:
        ValueError: Names the setting and the mend.
    """
    before = next((sampled_k(e) for e in history if sampled_k(e) != k), None)
    if before is not None:
        raise ValueError(
            f"pass_at_k.k is {k}, and the run that goes on was evaluated with {before}; set it back, and evaluate with "
            "another one by validate"
        )


def sampling(pl_module: Any) -> dict[str, str]:
    """What the traces of an evaluation hang on beside the adapters, as text by the names of the settings."""
    settings: dict[str, Any] = {"eval_samples": pl_module.eval_samples}
    for name, config in pl_module.peer_configs.items():
        generation = getattr(config, "generation", None)
        for field in ("temperature", "top_p", "max_new_tokens", "stop"):
            settings[f"peers.{name}.generation.{field}"] = getattr(generation, field, None)
    prompt = getattr(pl_module, "prompt", None)
    for field in ("text", "chat", "system", "instruction", "shots"):
        settings[f"prompt.{field}"] = getattr(prompt, field, None)
    return {name: str(value) for name, value in settings.items()}


def problems_to_evaluate(trainer: Trainer) -> int:
    """Problems of the evaluation that begins, over all processes; batches where a loader does not tell."""
    testing = trainer.state.fn == "test"
    loaders: Any = trainer.test_dataloaders if testing else trainer.val_dataloaders
    batches: Any = trainer.num_test_batches if testing else trainer.num_val_batches
    if trainer.sanity_checking:
        batches = trainer.num_sanity_val_batches
    loaders = loaders if isinstance(loaders, list) else [loaders]
    total = 0
    for loader, count in zip(loaders, batches, strict=False):
        problems, stride = getattr(loader, "problems", None), getattr(loader, "stride", 1)
        total += int(count) if problems is None else min(len(problems), int(count) * stride)
    return total


@rank_zero_only
def _write(trainer: Trainer, metrics: dict[str, float], step: int) -> None:
    for logger in trainer.loggers:
        logger.log_metrics(metrics, step)
        logger.save()
