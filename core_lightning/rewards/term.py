"""What a reward term is: a function of one group (and its distances) that gives every trace a number or no opinion."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from functools import cached_property

from torch import Tensor

from core_lightning.records import Group


class RewardContext:
    """What a term may know beyond the group itself.

    Args:
        progress: Share of training done, in [0, 1].
        distance: Returns the distance of every pair of traces, ``float64 Tensor[traces, traces]`` in [0, 1] with a zero
            diagonal. It costs an embedding pass, so it is called when a term asks for it, and once at most.
    """

    def __init__(self, progress: float = 0.0, distance: Callable[[], Tensor] | None = None) -> None:
        self.progress = progress
        self._distance = distance

    @cached_property
    def distance(self) -> Tensor:
        """Pairwise distance of the group's traces, ``float64 Tensor[traces, traces]``, in the group's order."""
        if self._distance is None:
            raise ValueError("this reward term needs trace distances: set an embedder, or give the term weight 0")
        return self._distance()


class RewardTerm(ABC):
    """One component of a trace's reward.

    Subclass it in a file of your own, name the class by ``class_path`` under ``model.rewards`` and it appears in the
    trace log and in the metrics under the key you gave it there.
    """

    needs_distance: bool = False
    """Set to True when the term reads ``context.distance``; without any such term no text is embedded."""

    shaping: bool = False
    """Set to True for a term that only shades what another term rewards. With ``advantage.shaping: added`` its mean over the
    group is subtracted, and it is added to the advantage as it is. Divided by the group's standard deviation together with
    correctness it would change nothing in a group of two values, and be blown up in a group of equal correctness."""

    @abstractmethod
    def __call__(self, group: Group, context: RewardContext) -> Sequence[float | None]:
        """Reward of every trace of the group, in the group's order.

        None means "no opinion": the trace is then left out of the baseline and gets advantage 0.
        """
