"""Which prompt a trace is trained under, and how: the step from judged groups to training examples.

A cold trace is always a policy example under its own prompt. What a failed peer learns from one that succeeded is the
open question of the method, so it is a setting; ``hinted`` is the published reading, the default what won in
``benchmarks/learning``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from core_lightning.answers import extract_answer
from core_lightning.protocol.rounds import known_reward
from core_lightning.records import AnswerKind, Group, Trace

CreditMode = Literal["hinted", "cold", "both", "peer_trace", "own_trace", "adaptive"]


@dataclass(frozen=True)
class CreditSettings:
    """What a failed peer is taught."""

    mode: CreditMode = "peer_trace"
    """``hinted``: policy gradient under the prompt with the hint (published). ``cold``: a correct rescue is imitated under
    the plain prompt. ``both``. ``peer_trace``: the teacher's own trace is imitated by the student that failed (no rescue
    sampling needed). ``own_trace``: a peer imitates its own correct cold trace (the control without cross-teaching).
    ``adaptive``: ``cold``, but ``peer_trace`` while the peer's running rescue rate is below ``adaptive_below``."""
    weight: float = 0.8
    """Weight of a rescue trace in the policy loss."""
    imitation_weight: float = 1.6
    """Weight of an imitated trace."""
    importance_bound: float | None = None
    """Bounds the importance weight plain / hinted probability of an imitated rescue; unset, plain likelihood."""
    adaptive_below: float = 0.3
    """Rescue rate under which ``adaptive`` imitates the teacher's trace."""
    adaptive_pairs: int = 50
    """The running rate looks back on about so many hinted problems of the peer."""

    def __post_init__(self) -> None:
        modes = ("hinted", "cold", "both", "peer_trace", "own_trace", "adaptive")
        if self.mode not in modes:
            raise ValueError(f"credit.mode is {self.mode!r}; choose one of {', '.join(modes)}")
        for name in ("weight", "imitation_weight"):
            if getattr(self, name) < 0:
                raise ValueError(f"credit.{name} is {getattr(self, name)}; set it to 0 or more")
        if self.importance_bound is not None and self.importance_bound <= 0:
            raise ValueError(f"credit.importance_bound is {self.importance_bound}; set it above 0 or leave it out")
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
    weight: float = 1.0
    rescue: bool = False
    imitate: bool = False
    """Raise the likelihood instead of following the advantage."""
    sampled_logprobs: list[float] | None = None
    """Log-probabilities as it was sampled, for an importance weight."""


def assign_credit(
    groups: Sequence[Group],
    peer: str,
    settings: CreditSettings,
    encode_completion: Callable[[str], list[int]],
    *,
    own_words: Callable[[str, list[int]], str] = lambda text, prompt_ids: text,
    rescue_rate: float = 1.0,
    max_tokens: int | None = None,
    drop: Callable[[Trace], bool] = lambda trace: False,
) -> list[Example]:
    """Training examples of one peer.

    Args:
        groups: Judged groups with advantages.
        peer: Whose examples.
        settings: What a rescue teaches.
        encode_completion: The peer's own token ids of somebody else's completion, end included.
        own_words: Somebody else's completion as the peer would have written it behind these prompt ids: cut at the peer's
            own stop. One that has lost its answer by that is not imitated.
        rescue_rate: The peer's running rescue rate, which ``adaptive`` looks at.
        max_tokens: Longest trace of somebody else that is imitated, in the peer's tokens; a longer one need not fit
            its context behind the prompt, and the next best teacher takes its place.
        drop: Policy examples to leave out (truncated traces, groups without signal).
    """
    mode = settings.mode
    if mode == "adaptive":
        mode = "peer_trace" if rescue_rate < settings.adaptive_below else "cold"
    examples = []
    for group in groups:
        cold = group.of(peer, "cold")
        for trace in group.of(peer):
            under_own_prompt = trace.round == "cold" or trace.hint is None or mode in ("hinted", "both")
            if under_own_prompt and not drop(trace):
                examples.append(_policy(trace, settings))
            if trace.round == "rescue" and trace.correct and trace.hint and mode in ("cold", "both"):
                examples.append(_imitate(cold[0].prompt_ids, trace.token_ids, settings, trace.sampled_logprobs))
        if mode == "peer_trace" and group.failed_cold(peer):
            teachers = [t for t in group.of(round="cold") if t.correct and t.peer != peer]
            prompt_ids, kind = cold[0].prompt_ids, group.problem.kind
            texts = [(t, own_words(t.text, prompt_ids)) for t in _best_first(teachers)]
            whole = (text for t, text in texts if text == t.text or _same_answer(t, text, kind))
            encoded = (encode_completion(text) for text in whole)
            fitting = next((ids for ids in encoded if ids and (max_tokens is None or len(ids) <= max_tokens)), None)
            if fitting is not None:
                examples.append(_imitate(cold[0].prompt_ids, fitting, settings))
        if mode == "own_trace":
            for own in _best_first([t for t in cold if t.correct])[:1]:
                examples.append(_imitate(own.prompt_ids, own.token_ids, settings))
    return examples


def _same_answer(trace: Trace, text: str, kind: AnswerKind) -> bool:
    return extract_answer(text, kind) == trace.answer


def _policy(trace: Trace, settings: CreditSettings) -> Example:
    rescue = trace.round == "rescue"
    return Example(
        prompt_ids=trace.prompt_ids,
        token_ids=trace.token_ids,
        advantage=trace.advantage,
        weight=settings.weight if rescue else 1.0,
        rescue=rescue,
        sampled_logprobs=trace.sampled_logprobs,
    )


def _imitate(
    prompt_ids: list[int], token_ids: list[int], settings: CreditSettings, sampled: list[float] | None = None
) -> Example:
    return Example(
        prompt_ids=prompt_ids,
        token_ids=token_ids,
        weight=settings.imitation_weight,
        imitate=True,
        rescue=True,
        sampled_logprobs=sampled if settings.importance_bound is not None else None,
    )


def _best_first(traces: list[Trace]) -> list[Trace]:
    """Traces by falling reward; ties go to the earlier one."""
    return sorted(traces, key=known_reward, reverse=True)
