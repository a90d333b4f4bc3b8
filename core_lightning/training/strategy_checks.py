"""Which of Lightning's strategies a team can be trained with; every other one is refused before a model is loaded."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from importlib import import_module
from typing import Any

import torch
from lightning.fabric.utilities.imports import _IS_INTERACTIVE
from lightning.pytorch.strategies import (
    DDPStrategy,
    DeepSpeedStrategy,
    FSDPStrategy,
    ModelParallelStrategy,
    SingleDeviceStrategy,
    SingleDeviceXLAStrategy,
    Strategy,
    StrategyRegistry,
    XLAStrategy,
)

from core_lightning.peers.config import PeerConfig
from core_lightning.training.placement import OWN, placed
from core_lightning.training.strategies import ShardedTeamStrategy, TeamStrategy

#: What can be asked for by name.
KNOWN = "auto, ddp, team or sharded"
_NOTEBOOK = (
    "in a notebook a run is one process: set devices to 1, and peers.<name>.device for a peer on each GPU, or start the "
    "command in a terminal"
)
_SHARDING = "set it to sharded, where each process holds a part of every peer, or to ddp"
#: Why a class cannot be used, and what to do; the first that fits.
_REFUSED: tuple[tuple[type[Strategy], str], ...] = (
    (ModelParallelStrategy, f"which shards what a module shards itself, and peers are whole; {_SHARDING}"),
    (FSDPStrategy, f"which cannot shard frozen and trained weights of several models; {_SHARDING}"),
    (DeepSpeedStrategy, f"which steps one model by its own optimizer, and peers are several; {_SHARDING}"),
    (
        XLAStrategy,
        "and samples are drawn in float64, which a TPU has not; set it to auto, and accelerator to gpu or cpu",
    ),
    (SingleDeviceXLAStrategy, "and samples are drawn in float64, which a TPU has not; set accelerator to gpu or cpu"),
)
#: Settings of DDP for sums that are not made here, by what Lightning calls them.
_IDLE = ("ddp_comm_state", "ddp_comm_hook", "ddp_comm_wrapper", "model_averaging_period")


def check_named_strategy(given: Any, several: bool) -> None:
    """Refuse a strategy of a config before a trainer is made, which may fail at it in words of its own.

    Args:
        given: ``trainer.strategy``: a name, or a class path with its arguments.
        several: Whether the config asks for several processes.

    Raises:
        ValueError: It does not work; one line with the mend.
    """
    if isinstance(given, Strategy):
        _refuse(type(given).__name__, type(given), {n: getattr(given, f"_{n}", None) for n in ("start_method", *_IDLE)})
    elif not isinstance(given, str):
        path = str(given.class_path)
        arguments = getattr(given, "init_args", None)
        _refuse(path.rpartition(".")[2], _class(path), {} if arguments is None else vars(arguments))
    elif several and _IS_INTERACTIVE:
        raise ValueError(f"trainer.strategy is {given} with several processes; {_NOTEBOOK}")
    elif several and given == "single_device":
        raise ValueError("trainer.strategy is single_device, and trainer.devices asks for several; set it to auto")
    elif given != "auto":
        if given not in StrategyRegistry:
            raise ValueError(
                f"trainer.strategy is {given!r}, which there is not; set it to {KNOWN}, or give a class_path"
            )
        _refuse(given, StrategyRegistry[given]["strategy"], StrategyRegistry[given]["init_params"])


def check_strategy(
    trainer: Any, peers: Mapping[str, PeerConfig], share_base: bool = False, parallel_peers: str = "auto"
) -> None:
    """Refuse a trainer whose processes or devices are not those that peers can be trained on.

    Args:
        trainer: With its strategy.
        peers: The team, with the devices they ask for.
        share_base: As of the module.
        parallel_peers: As of the module.

    Raises:
        ValueError: One line with the mend.
    """
    strategy = trainer.strategy
    check_named_strategy(strategy, several=False)
    if isinstance(strategy, SingleDeviceStrategy):
        asked = len(getattr(getattr(trainer, "_accelerator_connector", None), "_parallel_devices", ()))
        if asked > 1:
            raise ValueError(
                f"trainer.strategy is one of a single device, and devices asks for {asked}; set it to auto"
            )
    if isinstance(strategy, ShardedTeamStrategy):
        _check_sharded(peers, share_base, parallel_peers)
    _check_places(strategy, peers)
    placed(peers, strategy)


def _check_sharded(peers: Mapping[str, PeerConfig], share_base: bool, parallel_peers: str) -> None:
    """Refuse what does not go together with sharded bases."""
    if share_base:
        raise ValueError(
            "model.share_base is on, and a shared base cannot be sharded; switch it off, or set trainer.strategy to team"
        )
    if parallel_peers == "always":
        raise ValueError("model.parallel_peers is always, and sharded peers take turns; set it to auto")
    for name, config in peers.items():
        if config.quantization != "none":
            raise ValueError(
                f"peers.{name}.quantization is {config.quantization}, and packed weights cannot be sharded; set it to none, "
                "or trainer.strategy to team"
            )
        if config.device != "auto":
            raise ValueError(
                f"peers.{name}.device is {config.device}, and a sharded peer is on all devices; set it to auto"
            )
        if config.sampling_weights == "half":
            raise ValueError(f"peers.{name}.sampling_weights is half, which keeps a whole copy; set it to own or dense")


def check_loaded(trainer: Any, peers: Iterable[Any]) -> None:
    """Refuse peers that another trainer has had loaded, and that lie otherwise than this one's strategy has them.

    Args:
        trainer: With its strategy.
        peers: Those that are loaded.

    Raises:
        ValueError: One line with the mend.
    """
    wanted = isinstance(trainer.strategy, ShardedTeamStrategy)
    for peer in peers:
        if (peer.shards is not None) != wanted:
            now, then = ("sharded", "whole") if wanted else ("not sharded", "sharded")
            raise ValueError(
                f"trainer.strategy is {now}, and this module's peers were loaded {then} for another trainer; make the "
                "module anew, and give ckpt_path"
            )


def _refuse(name: str, kind: type, arguments: Mapping[str, Any]) -> None:
    what = f"trainer.strategy is {name}"
    for refused, reason in _REFUSED:
        if issubclass(kind, refused):
            raise ValueError(f"{what}, {reason}")
    if issubclass(kind, SingleDeviceStrategy):
        return
    if not issubclass(kind, DDPStrategy):
        raise ValueError(f"{what}, with which no team has been trained; set it to {KNOWN}")
    if (start := arguments.get("start_method") or "popen") != "popen":
        raise ValueError(
            f"{what}, whose processes start from within this one ({start}) and hand nothing back to it; set it to ddp; "
            f"{_NOTEBOOK}"
        )
    for idle in _IDLE:
        if arguments.get(idle) is not None:
            raise ValueError(f"{what} with {idle}, which has no effect: adapters are summed once a step; leave it out")


def _class(path: str) -> type:
    module, _, name = path.rpartition(".")
    return getattr(import_module(module), name)


def _check_places(strategy: Any, peers: Mapping[str, PeerConfig]) -> None:
    """Refuse devices that several processes would share, and those that DDP's wrapper does not take."""
    if not isinstance(strategy, DDPStrategy):
        return
    here = strategy.num_processes
    for name, config in peers.items():
        if config.device in ("auto", OWN) and (config.device == "auto" or isinstance(strategy, TeamStrategy)):
            continue
        where = f"peers.{name}.device is {config.device}"
        if here > 1 and torch.device(config.device).type == "cuda":
            raise ValueError(f"{where}, which all {here} processes would share; set it to auto, or own for one each")
        if not isinstance(strategy, TeamStrategy) and not _same(config.device, strategy.root_device):
            raise ValueError(
                f"{where}, and DDP takes no module on several devices; set trainer.strategy to team, or the device to auto"
            )


def _same(device: str, root: torch.device) -> bool:
    if device == OWN:
        return False
    asked = torch.device(device)
    return asked.type == root.type and (asked.index or 0) == (root.index or 0)
