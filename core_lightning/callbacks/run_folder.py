"""One folder holds one run: its manifest, and the refusal to write into another run's folder."""

from __future__ import annotations

import json
import os
import platform
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, Trainer
from lightning.pytorch.utilities import rank_zero_info

from core_lightning.callbacks.metrics_csv import FILE, MetricsCsv, read_metrics
from core_lightning.callbacks.siblings import find_callback
from core_lightning.callbacks.team_pass_at_k import TeamPassAtKCallback
from core_lightning.callbacks.whole_files import replacing

fcntl: Any
try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

LIBRARIES = ("core-lightning", "torch", "transformers", "peft", "lightning", "bitsandbytes", "torchmetrics", "datasets")
PEER_FIELDS = ("model", "revision", "adapter", "quantization", "dtype")


class RunFolderError(ValueError):
    """The run folder cannot be used."""


#: Folders this process writes a run into, each with the open directory that is locked for it, and whether it was made here.
_CLAIMED: dict[Path, tuple[int, bool]] = {}


def claim(folder: str | Path) -> None:
    """Keep other processes from writing a run into this folder, until it is released or this process ends.

    Args:
        folder: ``trainer.default_root_dir``, made if it is not there.

    Raises:
        RunFolderError: Another process writes a run there.
    """
    if fcntl is None:
        return
    folder = Path(folder).resolve()
    if folder in _CLAIMED:
        return
    made = not folder.exists()
    folder.mkdir(parents=True, exist_ok=True)
    place = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(place, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(place)
        raise RunFolderError(
            f"run folder {folder} is in use by a run of another process; wait for its end, or give another "
            "--trainer.default_root_dir"
        ) from None
    except OSError:  # a file system without locks
        os.close(place)
        return
    _CLAIMED[folder] = place, made


def release(folder: str | Path) -> None:
    """Let others use the folder; one that was made for a run which wrote nothing is removed."""
    folder = Path(folder).resolve()
    place, made = _CLAIMED.pop(folder, (None, False))
    if place is not None:
        os.close(place)
    if made:
        with suppress(OSError):  # there is something in it
            folder.rmdir()


def release_all() -> None:
    """Let others use all folders of this process."""
    for folder in list(_CLAIMED):
        release(folder)


def check_run_folder(folder: str | Path, ckpt_path: str | Path | None = None) -> None:
    """Refuse to start a run where another one has left its results.

    A run that was killed before its first step has left at most the evaluation before training: it starts over.

    Args:
        folder: ``trainer.default_root_dir``.
        ckpt_path: The checkpoint that the run begins with. One of this folder goes on here; one of another run may begin in
            an empty folder only.

    Raises:
        RunFolderError: With one line that says how to go on.
    """
    folder = Path(folder)
    left = (folder / "traces.jsonl").exists() or any(folder.glob("checkpoints/*.ckpt")) or _has_trained(folder)
    checkpoints = (folder / "checkpoints").resolve()
    if not left or (ckpt_path is not None and Path(ckpt_path).resolve().parent == checkpoints):
        return
    if ckpt_path is not None:
        raise RunFolderError(
            f"run folder {folder} already holds a run, and --ckpt_path {ckpt_path} is not one of its checkpoints; give "
            f"another --trainer.default_root_dir, or, if it is of this run, put it into {folder / 'checkpoints'}"
        )
    last = folder / "checkpoints" / "last.ckpt"
    resume = f"resume it with --ckpt_path {last}" if last.exists() else "remove it (it holds no checkpoint to resume)"
    raise RunFolderError(
        f"run folder {folder} already holds a run; give another --trainer.default_root_dir, or {resume}"
    )


class RunFolder(Callback):
    """Checks the run folder and writes ``manifest.json``: data ids and hashes, models, library versions and the seed.

    A resumed run is checked against the manifest it began with, and its metrics are wound back to the checkpoint.

    Raises:
        RunFolderError: The folder holds another run. Lightning tells callbacks about ``ckpt_path`` only after the
            models are loaded; call :func:`check_run_folder` beforehand where that is too late.
    """

    def __init__(self) -> None:
        self._own: Path | None = None

    def on_fit_start(self, trainer: Trainer, pl_module: Any) -> None:
        """Check the folder, write or compare the manifest."""
        if not trainer.is_global_zero or not leaves_files(trainer):
            return
        folder = Path(trainer.default_root_dir)
        resuming = trainer.ckpt_path is not None
        claim(folder)
        if folder != self._own:
            check_run_folder(folder, trainer.ckpt_path)
        self._own = folder
        path = folder / "manifest.json"
        if resuming and path.exists():
            _compare(trainer, json.loads(path.read_text(encoding="utf-8")))
            return
        folder.mkdir(parents=True, exist_ok=True)
        if not resuming and not _has_trained(folder):
            (folder / FILE).unlink(missing_ok=True)  # of a run that was killed before its first step
        with replacing(path) as fresh:
            text = json.dumps(run_manifest(trainer, pl_module), indent=1, default=str) + "\n"
            fresh.write_text(text, encoding="utf-8")

    def teardown(self, trainer: Trainer, pl_module: Any, stage: str) -> None:
        """Let others use the folder."""
        release(trainer.default_root_dir)

    def on_exception(self, trainer: Trainer, pl_module: Any, exception: BaseException) -> None:
        """Let others use the folder."""
        release(trainer.default_root_dir)

    def on_train_start(self, trainer: Trainer, pl_module: Any) -> None:
        """Wind the metrics of a resumed run back to its checkpoint."""
        passes = find_callback(trainer, TeamPassAtKCallback)
        done = pl_module.batches_done
        known = passes is None or any(e["step"] == done and not e.get("closing") for e in passes.history)
        for logger in trainer.loggers:
            if trainer.ckpt_path is not None and isinstance(logger, MetricsCsv):
                logger.rewind(done, evaluated=known)


def _has_trained(folder: Path) -> bool:
    """Whether the metrics of a folder are those of a step, not only of the evaluation before it."""
    return any(row.get("step") not in ("0", "") or _of_training(row) for row in read_metrics(folder / FILE))


def _of_training(row: dict[str, str]) -> bool:
    return any(value for name, value in row.items() if name.startswith("train/"))


def leaves_files(trainer: Any) -> bool:
    """Whether a run writes into its folder; a ``fast_dev_run`` only shows that it would work."""
    return not trainer.fast_dev_run


def run_manifest(trainer: Trainer, pl_module: Any) -> dict[str, Any]:
    """What makes this run this run, as plain JSON data."""
    data = getattr(trainer, "datamodule", None)
    return {
        "seed": pl_module.seed,
        "prompt_date": pl_module.prompt.date,
        "peers": {
            name: {field: getattr(config, field) for field in PEER_FIELDS}
            for name, config in pl_module.peer_configs.items()
        },
        "versions": library_versions(),
        "world_size": trainer.world_size,
        "accelerator": type(trainer.accelerator).__name__,
        "data": data.manifest() if data is not None and hasattr(data, "manifest") else None,
    }


def library_versions() -> dict[str, str]:
    """Versions of Python and of the libraries that are installed and may change results."""
    found = {"python": platform.python_version()}
    for library in LIBRARIES:
        try:
            found[library] = version(library)
        except PackageNotFoundError:
            continue
    return found


def _compare(trainer: Trainer, before: dict[str, Any]) -> None:
    data = getattr(trainer, "datamodule", None)
    if data is not None and before["data"] is not None and hasattr(data, "check_manifest"):
        data.check_manifest(before["data"])
    for library, now in library_versions().items():
        if (then := before["versions"].get(library)) not in (None, now):
            rank_zero_info(f"resume: {library} was {then} when this run began and is now {now}")
