"""A reward for teaching: the cold trace whose hint rescued somebody earns 1."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from core_lightning.records import Group
from core_lightning.rewards import RewardContext, RewardTerm


@dataclass(frozen=True)
class TeacherBonus(RewardTerm):
    """1 for a cold trace that was the hint of a correct rescue trace, 0 for every other trace."""

    def __call__(self, group: Group, context: RewardContext) -> Sequence[float | None]:
        """One value per trace of the group."""
        taught = {
            (t.hint.teacher, t.hint.teacher_index)
            for t in group.of(round="rescue")
            if t.correct and t.hint is not None and group.failed_cold(t.peer)
        }
        return [float(t.round == "cold" and (t.peer, t.index) in taught) for t in group]
