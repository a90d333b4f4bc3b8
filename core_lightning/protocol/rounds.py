"""The two rounds: every peer samples cold; a peer that failed samples again with a hint from one that did not.

    problems --cold_round--> groups --plan_rescues--> (student, hint) pairs --rescue_round--> groups with both rounds

The peers are anything that can encode, cut and sample (``RolloutPeer``); no model code is known here.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from core_lightning.protocol.faithful import FaithfulSettings, mark_flaws
from core_lightning.protocol.hints import fitting_hint, make_hint
from core_lightning.protocol.prompts import PromptSettings
from core_lightning.protocol.rollout_peer import Completion, RolloutPeer, in_turn, trace_seed
from core_lightning.protocol.round_settings import RoundSettings
from core_lightning.records import Group, Hint, Problem, Round, Trace

#: Answer and correctness of each completion: ``(texts, problems) -> [(answer, correct), ...]``.
Verify = Callable[[Sequence[str], Sequence[Problem]], Sequence[tuple[str | None, bool]]]


def cold_round(
    problems: Sequence[Problem],
    peers: Mapping[str, RolloutPeer],
    prompts: PromptSettings,
    verify: Verify,
    *,
    k: int,
    seed: Sequence[object],
    for_each: Callable[..., list] = in_turn,
) -> list[Group]:
    """Every peer samples ``k`` traces of every problem from the plain prompt, in one batched call per peer."""
    groups = [Group(p) for p in problems]

    def sample(peer: RolloutPeer) -> list[list[Trace]]:
        encoded = [peer.encode(prompts.render(p)) for p in problems]
        return _sample(peer, "cold", problems, encoded, [None] * len(problems), k, seed)

    for traces in for_each(sample, list(peers.values())):
        for group, own in zip(groups, traces, strict=True):
            group.add(own)
    _judge(groups, "cold", verify)
    return groups


def begin_cold_round(
    problems: Sequence[Problem],
    peers: Mapping[str, RolloutPeer],
    prompts: PromptSettings,
    *,
    k: int,
    seed: Sequence[object],
) -> Callable[[Verify, Callable[..., list]], list[Group]]:
    """Begin a cold round: what is returned, ``finish(verify, for_each)``, waits for its traces and judges them."""
    first = [0] * len(problems)
    begun = {}
    for name, peer in peers.items():
        encoded = [peer.encode(prompts.render(p)) for p in problems]
        begun[name] = encoded, peer.begin(encoded, _seeds(peer, "cold", problems, k, seed, first))

    def finish(verify: Verify, for_each: Callable[..., list]) -> list[Group]:
        groups = [Group(p) for p in problems]

        def wait(peer: RolloutPeer) -> list[list[Trace]]:
            encoded, completions = begun[peer.name]
            return _traces(peer, "cold", encoded, [None] * len(problems), completions(), first, None)

        for traces in for_each(wait, list(peers.values())):
            for group, own in zip(groups, traces, strict=True):
                group.add(own)
        _judge(groups, "cold", verify)
        return groups

    return finish


GREEDY = 1e-6
"""Temperature at which a sampler takes the likeliest token."""


def greedy_round(
    groups: Sequence[Group],
    peers: Mapping[str, RolloutPeer],
    prompts: PromptSettings,
    verify: Verify,
    *,
    seed: Sequence[object],
    for_each: Callable[..., list] = in_turn,
) -> None:
    """Every peer adds one trace of its likeliest tokens to every group, from the plain prompt; for evaluation only."""
    problems = [g.problem for g in groups]

    def sample(peer: RolloutPeer) -> list[list[Trace]]:
        encoded = [peer.encode(prompts.render(p)) for p in problems]
        hints = [None] * len(problems)
        return _sample(peer, "greedy", problems, encoded, hints, 1, seed, temperature=GREEDY, top_p=1.0)

    for traces in for_each(sample, list(peers.values())):
        for group, own in zip(groups, traces, strict=True):
            group.add(own)
    _judge(groups, "greedy", verify)


@dataclass(frozen=True)
class Rescue:
    """One student's second attempt at one problem; without a hint when ``students: all`` drew none."""

    group: Group
    student: str
    hint: Hint | None


def plan_rescues(
    groups: Sequence[Group],
    peers: Mapping[str, RolloutPeer],
    prompts: PromptSettings,
    settings: RoundSettings,
    *,
    seed: Sequence[object],
    fraction: float | None = None,
) -> list[Rescue]:
    """Who tries again, taught by whom, with which hint.

    Args:
        groups: After the cold round and :func:`~core_lightning.protocol.teachers.rank_teachers`.
        peers: The team; hints are cut in each student's own tokens.
        prompts: Templates; a hint is cut further until the prompt with it fits the student.
        settings: Who is a student, who teaches and what a hint is.
        seed: Key of this step's randomness (hint probability).
        fraction: Share of the derivation to show instead of the configured one (progressive hints).
    """
    plan = []
    if settings.k_rescue:
        for group in groups:
            for name, peer in peers.items():
                if settings.students == "failed" and not group.failed_cold(name):
                    continue
                draw = random.Random(trace_seed(*seed, group.problem.id, name, "hint"))
                hint = _first_hint(group, peer, prompts, settings, fraction)
                if settings.students == "failed":
                    if hint:
                        plan.append(Rescue(group, name, hint))
                else:
                    shown = draw.random() < settings.hint_probability
                    plan.append(Rescue(group, name, hint if shown else None))
    return plan


def _first_hint(
    group: Group, peer: RolloutPeer, prompts: PromptSettings, settings: RoundSettings, fraction: float | None
) -> Hint | None:
    """The hint of the best teacher that has something to show; that trace then comes first, so it is imitated, too."""
    ranked = group.teachers.get(peer.name, [])
    for teacher in ranked:
        made = make_hint(teacher, group.problem, peer, settings, fraction)
        hint = made and fitting_hint(made, group.problem, peer, prompts)
        if hint:
            group.teachers[peer.name] = [teacher, *(t for t in ranked if t is not teacher)]
            return hint
    return None


def rescue_round(
    plan: Sequence[Rescue],
    peers: Mapping[str, RolloutPeer],
    prompts: PromptSettings,
    verify: Verify,
    settings: RoundSettings,
    *,
    seed: Sequence[object],
    faithful: FaithfulSettings | None = None,
    for_each: Callable[..., list] = in_turn,
) -> None:
    """Students sample from their hinted prompts; the traces join their groups, judged, the unfaithful ones marked.

    Args:
        plan: Who tries again, with which hint.
        peers: The team.
        prompts: Templates.
        verify: Answer and correctness of each completion.
        settings: How many traces a student samples, and at which temperature and nucleus.
        seed: Key of this step's randomness.
        faithful: What makes a correct rescue faithful; unset, the defaults.
        for_each: Applies the work to every peer.
    """
    by_student = {name: [r for r in plan if r.student == name] for name in peers}
    busy = [peers[name] for name, rescues in by_student.items() if rescues]

    def sample(peer: RolloutPeer) -> list[list[Trace]]:
        rescues = by_student[peer.name]
        problems = [r.group.problem for r in rescues]
        hints = [r.hint for r in rescues]
        encoded = [peer.encode(prompts.render(p, h.text if h else None)) for p, h in zip(problems, hints, strict=True)]
        offsets = [len(r.group.of(peer.name, "rescue")) for r in rescues]
        heat = {"temperature": settings.rescue_temperature, "top_p": settings.rescue_top_p}
        return _sample(peer, "rescue", problems, encoded, hints, settings.k_rescue, seed, offsets, **heat)

    for peer, traces in zip(busy, for_each(sample, busy), strict=True):
        for rescue, own in zip(by_student[peer.name], traces, strict=True):
            rescue.group.add(own)
    _judge([r.group for r in plan], "rescue", verify)
    mark_flaws([r.group for r in plan], faithful or FaithfulSettings())


def _sample(
    peer: RolloutPeer,
    round: Round,
    problems: Sequence[Problem],
    encoded: Sequence[list[int]],
    hints: Sequence[Hint | None],
    k: int,
    seed: Sequence[object],
    offsets: Sequence[int] | None = None,
    temperature: float | None = None,
    top_p: float | None = None,
) -> list[list[Trace]]:
    first = offsets or [0] * len(problems)
    seeds = _seeds(peer, round, problems, k, seed, first)
    sampled = peer.sample(encoded, seeds, temperature=temperature, top_p=top_p)
    return _traces(peer, round, encoded, hints, sampled, first, temperature)


def _seeds(
    peer: RolloutPeer,
    round: Round,
    problems: Sequence[Problem],
    k: int,
    seed: Sequence[object],
    first: Sequence[int],
) -> list[list[int]]:
    return [
        [trace_seed(*seed, p.id, peer.name, round, i) for i in range(start, start + k)]
        for p, start in zip(problems, first, strict=True)
    ]


def _traces(
    peer: RolloutPeer,
    round: Round,
    encoded: Sequence[list[int]],
    hints: Sequence[Hint | None],
    sampled: Sequence[Sequence[Completion]],
    first: Sequence[int],
    temperature: float | None,
) -> list[list[Trace]]:
    return [
        [
            Trace(
                peer=peer.name,
                round=round,
                index=start + i,
                prompt_ids=prompt,
                token_ids=c.token_ids,
                text=c.text,
                truncated=c.truncated,
                hint=hint,
                sampled_logprobs=c.logprobs,
                temperature=temperature,
            )
            for i, c in enumerate(completions)
        ]
        for prompt, hint, completions, start in zip(encoded, hints, sampled, first, strict=True)
    ]


def _judge(groups: Sequence[Group], round: Round, verify: Verify) -> None:
    """Extract and check the answers of one round in one call."""
    pairs = [(t, g.problem) for g in {id(g): g for g in groups}.values() for t in g.of(round=round)]
    verdicts = verify([t.text for t, _ in pairs], [p for _, p in pairs])
    for (trace, _), (answer, correct) in zip(pairs, verdicts, strict=True):
        trace.answer, trace.correct = answer, correct
