"""A resumed run sees what the uninterrupted one saw, through a real Trainer and a real checkpoint, wherever it was cut."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from core_lightning.data import DataError, RescueDataModule
from core_lightning.data.splits import Split
from core_lightning.records import Problem


class Made(RescueDataModule):
    """Questions made on the spot; ``salt`` makes them others."""

    def __init__(self, count: int = 12, salt: str = "", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.count, self.salt = count, salt

    def load(self) -> Mapping[Split, Sequence[Problem]]:
        return {"train": [Problem(f"p{i}", f"What is {i} + 1?{self.salt}", str(i + 1)) for i in range(self.count)]}


class Recorder(LightningModule):
    """Steps one weight in manual optimization and remembers the ids of every batch."""

    def __init__(self) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.seen: list[tuple[int, list[str]]] = []
        self.validated: list[str] = []

    def training_step(self, batch: list[Problem], batch_idx: int) -> None:
        assert all(type(p) is Problem for p in batch)
        self.seen.append((self.current_epoch, [p.id for p in batch]))
        optimizer = self.optimizers()
        optimizer.zero_grad()
        self.manual_backward(self.weight * len(batch))
        optimizer.step()

    def validation_step(self, batch: list[Problem], batch_idx: int) -> None:
        self.validated += [p.id for p in batch]

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


class SaveAt(Callback):
    """Saves a checkpoint at every occasion Lightning's own callback has."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def _save(self, trainer: Trainer, moment: str) -> None:
        seen = len(trainer.lightning_module.seen)
        trainer.save_checkpoint(self.folder / f"{seen:02d}-{moment}.ckpt")

    def on_train_batch_end(self, trainer: Trainer, *_: Any) -> None:
        self._save(trainer, "batch")

    def on_validation_end(self, trainer: Trainer, *_: Any) -> None:
        self._save(trainer, "validation")

    def on_train_epoch_end(self, trainer: Trainer, *_: Any) -> None:
        self._save(trainer, "epoch")


def fit(
    data: RescueDataModule, tmp_path: Path, ckpt: Path | None = None, callbacks: Sequence[Callback] = (), **kwargs: Any
) -> Recorder:
    module = Recorder()
    trainer = Trainer(
        default_root_dir=tmp_path,
        accelerator="cpu",
        max_epochs=3,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        callbacks=list(callbacks),
        **kwargs,
    )
    trainer.fit(module, datamodule=data, ckpt_path=ckpt)
    return module


@pytest.mark.parametrize("limits", [{}, {"limit_train_batches": 2}, {"val_check_interval": 2}])
def test_every_checkpoint_resumes_at_the_right_problem(tmp_path: Path, limits: dict[str, Any]) -> None:
    settings = {"batch_size": 2, "val_fraction": 0.2, "test_fraction": 0.0}
    whole = fit(Made(**settings), tmp_path, callbacks=[SaveAt(tmp_path)], **limits)
    steps = 2 if "limit_train_batches" in limits else 5
    assert len(whole.seen) == 3 * steps
    checkpoints = sorted(tmp_path.glob("*.ckpt"))
    assert {c.stem.split("-")[1] for c in checkpoints} == {"batch", "validation", "epoch"}
    for checkpoint in checkpoints:
        resumed = fit(Made(**settings), tmp_path, ckpt=checkpoint, **limits)
        assert resumed.seen == whole.seen[int(checkpoint.stem[:2]) :], checkpoint.stem


def test_every_epoch_is_a_new_order_of_all_problems(tmp_path: Path) -> None:
    data = Made(batch_size=3, val_fraction=0.25, test_fraction=0.0)
    module = fit(data, tmp_path)
    epochs = [[id for epoch, ids in module.seen if epoch == e for id in ids] for e in range(3)]
    assert len(set(map(tuple, epochs))) == 3
    assert all(sorted(ids) == sorted(p.id for p in data.splits["train"]) for ids in epochs)
    assert module.validated == 3 * [p.id for p in data.splits["val"]]


def test_other_data_at_resume_is_one_clear_line(tmp_path: Path) -> None:
    fit(Made(), tmp_path, callbacks=[SaveAt(tmp_path)], limit_train_batches=1)
    checkpoint = sorted(tmp_path.glob("*.ckpt"))[0]
    with pytest.raises(
        DataError, match=r"train problems of Made are not those this run began with .* restore the data"
    ):
        fit(Made(salt=" (new)"), tmp_path, ckpt=checkpoint)


def test_testing_a_checkpoint_on_other_data_is_allowed(tmp_path: Path) -> None:
    fit(Made(), tmp_path, callbacks=[SaveAt(tmp_path)], limit_train_batches=1)
    checkpoint = sorted(tmp_path.glob("*.ckpt"))[0]
    trainer = Trainer(accelerator="cpu", logger=False, enable_progress_bar=False, enable_model_summary=False)
    module = Recorder()
    trainer.validate(module, datamodule=Made(salt=" (new)"), ckpt_path=checkpoint)
    assert module.validated
