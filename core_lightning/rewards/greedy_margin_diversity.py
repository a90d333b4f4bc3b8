"""The published "DPP-lite" diversity (CORE, Eq. 3), kept for reproduction."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from core_lightning.records import Group
from core_lightning.rewards.correctness import correctness_reward
from core_lightning.rewards.term import RewardContext, RewardTerm


def greedy_max_min(distance: Tensor, first: int, margin: float, cap: int) -> list[int]:
    """Indices admitted by greedy max-min selection: the farthest trace next, while it is at least ``margin`` away.

    Ties go to the earlier trace.
    """
    chosen = [first]
    while len(chosen) < cap:
        nearest = distance[:, chosen].amin(1)
        nearest[chosen] = -1.0
        best = int(nearest.argmax())
        if nearest[best] < margin:
            break
        chosen.append(best)
    return chosen


@dataclass(frozen=True)
class GreedyMarginDiversity(RewardTerm):
    """Distance beyond the margin to a greedily chosen diverse set (CORE, arXiv 2601.21600, Eq. 3).

    The set grows from the best trace by greedy max-min selection; its members get 0 and every other trace
    ``max(0, min distance to the set - margin)``.

    Known flaw: as long as the set stays below ``cap``, everything left out is within the margin by construction, so
    the term is identically zero in every group of at most ``cap`` traces. The reward model reports how often
    (``zero_groups``); :class:`~core_lightning.rewards.LogDetDiversity` is the default instead.
    """

    margin: float = 0.15
    """Distance below which a trace counts as covered by the set."""
    cap: int = 10
    """Largest size of the set."""
    alpha: float = 0.3
    """Overlap weight of the correctness reward that names the best trace (ties to the earlier one)."""

    needs_distance = True
    shaping = True

    def __post_init__(self) -> None:
        if not 0.0 <= self.margin <= 1.0 or self.cap < 1:
            raise ValueError(
                f"GreedyMarginDiversity needs margin in [0, 1] and cap >= 1, got {self.margin} and {self.cap}"
            )

    def __call__(self, group: Group, context: RewardContext) -> Sequence[float | None]:
        """0 for members of the greedy set, ``max(0, min distance to it - margin)`` for the others."""
        quality = [correctness_reward(trace, group.problem, self.alpha) for trace in group]
        chosen = greedy_max_min(context.distance, quality.index(max(quality)), self.margin, self.cap)
        rewards = (context.distance[:, chosen].amin(1) - self.margin).clamp_min(0.0)
        rewards[chosen] = 0.0
        return rewards.tolist()
