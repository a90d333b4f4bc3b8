"""Dynamic sampling: a step draws further problems until enough of them teach something (DAPO, arXiv 2503.14476)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from core_lightning.protocol.credit import Example
from core_lightning.records import Group, Problem
from core_lightning.training.ranks import Count
from core_lightning.training.settings import RolloutSettings

#: ``count -> (this process's share, how many over all processes)``, see ``TrainLoader.further``.
Further = Callable[[int], tuple[list[Problem], int]]


@dataclass
class Sampled:
    """What a step has sampled, in this process."""

    groups: list[Group]
    """All of it: what is logged, and counted as cost."""
    used: list[Group]
    """What the peers learn from."""
    drawn: int
    """Problems that were drawn."""
    dropped: int
    """Those of them that a peer has no room for, which were not sampled."""
    terms: dict[str, float] = field(default_factory=dict)
    """Statistics of the reward terms."""

    def add(self, more: Sampled) -> None:
        """Bring in the traces of a further draw."""
        self.groups = self.groups + more.groups
        self.used = self.used + more.used
        self.drawn += more.drawn
        self.dropped += more.dropped

    def counts(self) -> dict[str, Count]:
        """The metrics that tell how many problems the step took."""
        return {
            "train/drawn_problems": Count(self.drawn),
            "train/dropped_problems": Count(self.dropped),
            "train/unused_problems": Count(len(self.groups) - len(self.used)),
        }


def has_signal(examples: Iterable[Example]) -> bool:
    """Whether the loss acts on some of these examples, see ``rollout.max_draws``.

    Args:
        examples: What a peer is trained on from one problem; traces that are left out of the loss are not among them.
    """
    return any(e.weight != 0 and (e.imitate or (e.advantage != 0 and e.signal)) for e in examples)


def draw_until_enough(
    sampled: Sampled,
    further: Further,
    draw: Callable[[Sequence[Problem], int], Sampled],
    teaches: Callable[[Group], bool],
    over_ranks: Callable[..., list[float]],
    max_draws: int,
) -> None:
    """Replace problems without a signal by further ones, until as many as the step began with have one.

    Each draw asks for as many as are still missing, so none with a signal is ever too many. All processes take part in every
    draw, some perhaps with no problem of their own, because what decides is summed over them.

    Args:
        sampled: The first draw; further ones are added to it.
        further: Where problems come from.
        draw: Samples some problems; the number of the draw is part of their randomness.
        teaches: Whether a sampled problem has a signal.
        over_ranks: Sums numbers over all processes.
        max_draws: No more problems than so many times those the step began with.
    """
    wanted = round(over_ranks(sampled.drawn)[0])
    drawn, new, number = wanted, sampled, 0
    sampled.used = []
    while True:
        sampled.used = sampled.used + [g for g in new.groups if teaches(g)]
        missing = wanted - round(over_ranks(len(sampled.used))[0])
        problems, count = further(min(missing, max_draws * wanted - drawn))
        if not count:
            return
        drawn, number = drawn + count, number + 1
        new = draw(problems, number)
        new.used = []
        sampled.add(new)


def check_loader(loader: Any, rollout: RolloutSettings) -> None:
    """Refuse a training loader that cannot give what the settings need of it.

    Raises:
        ValueError: Names the setting and the mend.
    """
    for setting, off, asked, method in (
        ("max_draws", 1, "draws no further problems", "further"),
        ("lag", 0, "does not say which problems come next", "peek"),
    ):
        if getattr(rollout, setting) != off and not hasattr(loader, method):
            raise ValueError(
                f"model.rollout.{setting} is {getattr(rollout, setting)}, and the training loader "
                f"({type(loader).__name__}) {asked}; give the trainer a RescueDataModule as datamodule, or set it to {off}"
            )
