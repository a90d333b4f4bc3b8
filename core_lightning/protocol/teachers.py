"""Which correct trace teaches: the best derivation, not the highest reward.

With correctness equal, shaping rewards alone decide which trace has the highest total reward, and diversity prefers the
outlier: a nonsense derivation that ends right, or a bare answer. So a teacher is chosen for what it shows.
"""

from __future__ import annotations

import math
import random
import re
from collections.abc import Callable, Mapping, Sequence

from core_lightning.answers import extract_answer, false_equations, strip_think
from core_lightning.protocol.hints import derives
from core_lightning.protocol.rollout_peer import RolloutPeer, in_turn, trace_seed
from core_lightning.protocol.round_settings import RoundSettings
from core_lightning.records import Group, Trace

_RESULT = re.compile(r"=\s*\$?\s*(-?\d[\d,]*(?:\.\d+)?)")


def rank_teachers(
    groups: Sequence[Group],
    peers: Mapping[str, RolloutPeer],
    settings: RoundSettings,
    *,
    seed: Sequence[object],
    for_each: Callable[..., list] = in_turn,
) -> None:
    """Set ``teachers`` of every group: for each student the traces that can teach it, best first.

    A teacher is a correct cold trace of another peer that was not cut off, fits the student's room for a completion, and
    (with ``teacher_equations``) holds no false equation. Ties go to the earlier trace.

    Args:
        groups: After the cold round; ``trace.reward`` is set if the policy reads it.
        peers: The team.
        settings: Who is a student, and who teaches.
        seed: Key of this step's randomness (``round_robin``).
        for_each: Applies the work to every peer; a student may have to score traces.
    """

    def rank(student: RolloutPeer) -> list[list[Trace]]:
        taught = [g for g in groups if _taught(g, student, settings)]
        tied: list[tuple[Group, list[list[Trace]]]] = []
        for group in taught:
            draw = random.Random(trace_seed(*seed, group.problem.id, student.name, "teacher"))
            tied.append((group, _tiers(group, _able(group, student, settings), settings, draw)))
        for group, tiers in _by_likelihood(tied, student):
            group.teachers[student.name] = [trace for tier in tiers for trace in tier]
        return []

    for_each(rank, [p for p in peers.values() if any(_taught(g, p, settings) for g in groups)])


def agreement(trace: Trace, others: Sequence[Trace], gold: str) -> int:
    """With how many other traces a trace shares at least half of all results on the way to the answer.

    Args:
        trace: A correct trace.
        others: Correct traces of the same problem; the trace itself is passed over.
        gold: The answer, which all of them share and which therefore says nothing.
    """
    answer = results(f"= {gold}")
    own = results(trace.text) - answer
    theirs = [results(t.text) - answer for t in others if t is not trace]
    return sum(len(own & other) >= 0.5 * len(own | other) for other in theirs if other) if own else 0


def results(text: str) -> set[float]:
    """Numbers that stand behind an equals sign, the stations of a derivation."""
    return {float(number.replace(",", "")) for number in _RESULT.findall(text)}


def known_reward(trace: Trace) -> float:
    """Reward to compare traces by: one without an opinion stands last, where NaN would stand anywhere."""
    return -math.inf if math.isnan(trace.reward) else trace.reward


def _taught(group: Group, student: RolloutPeer, settings: RoundSettings) -> bool:
    """Whether a student needs a teacher for a problem that somebody else has solved."""
    if settings.students == "failed" and not group.failed_cold(student.name):
        return False
    return any(t.correct and t.peer != student.name for t in group.of(round="cold"))


def _able(group: Group, student: RolloutPeer, settings: RoundSettings) -> list[Trace]:
    return [
        t
        for t in group.of(round="cold")
        if t.correct
        and not t.truncated
        and t.peer != student.name
        and not (settings.teacher_equations and false_equations(t.text))
        and _can_be_imitated(t, group, student)
    ]


def _can_be_imitated(trace: Trace, group: Group, student: RolloutPeer) -> bool:
    """Whether a trace fits the student's room and still states its answer when it is cut at the student's own stop."""
    ids, text = _as_student(trace, group, student)
    if not 0 < len(ids) <= student.completion_room():
        return False
    return text == trace.text or extract_answer(text, group.problem.kind) == trace.answer


def _as_student(trace: Trace, group: Group, student: RolloutPeer) -> tuple[list[int], str]:
    """Token ids and text of a trace as the student would have written it."""
    text = student.in_own_words(trace.text, group.of(student.name, "cold")[0].prompt_ids)
    return student.encode_completion(text), text


def _tiers(group: Group, able: list[Trace], settings: RoundSettings, draw: random.Random) -> list[list[Trace]]:
    """Teachers best first, those that the policy cannot tell apart in one list."""
    policy = settings.teacher
    if policy == "quality":
        correct = [t for t in group.of(round="cold") if t.correct]
        keys = {
            id(t): (not derives(strip_think(t.text), group.problem), -agreement(t, correct, group.problem.answer))
            for t in able
        }
        if settings.teacher_ties == "length":
            return [[t] for t in sorted(able, key=lambda t: (keys[id(t)], len(t.token_ids)))]
        return [[t for t in able if keys[id(t)] == key] for key in sorted(set(keys.values()))]
    if policy == "total_reward":
        ranked = sorted(able, key=known_reward, reverse=True)
    elif policy == "correctness":
        ranked = sorted(able, key=lambda t: t.terms.get("correctness") or 0.0, reverse=True)
    elif policy == "shortest":
        ranked = sorted(able, key=lambda t: len(t.token_ids))
    else:
        names = list(dict.fromkeys(t.peer for t in able))
        turn = draw.randrange(len(names)) if names else 0
        ranked = sorted(able, key=lambda t: (names.index(t.peer) - turn) % len(names))
    return [[t] for t in ranked]


def _by_likelihood(
    tied: list[tuple[Group, list[list[Trace]]]], student: RolloutPeer
) -> list[tuple[Group, list[list[Trace]]]]:
    """The same with every tier ordered by the student's own likelihood; only ties are scored, all in one call."""
    open_ties = [(g, t) for g, tiers in tied for tier in tiers if len(tier) > 1 for t in tier]
    if not open_ties:
        return tied
    prompts = [g.of(student.name, "cold")[0].prompt_ids for g, _ in open_ties]
    scores = student.likelihoods(prompts, [_as_student(t, g, student)[0] for g, t in open_ties])
    likelihood = {id(t): score for (_, t), score in zip(open_ties, scores, strict=True)}
    return [(g, [sorted(tier, key=lambda t: -likelihood.get(id(t), 0.0)) for tier in tiers]) for g, tiers in tied]
