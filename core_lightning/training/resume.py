"""Whether a checkpoint is one this team can go on from, known before a model is loaded."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from core_lightning.peers.config import PeerConfig

#: What a checkpoint of a run holds, with the kind of each.
_PARTS: dict[str, type] = {"state_dict": dict, "core_lightning": dict, "optimizer_states": list, "loops": dict}
#: What the module adds to it, see ``CollaborativeReasoningModule.on_save_checkpoint``.
_STATE = ("batches_done", "settings", "rescue_rates", "python_rng", "torch_rng")


def load_checkpoint(path: str | Path) -> dict[str, Any]:
    """What a checkpoint file holds, by name.

    Raises:
        ValueError: It is not there, damaged, or no checkpoint; one line with the mend.
    """
    file = Path(path)
    what = f"ckpt_path {path}"
    if not file.is_file():
        folder = file if file.is_dir() else file.parent
        there = ", ".join(sorted(f.name for f in folder.glob("*.ckpt")))
        raise ValueError(f"{what}: no such file; {f'{folder} holds {there}' if there else 'give a .ckpt file'}")
    if file.suffix == ".safetensors":
        raise ValueError(f"{what} is a file of weights; a run goes on from a .ckpt file, and starts from an adapter by "
                         "peers.<name>.adapter, which takes its folder")  # fmt: skip
    try:
        found = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # of torch, zipfile and pickle, which have no common base
        raise ValueError(
            f"{what} is damaged or no checkpoint ({type(error).__name__}); give another one of its folder"
        ) from error
    if not isinstance(found, dict):
        raise ValueError(
            f"{what} holds a {type(found).__name__}, no checkpoint; give one from a run's checkpoints folder"
        )
    return found


def read_checkpoint(path: str | Path) -> dict[str, Any]:
    """A checkpoint of a run, whole and with finite weights; it holds adapters only, so reading it is quick.

    Raises:
        ValueError: It is not there, damaged, or no checkpoint of a run; one line with the mend.
    """
    found, what = load_checkpoint(path), f"ckpt_path {path}"
    for name, kind in _PARTS.items():
        if not isinstance(found.get(name), kind):
            raise ValueError(
                f"{what} was not made by core_lightning (no {name} in it); give one from a run's checkpoints folder"
            )
    if lacking := [name for name in _STATE if name not in found["core_lightning"]]:
        raise ValueError(f"{what} is not whole: its state lacks {lacking[0]}; give one from a run's checkpoints folder")
    _check_weights(found["state_dict"], what)
    return found


def _check_weights(weights: Mapping[Any, Any], what: str) -> None:
    if not weights:
        raise ValueError(f"{what} holds no adapter weights; give one from a run's checkpoints folder")
    for name, value in weights.items():
        if not isinstance(value, Tensor):
            raise ValueError(f"{what}: {name} is no tensor; give one from a run's checkpoints folder")
        if not bool(torch.isfinite(value).all()):
            raise ValueError(
                f"{what} has weights that are not finite ({name}); give an earlier one of its folder, with which a lower "
                "learning rate may go on"
            )


def check_resume(checkpoint: Mapping[str, Any], peers: Mapping[str, PeerConfig], optimizer: str | None) -> None:
    """Refuse to go on with peers or an optimizer that a checkpoint's numbers mean nothing to.

    Other settings may change; which of them did is said when the checkpoint is loaded.

    Args:
        checkpoint: As :func:`read_checkpoint` gives it.
        peers: The team now.
        optimizer: Name of the optimizer's class now; None where only weights are taken, in an evaluation.

    Raises:
        ValueError: One line that names the setting and the mend.
    """
    state = checkpoint["core_lightning"]
    before: dict[str, Any] = json.loads(state["settings"])["peers"]
    if before.keys() != peers.keys():
        raise ValueError(
            f"ckpt_path: the checkpoint is of the peers {', '.join(sorted(before))}, and model.peers are "
            f"{', '.join(sorted(peers))}; give the peers it was made with"
        )
    for name, config in peers.items():
        was = before[name]["model"]
        owner = next((p for p in sorted(before) if p != name and before[p]["model"] == config.model), None)
        if config.model != was and owner is not None:
            raise ValueError(
                f"peers.{name}.model is {config.model}, which was the model of peer {owner} in the checkpoint, where {name} "
                f"was {was}; adapters belong to their models: give each peer its own"
            )
        for part in ("r", "targets"):
            now, then = getattr(config.lora, part), before[name]["lora"][part]
            if config.adapter is None and before[name]["adapter"] is None and now != then:
                raise ValueError(
                    f"peers.{name}.lora.{part} is {now} and was {then} in the checkpoint, whose adapter has that shape; set "
                    "it back, or start a new run"
                )
    then = state.get("optimizer")
    if optimizer is not None and then is not None and optimizer != then:
        raise ValueError(
            f"model.optimizer is {optimizer} and was {then} in the checkpoint, whose state is of no use to another; set it "
            f"back, or start a new run from the adapters with peers.<name>.adapter"
        )


def earlier_evaluations(checkpoint: Mapping[str, Any]) -> list[Any]:
    """The evaluations that a checkpoint's run has behind it, in their order."""
    states = checkpoint.get("callbacks", {}).values()
    return [e for state in states if isinstance(state, dict) for e in state.get("history", [])]


def check_data(checkpoint: Mapping[str, Any], data: Any, world_size: int = 1) -> None:
    """Refuse to go on with other problems than those a checkpoint was made with.

    Args:
        checkpoint: As :func:`read_checkpoint` gives it.
        data: The data module, whose class names its part of the checkpoint.
        world_size: Number of processes; the position in the training problems is looked at for one.

    Raises:
        DataError: One line that names the split and the mend.
    """
    saved = checkpoint.get(type(data).__qualname__)
    if isinstance(saved, dict) and "splits" in saved:
        data.check_manifest(saved)
    loaders = checkpoint["loops"].get("fit_loop", {}).get("state_dict", {}).get("combined_loader") or []
    if world_size == 1:
        for state in loaders:
            data.train_dataloader().check_state(state)
