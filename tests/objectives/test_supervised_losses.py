"""Likelihood losses against loops, and the bound on the importance weight."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from core_lightning.objectives import CISPO, DAPO, GRPO, GSPO, SAPO, DrGRPO, Totals, bounded_importance_nll, nll
from token_batches import Step, random_step


def loop(step: Step, bound: float | None, level: str) -> tuple[float, list[list[float]]]:
    """Loss and gradient (minus weight times share) in float64."""
    rows, tokens = step.mask.shape
    gradient = [[0.0] * tokens for _ in range(rows)]
    loss, traces = 0.0, int(step.mask.any(1).sum())
    for i in range(rows):
        counted = [t for t in range(tokens) if step.mask[i, t]]
        logs = {t: float(step.logprobs[i, t]) - float(step.old[i, t]) for t in counted}
        for t in counted:
            log_ratio = logs[t] if level == "token" else sum(logs.values()) / len(logs)
            importance = 1.0 if bound is None else min(math.exp(log_ratio), bound)
            share = float(step.weights[i]) * importance / len(counted) / traces
            loss -= share * float(step.logprobs[i, t])
            gradient[i][t] = -share
    return loss, gradient


@given(st.integers(0, 10_000))
def test_nll_is_a_mean_over_traces_of_token_means(seed: int) -> None:
    step = random_step(seed)
    logprobs = step.logprobs.clone().requires_grad_()
    loss, report = nll(logprobs, step.mask, step.weights)
    expected_loss, expected_gradient = loop(step, None, "token")
    loss.backward()
    assert loss.item() == pytest.approx(expected_loss, rel=1e-4)
    torch.testing.assert_close(logprobs.grad, torch.tensor(expected_gradient))
    assert float(report["nll"]) == pytest.approx(float(-step.logprobs[step.mask].mean()), rel=1e-4)


@given(st.integers(0, 10_000), st.sampled_from([0.01, 0.3, 0.9]))
def test_a_floor_bounds_the_pull_of_an_unlikely_token(seed: int, floor: float) -> None:
    """The gradient with respect to the probability is that of ``-p / max(p, floor)``, the denominator held still."""
    step = random_step(seed, spread=2.0)
    logprobs = step.logprobs.double().requires_grad_()
    loss, report = nll(logprobs, step.mask, step.weights, floor=floor)
    loss.backward()
    p = step.logprobs.double().exp()
    lengths, traces = step.mask.sum(1, keepdim=True).clamp_min(1), step.mask.any(1).sum()
    expected = -step.weights[:, None] * (p / p.clamp_min(floor)) / lengths / traces
    torch.testing.assert_close(logprobs.grad, torch.where(step.mask, expected, 0.0), rtol=1e-5, atol=1e-7)
    assert float(report["floored"]) == pytest.approx(float((p[step.mask] < floor).double().mean()), abs=1e-6)


def test_without_a_floor_one_false_token_ruins_what_many_right_ones_taught() -> None:
    """A peer says A and rarely B; of 20 imitated traces 19 hold A and one, unfaithful, a token of probability 1e-6."""
    shares = {}
    for floor in (0.0, 0.05):
        logits = torch.tensor([6.0, 4.0, -8.0], requires_grad=True)
        targets = torch.tensor([[0]] * 19 + [[2]])
        optimizer = torch.optim.SGD([logits], lr=0.5)
        for _ in range(400):
            logprobs = logits.log_softmax(0)[targets]
            loss, _ = nll(logprobs, torch.ones_like(targets), floor=floor)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        shares[floor] = logits.softmax(0)[2].item()
    assert shares[0.0] > 0.03  # likelihood gives the false token its share of the data
    assert shares[0.05] < 1e-4


@pytest.mark.parametrize("objective", [GRPO(), DAPO(), DrGRPO(max_tokens=50), GSPO(), SAPO(), CISPO()], ids=lambda o: type(o).__name__)
def test_imitation_weighs_per_token_what_the_policy_weighs(objective: GRPO) -> None:
    """The gradient of an imitated token equals that of a policy token of advantage 1 in the same step."""
    mask = torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0]]).bool()
    total = Totals(traces=5.0, tokens=17.0)
    logprobs = -torch.rand(2, 4, generator=torch.Generator().manual_seed(0))
    imitated, followed = logprobs.clone().requires_grad_(), logprobs.clone().requires_grad_()
    nll(imitated, mask, total=total, token_share=objective.token_share)[0].backward()
    objective(followed, None, None, torch.ones(2), mask, total=total)[0].backward()
    # SAPO's gate halves nothing at ratio 1 but scales by its slope there; the ratio between traces is what must agree.
    ratio = imitated.grad[mask] / followed.grad[mask]
    torch.testing.assert_close(ratio, ratio[:1].expand_as(ratio))
    assert 0.25 <= float(ratio[0]) <= 4


@given(st.integers(0, 10_000), st.sampled_from([0.7, 1.0, 2.0]), st.sampled_from(["token", "sequence"]))
def test_the_importance_weight_is_bounded_and_has_no_gradient(seed: int, bound: float, level: str) -> None:
    step = random_step(seed, spread=1.0)
    logprobs = step.logprobs.clone().requires_grad_()
    loss, report = bounded_importance_nll(logprobs, step.old, step.mask, bound, level, step.weights)
    expected_loss, expected_gradient = loop(step, bound, level)
    loss.backward()
    assert loss.item() == pytest.approx(expected_loss, rel=1e-4, abs=1e-5)
    torch.testing.assert_close(logprobs.grad, torch.tensor(expected_gradient), rtol=1e-4, atol=1e-6)
    assert 0 < float(report["importance"]) <= bound * (1 + 1e-6)


def test_the_share_at_the_bound_is_reported() -> None:
    logprobs, sampled = torch.tensor([[-1.0, -1.0, -3.0, 0.0]]), torch.tensor([[-2.0, -1.0, -1.0, 0.0]])
    mask = torch.tensor([[1, 1, 1, 0]])
    report = bounded_importance_nll(logprobs, sampled, mask)[1]
    assert float(report["bounded"]) == pytest.approx(1 / 3)
    assert float(report["importance"]) == pytest.approx((1 + 1 + math.exp(-2)) / 3)


def test_a_huge_bound_on_policy_is_plain_nll() -> None:
    step = random_step(1)
    plain = nll(step.logprobs, step.mask)[0]
    torch.testing.assert_close(bounded_importance_nll(step.logprobs, step.logprobs, step.mask, 1e9)[0], plain)


@given(st.integers(0, 10_000), st.sampled_from(["plain", "token", "sequence"]))
def test_micro_batches_sum_to_the_step(seed: int, level: str) -> None:
    step = random_step(seed)

    def run(part: Step, total: Totals | None) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        if level == "plain":
            return nll(part.logprobs, part.mask, part.weights, total)
        return bounded_importance_nll(part.logprobs, part.old, part.mask, 1.0, level, part.weights, total)

    loss, report = run(step, None)
    parts = [run(step.part(slice(i, i + 1)), Totals.of(step.mask)) for i in range(6)]
    torch.testing.assert_close(sum(p[0] for p in parts), loss)
    for name, value in report.items():
        torch.testing.assert_close(sum(p[1][name] for p in parts), value)


@pytest.mark.parametrize("garbage", [math.nan, math.inf, -math.inf])
def test_what_is_masked_never_leaks(garbage: float) -> None:
    step = random_step(2)
    dirty = torch.where(step.mask, step.logprobs, garbage)
    dirty_old = torch.where(step.mask, step.old, garbage)
    assert nll(dirty, step.mask)[0] == nll(step.logprobs, step.mask)[0]
    for level in ("token", "sequence"):
        clean_loss, clean_report = bounded_importance_nll(step.logprobs, step.old, step.mask, level=level)
        loss, report = bounded_importance_nll(dirty, dirty_old, step.mask, level=level)
        assert loss == clean_loss
        assert report == clean_report


def test_one_token_is_its_own_mean() -> None:
    logprobs, mask = torch.tensor([[math.log(0.25)]]), torch.ones(1, 1, dtype=torch.bool)
    loss, report = nll(logprobs, mask, floor=0.5)
    assert (float(loss), float(report["nll"])) == (pytest.approx(math.log(4) / 2), pytest.approx(math.log(4)))
    assert float(report["floored"]) == 1.0
    _, report = bounded_importance_nll(logprobs, torch.tensor([[math.log(0.125)]]), mask, bound=1.0)
    assert (float(report["importance"]), float(report["bounded"])) == (1.0, 1.0)  # twice as likely as when it was drawn


def test_a_wrong_bound_or_level_is_refused() -> None:
    step = random_step(3)
    with pytest.raises(ValueError, match="bound must be > 0"):
        bounded_importance_nll(step.logprobs, step.old, step.mask, 0.0)
    with pytest.raises(ValueError, match="token or sequence"):
        bounded_importance_nll(step.logprobs, step.old, step.mask, level="trace")
