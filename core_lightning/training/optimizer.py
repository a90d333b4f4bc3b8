"""One optimizer of all adapters, a parameter group for each peer, whose settings of now win over those of a checkpoint."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from lightning.pytorch.utilities import rank_zero_info
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from core_lightning.peers.peer import Peer


def one_optimizer(peers: Iterable[Peer], make: Callable[[Any], Optimizer]) -> Optimizer:
    """One optimizer, so that ``global_step`` does not count peers; its groups have the names of their peers.

    Args:
        peers: The team. A peer with a learning rate of its own has it in its group.
        make: Makes an optimizer of parameter groups.
    """
    groups = []
    for peer in peers:
        group: dict[str, Any] = {"params": list(peer.adapter_parameters().values()), "name": peer.name}
        if peer.config.lr is not None:
            group["lr"] = peer.config.lr
        groups.append(group)
    return make(groups)


def group_settings(optimizer: Optimizer) -> list[dict[str, Any]]:
    """The settings of each parameter group, without its parameters."""
    return [{name: value for name, value in g.items() if name != "params"} for g in optimizer.param_groups]


def put_settings(settings: Sequence[dict[str, Any]], optimizer: Optimizer, scheduler: LambdaLR) -> None:
    """Let settings win over those that a checkpoint brought back, and say which of them have changed.

    Args:
        settings: As :func:`group_settings` gave them before the checkpoint was read; learning rates without the schedule.
        optimizer: Of the run.
        scheduler: Of the optimizer, one factor for all groups.
    """
    scheduler.base_lrs = [own["lr"] for own in settings]
    for group, own, factor in zip(optimizer.param_groups, settings, scheduler.lr_lambdas, strict=True):
        before = group | {"lr": group["initial_lr"]}
        for name, now in own.items():
            if before.get(name) != now:
                rank_zero_info(
                    f"resume: {name} of peer {group['name']}'s optimizer was {before.get(name)} in the checkpoint and "
                    f"is now {now}; the new value holds"
                )
        group.update(own, initial_lr=own["lr"], lr=own["lr"] * factor(scheduler.last_epoch))
