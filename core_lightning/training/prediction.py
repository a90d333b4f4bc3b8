"""What a team answers to a problem, as plain data."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

from core_lightning.answers import canonical_answer, infer_kind
from core_lightning.records import AnswerKind, Group


def prediction(group: Group, rescued: bool = False) -> dict[str, Any]:
    """Every peer's answers to one problem and the majority among them.

    Args:
        group: All traces of the problem.
        rescued: There was a rescue round, so tell of it.

    The majority needs no gold answer; ties go to the answer given first. ``agreement`` is the share of all samples that
    gave it. Where gold is unknown, so is what is correct: null.
    """
    problem = group.problem
    known = bool(problem.answer)
    kind: AnswerKind = problem.kind
    if kind == "auto" and known:
        kind = infer_kind(problem.answer)
    votes: Counter[str] = Counter()
    right: dict[str, bool] = {}
    for trace in group.of(round="cold"):
        if trace.answer is not None:
            vote = canonical_answer(trace.answer, kind) or trace.answer
            votes[vote] += 1
            right[vote] = right.get(vote, False) or trace.correct
    majority, count = votes.most_common(1)[0] if votes else (None, 0)
    cold = group.of(round="cold")
    return {
        "id": problem.id,
        "question": problem.question,
        "gold": problem.answer if known else None,
        "majority": majority,
        "agreement": count / len(cold) if cold else 0.0,
        "majority_correct": right.get(majority, False)
        if known and majority is not None
        else (False if known else None),
        "answers": {peer: [t.answer for t in group.of(peer, "cold")] for peer in group.peers()},
        "correct": {peer: [t.correct for t in group.of(peer, "cold")] if known else None for peer in group.peers()},
        **({"rescues": _rescues(group)} if rescued else {}),
        "texts": {peer: [t.text for t in group.of(peer, "cold")] for peer in group.peers()},
    }


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
