"""Sums over the processes of a run. With one process nothing is exchanged."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence

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


def combine_metrics(metrics: Mapping[str, float], counts: set[str], device: torch.device) -> dict[str, float]:
    """Metrics of the step over all processes, in one exchange: counts add up, all else is a mean.

    Args:
        metrics: This process's values; every process has the same names. NaN is no value and is left out of a mean.
        counts: Names that add up.
        device: Where the exchange takes place.
    """
    if alone():
        return dict(metrics)
    known = [not math.isnan(value) for value in metrics.values()]
    sums = sum_over_ranks(
        [*(v if k else 0.0 for k, v in zip(known, metrics.values(), strict=True)), *map(float, known)], device
    )
    having = dict(zip(metrics, sums[len(known) :], strict=True))
    return {
        name: total if name in counts else total / having[name] if having[name] else math.nan
        for name, total in zip(metrics, sums, strict=False)
    }


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
