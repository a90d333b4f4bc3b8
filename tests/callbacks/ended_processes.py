"""One of two processes of a run in which rank 1 is sent a signal in its third step: ``ended_processes.py <folder> <signal>``."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

from lightning.pytorch.strategies import DDPStrategy
from lightning.pytorch.utilities.exceptions import SIGTERMException

from core_lightning.callbacks import AdapterCheckpoint, TraceLog
from core_lightning.cli.signals import EndTogether
from core_lightning.training.ranks import is_lost_rank
from scripted_team import ScriptedTeam, WrittenProblems, trainer_in


class Signalled(ScriptedTeam):
    """Sends the signal to its own process, before what the processes exchange in that step."""

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        """The third one of rank 1 is hit."""
        if self.batches_done == 2 and self.global_rank == 1:
            os.kill(os.getpid(), int(sys.argv[2]))
        return super().training_step(batch, batch_idx)


def main() -> None:
    """Says on a line of its own how the run ended."""
    trainer = trainer_in(
        Path(sys.argv[1]),
        [EndTogether(), TraceLog(), AdapterCheckpoint()],
        max_epochs=2,
        strategy=DDPStrategy(),
        devices=2,
        logger=False,
        limit_val_batches=0,
    )
    try:
        trainer.fit(Signalled(), WrittenProblems(train=8, val=7, batch_size=1))
    except SIGTERMException:
        print("told to end")
    except RuntimeError as error:
        print("lost a rank" if is_lost_rank(error) else error)


if __name__ == "__main__":
    main()
