"""Which correct rescues are faithful: derived, not copied from what the hint implies.

The hint implies the answer, so a hinted peer often reaches it over a wrong step, and the check of the answer cannot see
that. Imitated under the plain prompt, such a step is the largest gradient of a batch and teaches what is false (measured in
``benchmarks/learning``). So a rescue is imitated only if nothing in it looks like an accident of sampling, every equation
written in it holds, and it came to an end: one that says its answer again and again until the token limit teaches that.
Nor is one imitated that says its answer alone, because the derivation stands in the hint: it teaches to guess.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from core_lightning.answers import false_equations
from core_lightning.protocol.hints import derives
from core_lightning.records import Group, Problem, Trace


@dataclass(frozen=True)
class FaithfulSettings:
    """What makes a correct rescue faithful."""

    min_probability: float = 0.1
    """Every token must have had at least this probability under the prompt with the hint, at the temperature it was sampled
    at. 0 asks for none."""
    equations: bool = True
    """Every equation of numbers in the trace that can be read must be true."""
    finished: bool = True
    """The trace must have ended by itself, not at the token limit."""
    derivation: bool = True
    """The trace must hold something besides its answer. With the derivation in the hint, a peer soon says the number alone,
    and then does so without a hint, too."""

    def __post_init__(self) -> None:
        if not 0 <= self.min_probability < 1:
            raise ValueError(f"credit.faithful.min_probability is {self.min_probability}; set it in [0, 1)")


def find_flaw(trace: Trace, settings: FaithfulSettings, problem: Problem) -> str | None:
    """Why a correct rescue is not faithful.

    Args:
        trace: A trace of the rescue round, with the log-probabilities it was sampled at.
        settings: What is asked of it.
        problem: What it solves.

    Returns:
        One short phrase for tables and logs: ``cut off``, ``unlikely token (0.02)``, ``false equation: 9+9+0=15`` or
        ``no derivation``; None when the trace is faithful.

    Raises:
        ValueError: The sampler recorded no log-probabilities, so that they cannot be checked.
    """
    if settings.finished and trace.truncated:
        return "cut off"
    if settings.min_probability > 0:
        if trace.sampled_logprobs is None:
            raise ValueError(
                "the sampler recorded no log-probabilities; set credit.faithful.min_probability to 0, or use an engine "
                "that records them"
            )
        least = min(trace.sampled_logprobs, default=0.0)
        if least < math.log(settings.min_probability):
            return f"unlikely token ({math.exp(least):.2g})"
    if settings.equations and (false := false_equations(trace.text)):
        return f"false equation: {false[0]}"
    if settings.derivation and not derives(trace.text, problem):
        return "no derivation"
    return None


def mark_flaws(groups: Iterable[Group], settings: FaithfulSettings) -> None:
    """Set ``flaw`` of every correct rescue of the groups."""
    for group in groups:
        for peer in group.peers():
            for trace in group.rescues(peer):
                trace.flaw = find_flaw(trace, settings, group.problem)


def likeliest(traces: Iterable[Trace]) -> Trace | None:
    """The trace with the highest mean log-probability per token under its own prompt; ties go to the earlier one."""
    return max(traces, key=_mean_logprob, default=None)


def _mean_logprob(trace: Trace) -> float:
    values = trace.sampled_logprobs or []
    return sum(values) / len(values) if values else -math.inf
