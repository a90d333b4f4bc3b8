"""Metrics, figures and traces to trackio, a tracker that keeps everything in a local folder."""

from __future__ import annotations

import os
from argparse import Namespace
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import Logger
from lightning.pytorch.utilities import rank_zero_only


class TrackioLogger(Logger):
    """Logs to trackio (``pip install trackio``); look at it with ``TRACKIO_DIR=<run>/trackio trackio show``.

    Args:
        save_dir: The run folder; trackio's own files are in ``trackio`` in it, unless ``TRACKIO_DIR`` says otherwise.
        project: Project of trackio.
        run_name: Name of the run; unset, that of the folder.

    Raises:
        ModuleNotFoundError: trackio is not installed.
    """

    def __init__(self, save_dir: str, project: str = "core_lightning", run_name: str | None = None) -> None:
        super().__init__()
        if find_spec("trackio") is None:
            raise ModuleNotFoundError("trainer.logger trackio needs the package trackio; pip install trackio")
        self.folder = Path(save_dir)
        self.project = project
        self.run_name = run_name or self.folder.resolve().name
        self._run: Any = None

    @property
    def name(self) -> str:
        """Project of trackio."""
        return self.project

    @property
    def version(self) -> str:
        """Name of the run."""
        return self.run_name

    @property
    def experiment(self) -> Any:
        """The run of trackio, begun on first use and resumed if it is there."""
        if self._run is None:
            # Trackio reads this once, when it is imported.
            os.environ.setdefault("TRACKIO_DIR", str((self.folder / "trackio").resolve()))
            import trackio

            still = {"auto_log_gpu": False, "auto_log_cpu": False, "embed": False}
            self._run = trackio.init(project=self.project, name=self.run_name, resume="allow", **still)
        return self._run

    @rank_zero_only
    def log_hyperparams(self, params: dict[str, Any] | Namespace, *args: Any, **kwargs: Any) -> None:
        """Nothing: ``config.yaml`` holds them."""

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Log one step."""
        self.experiment.log({name: float(value) for name, value in metrics.items()}, step=step)

    @rank_zero_only
    def log_media(
        self, figures: Sequence[Path], columns: Sequence[str], rows: Sequence[Sequence[Any]], step: int
    ) -> None:
        """Log figures and a table of traces."""
        run = self.experiment
        import trackio

        shown: dict[str, Any] = {f"report/{path.stem}": trackio.Image(str(path)) for path in figures}
        shown["traces"] = trackio.Table(columns=list(columns), data=[list(row) for row in rows])
        run.log(shown, step=step)

    @rank_zero_only
    def finalize(self, status: str) -> None:
        """Write what is waiting and end the run."""
        if self._run is not None:
            self._run.finish()
            self._run = None
