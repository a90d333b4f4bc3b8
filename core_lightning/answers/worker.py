"""The near end of the process that does computer algebra: starts it, asks it, kills it when its time is up."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import weakref
from pathlib import Path

START_SECONDS = 60.0
"""Time the process has to import its libraries."""


WORKER = Path(__file__).with_name("symbolic_worker.py")


class WorkerStartError(RuntimeError):
    """The process that compares expressions cannot start, so that no verdict on an expression is possible."""


class SymbolicWorker:
    """A process that compares expressions, one at a time.

    The process forks a server that does the work, and replaces it within milliseconds once it is killed. Where there is
    no fork the process itself is the server, and its end is the end of the worker.
    """

    def __init__(self) -> None:
        self._complaints = tempfile.TemporaryFile()  # noqa: SIM115 (it lives as long as the process)
        self._process = subprocess.Popen(
            # -P: the folder of the script must not shadow standard modules.
            [sys.executable, "-P", str(WORKER)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._complaints,
            text=True,
            bufsize=1,
            start_new_session=True,  # Ctrl-C is for the run, which may still want verdicts while it stops
        )
        self.stop = weakref.finalize(self, _stop, self._process, os.getpid())
        self._server: int | None = None
        self._asked = 0

    def ask(self, answer: str, gold: str, timeout: float) -> bool:
        """Whether two expressions are equal.

        Args:
            answer: Extracted answer.
            gold: Gold answer.
            timeout: Seconds the comparison may take; the start of the process does not count.

        Raises:
            TimeoutError: It took too long; the worker can be asked again.
            EOFError: The process is gone.
            WorkerStartError: It never got ready.
        """
        if not self.stop.alive:
            raise EOFError
        if self._server is None:
            self._server = self._started()
        self._asked += 1
        with contextlib.suppress(OSError):  # a broken pipe shows when reading, too
            self._process.stdin.write(json.dumps([self._asked, answer, gold]) + "\n")  # type: ignore[union-attr]
        reply, expired = self._receive(self._server, timeout)
        if not isinstance(reply, bool):  # a new server: the old one was killed, or died of the question
            self._server = reply
        elif expired:  # the reply and the end of the time limit met
            self._server = None
        if expired:
            raise TimeoutError
        return reply is True

    def _started(self) -> int:
        try:
            return self._receive(self._process.pid, START_SECONDS)[0]
        except (EOFError, TimeoutError) as error:
            self._complaints.seek(0)
            said = self._complaints.read().decode(errors="replace").strip().splitlines()
            reason = said[-1] if said else f"it said nothing and ended with {self._process.returncode}"
            raise WorkerStartError(
                f"the process that compares answers by computer algebra cannot start: {reason}; see that math-verify is "
                "installed and that a process may use 3 GB of memory"
            ) from error

    def _receive(self, killed: int, timeout: float) -> tuple[int | bool, bool]:
        """Next announcement of a server (its id) or verdict, and whether ``killed`` was ended because of the time."""
        expired = threading.Event()

        def expire() -> None:
            expired.set()
            with contextlib.suppress(ProcessLookupError):
                os.kill(killed, getattr(signal, "SIGKILL", signal.SIGTERM))

        # Reading with a timer that kills works on every platform and in every thread.
        timer = threading.Timer(timeout, expire)
        timer.daemon = True
        timer.start()
        try:
            while line := self._process.stdout.readline():  # type: ignore[union-attr]
                reply = json.loads(line)
                if isinstance(reply, int):
                    return reply, expired.is_set()
                if reply[0] == self._asked:
                    return reply[1], expired.is_set()
        finally:
            timer.cancel()
            timer.join()
        self.stop()
        raise TimeoutError if expired.is_set() else EOFError


def _stop(process: subprocess.Popen[str], owner: int) -> None:
    if os.getpid() != owner:  # a fork inherits the object and must leave the process alone
        return
    if hasattr(os, "killpg") and process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
    process.kill()
    process.wait()
    for pipe in (process.stdin, process.stdout):
        with contextlib.suppress(OSError):  # an unsent request
            pipe.close()  # type: ignore[union-attr]
