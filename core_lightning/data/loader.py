"""Loaders of problem batches that shard over processes; the training one goes on where a checkpoint left it.

One step takes ``batch_size * world_size`` consecutive problems and deals them to the ranks in turn: what a step holds
does not depend on how many processes share it. Nor does it for the problems that a step draws beyond those, which come from
an order of their own.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from math import ceil
from typing import Any

from lightning.pytorch.utilities import rank_zero_info

from core_lightning.data.errors import DataError
from core_lightning.records import Problem


class ProblemLoader:
    """Every problem exactly once over all ranks, in the given order; a rank may end one step before another.

    Where there are fewer problems than ranks, the others get one empty batch: Lightning leaves a whole evaluation out on a
    rank without batches, and the rest would wait for what is exchanged at its end.

    Args:
        problems: The problems of one split.
        batch_size: Problems a step in each process.
        rank: Index of this process.
        world_size: Number of processes.
    """

    def __init__(self, problems: Sequence[Problem], batch_size: int, rank: int = 0, world_size: int = 1) -> None:
        self.problems = problems
        self.stride = batch_size * world_size
        self.rank = rank
        self.world_size = world_size

    def __iter__(self) -> Iterator[list[Problem]]:
        for begin in range(0, len(self.problems), self.stride):
            batch = list(self.problems[begin : begin + self.stride][self.rank :: self.world_size])
            if batch or begin == 0:
                yield batch

    def __len__(self) -> int:
        steps, rest = divmod(len(self.problems), self.stride)
        return max(steps + (rest > self.rank), min(1, len(self.problems)))


class TrainLoader(ProblemLoader):
    """Every problem once an epoch, shuffled by (seed, epoch), with a batch for every rank at every step.

    Where the last step has fewer problems than there are ranks, the others get one of the head of the epoch: a rank
    that skips a step misses the gradient exchange, and the rest wait for it forever.

    Lightning saves the state of such a loader under ``loops.fit_loop``, restores it before the first batch, and
    announces epochs through ``loader.sampler.set_epoch``. A torch ``DataLoader`` has no such state: it would replay the
    head of the epoch.

    Attributes:
        epoch: Which pass this is.
        position: How many of its problems all ranks together have been given.
        drawn: How far :meth:`further` has come in its own order, over the whole run.

    Args:
        problems: The training problems.
        batch_size: Problems a step in each process.
        seed: Seed of the order, None to keep the given one.
        rank: Index of this process.
        world_size: Number of processes.
    """

    def __init__(
        self,
        problems: Sequence[Problem],
        batch_size: int,
        seed: int | None = None,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        super().__init__(problems, batch_size, rank, world_size)
        self.seed = seed
        self.epoch = 0
        self.position = 0
        self.drawn = 0
        self._start = 0
        self._in_step: set[str] = set()
        self._orders: dict[str, list[Problem]] = {}

    @property
    def sampler(self) -> TrainLoader:
        """Where Lightning looks for ``set_epoch``."""
        return self

    def set_epoch(self, epoch: int) -> None:
        """Choose the order of the next pass; a restored position holds only within the epoch it was saved in."""
        if epoch != self.epoch:
            self.epoch, self.position, self._start = epoch, 0, 0

    def __iter__(self) -> Iterator[list[Problem]]:
        # A generator: nothing here runs before the first batch is asked for. Lightning makes iterators it never uses.
        start, self._start = self._start, 0
        order = self._order(str(self.epoch))
        for begin in range(start, len(order), self.stride):
            step = order[begin : begin + self.stride]
            self.position = begin + len(step)
            self._in_step = {p.id for p in step}
            yield self._share(order, step)

    def peek(self, next_epoch: bool = False) -> list[Problem]:
        """This rank's problems of the step after the present one; nothing moves.

        Args:
            next_epoch: The present step is the last of its epoch, even if problems are left.
        """
        over = next_epoch or self.position >= len(self.problems)
        begin = 0 if over else self.position
        order = self._order(str(self.epoch + over))
        return self._share(order, order[begin : begin + self.stride])

    def _share(self, order: list[Problem], step: list[Problem]) -> list[Problem]:
        idle = max(0, self.world_size - len(step))
        return (step + (order * idle)[:idle])[self.rank :: self.world_size]

    def further(self, count: int) -> tuple[list[Problem], int]:
        """Draw problems beyond those of the step, for a step that needs more of them; every rank must call this.

        They come from an order of their own, in which every problem stands once before any comes again, so an epoch is what
        it would be without them. A problem that the step has already is passed over. How far the order has been used,
        :attr:`drawn`, is part of the state: a resumed run draws what the run would have drawn.

        Args:
            count: How many, over all ranks.

        Returns:
            This rank's share, and how many were drawn over all ranks: fewer than asked for where the step has every
            problem there is.
        """
        found: list[Problem] = []
        for _ in range(2 * len(self.problems)):  # so many places show every problem, wherever the order stands
            if len(found) >= count or len(self._in_step) == len(self.problems):
                break
            turn, place = divmod(self.drawn, len(self.problems))
            problem = self._order(f"further {turn}")[place]
            self.drawn += 1
            if problem.id not in self._in_step:
                self._in_step.add(problem.id)
                found.append(problem)
        return found[self.rank :: self.world_size], len(found)

    def _order(self, name: str) -> list[Problem]:
        if name not in self._orders:
            order = list(self.problems)
            if self.seed is not None:
                random.Random(f"{self.seed}:{name}").shuffle(order)
            self._orders = {**dict(list(self._orders.items())[-2:]), name: order}  # the last ones; long runs have many
        return self._orders[name]

    def __len__(self) -> int:
        return ceil(len(self.problems) / self.stride)

    def state_dict(self) -> dict[str, int | None]:
        """Where the order of the problems, and that of further ones, has come to."""
        return {
            "epoch": self.epoch,
            "position": self.position,
            "drawn": self.drawn,
            "stride": self.stride,
            "size": len(self.problems),
            "seed": self.seed,
        }

    def check_state(self, state: Mapping[str, Any]) -> None:
        """Refuse a state that this loader cannot go on from.

        Raises:
            DataError: If the number of problems, or in mid-epoch of problems a step or the seed of the order, is another
                than when saved.
        """
        halfway = 0 < state["position"] < state["size"]
        before = state.get("seed", self.seed)  # an older checkpoint does not say
        if state["size"] != len(self.problems):
            raise DataError(
                f"cannot resume: the run had {state['size']} training problems when saved, now {len(self.problems)}; "
                "restore the data settings or start a new run"
            )
        if before != self.seed and halfway:
            raise DataError(
                f"cannot resume in mid-epoch: the order of the problems was {_told(before)} when saved, now it is "
                f"{_told(self.seed)}; keep data.shuffle and data.seed as they were"
            )
        if state["stride"] != self.stride and halfway:
            raise DataError(
                f"cannot resume in mid-epoch: a step had {state['stride']} problems over all processes when saved, now "
                f"{self.stride}; keep data.batch_size times the number of processes as it was"
            )

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Make the next pass over the same epoch begin where the saved one stood.

        Raises:
            DataError: As :meth:`check_state`.
        """
        self.check_state(state)
        before = state.get("seed", self.seed)
        if before != self.seed:
            rank_zero_info(
                f"resume: the order of the problems was {_told(before)} in the checkpoint and is now {_told(self.seed)}; "
                "the new value holds"
            )
        if state["stride"] != self.stride:
            rank_zero_info(
                f"resume: a step had {state['stride']} problems over all processes in the checkpoint and has now "
                f"{self.stride}; the new value holds"
            )
        self.epoch = state["epoch"]
        self.position = self._start = state["position"]
        self.drawn = state.get("drawn", 0)


def _told(seed: int | None) -> str:
    return "as given (data.shuffle false)" if seed is None else f"drawn with seed {seed}"
