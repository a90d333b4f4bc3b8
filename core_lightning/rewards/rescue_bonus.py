"""The bonus for a rescue: a right answer under a hint, by a peer that had failed alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from core_lightning.records import Group, Trace
from core_lightning.rewards.term import RewardContext, RewardTerm


def is_rescue(trace: Trace, group: Group) -> bool:
    """Whether a trace is a rescue: correct, hinted, of a peer that failed cold while another peer succeeded."""
    return (
        trace.round == "rescue"
        and trace.correct
        and trace.hint is not None
        and group.failed_cold(trace.peer)
        and any(group.solved(peer) for peer in group.peers() if peer != trace.peer)
    )


@dataclass(frozen=True)
class RescueBonus(RewardTerm):
    """1 for a rescue, 0 for every other trace (CORE, arXiv 2601.21600)."""

    shaping = True

    def __call__(self, group: Group, context: RewardContext) -> Sequence[float | None]:
        """``1[rescue trace, correct, hint shown, own cold traces all wrong, a peer right]``."""
        return [float(is_rescue(trace, group)) for trace in group]
