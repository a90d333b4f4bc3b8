"""Sums over the processes of a run. With one process nothing is exchanged."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import distributed, nn


def alone() -> bool:
    """Whether this is the only process."""
    return not (distributed.is_available() and distributed.is_initialized()) or distributed.get_world_size() == 1


#: What this process does before it exchanges anything: with sharded peers, it goes along with passes that others have left.
ARRIVALS: list[Callable[[], None]] = []


def arrive() -> None:
    """Come to where all processes are; who exchanges something of its own calls this first."""
    for come in ARRIVALS:
        come()


def sum_over_ranks(values: Sequence[float], device: torch.device) -> list[float]:
    """Each value summed over all processes, which must all call this."""
    if alone():
        return list(values)
    arrive()
    sums = torch.tensor(values, device=device, dtype=torch.float64)
    distributed.all_reduce(sums)
    return sums.tolist()


def sum_gradients(parameters: Sequence[nn.Parameter], has_signal: bool, device: torch.device) -> None:
    """Sum gradients over all processes; a process without signal adds zeros, and where none has one they stay None.

    Losses are divided by the totals of the step over all processes, so gradients add up. DDP's own reduction would
    hang when a process has no signal.
    """
    if alone() or sum_over_ranks([float(has_signal)], device) == [0]:
        return
    flat = torch.cat([(torch.zeros_like(p) if p.grad is None else p.grad).flatten() for p in parameters])
    flat = flat.to(device)  # the only one by which a process of several GPUs talks to the others
    distributed.all_reduce(flat)
    for parameter, part in zip(parameters, flat.split([p.numel() for p in parameters]), strict=True):
        parameter.grad = part.view_as(parameter).to(parameter.device)


@dataclass(frozen=True)
class Mean:
    """A mean in two parts, so that those of several processes can be added up before they are divided."""

    total: float
    count: float


class Count(float):
    """A number that adds up over processes; NaN where this one has none."""


#: What one process knows of a metric. A plain number is the same everywhere, or its mean over processes is meant.
Figure = float | Count | Mean


def combined(figures: Mapping[str, Figure], device: torch.device) -> dict[str, float]:
    """Metrics over all processes, in one exchange.

    Args:
        figures: This process's parts; every process has the same names in the same order. NaN is no value.
        device: Where the exchange takes place.

    Returns:
        A number for each name, NaN where no process has a value.
    """
    parts = [_part(figure) for figure in figures.values()]
    sums = sum_over_ranks([x for part in parts for x in part], device)
    return {
        name: math.nan if not count else total if isinstance(figure, Count) else total / count
        for (name, figure), total, count in zip(figures.items(), sums[::2], sums[1::2], strict=True)
    }


def _part(figure: Figure) -> tuple[float, float]:
    if isinstance(figure, Mean):
        return (figure.total, figure.count) if figure.count else (0.0, 0.0)
    return (0.0, 0.0) if math.isnan(figure) else (float(figure), 1.0)


class MeetingError(RuntimeError):
    """The processes of a run did not come together; one line with the mend."""


_TAKEN = re.compile(r"EADDRINUSE|address already in use", re.IGNORECASE)
_LOST = re.compile(
    r"gloo.*(connection (closed|reset)|timed out)|nccl|connection (closed|reset) by peer|broken pipe",
    re.IGNORECASE | re.DOTALL,
)


def why_not_met(error: BaseException, address: str, port: int, world_size: int, seconds: float) -> str:
    """One line on processes that did not come together, with the mend.

    Args:
        error: What torch said.
        address: Where they were to meet.
        port: Its port.
        world_size: How many were to come.
        seconds: How long they waited.
    """
    if is_taken(error):
        return _taken(f"{port} of this machine")
    came = re.search(r"(\d+)/\d+ clients joined", str(error))
    if came:
        who = f"{came[1]} of {world_size} processes of this run came to {address}:{port} within {seconds:g} seconds"
        return (
            f"{who}; start the command on every machine, with the same MASTER_ADDR, MASTER_PORT, trainer.devices and "
            "trainer.num_nodes, and a NODE_RANK of its own from 0 on"
        )
    return (
        f"the first process of this run was not found at {address}:{port} within {seconds:g} seconds; start it there with "
        "NODE_RANK 0, or correct MASTER_ADDR and MASTER_PORT, and let the port through firewalls"
    )


def is_taken(error: BaseException) -> bool:
    """Whether an error says that the port at which processes meet belongs to another program."""
    return _TAKEN.search(str(error)) is not None


def taken_line(error: BaseException) -> str:
    """One line on such a port."""
    port = re.search(r"port: (\d+)", str(error))
    return _taken(f"{port[1]} of this machine" if port else "of this run on this machine")


def _taken(which: str) -> str:
    return f"port {which} is in use, perhaps by another run; set MASTER_PORT to a free one, the same on every machine"


def is_lost_rank(error: BaseException) -> bool:
    """Whether an error of an exchange says that another process of the run is gone, or never came."""
    if not distributed.is_available() or is_taken(error):
        return False
    return isinstance(error, distributed.DistError) or (
        isinstance(error, RuntimeError) and not alone() and _LOST.search(str(error)) is not None
    )
