"""What ends a run from outside: an order to end, for all processes at once; a closed terminal; a second Ctrl-C."""

from __future__ import annotations

import os
import signal
import threading
from typing import Any

from lightning.pytorch import Callback, Trainer
from lightning.pytorch.utilities.exceptions import SIGTERMException

from core_lightning.training.ranks import sum_over_ranks


def end_on_hang_up() -> None:
    """Treat SIGHUP, which a terminal sends when it is closed, like SIGTERM: the run saves and ends.

    Where it is ignored (``nohup``) or somebody else listens to it, it stays as it is.
    """
    name = getattr(signal, "SIGHUP", None)  # Windows has none
    alone = threading.current_thread() is threading.main_thread()
    if name is not None and alone and signal.getsignal(name) is signal.SIG_DFL:
        signal.signal(name, lambda *_: os.kill(os.getpid(), signal.SIGTERM))


class SecondInterrupt(Callback):
    """After the first Ctrl-C, on which a run saves and writes its report, a second one ends it at once.

    Lightning ignores it from the first one on, however long that takes.
    """

    def on_exception(self, trainer: Trainer, pl_module: Any, exception: BaseException) -> None:
        """Listen again."""
        if isinstance(exception, KeyboardInterrupt) and threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGINT, lambda *_: os._exit(130))


class EndTogether(Callback):
    """SIGTERM or Ctrl-C in a run of several processes: all of them save and end after the same step, whichever was told.

    Lightning tells the others of a SIGTERM from within its handler. That message crosses what the processes exchange at
    that moment, say a sum of gradients; and a Ctrl-C ends each of them where it is, so that none can save. Here the
    handler leaves a mark, and the marks are exchanged between two steps. An evaluation that has begun comes to its end.
    A second Ctrl-C ends at once.
    """

    def __init__(self) -> None:
        self._told = False

    def on_sanity_check_start(self, trainer: Trainer, pl_module: Any) -> None:
        """Listen in Lightning's place."""
        self._listen(trainer)

    def on_train_start(self, trainer: Trainer, pl_module: Any) -> None:
        """Listen in Lightning's place."""
        self._listen(trainer)

    def on_train_batch_start(self, trainer: Trainer, pl_module: Any, batch: Any, batch_idx: int) -> None:
        """End, if any process was told to.

        Raises:
            SIGTERMException: In every process.
        """
        if trainer.world_size > 1 and sum_over_ranks([float(self._told)], pl_module.device) != [0]:
            raise SIGTERMException

    def _listen(self, trainer: Trainer) -> None:
        if trainer.world_size > 1 and threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, self._tell)
            signal.signal(signal.SIGINT, self._tell)

    def _tell(self, number: int, _: object) -> None:
        if self._told and number == signal.SIGINT:
            os._exit(130)
        self._told = True
