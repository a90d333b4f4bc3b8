"""Whether the trackers that a training is logged to can begin, before anything is loaded."""

from __future__ import annotations

import socket
from collections.abc import Iterable
from typing import Any
from urllib.parse import urlsplit

from core_lightning.peers.sources import first_line

SECONDS = 5.0
"""For a server to take a connection. MLflow's client asks again for four minutes."""

_MENDS = {
    "WandbLogger": "log in with `wandb login`, or keep it on this machine with WANDB_MODE=offline",
    "MLFlowLogger": "start its server, or unset MLFLOW_TRACKING_URI: then a file in the run folder takes its place",
}


class TrackerError(ValueError):
    """A tracker cannot begin."""


def begin_trackers(loggers: Iterable[Any]) -> None:
    """Begin what each logger writes to, as Lightning would a moment later.

    Raises:
        TrackerError: One line with the mend.
    """
    for logger in loggers:
        name = type(logger).__name__
        try:
            _answers(getattr(logger, "_tracking_uri", None))
            _ = logger.experiment
        except Exception as error:  # of any tracker's own kind
            mend = _MENDS.get(name, "train without it: --trainer.logger true")
            raise TrackerError(f"trainer.logger: {name} cannot begin ({first_line(error)}); {mend}") from error


def _answers(uri: object) -> None:
    where = urlsplit(uri) if isinstance(uri, str) else None
    if where is not None and where.scheme in ("http", "https") and where.hostname:
        port = where.port or (443 if where.scheme == "https" else 80)
        try:
            socket.create_connection((where.hostname, port), timeout=SECONDS).close()
        except OSError as error:
            raise ConnectionError(f"{where.hostname}:{port} does not answer: {error}") from error
