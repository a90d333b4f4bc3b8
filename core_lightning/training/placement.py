"""Which GPU each peer gets in each process: ``peers.<name>.device: own``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch

from core_lightning.peers.config import PeerConfig

#: The setting of a peer that gets a GPU nobody else has, in every process another one.
OWN = "own"


def own_gpus(peers: Sequence[str], trainers: Sequence[int], local_rank: int, count: int) -> dict[str, int]:
    """The numbers of the GPUs that some peers have to themselves.

    Args:
        peers: Names of the peers that want one.
        trainers: GPUs of the trainer on this machine, one for each process.
        local_rank: Which of these processes this is.
        count: GPUs of this machine.

    Raises:
        ValueError: There are not enough; the line says how many are needed.

    >>> own_gpus(["b"], [0, 1], 0, 4), own_gpus(["b"], [0, 1], 1, 4)
    ({'b': 2}, {'b': 3})
    """
    free = [gpu for gpu in range(count) if gpu not in set(trainers)]
    needed = len(peers) * len(trainers)
    if needed > len(free):
        raise ValueError(
            f"peers.{peers[0]}.device is own: {len(trainers)} process(es) with {len(peers)} such peer(s) need {needed} GPUs "
            f"beside the {len(trainers)} of trainer.devices, of which {len(free)} are free; lower trainer.devices"
        )
    mine = free[local_rank * len(peers) :]
    return dict(zip(peers, mine, strict=False))


def placed(configs: Mapping[str, PeerConfig], strategy: Any) -> dict[str, PeerConfig]:
    """The peers' settings with a GPU's number in place of ``own``.

    Args:
        configs: The team.
        strategy: The trainer's, which knows this process's place among those of the machine; None outside a trainer.

    Raises:
        ValueError: There are not enough GPUs.
    """
    wanting = [name for name, config in configs.items() if config.device == OWN]
    if not wanting:
        return dict(configs)
    trainers = getattr(strategy, "parallel_devices", None) or [getattr(strategy, "root_device", torch.device("cuda:0"))]
    numbers = [device.index or 0 for device in trainers if device.type == "cuda"]
    if not numbers:
        raise ValueError(f"peers.{wanting[0]}.device is own, and the trainer is not on GPUs; set it to auto")
    own = own_gpus(wanting, numbers, getattr(strategy, "local_rank", 0), torch.cuda.device_count())
    return {name: replace(c, device=f"cuda:{own[name]}") if name in own else c for name, c in configs.items()}
