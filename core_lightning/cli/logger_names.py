"""Loggers by a short name, with the run folder as their default place."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

_CLASSES = {
    "tensorboard": "TensorBoardLogger",
    "wandb": "WandbLogger",
    "mlflow": "MLFlowLogger",
    "csv": "CSVLogger",
    "trackio": "TrackioLogger",
}


def logger_config(value: Any, root: str, before: str | None = None) -> Any:
    """What a config says about a logger, in full.

    Args:
        value: ``tensorboard``, ``wandb``, ``mlflow``, ``trackio``, ``csv``, the name of the class, or its ``class_path``
            with settings. Anything else is handed back.
        root: The run folder.
        before: The run folder of the config that names the logger, if it was another: places in it move along.

    >>> logger_config("tensorboard", "runs/x")["init_args"]
    {'save_dir': 'runs/x', 'name': 'tensorboard', 'version': ''}
    >>> logger_config("mlflow", "runs/x")["init_args"]["tracking_uri"]
    'sqlite:///runs/x/mlflow.db'
    """
    if isinstance(value, list):
        return [logger_config(one, root, before) for one in value]
    given: Any = {"class_path": value} if isinstance(value, str) else value
    if not isinstance(given, Mapping) or "class_path" not in given:
        return value
    bare = str(given["class_path"]).rpartition(".")[2]
    name = next((n for n, c in _CLASSES.items() if bare in (n, c)), None)
    if name is None:
        return value
    settings = {k: _moved(v, before, root) for k, v in (given.get("init_args") or {}).items()}
    return {
        "class_path": f"{'core_lightning.callbacks' if name == 'trackio' else 'lightning.pytorch.loggers'}.{_CLASSES[name]}",
        "init_args": _defaults(name, root) | {k: v for k, v in settings.items() if v is not None},
    }


def _defaults(name: str, root: str) -> dict[str, Any]:
    if name == "tensorboard":
        return {"save_dir": root, "name": "tensorboard", "version": ""}
    if name == "csv":
        return {"save_dir": root, "name": "csv", "version": ""}
    if name == "trackio":
        return {"save_dir": root}
    if name == "wandb":
        return {"save_dir": root, "name": Path(root).name, "project": "core_lightning"}
    folder = Path(root)
    if server := os.environ.get("MLFLOW_TRACKING_URI"):
        return {"experiment_name": folder.name, "tracking_uri": server}
    return {
        "experiment_name": folder.name,
        "tracking_uri": f"sqlite:///{folder / 'mlflow.db'}",
        "artifact_location": str(folder / "mlflow"),
    }


def _moved(value: Any, before: str | None, root: str) -> Any:
    return value.replace(before, root) if before and before != root and isinstance(value, str) else value
