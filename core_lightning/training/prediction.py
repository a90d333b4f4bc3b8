"""What a team answers to a problem, as plain data."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from core_lightning.answers import ballots, infer_kind
from core_lightning.records import AnswerKind, Group


def prediction(group: Group) -> dict[str, Any]:
    """Every peer's answers to one problem and the majority among them.

    Args:
        group: All traces of the problem.

    The majority needs no gold answer. ``agreement`` is the share of all samples that gave it. If others were given as
    often, ``tied`` holds all of these answers, and ``majority`` the one that was given first. Where gold is unknown, so is
    what is correct: null.
    """
    problem = group.problem
    known = bool(problem.answer)
    kind: AnswerKind = problem.kind
    if kind == "auto" and known:
        kind = infer_kind(problem.answer)
    cold = group.of(round="cold")
    votes = ballots([t.answer for t in cold], kind)
    counted = Counter(v for v in votes if v is not None)
    majority, count = counted.most_common(1)[0] if counted else (None, 0)
    tied = [vote for vote, votes_of in counted.items() if votes_of == count]
    right = [t.correct for t, vote in zip(cold, votes, strict=True) if vote == majority]
    return {
        "id": problem.id,
        "question": problem.question,
        "gold": problem.answer if known else None,
        "majority": majority,
        "tied": tied if len(tied) > 1 else [],
        "agreement": count / len(cold) if cold else 0.0,
        "majority_correct": (majority is not None and 2 * sum(right) > len(right)) if known else None,
        "answers": {peer: [t.answer for t in group.of(peer, "cold")] for peer in group.peers()},
        "correct": {peer: [t.correct for t in group.of(peer, "cold")] if known else None for peer in group.peers()},
        "texts": {peer: [t.text for t in group.of(peer, "cold")] for peer in group.peers()},
    }


def rescued_prediction(group: Group, judge: Callable[[Group], None], rescue: Callable[[Group], None]) -> dict[str, Any]:
    """A prediction with a rescue round behind it; where gold is unknown, the majority's answer stands for it.

    Args:
        group: The cold traces of the problem.
        judge: Says anew which traces of a group are right.
        rescue: Adds the rescue traces to a judged group.
    """
    told = prediction(group)
    judged = group if group.problem.answer else majority_as_gold(group)
    if judged is None:
        return told | {"rescues": []}
    if judged is not group:
        judge(judged)
    rescue(judged)
    return told | {"rescues": _rescues(judged)}


def majority_as_gold(group: Group) -> Group | None:
    """The same cold traces under a problem whose gold answer is the majority's; None where no trace has an answer."""
    majority = prediction(group)["majority"]
    if majority is None:
        return None
    kind: AnswerKind = infer_kind(majority) if group.problem.kind == "auto" else group.problem.kind
    return Group(replace(group.problem, answer=majority, kind=kind), group.of(round="cold"))


def _rescues(group: Group) -> list[dict[str, Any]]:
    return [
        {
            "peer": t.peer,
            "teacher": t.hint.teacher,
            "hint": t.hint.text,
            "text": t.text,
            "answer": t.answer,
            "correct": t.correct,
            "flaw": t.flaw,
        }
        for t in group.of(round="rescue")
        if t.hint is not None
    ]
