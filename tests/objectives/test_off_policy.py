"""Samples of another distribution: weights that make up for it, against loops and against whole expectations."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from core_lightning.objectives import CISPO, GRPO, GSPO, Objective, off_policy_report
from core_lightning.objectives.off_policy import truncated_importance
from token_batches import each_objective, loss_oracle, random_step


def drawn_from(seed: int, old: torch.Tensor, spread: float = 0.5) -> torch.Tensor:
    return old + spread * torch.randn(old.shape, generator=torch.Generator().manual_seed(seed + 1))


@each_objective
@settings(max_examples=20)
@given(seed=st.integers(0, 10_000))
def test_every_objective_weighs_its_tokens(objective: Objective, seed: int) -> None:
    objective = replace(objective, off_policy_bound=1.2)
    step = random_step(seed)
    sampled = drawn_from(seed, step.old)
    loss, _, _ = step.loss(objective, sampled_logprobs=torch.where(step.mask, sampled, torch.nan))
    expected = loss_oracle(objective, step, step.logprobs.double().tolist(), sampled.double().tolist())
    assert float(loss) == pytest.approx(expected, rel=1e-4, abs=1e-5)


@each_objective
def test_samples_of_the_policy_itself_change_nothing(objective: Objective) -> None:
    step = random_step(3)
    loss, _, gradient = step.loss(objective)
    weighed, _, weighed_gradient = step.loss(objective, sampled_logprobs=step.old)
    torch.testing.assert_close(weighed, loss)
    torch.testing.assert_close(weighed_gradient, gradient)


@pytest.mark.parametrize("objective", [GRPO(beta=0.0, off_policy_bound=1e6), CISPO(off_policy_bound=1e6), GSPO(0.0, off_policy_bound=1e6)])
@pytest.mark.parametrize("nucleus", [False, True])
def test_the_gradient_is_that_of_the_policy_whoever_drew(objective: Objective, nucleus: bool) -> None:
    """All tokens of a small vocabulary, each as often as q draws it: the sum is the expectation under p, exactly."""
    logits = torch.randn(5, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    advantages = torch.tensor([1.0, -0.5, 2.0, 0.3, -1.0])
    q = torch.softmax(logits + torch.tensor([0.3, -0.4, 0.1, 0.2, -0.1]), -1)
    allowed = torch.ones(5)
    if nucleus:  # what the nucleus leaves out is never drawn, so it is missing from the sum, and nothing else is
        allowed[q.argmin()] = 0
        q = q * allowed / (q * allowed).sum()
    leaf = logits.clone().requires_grad_()
    logprobs = torch.log_softmax(leaf, -1)
    (expected,) = torch.autograd.grad(-(logprobs.exp() * advantages * allowed * logprobs.detach().exp().new_ones(5)).sum(), leaf)
    leaf = logits.clone().requires_grad_()
    kept = allowed.bool()
    loss, _ = objective(
        torch.log_softmax(leaf, -1)[kept, None], None, None, advantages[kept], torch.ones(int(kept.sum()), 1),
        sampled_logprobs=q.log()[kept, None], weights=q[kept] * kept.sum(),
    )  # fmt: skip
    (gradient,) = torch.autograd.grad(loss, leaf)
    torch.testing.assert_close(gradient, expected, rtol=1e-5, atol=1e-6)


def test_a_masked_token_weighs_one_whatever_it_holds() -> None:
    logprobs, sampled = torch.tensor([[0.5, math.nan, -1.0]]).log(), torch.tensor([[-2.0, 0.0, math.nan]])
    weights = truncated_importance(logprobs, sampled, torch.tensor([[1, 0, 0]]), bound=100.0)
    assert weights.tolist() == [[pytest.approx(0.5 * math.exp(2)), 1.0, 1.0]]


def test_the_report_counts_by_hand() -> None:
    ratios = [0.5] * 50 + [1.0] * 148 + [3.0, 5.0]
    report = off_policy_report(torch.tensor(ratios).log(), bound=2.0)
    assert report["off_policy_ratio"] == pytest.approx((25 + 148 + 8) / 200)
    assert report["off_policy_ratio_p99"] == pytest.approx(1.0)  # two of 200 lie above
    assert report["off_policy_truncated"] == pytest.approx(0.01)
    assert off_policy_report(torch.empty(0), 2.0) == {}


@given(st.integers(1, 300))
def test_the_99th_percentile_is_the_least_ratio_that_99_of_100_do_not_exceed(n: int) -> None:
    ratios = torch.arange(1, n + 1, dtype=torch.float64)
    expected = next(r for r in range(1, n + 1) if 100 * r >= 99 * n)
    assert off_policy_report(ratios.log().flip(0), 2.0)["off_policy_ratio_p99"] == pytest.approx(expected)


def test_a_ratio_at_the_bound_is_not_above_it() -> None:
    assert off_policy_report(torch.zeros(3), bound=1.0)["off_policy_truncated"] == 0.0


@pytest.mark.parametrize(("mode", "own", "other"), [("auto", False, True), ("always", True, True), ("never", False, False)])
def test_which_engines_are_corrected(mode: str, own: bool, other: bool) -> None:
    objective = GRPO(off_policy=mode)  # type: ignore[arg-type]
    assert (objective.corrects(own_engine=True), objective.corrects(own_engine=False)) == (own, other)


def test_settings_that_cannot_work() -> None:
    with pytest.raises(ValueError, match="off_policy must be auto, always or never, got 'on'"):
        GRPO(off_policy="on")  # type: ignore[arg-type]
    for bound in (0.5, math.inf, math.nan):
        with pytest.raises(ValueError, match="off_policy_bound must be a number >= 1"):
            GRPO(off_policy_bound=bound)
