"""Reasoning unlike one's partners' (CORE, Eq. 6)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from core_lightning.records import Group
from core_lightning.rewards.correctness import correctness_reward
from core_lightning.rewards.term import RewardContext, RewardTerm


@dataclass(frozen=True)
class CrossDistance(RewardTerm):
    """Distance beyond a margin to what capable partners wrote in the same round (CORE, arXiv 2601.21600, Eq. 6).

    A partner is another peer; it counts when one of its traces of that round reaches ``threshold`` in correctness
    reward, so that nobody is paid for differing from noise.
    """

    margin: float = 0.15
    """Distance that earns nothing yet."""
    threshold: float = 0.1
    """Correctness reward that one trace of the partner must reach."""
    alpha: float = 0.3
    """Overlap weight of that correctness reward."""

    needs_distance = True
    shaping = True

    def __post_init__(self) -> None:
        if not 0.0 <= self.margin <= 1.0:
            raise ValueError(f"CrossDistance.margin must be in [0, 1], got {self.margin}")

    def __call__(self, group: Group, context: RewardContext) -> Sequence[float | None]:
        """Mean over counting partners of ``max(0, min distance to the partner's traces - margin)``; 0 without one."""
        written: dict[tuple[str, str], list[int]] = defaultdict(list)
        for i, trace in enumerate(group):
            written[trace.round, trace.peer].append(i)
        reward = [correctness_reward(trace, group.problem, self.alpha) for trace in group]
        counting = {key: rows for key, rows in written.items() if max(reward[i] for i in rows) >= self.threshold}

        rewards: list[float | None] = []
        for trace, distance in zip(group, context.distance.tolist(), strict=True):
            gains = [
                max(0.0, min(distance[j] for j in rows) - self.margin)
                for (round_, peer), rows in counting.items()
                if round_ == trace.round and peer != trace.peer
            ]
            rewards.append(sum(gains) / len(gains) if gains else 0.0)
        return rewards
