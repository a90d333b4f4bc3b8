"""Deployable team answers: rules that choose among the peers' answers without knowing the gold one.

Answers are compared as strings, so hand in what :func:`core_lightning.answers.ballots` gives ("1/2" and "0.5" are two
candidates here); None, a completion without an answer, never votes. Ties are broken uniformly at random, and what is
returned is the expectation over that draw: no random number is involved.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from math import prod

import torch
from torch import Tensor

from core_lightning.metrics.plotted import ShareMetric


def _vote(answers: Sequence[str | None]) -> dict[str, float]:
    """Probability that each answer wins the plurality vote, uniform over ties; empty when nobody votes."""
    votes = Counter(answer for answer in answers if answer is not None)
    winners = [answer for answer, count in votes.items() if count == max(votes.values())]
    return {answer: 1 / len(winners) for answer in winners}


def _correctness(answers: Sequence[str | None], correct: Sequence[bool]) -> dict[str, float]:
    """Share of an answer's samples that were judged correct: 0 or 1 for any verifier that reads only the answer."""
    judged: dict[str, list[bool]] = {}
    for answer, is_right in zip(answers, correct, strict=True):
        if answer is not None:
            judged.setdefault(answer, []).append(is_right)
    return {answer: sum(rights) / len(rights) for answer, rights in judged.items()}


def majority_vote(answers: Sequence[str | None], correct: Sequence[bool]) -> float:
    """Expected correctness of the most frequent answer of one problem.

    Self-consistency (Wang et al. 2022, arXiv 2203.11171) over all peers' samples.

    Args:
        answers: Canonical answers of all M*k samples, None where there is none.
        correct: Whether each of them is correct.

    Returns:
        A probability; 0.0 when no sample has an answer.

    Raises:
        ValueError: If the two differ in length.

    Example:
        >>> majority_vote(["3", "3", "4", None], [True, True, False, False])
        1.0
        >>> majority_vote(["3", "4"], [True, False])
        0.5
    """
    correctness = _correctness(answers, correct)
    return sum(probability * correctness[answer] for answer, probability in _vote(answers).items())


def agreement_gate(answers: Sequence[Sequence[str | None]], correct: Sequence[Sequence[bool]]) -> tuple[float, float]:
    """Accept the answer of one problem when every peer's own majority answer is the same; abstain otherwise.

    It abstains rather than falling back on one peer: "agree, else the first peer's answer" is the first peer's answer
    always, a baseline in disguise.

    Args:
        answers: Canonical answers by peer, ``[peers][samples]``, None where there is none.
        correct: Whether each of them is correct, same shape.

    Returns:
        ``(accepted, right)``: the probability that the peers agree, and that they agree on a correct answer.

    Raises:
        ValueError: If the two differ in shape.

    Example:
        >>> agreement_gate([["3", "3"], ["3", None]], [[True, True], [True, False]])
        (1.0, 1.0)
        >>> agreement_gate([["3", "3"], ["3", "4"]], [[True, True], [True, False]])
        (0.5, 0.5)
    """
    correctness = _correctness(
        [answer for peer in answers for answer in peer], [is_right for peer in correct for is_right in peer]
    )
    votes = [_vote(peer) for peer in answers]
    agreed = {answer: prod(vote.get(answer, 0.0) for vote in votes) for answer in votes[0]}
    return sum(agreed.values()), sum(probability * correctness[answer] for answer, probability in agreed.items())


class MajorityVote(ShareMetric):
    """Mean accuracy of the majority vote over problems, see :func:`majority_vote`.

    Example:
        >>> metric = MajorityVote()
        >>> metric.update([["3", "3", "4", None], ["3", "4"]], [[True, True, False, False], [True, False]])
        >>> metric.compute()
        tensor(0.7500, dtype=torch.float64)
    """

    right: Tensor
    problems: Tensor

    def __init__(self, **kwargs: object) -> None:
        super().__init__(**kwargs)
        self.add_state("right", torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("problems", torch.zeros((), dtype=torch.long), dist_reduce_fx="sum")

    def update(self, answers: Sequence[Sequence[str | None]], correct: Sequence[Sequence[bool]]) -> None:
        """Add problems: all peers' samples of each, ``[problems][samples]``."""
        for problem_answers, problem_correct in zip(answers, correct, strict=True):
            self.right += majority_vote(problem_answers, problem_correct)
            self.problems += 1

    def compute(self) -> Tensor:
        """Mean over problems, NaN when there were none."""
        return self.right / self.problems


class AgreementGate(ShareMetric):
    """How often all peers agree, and how often they are right when they do, see :func:`agreement_gate`.

    Example:
        >>> metric = AgreementGate()
        >>> metric.update([[["3"], ["3"]], [["3"], ["4"]]], [[[True], [True]], [[True], [False]]])
        >>> {name: value.item() for name, value in metric.compute().items()}
        {'accuracy': 1.0, 'coverage': 0.5}
    """

    accepted: Tensor
    right: Tensor
    problems: Tensor

    def __init__(self, **kwargs: object) -> None:
        super().__init__(**kwargs)
        self.add_state("accepted", torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("right", torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("problems", torch.zeros((), dtype=torch.long), dist_reduce_fx="sum")

    def update(
        self, answers: Sequence[Sequence[Sequence[str | None]]], correct: Sequence[Sequence[Sequence[bool]]]
    ) -> None:
        """Add problems: every peer's samples of each, ``[problems][peers][samples]``."""
        for problem_answers, problem_correct in zip(answers, correct, strict=True):
            accepted, right = agreement_gate(problem_answers, problem_correct)
            self.accepted += accepted
            self.right += right
            self.problems += 1

    def compute(self) -> dict[str, Tensor]:
        """``accuracy`` among accepted problems (NaN when none was), and ``coverage``, the share that was accepted."""
        return {"accuracy": self.right / self.accepted, "coverage": self.accepted / self.problems}
