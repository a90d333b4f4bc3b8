"""What a rescue round changes in the answers of a team: every problem without and with it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain

import torch
from torch import Tensor

from core_lightning.answers import ballots
from core_lightning.metrics import agreement_gate, majority_vote
from core_lightning.records import AnswerKind, Group, Trace


@dataclass(frozen=True)
class Answers:
    """A team's answers to one problem."""

    solved: list[float]
    """Whether each peer has a correct trace."""
    vote: float
    accepted: float
    agreed: float


@dataclass(frozen=True)
class RescueScore:
    """One problem without and with a rescue round."""

    without_rescue: Answers
    """Of the first k cold traces of each peer."""
    with_rescue: Answers
    """The same, where a peer that was shown a hint answers with its rescue traces in the place of its cold ones."""
    hinted: int
    """Peers that failed and saw a hint."""
    rescued: int
    faithful: int


def candidates(traces: Sequence[Sequence[Trace]], kind: AnswerKind) -> list[list[str | None]]:
    """What every trace votes for, ``[peers][traces]`` like what is given: the peers vote together."""
    votes = iter(ballots([t.answer for t in chain(*traces)], kind))
    return [[next(votes) for _ in own] for own in traces]


def score_rescue(group: Group, peers: Sequence[str], k: int, kind: AnswerKind) -> RescueScore:
    """Score both.

    Args:
        group: With the rescue traces of peers whose first ``k`` cold traces all failed.
        peers: Names.
        k: Cold traces of each peer that count.
        kind: How answers are read.
    """
    cold = [group.of(peer, "cold")[:k] for peer in peers]
    again = [[t for t in group.of(peer, "rescue") if t.hint is not None] for peer in peers]
    after = [rescue or first for first, rescue in zip(cold, again, strict=True)]
    return RescueScore(
        without_rescue=_answers(cold, kind),
        with_rescue=_answers(after, kind),
        hinted=sum(map(bool, again)),
        rescued=sum(any(t.correct for t in traces) for traces in again),
        faithful=sum(any(t.correct and t.flaw is None for t in traces) for traces in again),
    )


def rescue_columns(scores: Sequence[RescueScore], peers: Sequence[str]) -> dict[str, Tensor]:
    """``without_rescue/<name>`` and ``with_rescue/<name>``, each ``Tensor[problems]``.

    The names are ``<peer>/solved``, ``majority_vote`` and ``agreement_coverage``.
    """
    columns = {}
    for when in ("without_rescue", "with_rescue"):
        sides: list[Answers] = [getattr(s, when) for s in scores]
        for i, peer in enumerate(peers):
            columns[f"{when}/{peer}/solved"] = [s.solved[i] for s in sides]
        columns[f"{when}/majority_vote"] = [s.vote for s in sides]
        columns[f"{when}/agreement_coverage"] = [s.accepted for s in sides]
    return {name: torch.tensor(column, dtype=torch.float64) for name, column in columns.items()}


def _answers(traces: Sequence[Sequence[Trace]], kind: AnswerKind) -> Answers:
    answers = candidates(traces, kind)
    correct = [[t.correct for t in own] for own in traces]
    accepted, agreed = agreement_gate(answers, correct)
    vote = majority_vote([*chain(*answers)], [*chain(*correct)])
    return Answers([float(any(own)) for own in correct], vote, accepted, agreed)
