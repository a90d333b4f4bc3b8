"""What a config can be known to ask in vain, before a class of it is made."""

from __future__ import annotations

import math
import os
import re
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import is_dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any, get_type_hints

import torch
from torch import nn

from core_lightning.peers.config import PeerConfig
from core_lightning.training.strategy_checks import check_named_strategy

#: Bytes that must be free where a run writes; its own size is not known beforehand.
_LEAST_FREE = 16_000_000
#: Set by launchers (torchrun, Slurm, MPI, Kubeflow) and by hand, on every node of several.
_RENDEZVOUS = ("MASTER_ADDR", "SLURM_JOB_ID", "OMPI_COMM_WORLD_RANK", "LSB_JOBID", "PMI_RANK")
#: How many batches of what a command does.
_LIMITS = {
    "fit": "limit_train_batches",
    "validate": "limit_val_batches",
    "test": "limit_test_batches",
    "predict": "limit_predict_batches",
    "ask": "limit_predict_batches",
}
_HALF = re.compile("[\ud800-\udfff]")
#: First parts of the names of logged metrics that come from training.
_TRAINING = ("train", "reward", "rescue", "time")


def check_values(config: Any, name: str = "") -> None:
    """Refuse numbers that are none and text that no file takes, wherever in a config they stand.

    Args:
        config: Plain data or a namespace of the parser.
        name: Keys that lead here.

    Raises:
        ValueError: Names the setting.

    >>> check_values({"model": {"init_args": {"objective": {"init_args": {"beta": math.nan}}}}})
    Traceback (most recent call last):
    ValueError: model.objective.beta is nan; give a finite number
    """
    for key, value in _children(config):
        path = name if key == "init_args" else f"{name}.{key}".lstrip(".")
        # YAML knows ".nan" alone; the parser makes the number of the others later.
        written = isinstance(value, str) and value.lower().lstrip("+-") in ("nan", "inf", "infinity")
        if written or (isinstance(value, float) and not math.isfinite(value)):
            raise ValueError(f"{path} is {value}; give a finite number")
        # A byte of the command line that is not UTF-8, or an escape in YAML.
        if isinstance(value, str) and (half := _HALF.search(value)):
            raise ValueError(f"{path} holds half of a character ({ascii(half[0])[1:-1]}); give text that is UTF-8")
        check_values(value, path)


def _children(value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping):
        yield from ((str(k), v) for k, v in value.items())
    elif hasattr(value, "__dict__") and type(value).__name__ == "Namespace":
        yield from vars(value).items()
    elif isinstance(value, list | tuple):
        yield from ((str(i), v) for i, v in enumerate(value))


def check_peers(peers: Mapping[str, Any]) -> None:
    """Refuse a peer's settings in the peer's name, which the classes of the settings do not know.

    Args:
        peers: The team as the config has it.

    Raises:
        ValueError: Names the peer, the setting and the mend.

    >>> check_peers({"a": {"model": "org/model", "lora": {"r": 0}}})
    Traceback (most recent call last):
    ValueError: peers.a.lora.r is 0; set it to 1 or more
    """
    for name, config in peers.items():
        try:
            _made(PeerConfig, config)
        except ValueError as error:
            raise ValueError(f"peers.{name}.{str(error).removeprefix('peers.<name>.')}") from error


def _made(settings: Any, values: Any) -> Any:
    """Settings of a class out of a part of a config; what is settings already, or of a class of the user's, stays."""
    given = dict(_children(values))
    if is_dataclass(values) or "class_path" in given:
        return values
    kinds = get_type_hints(settings)
    return settings(**{key: _made(kinds[key], v) if is_dataclass(kinds[key]) else v for key, v in given.items()})


def check_trainer(trainer: Any, fit: bool = True, command: str | None = None) -> None:
    """Refuse trainer settings that cannot work.

    Args:
        trainer: The trainer's part of the config.
        fit: Whether the command trains.
        command: Its name, for the limit that would leave it nothing to do.

    Raises:
        ValueError: Names the setting and the mend.
    """
    _check_devices(trainer)
    _check_limit(trainer, command)
    if fit:
        _check_optimization(trainer)
        _check_intervals(trainer)


def _check_limit(trainer: Any, command: str | None) -> None:
    """Lightning would load every model, do nothing, and say nothing."""
    limit = _LIMITS.get(command or "")
    if limit is not None and not trainer.fast_dev_run and getattr(trainer, limit) == 0:
        raise ValueError(
            f"trainer.{limit} is 0, which leaves {command} nothing to do; give --trainer.{limit} 1.0 for all batches"
        )


def _check_optimization(trainer: Any) -> None:
    """Settings whose place is elsewhere, because several adapters are optimized by hand."""
    if trainer.gradient_clip_val is not None or trainer.gradient_clip_algorithm is not None:
        raise ValueError(
            "trainer.gradient_clip_val clips all peers together; set model.max_grad_norm, which clips each"
        )
    if trainer.accumulate_grad_batches != 1:
        raise ValueError(
            f"trainer.accumulate_grad_batches is {trainer.accumulate_grad_batches}; leave it at 1 and raise "
            "data.batch_size: the loss is taken in micro-batches of peers.<name>.score_batch_tokens in any case"
        )


def _check_intervals(trainer: Any) -> None:
    every = trainer.val_check_interval
    number = isinstance(every, int | float) and not isinstance(every, bool)
    if number and (every <= 0 or (isinstance(every, float) and every > 1)):
        raise ValueError(
            f"trainer.val_check_interval is {every}; give steps between evaluations, 1 or more, a share of an epoch up to "
            "1.0, or trainer.limit_val_batches 0 for no evaluation"
        )
    epochs = trainer.check_val_every_n_epoch
    if epochs is not None and epochs < 1:
        raise ValueError(f"trainer.check_val_every_n_epoch is {epochs}; set it to 1 or more, or null to count steps")
    if trainer.log_every_n_steps is not None and trainer.log_every_n_steps < 1:
        raise ValueError(f"trainer.log_every_n_steps is {trainer.log_every_n_steps}; set it to 1 or more")


def _check_devices(trainer: Any) -> None:
    accelerator, devices, nodes = trainer.accelerator, trainer.devices, trainer.num_nodes
    if accelerator == "tpu":
        raise ValueError(
            "trainer.accelerator is tpu, and samples are drawn in float64, which a TPU has not; set it to gpu or cpu"
        )
    on_processor = _on_processor(accelerator)
    if accelerator in ("gpu", "cuda") and not torch.cuda.is_available():
        raise ValueError(f"trainer.accelerator is {accelerator}, and torch finds no GPU here; set it to cpu or auto")
    if on_processor and devices != "auto" and not _is_count(devices):
        raise ValueError(
            f"trainer.devices is {devices}; on a processor it is the number of processes, 1 or more, or auto for one"
        )
    if not on_processor and not _is_devices(devices):
        raise ValueError(f"trainer.devices is {devices}; give a number of GPUs, a list of their numbers, -1 or auto")
    if nodes < 1:
        raise ValueError(f"trainer.num_nodes is {nodes}; set it to 1 or more")
    if nodes > 1 and not any(name in os.environ for name in _RENDEZVOUS):
        raise ValueError(
            f"trainer.num_nodes is {nodes}, and nothing tells where the others are (MASTER_ADDR is not set); start this "
            "command on every machine with MASTER_ADDR, MASTER_PORT and a NODE_RANK of its own, or under Slurm; or set it "
            "to 1"
        )
    check_named_strategy(trainer.strategy, several_processes(trainer))


def several_processes(trainer: Any) -> bool:
    """Whether a trainer's part of a config asks for more than one process, on one machine or several."""
    devices = trainer.devices
    if trainer.num_nodes > 1:
        return True
    if isinstance(devices, list):
        return len(devices) > 1
    if str(devices) in ("auto", "-1"):
        return not _on_processor(trainer.accelerator) and torch.cuda.device_count() > 1
    if "," in str(devices):
        return len([d for d in str(devices).split(",") if d.strip()]) > 1
    return int(devices) > 1


def _on_processor(accelerator: Any) -> bool:
    return accelerator == "cpu" or (
        accelerator == "auto" and not torch.cuda.is_available() and not torch.backends.mps.is_available()
    )


def _is_count(devices: Any) -> bool:
    return not isinstance(devices, bool) and str(devices).isdigit() and int(devices) >= 1


def _is_devices(devices: Any) -> bool:
    if isinstance(devices, list):
        return bool(devices) and all(isinstance(d, int) and d >= 0 for d in devices)
    numbers = str(devices).split(",")
    return str(devices) in ("auto", "-1") or (devices != 0 and all(n.strip().isdigit() for n in numbers if n.strip()))


def check_place(root: Any) -> None:
    """Refuse a run folder that cannot be written to; nothing is made to find out.

    Args:
        root: ``trainer.default_root_dir``; None is the present folder.

    Raises:
        ValueError: Names the folder and the mend.
    """
    if root is None:
        return
    mend = "give another --trainer.default_root_dir"
    if not str(root).strip():
        raise ValueError(f"trainer.default_root_dir is empty; {mend}, such as runs/first")
    if "://" in str(root) or "\0" in str(root):
        raise ValueError(
            f"trainer.default_root_dir {root!a} is no folder of this machine; {mend}, and copy the run when it ends"
        )
    folder = Path(root).absolute()
    try:
        while not folder.exists():
            folder = folder.parent
        if not folder.is_dir():
            raise ValueError(f"run folder {root}: {folder} is a file; {mend}")
        if not os.access(folder, os.W_OK | os.X_OK) or os.statvfs(folder).f_flag & os.ST_RDONLY:
            raise ValueError(f"run folder {root}: {folder} cannot be written to; {mend}")
        if (free := shutil.disk_usage(folder).free) < _LEAST_FREE:
            raise ValueError(
                f"run folder {root}: its disk is full ({free / 1e6:.1f} MB are free); free some, or {mend}"
            )
    except OSError as error:  # a name that is too long, a loop of links
        raise ValueError(f"run folder {str(root)[:80]} cannot be made ({error.strerror}); {mend}") from error


def check_monitors(callbacks: list[Any], evaluated: set[str]) -> None:
    """Refuse a callback that waits for a metric nobody logs.

    Args:
        callbacks: The trainer's callbacks; one of the user's own may log anything, so none is refused beside it.
        evaluated: Names of the figures of an evaluation, without ``val/``.

    Raises:
        ValueError: Names the metric, and one that is meant perhaps.
    """
    known = {f"val/{name}" for name in evaluated}
    if any(type(c).__module__.partition(".")[0] not in ("core_lightning", "lightning") for c in callbacks):
        return
    for callback in callbacks:
        monitor = getattr(callback, "monitor", None)
        if not isinstance(monitor, str) or monitor in known or monitor.partition("/")[0] in _TRAINING:
            continue
        close = get_close_matches(monitor, sorted(known), 1)
        raise ValueError(
            f"{type(callback).__name__} monitors {monitor!r}, which is not logged; "
            + (f"did you mean {close[0]}?" if close else f"choose among {', '.join(sorted(known))}")
        )


def trial_optimizer(optimizer: Callable[[Any], torch.optim.Optimizer]) -> torch.optim.Optimizer:
    """What a module's ``optimizer`` makes, of a parameter that stands for the adapters.

    Raises:
        ValueError: It cannot be made with these settings; one line that names them.
    """
    try:
        return optimizer([{"params": [nn.Parameter(torch.zeros(1))], "name": "a peer"}])
    except Exception as error:  # whatever a class makes of its settings
        raise ValueError(f"model.optimizer cannot be made: {' '.join(str(error).split())[:200]}; correct it") from error
