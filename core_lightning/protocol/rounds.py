"""The two rounds: every peer samples cold; a peer that failed samples again with a hint from one that did not.

    problems --cold_round--> groups --plan_rescues--> (student, hint) pairs --rescue_round--> groups with both rounds

The peers are anything that can encode, cut and sample (``RolloutPeer``); no model code is known here.
"""

from __future__ import annotations

import hashlib
import math
import random
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, Protocol, get_args

from core_lightning.answers import leaks_answer, remove_answer, strip_think
from core_lightning.protocol.faithful import FaithfulSettings, mark_flaws
from core_lightning.protocol.prompts import Prompt, PromptSettings
from core_lightning.records import Group, Hint, Problem, Round, Trace

TeacherPolicy = Literal["quality", "total_reward", "correctness", "shortest", "round_robin"]
TieBreak = Literal["likelihood", "length"]
HintForm = Literal["full", "first_fraction", "key_lines"]


@dataclass(frozen=True)
class Completion:
    """One sampled completion, as a peer hands it over."""

    token_ids: list[int]
    text: str
    truncated: bool
    logprobs: list[float] | None = None


class RolloutPeer(Protocol):
    """What the rounds need of a peer."""

    name: str

    def encode(self, prompt: Prompt) -> list[int]:
        """Token ids of a prompt."""

    def room(self) -> int:
        """Longest prompt in tokens."""

    def cut(self, text: str, tokens: int) -> str:
        """The text's longest beginning of at most so many of the peer's own tokens."""

    def encode_completion(self, text: str) -> list[int]:
        """Token ids of somebody else's completion as this peer would write it, its end included."""

    def in_own_words(self, text: str, prompt_ids: Sequence[int]) -> str:
        """Somebody else's completion as this peer would have written it behind a prompt: cut at its own stop."""

    def completion_room(self) -> int:
        """Longest completion in tokens."""

    def likelihoods(self, prompts: Sequence[list[int]], completions: Sequence[list[int]]) -> list[float]:
        """Mean log-probability per token of each completion under its prompt, in nats."""

    def sample(
        self,
        prompts: Sequence[list[int]],
        seeds: Sequence[Sequence[int]],
        *,
        temperature: float | None = None,
        top_p: float | None = None,
    ) -> list[list[Completion]]:
        """Completions of every prompt, one per seed; temperature and nucleus are the peer's own unless given."""

    def begin(
        self,
        prompts: Sequence[list[int]],
        seeds: Sequence[Sequence[int]],
        *,
        temperature: float | None = None,
        top_p: float | None = None,
    ) -> Callable[[], list[list[Completion]]]:
        """Begin to sample; what is returned waits for the completions."""


#: Answer and correctness of each completion: ``(texts, problems) -> [(answer, correct), ...]``.
Verify = Callable[[Sequence[str], Sequence[Problem]], Sequence[tuple[str | None, bool]]]


@dataclass(frozen=True)
class RoundSettings:
    """How the two rounds run. The defaults are this project's decisions; "published" marks the paper's value."""

    k: int = 2
    """Cold traces per peer and problem (published: 2)."""
    k_rescue: int = 1
    """Rescue traces per failed peer and problem (published: 1). 0 leaves the rescue round out."""
    students: Literal["failed", "all"] = "failed"
    """Who samples the rescue round. ``failed``: peers whose cold traces all failed. ``all``: every peer (the authors'
    code)."""
    hint_probability: float = 1.0
    """With ``students: all``, how often the hint is shown (the authors' code: 0.75)."""
    rescue_temperature: float | None = None
    """Sampling temperature of the rescue round; unset, the peer's own. Log-probabilities use the one that was sampled
    with."""
    rescue_top_p: float | None = None
    """Nucleus of the rescue round; unset, the peer's own."""
    teacher: TeacherPolicy = "quality"
    """Which correct cold trace of another peer teaches, as hint and for imitation alike. One that was cut off never does.
    ``quality``: it has a derivation, other correct traces agree with its steps, and among equals ``teacher_ties`` decides.
    ``total_reward`` (published): the highest reward. ``correctness``: the highest value of that term. ``shortest``: the
    fewest tokens. ``round_robin``: one of each peer in turn."""
    teacher_ties: TieBreak = "likelihood"
    """Among equals of ``quality``. ``likelihood``: the trace that the student itself finds likeliest, which costs a scoring
    pass. ``length``: the shortest."""
    teacher_equations: bool = True
    """A trace with a false equation never teaches (published: False)."""
    hint_tokens: int = 512
    """Longest hint, in the student's tokens."""
    hint_form: HintForm = "full"
    """What of the derivation is shown. ``full``: all of it. ``first_fraction``: its first part (``hint_fraction``).
    ``key_lines``: its lines that carry a computation."""
    hint_fraction: float = 0.5
    """With ``first_fraction``, the share of the derivation that is shown."""
    hint_think: bool = False
    """Keep a reasoning model's think block in the hint."""
    progressive: bool = False
    """A student that failed with the first half of the hint tries once more with all of it."""

    def __post_init__(self) -> None:
        if self.k < 1:
            raise ValueError(f"rounds.k is {self.k}; a cold round needs 1 or more traces")
        if self.k_rescue < 0:
            raise ValueError(f"rounds.k_rescue is {self.k_rescue}; set 1 or more, or 0 for no rescue round")
        if self.students not in ("failed", "all"):
            raise ValueError(f"rounds.students is {self.students!r}; choose failed or all")
        if not 0 <= self.hint_probability <= 1:
            raise ValueError(f"rounds.hint_probability is {self.hint_probability}; set it in [0, 1]")
        if self.students == "failed" and self.hint_probability != 1:
            raise ValueError(
                "rounds.hint_probability only applies to students: all; set students: all or leave it at 1"
            )
        if self.rescue_temperature is not None and not 0 < self.rescue_temperature < math.inf:
            raise ValueError(f"rounds.rescue_temperature is {self.rescue_temperature}; set it above 0 or leave it out")
        if self.rescue_top_p is not None and not 0 < self.rescue_top_p <= 1:
            raise ValueError(f"rounds.rescue_top_p is {self.rescue_top_p}; set it in (0, 1] or leave it out")
        if self.teacher_ties not in get_args(TieBreak):
            raise ValueError(f"rounds.teacher_ties is {self.teacher_ties!r}; choose likelihood or length")
        if self.teacher not in get_args(TeacherPolicy):
            raise ValueError(f"rounds.teacher is {self.teacher!r}; choose one of {', '.join(get_args(TeacherPolicy))}")
        if self.hint_form not in get_args(HintForm):
            raise ValueError(f"rounds.hint_form is {self.hint_form!r}; choose one of {', '.join(get_args(HintForm))}")
        if self.hint_tokens < 1:
            raise ValueError(f"rounds.hint_tokens is {self.hint_tokens}; set it to 1 or more")
        if not 0 < self.hint_fraction <= 1:
            raise ValueError(f"rounds.hint_fraction is {self.hint_fraction}; set it in (0, 1]")


def trace_seed(*key: object) -> int:
    """63-bit seed of one trace, from (seed, epoch, problem, peer, round, index): no stream depends on another."""
    digest = hashlib.blake2b("\x1f".join(map(str, key)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


def in_turn(work: Callable[[RolloutPeer], Any], peers: Sequence[RolloutPeer]) -> list[Any]:
    """Apply ``work`` to one peer after the other."""
    return [work(peer) for peer in peers]


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


def make_hint(
    teacher: Trace, problem: Problem, student: RolloutPeer, settings: RoundSettings, fraction: float | None = None
) -> Hint | None:
    """The teacher's derivation without its final answer, in the student's token budget; None when nothing is left."""
    text = teacher.text if settings.hint_think else strip_think(teacher.text)
    text = remove_answer(text, problem.answer, problem.kind, problem.answer_forms, problem.stem).strip()
    if settings.hint_form == "key_lines":
        text = "\n".join(line for line in text.splitlines() if any(c.isdigit() or c in "=<>\\" for c in line))
    if fraction is None and settings.hint_form == "first_fraction":
        fraction = settings.hint_fraction
    if fraction is not None:
        text = _first_part(text, fraction)
    text = student.cut(text, settings.hint_tokens).strip()
    if not text:
        return None
    return Hint(text, teacher.peer, teacher.index, _leaks(text, problem))


def fitting_hint(hint: Hint, problem: Problem, student: RolloutPeer, prompts: PromptSettings) -> Hint | None:
    """The hint, cut until the prompt with it fits the student's room; None when nothing of it fits."""

    def excess(text: str) -> int:
        return len(student.encode(prompts.render(problem, text))) - student.room()

    if excess(hint.text) <= 0:
        return hint
    # One token may stand for the empty place itself, and a cut text may be encoded longer than as a part of the whole.
    for tokens in range(1 - excess(""), 0, -1):
        text = student.cut(hint.text, tokens).strip()
        if text and excess(text) <= 0:
            return replace(hint, text=text, leaks=_leaks(text, problem))
    return None


def _leaks(text: str, problem: Problem) -> bool:
    return leaks_answer(text, problem.answer, problem.kind, problem.answer_forms, problem.stem)


def _first_part(text: str, fraction: float) -> str:
    """The first part of a text, ending between words."""
    if fraction >= 1:
        return text
    words = re.findall(r"\S+\s*", text)
    return "".join(words[: max(1, round(len(words) * fraction))])


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
