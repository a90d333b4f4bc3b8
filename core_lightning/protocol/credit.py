"""Which prompt a trace is trained under, and how: the step from judged groups to training examples.

A cold trace is always a policy example under its own prompt. What a failed peer learns from one that succeeded is the
open question of the method, so it is a setting; ``hinted`` is the published reading.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, get_args

from core_lightning.protocol.faithful import FaithfulSettings, likeliest
from core_lightning.protocol.teachers import known_reward
from core_lightning.records import Group, Trace

CreditMode = Literal[
    "teacher_and_rescue", "rescue_or_teacher", "peer_trace", "cold", "both", "hinted", "adaptive", "own_trace"
]
#: Modes that read traces of the rescue round, and those that read the teacher's trace.
RESCUE_MODES = frozenset({"teacher_and_rescue", "rescue_or_teacher", "cold", "both", "hinted", "adaptive"})
TEACHER_MODES = frozenset({"teacher_and_rescue", "rescue_or_teacher", "peer_trace", "adaptive"})
#: Modes in which traces of the rescue round follow the policy gradient, so that their reward matters.
POLICY_RESCUE_MODES = frozenset({"hinted", "both"})


@dataclass(frozen=True)
class CreditSettings:
    """What a failed peer is taught."""

    mode: CreditMode = "teacher_and_rescue"
    """What a peer that failed a problem learns from it. To imitate a trace is to raise its likelihood under the plain
    prompt, the one the peer will be tested with. Of several correct rescues of a problem the likeliest faithful one is
    imitated.

    ``teacher_and_rescue``: the teacher's trace and the peer's own faithful rescue are both imitated (``share_weight``).
    ``rescue_or_teacher``: the faithful rescue, or the teacher's trace where there is none.
    ``peer_trace``: the teacher's trace. Needs no rescue round, which saves its completions.
    ``cold``: the faithful rescue. ``both``: the same, and the policy gradient under the prompt with the hint.
    ``hinted``: policy gradient under the prompt with the hint alone (published).
    ``adaptive``: ``cold``, but ``peer_trace`` while the peer's running rescue rate is below ``adaptive_below``.
    ``own_trace``: a peer imitates its own best correct cold trace (the control without cross-teaching)."""
    weight: float = 0.8
    """Weight of a rescue trace in the policy loss (``hinted``, ``both``)."""
    imitation_weight: float = 1.6
    """Weight of an imitated trace of the teacher (with ``own_trace``, of the peer's own)."""
    rescue_imitation_weight: float | None = None
    """Weight of an imitated rescue; unset, ``imitation_weight``."""
    share_weight: bool = True
    """Where a peer imitates both the teacher's trace and its own rescue of a problem, each has half its weight. A problem
    then counts as much as one of which a single trace is imitated. Off, it counts twice, though the two nearly always say
    the same."""
    faithful: FaithfulSettings = field(default_factory=FaithfulSettings)
    """Which correct rescues are imitated."""
    probability_floor: float = 0.0
    """An imitated token that is less likely than this pulls in proportion to its probability instead of at full strength. It
    is a floor under the probability that the gradient is divided by. 0 sets none."""
    importance_bound: float | None = None
    """Weigh each token of an imitated rescue by its probability under the plain prompt over that under the hint, up to this
    bound; unset, no such weight."""
    adaptive_below: float = 0.3
    """Rescue rate under which ``adaptive`` imitates the teacher's trace."""
    adaptive_pairs: int = 50
    """For ``adaptive``: the rescue rate is taken over about so many of the peer's last hinted problems."""

    def __post_init__(self) -> None:
        if self.mode not in get_args(CreditMode):
            raise ValueError(f"credit.mode is {self.mode!r}; choose one of {', '.join(get_args(CreditMode))}")
        for name in ("weight", "imitation_weight", "rescue_imitation_weight"):
            value = getattr(self, name)
            if value is not None and not 0 <= value < math.inf:
                raise ValueError(f"credit.{name} is {value}; set it to a number of 0 or more")
        if not 0 <= self.probability_floor < 1:
            raise ValueError(f"credit.probability_floor is {self.probability_floor}; set it in [0, 1)")
        if self.importance_bound is not None and not 0 < self.importance_bound < math.inf:
            raise ValueError(f"credit.importance_bound is {self.importance_bound}; set it above 0 or leave it out")
        if self.importance_bound is not None and self.probability_floor:
            raise ValueError(
                f"credit.importance_bound is {self.importance_bound} and credit.probability_floor {self.probability_floor}: "
                "both say how hard an imitated rescue pulls; leave one of them out"
            )
        if not 0 <= self.adaptive_below <= 1:
            raise ValueError(f"credit.adaptive_below is {self.adaptive_below}; set it in [0, 1]")
        if self.adaptive_pairs < 1:
            raise ValueError(f"credit.adaptive_pairs is {self.adaptive_pairs}; set it to 1 or more")


@dataclass
class RunningRate:
    """Share of rescues among a peer's last hinted problems, older ones fading: an exponential moving average."""

    rescued: float = 0.0
    hinted: float = 0.0

    def add(self, rescued: float, hinted: float, memory: int) -> None:
        """Count the pairs of one step; a pair that ``memory`` others have followed counts about a third."""
        fade = (1 - 1 / memory) ** hinted
        self.rescued = self.rescued * fade + rescued
        self.hinted = self.hinted * fade + hinted

    @property
    def value(self) -> float:
        """The rate, 1 before the first hint: rescue is tried before it is given up."""
        return self.rescued / self.hinted if self.hinted else 1.0


@dataclass(frozen=True)
class Example:
    """One completion under the prompt it is credited to."""

    prompt_ids: list[int]
    token_ids: list[int]
    advantage: float = 0.0
    """Of a policy example."""
    signal: bool = True
    """Whether the advantage comes from more than terms that only shade correctness."""
    weight: float = 1.0
    rescue: bool = False
    imitate: bool = False
    """Raise the likelihood instead of following the advantage."""
    sampled_logprobs: list[float] | None = None
    """Log-probabilities as it was sampled, for an importance weight."""
    temperature: float | None = None
    """At which it is scored; None is the peer's own sampling temperature."""


def assign_credit(
    groups: Sequence[Group],
    peer: str,
    settings: CreditSettings,
    encode_completion: Callable[[str], list[int]],
    *,
    own_words: Callable[[str, list[int]], str] = lambda text, prompt_ids: text,
    rescue_rate: float = 1.0,
) -> list[Example]:
    """Training examples of one peer.

    Args:
        groups: Judged groups with advantages, teachers and marked flaws. A masked trace is no policy example.
        peer: Whose examples.
        settings: What a rescue teaches.
        encode_completion: The peer's own token ids of somebody else's completion, end included.
        own_words: Somebody else's completion as the peer would have written it behind these prompt ids: cut at the peer's
            own stop. (A trace that loses its answer by that does not teach.)
        rescue_rate: The peer's running rescue rate, which ``adaptive`` looks at.
    """
    mode = settings.mode
    if mode == "adaptive":
        mode = "peer_trace" if rescue_rate < settings.adaptive_below else "cold"
    rescue_weight = (
        settings.imitation_weight if settings.rescue_imitation_weight is None else settings.rescue_imitation_weight
    )
    examples = []
    for group in groups:
        cold, imitated = group.of(peer, "cold"), []
        for trace in group.of(peer):
            if (trace.round == "cold" or trace.hint is None or mode in POLICY_RESCUE_MODES) and not trace.masked:
                examples.append(_policy(trace, settings))
        rescue = likeliest(group.rescues(peer, faithful=True)) if mode in RESCUE_MODES - {"hinted"} else None
        if rescue is not None:
            sampled = rescue.sampled_logprobs
            imitated.append(_imitate(cold[0].prompt_ids, rescue.token_ids, rescue_weight, sampled))
        if (
            mode in TEACHER_MODES
            and group.failed_cold(peer)
            and not (mode == "rescue_or_teacher" and rescue is not None)
        ):
            for teacher in group.teachers.get(peer, [])[:1]:
                ids = encode_completion(own_words(teacher.text, cold[0].prompt_ids))
                if ids:
                    imitated.append(_imitate(cold[0].prompt_ids, ids, settings.imitation_weight))
        if mode == "own_trace":
            for own in sorted((t for t in cold if t.correct), key=known_reward, reverse=True)[:1]:
                imitated.append(_imitate(own.prompt_ids, own.token_ids, settings.imitation_weight))
        if settings.share_weight:
            imitated = [replace(example, weight=example.weight / len(imitated)) for example in imitated]
        examples += imitated
    return examples


def _policy(trace: Trace, settings: CreditSettings) -> Example:
    rescue = trace.round == "rescue"
    return Example(
        prompt_ids=trace.prompt_ids,
        token_ids=trace.token_ids,
        advantage=trace.advantage,
        signal=trace.signal,
        weight=settings.weight if rescue else 1.0,
        rescue=rescue,
        sampled_logprobs=trace.sampled_logprobs,
        temperature=trace.temperature,
    )


def _imitate(prompt_ids: list[int], token_ids: list[int], weight: float, sampled: list[float] | None = None) -> Example:
    return Example(prompt_ids, token_ids, weight=weight, imitate=True, rescue=True, sampled_logprobs=sampled)
