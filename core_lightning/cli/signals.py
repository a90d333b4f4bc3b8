"""What ends a run from outside: a closed terminal as an order to end, and a second Ctrl-C at once."""

from __future__ import annotations

import os
import signal
import threading
from typing import Any

from lightning.pytorch import Callback, Trainer


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
