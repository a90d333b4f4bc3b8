"""What is wrong with a module's settings, or with the trainer's for it, said in one line before any model is loaded."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lightning.pytorch.utilities import rank_zero_info

from core_lightning.peers.sources import check as check_source

if TYPE_CHECKING:
    from core_lightning.module import CollaborativeReasoningModule


def check_settings(module: CollaborativeReasoningModule) -> None:
    """Refuse settings that cannot work, each with its name and the mend.

    Raises:
        ValueError: One of them.
        PeerSourceError: A peer's model is known not to be there.
    """
    count = len(module.peer_configs)
    if count < module.min_peers:
        raise ValueError(
            f"model.peers has {count} peer(s), {type(module).__name__} needs {module.min_peers} or more; "
            "add a peer, or use SoloReasoningModule for one"
        )
    if module.max_peers is not None and count > module.max_peers:
        raise ValueError(f"model.peers has {count} peers, {type(module).__name__} takes at most {module.max_peers}")
    for name, config in module.peer_configs.items():
        if not re.fullmatch(r"[A-Za-z0-9_-]+", name):
            raise ValueError(f"peer name {name!r} must be made of letters, digits, _ and -: it names a folder")
        check_source(config.model)
        if config.adapter is not None and not (Path(config.adapter).expanduser() / "adapter_config.json").is_file():
            raise ValueError(
                f"peers.{name}.adapter {config.adapter!r} holds no adapter_config.json; give a folder in PEFT format"
            )
    for name, least in (("updates_per_batch", 1), ("eval_samples", 1), ("max_nonfinite", 1)):
        if getattr(module, name) < least:
            raise ValueError(f"model.{name} is {getattr(module, name)}; set it to {least} or more")
    mode, rescues = module.credit.mode, module.rounds.k_rescue
    if mode in ("cold", "both", "adaptive") and not rescues:
        raise ValueError(
            f"credit.mode is {mode}, which learns from rescues, but rounds.k_rescue is 0; set it to 1 or "
            "more, or credit.mode to peer_trace"
        )
    if mode in ("peer_trace", "own_trace") and rescues:
        rank_zero_info(f"credit.mode {mode} trains no rescues: they are sampled to be measured only")
    if module.max_grad_norm <= 0:
        raise ValueError(f"model.max_grad_norm is {module.max_grad_norm}; set it above 0")


def check_trainer(trainer: Any, updates_per_batch: int) -> None:
    """Refuse trainer settings that cannot work with manual optimization of several adapters.

    Raises:
        ValueError: One of them, with the mend.
    """
    if trainer.max_steps > 0 and trainer.max_steps % updates_per_batch:
        raise ValueError(
            f"trainer.max_steps is {trainer.max_steps} and counts optimizer steps, of which every batch takes "
            f"{updates_per_batch} (model.updates_per_batch); set it to a multiple"
        )
    if trainer.precision not in ("32-true", "32"):
        raise ValueError(
            f"trainer.precision is {trainer.precision}; leave it at 32-true and set peers.<name>.dtype instead: "
            "adapters must stay float32"
        )
