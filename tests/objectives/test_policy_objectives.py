"""Every objective against float64 loops over its paper's formula, and the properties the loop relies on."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from core_lightning.objectives import (
    CISPO,
    DAPO,
    GRPO,
    GSPO,
    SAPO,
    DrGRPO,
    Objective,
    Totals,
    kl_estimate,
)
from core_lightning.schedule import Linear
from core_lightning.schedule import Step as Switch
from token_batches import Step, each_objective, held_back, loss_oracle, random_step


@each_objective
@settings(max_examples=25)
@given(seed=st.integers(0, 10_000))
def test_loss_is_that_of_the_paper(objective: Objective, seed: int) -> None:
    step = random_step(seed)
    loss, _, _ = step.loss(objective)
    assert loss.dtype == torch.float32
    assert float(loss) == pytest.approx(
        loss_oracle(objective, step, step.logprobs.double().tolist()), rel=1e-4, abs=1e-5
    )


@each_objective
@pytest.mark.parametrize("seed", range(3))
def test_gradient_is_that_of_the_paper(objective: Objective, seed: int) -> None:
    step = random_step(seed, traces=4, tokens=5)
    gradient = step.loss(objective)[2].tolist()
    logprobs = step.logprobs.double().tolist()
    for i, row in enumerate(gradient):
        for t, got in enumerate(row):
            losses = []
            for shift in (1e-6, -1e-6):  # far narrower than the distance of any ratio from its clip edge
                moved = [list(r) for r in logprobs]
                moved[i][t] += shift
                losses.append(loss_oracle(objective, step, moved))
            assert got == pytest.approx((losses[0] - losses[1]) / 2e-6, rel=1e-3, abs=1e-6)


@pytest.mark.parametrize(
    ("ratio", "advantage", "slope"),
    [
        (1.0, 1.0, 1.0),
        (1.5, 1.0, 0.0),  # a good token already much likelier
        (0.5, 1.0, 0.5),  # a good token made unlikely is brought back
        (1.0, -1.0, -1.0),
        (0.5, -1.0, 0.0),  # a bad token already much less likely
        (1.5, -1.0, -1.5),  # a bad token made likelier is pushed down: no clip
    ],
)
@pytest.mark.parametrize(
    "objective", [GRPO(beta=0.0), DAPO(clip_high=0.2), DrGRPO(max_tokens=1), GSPO(0.0, clip_low=0.2, clip_high=0.2)]
)
def test_both_signs_clip_as_ppo_does(objective: Objective, ratio: float, advantage: float, slope: float) -> None:
    old = torch.tensor([[-1.0]])
    logprobs = (old + math.log(ratio)).requires_grad_()
    loss, report = objective(logprobs, old, None, torch.tensor([advantage]), torch.ones(1, 1))
    loss.backward()
    # d(ratio * A) / d(log p) = ratio * A where it is not clipped
    assert float(-logprobs.grad) == pytest.approx(slope, abs=1e-6)
    assert float(report["clip_fraction"]) == (slope == 0.0)


@each_objective
@settings(max_examples=25)
@given(seed=st.integers(0, 10_000), cuts=st.sets(st.integers(1, 5)))
def test_micro_batches_sum_to_the_step(objective: Objective, seed: int, cuts: set[int]) -> None:
    step = random_step(seed)
    loss, report, gradient = step.loss(objective)
    edges = [0, *sorted(cuts), 6]
    parts = [step.part(slice(a, b)) for a, b in pairwise(edges)]
    total = sum((Totals.of(p.mask) for p in parts), Totals(0, 0))
    assert total == Totals.of(step.mask)
    results = [p.loss(objective, total) for p in parts]
    torch.testing.assert_close(sum(r[0] for r in results), loss)
    torch.testing.assert_close(torch.cat([r[2] for r in results]), gradient)
    for name, value in report.items():
        torch.testing.assert_close(sum(r[1][name] for r in results), value)


@each_objective
@settings(max_examples=25)
@given(seed=st.integers(0, 10_000), order=st.permutations(range(6)))
def test_the_order_of_traces_does_not_matter(objective: Objective, seed: int, order: list[int]) -> None:
    step = random_step(seed)
    loss, _, gradient = step.loss(objective)
    permuted_loss, _, permuted_gradient = step.part(list(order)).loss(objective)
    torch.testing.assert_close(permuted_loss, loss)
    torch.testing.assert_close(permuted_gradient, gradient[list(order)])


@each_objective
def test_what_is_masked_never_leaks(objective: Objective) -> None:
    step = random_step(5)
    loss, report, gradient = step.loss(objective)
    for garbage in (math.nan, math.inf, -math.inf, 1e30):
        dirty = Step(**vars(step))
        for name in ("logprobs", "old", "ref", "entropy"):
            setattr(dirty, name, torch.where(step.mask, getattr(step, name), garbage))
        dirty.advantages = torch.where(step.mask.any(1), step.advantages, math.nan)
        dirty_loss, dirty_report, dirty_gradient = dirty.loss(objective)
        assert dirty_loss == loss
        assert dirty_report == report
        assert torch.equal(dirty_gradient, gradient)
    assert (gradient[~step.mask] == 0).all()


@each_objective
def test_zero_advantages_give_zero_gradient(objective: Objective) -> None:
    step = random_step(6)
    step.advantages = torch.zeros(6)
    loss, _, gradient = step.loss(objective, ref=None, entropy=step.entropy * 0)
    assert float(loss) == 0.0
    assert (gradient == 0).all()


@each_objective
def test_a_step_without_any_token_is_zero_not_nan(objective: Objective) -> None:
    step = random_step(7)
    step.mask = torch.zeros_like(step.mask)
    loss, report, gradient = step.loss(objective)
    assert float(loss) == 0.0
    assert (gradient == 0).all()
    assert set(map(float, report.values())) == {0.0}


@each_objective
def test_one_update_needs_no_old_logprobs(objective: Objective) -> None:
    step = random_step(8)
    loss, report, gradient = step.loss(objective, old=None)
    same_loss, same_report, same_gradient = step.loss(objective, old=step.logprobs)
    assert torch.equal(loss, same_loss)
    assert torch.equal(gradient, same_gradient)
    assert report == same_report
    assert float(report["ratio"]) == pytest.approx(1.0)
    assert float(report["approx_kl"]) == float(report["clip_fraction"]) == 0.0
    assert gradient.abs().sum() > 0


def test_at_ratio_one_all_token_mean_objectives_are_the_policy_gradient() -> None:
    step = random_step(9)
    expected = -torch.where(step.mask, step.advantages[:, None], 0.0) / step.mask.sum()
    for objective in (DAPO(), CISPO()):
        gradient = step.loss(objective, old=None, weights=None)[2]
        torch.testing.assert_close(gradient, expected)


@each_objective
def test_half_precision_inputs_are_computed_in_float32(objective: Objective) -> None:
    step = random_step(10)
    for name in ("logprobs", "old", "ref", "entropy", "advantages"):
        setattr(step, name, getattr(step, name).bfloat16())
    loss, report, gradient = step.loss(objective)
    for name in ("logprobs", "old", "ref", "entropy", "advantages"):
        setattr(step, name, getattr(step, name).float())
    exact_loss, exact_report, exact_gradient = step.loss(objective)
    assert loss == exact_loss
    assert report == exact_report
    torch.testing.assert_close(gradient.float(), exact_gradient.bfloat16().float())


@each_objective
def test_diagnostics_by_hand(objective: Objective) -> None:
    step = random_step(11, spread=1.0)
    _, report, _ = step.loss(objective)
    ratios, approx, kls, entropies, held = [], [], [], [], []
    for i, t in step.mask.nonzero().tolist():
        log_ratio = float(step.logprobs[i, t]) - float(step.old[i, t])
        d = float(step.ref[i, t]) - float(step.logprobs[i, t])
        ratios.append(math.exp(log_ratio))
        approx.append(math.exp(log_ratio) - 1 - log_ratio)
        kls.append({"k1": -d, "k2": d * d / 2, "k3": math.exp(d) - 1 - d}[objective.kl_estimator])
        entropies.append(float(step.entropy[i, t]))
        held.append(float(held_back(objective, step, i, t)))
    assert 0 < sum(held) < len(held)
    expected = {"ratio": ratios, "approx_kl": approx, "kl": kls, "entropy": entropies, "clip_fraction": held}
    for name, values in expected.items():
        assert float(report[name]) == pytest.approx(sum(values) / len(values), rel=1e-4)
        assert report[name].shape == ()
        assert not report[name].requires_grad


def test_without_reference_or_entropy_neither_is_reported() -> None:
    step = random_step(12)
    assert set(step.loss(DAPO(), ref=None, entropy=None)[1]) == {"ratio", "clip_fraction", "approx_kl"}
    assert "kl" in step.loss(GRPO(beta=0.0))[1]  # measured even where it is not trained on
    torch.testing.assert_close(step.loss(GRPO(beta=0.0))[2], step.loss(GRPO(), ref=None)[2])


def test_an_entropy_bonus_raises_entropy() -> None:
    step = random_step(13)
    entropy = step.entropy.clone().requires_grad_()
    loss, _ = GRPO(entropy_coef=0.1)(step.logprobs, None, None, step.advantages, step.mask, entropy=entropy)
    loss.backward()
    assert (entropy.grad[step.mask] < 0).all()
    with pytest.raises(ValueError, match="pass the entropy"):
        step.loss(GRPO(entropy_coef=0.1), entropy=None)


@each_objective
def test_scheduled_weights_are_those_of_the_moment(objective: Objective) -> None:
    step = random_step(15)
    scheduled = replace(objective, beta=Linear(0.0, 0.4), entropy_coef=Switch(0.1, 0.3))
    for progress, beta, entropy_coef in ((0.0, 0.0, 0.1), (0.25, 0.1, 0.1), (0.5, 0.2, 0.3), (1.0, 0.4, 0.3)):
        now = scheduled.at(progress)
        assert now == replace(objective, beta=beta, entropy_coef=entropy_coef)
        assert (now.needs_reference, now.needs_entropy) == (beta > 0, True)
        expected = loss_oracle(now, step, step.logprobs.double().tolist())
        assert float(step.loss(now)[0]) == pytest.approx(expected, rel=1e-4, abs=1e-5)
    assert objective.at(0.7) == objective
    assert scheduled.needs_reference
    with pytest.raises(ValueError, match=r"has a schedule: take its value with at\(progress\)"):
        step.loss(scheduled)


@pytest.mark.parametrize("name", ["beta", "entropy_coef"])
def test_one_weight_with_a_schedule_is_enough_to_refuse_a_loss(name: str) -> None:
    with pytest.raises(ValueError, match=r"has a schedule: take its value with at\(progress\)"):
        random_step(14).loss(GRPO(**{name: Linear(0.1, 0.2)}))


def test_an_entropy_is_asked_for_where_its_bonus_is_on() -> None:
    assert [GRPO(entropy_coef=c).needs_entropy for c in (0.0, 0.1, 1.0)] == [False, True, True]


def test_defaults_are_the_papers() -> None:
    """The sources are in the docstrings of the classes; no paper gives a temperature of rescues or a bound on weights."""
    assert (GRPO().beta, GRPO().clip_low, GRPO().clip_high) == (0.04, 0.2, 0.2)
    assert (GSPO().clip_low, GSPO().clip_high) == (3e-4, 4e-4)
    assert (DAPO().beta, DAPO().clip_low, DAPO().clip_high) == (0.0, 0.2, 0.28)
    assert DrGRPO().beta == 0.0
    assert (CISPO().beta, CISPO().clip_low, CISPO().clip_high) == (0.0, 1.0, 4.0)
    assert (SAPO().temperature_positive, SAPO().temperature_negative) == (1.0, 1.05)
    assert all(o().entropy_coef == 0.0 for o in (GRPO, GSPO, SAPO, DrGRPO, DAPO, CISPO))
    # What a method says of advantages is a part of it.
    assert DrGRPO.advantage == {"normalize_std": False}
    assert DAPO.advantage == {"mask_truncated": True, "mask_no_signal": True}
    assert not any(o.advantage for o in (GRPO, GSPO, SAPO, CISPO))


def test_both_ends_of_a_range_are_settings() -> None:
    for objective in (GRPO, GSPO, DAPO, CISPO):
        for clip_low in (0.0, 1.0):
            assert objective(clip_low=clip_low, clip_high=0.0).clip_low == clip_low
    assert DrGRPO(max_tokens=1).max_tokens == 1
    assert GRPO(off_policy_bound=1.0).off_policy_bound == 1.0


def test_a_schedule_below_zero_is_refused() -> None:
    for name in ("beta", "entropy_coef"):
        for schedule in (Linear(0.1, -0.1), Linear(-0.1, 0.1)):
            with pytest.raises(ValueError, match=rf"GRPO\.{name} must be a number >= 0"):
                GRPO(**{name: schedule})


def test_the_rescue_gate_of_sapo_is_wider() -> None:
    step = random_step(14, spread=0.0)
    step.logprobs = step.old + math.log(4.0)
    step.advantages = torch.ones(6)
    step.weights = torch.ones(6)
    wide, narrow = (step.loss(SAPO(), rescue=torch.full((6,), on), ref=None)[2].abs().sum() for on in (True, False))
    assert wide > narrow > 0


@given(st.floats(-5, 0), st.floats(-5, 0))
def test_kl_estimators_by_hand(logprob: float, ref: float) -> None:
    p, q = torch.tensor(logprob, dtype=torch.float64), torch.tensor(ref, dtype=torch.float64)
    assert float(kl_estimate(p, q, "k1")) == pytest.approx(logprob - ref)
    assert float(kl_estimate(p, q, "k2")) == pytest.approx((logprob - ref) ** 2 / 2)
    assert float(kl_estimate(p, q, "k3")) == pytest.approx(math.exp(ref - logprob) - (ref - logprob) - 1, abs=1e-12)
    assert float(kl_estimate(p, q)) >= 0


def test_k1_and_k3_average_to_the_true_divergence_and_k2_has_its_gradient() -> None:
    policy = torch.tensor([0.3, -0.2, 0.9, 0.1], dtype=torch.float64, requires_grad=True)
    log_p, log_q = policy.log_softmax(0), torch.tensor([0.1, 0.4, 0.2, 0.3], dtype=torch.float64).log_softmax(0)
    p = log_p.exp()
    true = (p * (log_p - log_q)).sum()
    (true_gradient,) = torch.autograd.grad(true, policy, retain_graph=True)
    for estimator, is_mean, is_gradient in (("k1", True, False), ("k2", False, True), ("k3", True, False)):
        mean = (p.detach() * kl_estimate(log_p, log_q, estimator)).sum()  # expectation over samples of the policy
        (gradient,) = torch.autograd.grad(mean, policy, retain_graph=True)
        assert torch.allclose(mean, true) == is_mean
        assert torch.allclose(gradient, true_gradient) == is_gradient


@pytest.mark.parametrize(
    ("wrong", "setting"),
    [
        (lambda: GRPO(beta=-0.1), "GRPO.beta"),
        (lambda: DAPO(beta=math.nan), "DAPO.beta"),
        (lambda: GSPO(kl_estimator="k4"), "GSPO.kl_estimator"),
        (lambda: SAPO(entropy_coef=math.inf), "SAPO.entropy_coef"),
        (lambda: GRPO(clip_low=1.5), "clip_low"),
        (lambda: GRPO(clip_low=-0.1), "clip_low"),
        (lambda: GRPO(clip_high=-0.1), "clip_high"),
        (lambda: CISPO(clip_high=-1.0), "clip_high"),
        (lambda: CISPO(clip_high=math.inf), "clip_high"),
        (lambda: CISPO(clip_low=-0.1), "clip_low"),
        (lambda: CISPO(clip_low=1.1), "clip_low"),
        (lambda: SAPO(temperature_rescue=0.0), "SAPO.temperature_rescue"),
        (lambda: DrGRPO(max_tokens=0), "DrGRPO.max_tokens"),
    ],
)
def test_a_setting_out_of_range_is_refused(wrong: object, setting: str) -> None:
    with pytest.raises(ValueError, match=setting):
        wrong()
