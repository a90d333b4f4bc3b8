"""One of two processes of a run in which rank 1 is sent a signal in its third step."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.strategies import DDPStrategy
from lightning.pytorch.utilities.exceptions import SIGTERMException

from core_lightning.callbacks import AdapterCheckpoint, TraceLog
from core_lightning.cli.signals import EndTogether
from core_lightning.training.ranks import is_lost_rank
from scripted_team import ScriptedTeam, WrittenProblems, trainer_in


class Signalled(ScriptedTeam):
    """Sends a signal to its own process, before what the processes exchange in that step."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        """The third one of rank 1 is hit."""
        if self.batches_done == 2 and self.global_rank == 1:
            os.kill(os.getpid(), self.number)
        return super().training_step(batch, batch_idx)


def one_of_two(folder: Path, number: int, place: Mapping[str, str]) -> None:
    """Runs, and writes how the run ended into ``ended-<rank>``.

    Args:
        folder: Of the run.
        number: The signal.
        place: Environment of the rank, as a launcher of several machines would set it.
    """
    os.environ.update(place)
    torch.set_num_threads(1)
    trainer = trainer_in(
        folder,
        [EndTogether(), TraceLog(), AdapterCheckpoint()],
        max_epochs=2,
        strategy=DDPStrategy(),
        devices=2,
        logger=False,
        limit_val_batches=0,
    )
    try:
        trainer.fit(Signalled(number), WrittenProblems(train=8, val=7, batch_size=1))
        ended = "went on"
    except SIGTERMException:
        ended = "told to end"
    except RuntimeError as error:
        ended = "lost a rank" if is_lost_rank(error) else str(error)
    (folder / f"ended-{place['LOCAL_RANK']}").write_text(ended)
