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

    def sample(peer: RolloutPeer) -> list[Added]:
        return _begin(peer, "cold", _plain_attempts(peer, groups, prompts), k, seed)()

    _join(groups, "cold", for_each(sample, list(peers.values())), verify)
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
    groups = [Group(p) for p in problems]
    begun = {
        name: _begin(peer, "cold", _plain_attempts(peer, groups, prompts), k, seed) for name, peer in peers.items()
    }

    def finish(verify: Verify, for_each: Callable[..., list]) -> list[Group]:
        def wait(peer: RolloutPeer) -> list[Added]:
            return begun[peer.name]()

        _join(groups, "cold", for_each(wait, list(peers.values())), verify)
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

    def sample(peer: RolloutPeer) -> list[Added]:
        attempts = _plain_attempts(peer, groups, prompts)
        return _begin(peer, "greedy", attempts, 1, seed, temperature=GREEDY, top_p=1.0)()

    _join(groups, "greedy", for_each(sample, list(peers.values())), verify)


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

    def sample(peer: RolloutPeer) -> list[Added]:
        attempts = []
        for rescue in plan:
            if rescue.student == peer.name:
                group, hint = rescue.group, rescue.hint
                prompt_ids = peer.encode(prompts.render(group.problem, hint.text if hint else None))
                attempts.append(_Attempt(group, prompt_ids, hint, len(group.of(peer.name, "rescue"))))
        heat = {"temperature": settings.rescue_temperature, "top_p": settings.rescue_top_p}
        return _begin(peer, "rescue", attempts, settings.k_rescue, seed, **heat)()

    students = {r.student for r in plan}
    groups = list({id(r.group): r.group for r in plan}.values())  # one may have several students
    _join(groups, "rescue", for_each(sample, [p for name, p in peers.items() if name in students]), verify)
    mark_flaws(groups, faithful or FaithfulSettings())


#: A group, and the traces of one peer that are to be added to it.
Added = tuple[Group, list[Trace]]


@dataclass(frozen=True)
class _Attempt:
    """A prompt from which a peer samples traces of one round for a group."""

    group: Group
    prompt_ids: list[int]
    hint: Hint | None = None
    first: int = 0
    """How many traces of the same peer and round the group has already."""

    def seeds(self, peer: str, round: Round, k: int, seed: Sequence[object]) -> list[int]:
        """One for each trace."""
        return [trace_seed(*seed, self.group.problem.id, peer, round, self.first + i) for i in range(k)]


def _plain_attempts(peer: RolloutPeer, groups: Sequence[Group], prompts: PromptSettings) -> list[_Attempt]:
    return [_Attempt(group, peer.encode(prompts.render(group.problem))) for group in groups]


def _begin(
    peer: RolloutPeer,
    round: Round,
    attempts: Sequence[_Attempt],
    k: int,
    seed: Sequence[object],
    temperature: float | None = None,
    top_p: float | None = None,
) -> Callable[[], list[Added]]:
    """Begin to sample ``k`` traces of every attempt; what is returned waits for them."""
    seeds = [a.seeds(peer.name, round, k, seed) for a in attempts]
    sampled = peer.begin([a.prompt_ids for a in attempts], seeds, temperature=temperature, top_p=top_p)
    return lambda: _added(peer, round, attempts, sampled(), temperature)


def _added(
    peer: RolloutPeer,
    round: Round,
    attempts: Sequence[_Attempt],
    sampled: Sequence[Sequence[Completion]],
    temperature: float | None = None,
) -> list[Added]:
    """Completions as traces."""
    return [
        (
            attempt.group,
            [
                Trace(
                    peer=peer.name,
                    round=round,
                    index=attempt.first + i,
                    prompt_ids=attempt.prompt_ids,
                    token_ids=c.token_ids,
                    text=c.text,
                    truncated=c.truncated,
                    hint=attempt.hint,
                    sampled_logprobs=c.logprobs,
                    redrawn=c.redrawn,
                    temperature=temperature,
                )
                for i, c in enumerate(completions)
            ],
        )
        for attempt, completions in zip(attempts, sampled, strict=True)
    ]


def _join(groups: Sequence[Group], round: Round, added: Sequence[Sequence[Added]], verify: Verify) -> None:
    """Add the traces of all peers, one peer after the other, and judge those of the round in one call."""
    for own in added:
        for group, traces in own:
            group.add(traces)
    pairs = [(t, g.problem) for g in groups for t in g.of(round=round)]
    verdicts = verify([t.text for t, _ in pairs], [p for _, p in pairs])
    for (trace, _), (answer, correct) in zip(pairs, verdicts, strict=True):
        trace.answer, trace.correct = answer, correct
