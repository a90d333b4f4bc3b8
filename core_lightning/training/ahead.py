"""A step ahead: the cold round of the next step is sampled while the peers learn from this one (``rollout.lag``).

    step n:  rescue round n | cold round n + 1 is asked for | losses of step n ... | it is waited for | weights move

The weights do not move before the samples are there, so these come from one adapter, and that adapter is still the peer's
when an engine's log-probabilities are compared with the peer's own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

import torch.distributed
from lightning.pytorch.utilities import rank_zero_warn

from core_lightning.peers.peer import Peer
from core_lightning.records import Group, Problem, Trace
from core_lightning.training.ranks import alone, arrive

#: What a trace of the cold round holds when it was sampled and judged.
_FIELDS = ("peer", "index", "prompt_ids", "token_ids", "text", "truncated", "answer", "correct", "sampled_logprobs")

Plain = list[dict[str, Any]]


#: Hosts of a server that runs on this machine, unless the port leads elsewhere.
_THIS_MACHINE = ("localhost", "127.0.0.1", "::1")


def warn_of_shared_cores(peers: Iterable[Peer]) -> None:
    """Say that a step ahead costs time where a peer learns on the processor that its server samples on.

    Only a warning: a port of this machine may lead to a server on another one.
    """
    for peer in peers:
        url = peer.config.generation.server.url
        if peer.device.type == "cpu" and urlsplit(url).hostname in _THIS_MACHINE:
            rank_zero_warn(
                f"rollout.lag is 1, and peer {peer.name} learns on the processor that its server ({url}) may run on: at the "
                "same time the two slow each other more than a step ahead saves (docs/gpus.md has the figures); set lag to "
                "0, unless that server is on another machine"
            )
            return


class Ahead:
    """Cold rounds on their way, of this process.

    Attributes:
        ready: The cold round that was sampled for the step that comes or is under way, as plain data for a checkpoint; None
            where there is none.
    """

    def __init__(self) -> None:
        self.ready: Plain | None = None
        self._next: Plain | None = None
        self._begun: Callable[[], list[Group]] | None = None

    def begin(self, begun: Callable[[], list[Group]]) -> None:
        """Note a cold round of the next step that has begun; it is called to wait for it."""
        self._begun = begun

    def wait(self) -> None:
        """Wait for what has begun, if it was not waited for yet; to be called before any weight moves."""
        if self._begun is not None:
            begun, self._begun = self._begun, None
            self._next = [_plain(group) for group in begun()]

    @contextmanager
    def step(self, give_up: Callable[[], None]) -> Iterator[None]:
        """One step: what begins in it is ready when it has ended, and is given up if it fails."""
        try:
            yield
        except BaseException:
            self._begun = self._next = None
            give_up()
            raise
        self.ready, self._next = self._next, None

    def take(self, problems: Sequence[Problem]) -> list[Group] | None:
        """The cold round of these problems, new objects every time; None where another or none was sampled."""
        if self.ready is None or [group["problem"] for group in self.ready] != [p.id for p in problems]:
            return None
        return [
            Group(problem, [Trace(round="cold", **trace) for trace in group["traces"]])
            for problem, group in zip(problems, self.ready, strict=True)
        ]

    def state(self) -> list[Plain | None]:
        """What is ready in every process, in the order of their ranks; all must call this."""
        if alone():
            return [self.ready]
        arrive()
        parts: list[Plain | None] = [None] * torch.distributed.get_world_size()
        torch.distributed.all_gather_object(parts, self.ready)
        return parts

    def restore(self, state: Sequence[Plain | None], rank: int, world_size: int) -> None:
        """Take over what a checkpoint holds, unless the run had another number of processes."""
        self.ready = state[rank] if len(state) == world_size else None


def _plain(group: Group) -> dict[str, Any]:
    return {"problem": group.problem.id, "traces": [{name: getattr(t, name) for name in _FIELDS} for t in group]}
