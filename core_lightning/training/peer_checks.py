"""What is wrong with one peer's settings, said before its model is loaded."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from core_lightning.peers.config import PeerConfig
from core_lightning.peers.sources import check as check_source
from core_lightning.peers.sources import hub_name, resolve
from core_lightning.training.placement import OWN

#: Names that Windows gives to devices, and that of the team's own rows in tables.
_RESERVED = {"con", "prn", "aux", "nul", "team", *(f"{d}{i}" for d in ("com", "lpt") for i in range(1, 10))}
_LONGEST_NAME = 64


def check_peers(peers: Mapping[str, PeerConfig]) -> None:
    """Refuse peers whose names, models, adapters or devices cannot be used.

    Raises:
        ValueError: Names the setting and the mend.
        PeerSourceError: A peer's model or adapter is known not to be there, or not to be whole.
    """
    for name, config in peers.items():
        _check_name(name, peers)
        _check_device(name, config.device)
        check_source(config.model)
        _check_revision(name, config)
        if config.adapter is not None:
            _check_adapter(name, config, peers)


def _check_name(name: str, peers: Mapping[str, Any]) -> None:
    if not re.fullmatch(r"[A-Za-z0-9_-]+", name):
        raise ValueError(f"peer name {name!r} must be made of letters, digits, _ and -: it names a folder")
    if len(name) > _LONGEST_NAME:
        raise ValueError(
            f"peer name {name[:20]}... has {len(name)} characters; it names files: take {_LONGEST_NAME} at most"
        )
    if name.lower() in _RESERVED or name.endswith("__reference") or name.startswith("-"):
        raise ValueError(f"peer name {name!r} is reserved (files, tables and adapters use it); choose another")
    if hasattr(nn.ModuleDict(), name):
        raise ValueError(f"peer name {name!r} is taken: torch modules have something of that name; choose another")
    if other := next((p for p in peers if p != name and p.lower() == name.lower()), None):
        raise ValueError(f"peer names {name!r} and {other!r} are one folder where case does not count; rename one")


def _check_device(name: str, device: str) -> None:
    if device == "auto":
        return
    where = f"peers.{name}.device is {device!r}"
    if device == OWN:  # how many there have to be depends on the trainer
        if not torch.cuda.is_available():
            raise ValueError(f"{where}, and torch finds no GPU here; set it to auto or cpu")
        return
    try:
        parsed = torch.device(device)
    except (RuntimeError, ValueError):
        raise ValueError(f"{where}, which torch does not know; give auto, own, cpu or cuda:<number>") from None
    if parsed.type == "cuda":
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if (parsed.index or 0) >= count:
            there = f"{count or 'no'} GPU{'s' * (count != 1)}"
            raise ValueError(f"{where}, and torch finds {there} here; set it to auto or cpu")
    elif parsed.type not in ("cpu", "mps", "xpu"):
        raise ValueError(f"{where}, on which nothing can be computed; give auto, own, cpu or cuda:<number>")


def _check_revision(name: str, config: PeerConfig) -> None:
    if config.revision is None:
        return
    local = config.model.startswith(("embedded/", "nano/")) or config.model.endswith(".gguf")
    if local or Path(config.model).expanduser().is_dir():
        raise ValueError(
            f"peers.{name}.revision is {config.revision!r}, but {config.model} is not from the hub and has none; "
            "leave it out"
        )


def _check_adapter(name: str, config: PeerConfig, peers: Mapping[str, PeerConfig]) -> None:
    # Its module imports PEFT, a second or two, which only a start adapter needs here.
    from core_lightning.peers.adapters import check_start

    what = f"peers.{name}.adapter {config.adapter!r}"
    file = Path(str(config.adapter)).expanduser() / "adapter_config.json"
    if not file.is_file():
        raise ValueError(f"{what} holds no adapter_config.json; give a folder in PEFT format")
    try:
        settings = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ValueError(f"{what}: its adapter_config.json is no JSON ({error}); save the adapter again") from error
    if not isinstance(settings, dict) or "peft_type" not in settings:
        raise ValueError(f"{what}: its adapter_config.json names no peft_type; save the adapter again")
    check_start(name, file.parent)
    base = settings.get("base_model_name_or_path")
    if base and base not in _names(config):
        owner = next((p for p, c in peers.items() if p != name and base in _names(c)), None)
        if owner is not None:
            raise ValueError(f"{what} was made for {base}, the model of peer {owner}; give each peer its own adapter")


def _names(config: PeerConfig) -> set[str | None]:
    """What an adapter may call a peer's model: as the settings do, its folder, or its name on the hub."""
    if "/" in config.model and not config.model.startswith(("embedded/", "nano/", ".", "/", "~")):
        return {config.model}
    source = resolve(config.model, config.revision)
    return {config.model, source.name_or_path, hub_name(source, None)[0]} - {None}
