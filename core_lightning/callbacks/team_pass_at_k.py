"""Pass@k of every peer and of the team on held-out problems, before, during and after training."""

from __future__ import annotations

from typing import Any

from lightning.pytorch import Callback, Trainer
from lightning.pytorch.utilities import rank_zero_only

from core_lightning.callbacks.ranks import gather_rows
from core_lightning.records import Group
from core_lightning.report.evaluation import Evaluation, ProblemScore, evaluate, score_problem


class TeamPassAtKCallback(Callback):
    """Evaluates the peers' cold traces in validation and test.

    A sanity check over the whole validation set (``trainer.num_sanity_val_steps: -1``) is kept as the evaluation before
    training, at step 0. Figures are logged as ``val/...`` or ``test/...``, the bounds of their intervals as
    ``.../low`` and ``.../high``; :func:`core_lightning.report.evaluation.evaluate` names them. Loggers get the
    number of training steps done as the step of an evaluation.

    Args:
        k: Samples allowed to each peer; at most ``model.eval_samples``.

    Attributes:
        history: Every evaluation so far; it is saved in checkpoints.

    Raises:
        ValueError: More samples are asked for than the module takes.
    """

    def __init__(self, k: int = 2) -> None:
        if k < 1:
            raise ValueError(f"pass_at_k.k is {k}; set it to 1 or more")
        self.k = k
        self.history: list[Evaluation] = []
        self._scores: list[ProblemScore] = []

    def setup(self, trainer: Trainer, pl_module: Any, stage: str) -> None:
        """Refuse a k that the evaluation does not sample for."""
        if stage != "predict" and self.k > pl_module.eval_samples:
            raise ValueError(
                f"pass_at_k.k is {self.k}, but model.eval_samples is {pl_module.eval_samples}; "
                "sample at least k traces per peer, or lower k"
            )

    def on_validation_epoch_start(self, trainer: Trainer, pl_module: Any) -> None:
        """Forget an evaluation that was interrupted."""
        self._scores = []

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
        self._scores += [score_problem(g, list(pl_module.peer_configs), self.k) for g in groups]

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
        step = pl_module.batches_done
        result = evaluate(scores, list(pl_module.peer_configs), self.k, step, stage)
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


@rank_zero_only
def _write(trainer: Trainer, metrics: dict[str, float], step: int) -> None:
    for logger in trainer.loggers:
        logger.log_metrics(metrics, step)
        logger.save()
