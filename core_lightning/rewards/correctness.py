"""Correctness with partial credit for an answer that overlaps the gold answer."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from core_lightning.records import Group, Problem, Trace
from core_lightning.rewards.term import RewardContext, RewardTerm

# Numbers, words and operators; LaTeX braces and backslashes would make any two fractions look alike.
# A sign is a part of its number: alone it would pay for every negative answer.
_TOKEN = re.compile(r"(?:(?<![^\s(])-)?\d+(?:\.\d+)?|[^\W\d_]+|[-+*/^=<>%]")
_THOUSANDS = re.compile(r"(?<=\d),(?=\d{3}(?!\d))")


def answer_overlap(answer: str | None, gold: str) -> float:
    """Token F1 of an answer and the gold answer, in [0, 1]; 0 without an answer.

    Tokens are numbers, words (casefolded) and operators, counted with multiplicity, as in the F1 of SQuAD
    (Rajpurkar et al. 2016).

    >>> answer_overlap("18 eggs", "18")
    0.6666666666666666
    >>> answer_overlap("-12", "-1"), answer_overlap("x - 12", "x - 1")
    (0.0, 0.6666666666666666)
    """
    ours, theirs = (Counter(_TOKEN.findall(_THOUSANDS.sub("", text or "").casefold())) for text in (answer, gold))
    shared = (ours & theirs).total()
    return 2 * shared / (ours.total() + theirs.total()) if shared else 0.0


def correctness_reward(trace: Trace, problem: Problem, alpha: float) -> float:
    """``1[correct] + alpha * overlap``, in [0, 1 + alpha]."""
    return float(trace.correct) + alpha * answer_overlap(trace.answer, problem.answer)


@dataclass(frozen=True)
class Correctness(RewardTerm):
    """Whether the answer is right, plus partial credit for its overlap with the gold answer (CORE, arXiv 2601.21600).

    The paper leaves the overlap open; here it is the token F1 of the extracted answer.
    """

    alpha: float = 0.0
    """Weight of the overlap (published: 0.3); 0 leaves right or wrong, below 1 right beats wrong."""

    def __post_init__(self) -> None:
        if not 0.0 <= self.alpha < 1.0:
            raise ValueError(f"Correctness.alpha must be in [0, 1), got {self.alpha}")

    def __call__(self, group: Group, context: RewardContext) -> Sequence[float | None]:
        """``1[correct] + alpha * overlap`` of every trace."""
        return [correctness_reward(trace, group.problem, self.alpha) for trace in group]
