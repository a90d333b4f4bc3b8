"""Reward terms of a user, in a file of their own: named by ``class_path``, unknown to the package."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from core_lightning.records import Group
from core_lightning.rewards.term import RewardContext, RewardTerm


@dataclass(frozen=True)
class Count(RewardTerm):
    """How often some characters stand in a trace: a signal in every group, which a tiny model can follow."""

    characters: str = "0123456789"
    peers: tuple[str, ...] | None = None
    """Only these peers earn anything."""
    problems: tuple[str, ...] | None = None
    """Only on these problems."""
    until: float = 2.0
    """Only before this share of training."""

    def __call__(self, group: Group, context: RewardContext) -> Sequence[float | None]:
        on = context.progress < self.until and (self.problems is None or group.problem.id in self.problems)
        return [
            float(sum(c in self.characters for c in t.text))
            if on and (self.peers is None or t.peer in self.peers)
            else 0.0
            for t in group
        ]
