"""Random steps for the objective tests, and the formulas of the papers as plain float64 loops."""

from __future__ import annotations

import math
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from core_lightning.objectives import CISPO, DAPO, GRPO, GSPO, SAPO, DrGRPO, Objective, Totals

OBJECTIVES = [
    GRPO(entropy_coef=0.01),
    GRPO(beta=0.1, kl_estimator="k1", clip_low=0.1, clip_high=0.3),
    GSPO(beta=0.04, clip_low=0.1, clip_high=0.1),
    SAPO(kl_estimator="k2"),
    DrGRPO(max_tokens=9),
    DAPO(),
    CISPO(clip_low=0.2, clip_high=0.3),
]
each_objective = pytest.mark.parametrize("objective", OBJECTIVES, ids=lambda o: type(o).__name__)


@dataclass
class Step:
    """What an objective is called with."""

    logprobs: Tensor
    old: Tensor
    ref: Tensor
    advantages: Tensor
    mask: Tensor
    weights: Tensor
    rescue: Tensor
    entropy: Tensor

    def part(self, rows: slice | Tensor | list[int]) -> Step:
        return Step(**{name: value[rows] for name, value in vars(self).items()})

    def loss(self, objective: Objective, total: Totals | None = None, **change: Tensor | None) -> tuple:
        """Loss, diagnostics, and the gradient with respect to the log-probabilities."""
        logprobs = self.logprobs.clone().requires_grad_()
        extra = {"weights": self.weights, "rescue": self.rescue, "entropy": self.entropy, "total": total}
        old, ref = change.pop("old", self.old), change.pop("ref", self.ref)
        loss, report = objective(logprobs, old, ref, self.advantages, self.mask, **(extra | change))
        (gradient,) = torch.autograd.grad(loss, logprobs)
        return loss.detach(), report, gradient


def random_step(seed: int, traces: int = 6, tokens: int = 7, spread: float = 0.4) -> Step:
    """Ragged traces (one of them empty), both signs of the advantage, ratios inside and outside of the clip range."""
    draw = torch.Generator().manual_seed(seed)
    old = -3 * torch.rand(traces, tokens, generator=draw)
    lengths = torch.randint(1, tokens + 1, (traces,), generator=draw)
    lengths[0], lengths[-1] = tokens, 0 if traces > 2 else lengths[-1]
    return Step(
        logprobs=old + spread * torch.randn(traces, tokens, generator=draw),
        old=old,
        ref=old + 0.3 * torch.randn(traces, tokens, generator=draw),
        advantages=torch.randn(traces, generator=draw),
        mask=torch.arange(tokens) < lengths[:, None],
        weights=torch.where(torch.rand(traces, generator=draw) < 0.5, 0.8, 1.0),
        rescue=torch.rand(traces, generator=draw) < 0.5,
        entropy=torch.rand(traces, tokens, generator=draw),
    )


def token_value(objective: Objective, step: Step, i: int, t: int, logprobs: list[list[float]]) -> float:
    """Surrogate of one token, written from each paper's formula for one number at a time."""
    advantage = float(step.advantages[i])
    old = step.old.tolist()
    counted = [u for u in range(step.mask.shape[1]) if step.mask[i, u]]
    ratio = math.exp(logprobs[i][t] - old[i][t])
    if isinstance(objective, GSPO):
        ratio = math.prod(math.exp(logprobs[i][u] - old[i][u]) for u in counted) ** (1 / len(counted))
    if isinstance(objective, GRPO):
        low, high = 1 - objective.clip_low, 1 + objective.clip_high
        return min(ratio * advantage, min(max(ratio, low), high) * advantage)
    if isinstance(objective, SAPO):
        temperature = objective.temperature_positive if advantage > 0 else objective.temperature_negative
        if step.rescue[i]:
            temperature = objective.temperature_rescue
        return 4 / temperature / (1 + math.exp(-temperature * (ratio - 1))) * advantage
    raise NotImplementedError(f"{type(objective).__name__}: the weight of CISPO has no gradient, see cispo_value")


def cispo_value(objective: CISPO, step: Step, i: int, t: int, logprobs: list[list[float]]) -> float:
    """CISPO with the weight frozen at the step's own log-probabilities, so that differences see no gradient of it."""
    ratio = math.exp(float(step.logprobs[i, t]) - float(step.old[i, t]))
    weight = min(max(ratio, 1 - objective.clip_low), 1 + objective.clip_high)
    return weight * float(step.advantages[i]) * logprobs[i][t]


def held_back(objective: Objective, step: Step, i: int, t: int) -> bool:
    """Whether the surrogate is flatter there than at ratio 1: less than half the slope, by differences."""
    if isinstance(objective, CISPO):
        ratio = math.exp(float(step.logprobs[i, t]) - float(step.old[i, t]))
        return not 1 - objective.clip_low <= ratio <= 1 + objective.clip_high
    logprobs = step.logprobs.double().tolist()
    values = []
    for shift in (1e-6, -1e-6):
        moved = [[log + shift for log in row] for row in logprobs]
        values.append(token_value(objective, step, i, t, moved))
    ratio = math.exp(logprobs[i][t] - float(step.old[i, t]))
    if isinstance(objective, GSPO):
        counted = [u for u in range(step.mask.shape[1]) if step.mask[i, u]]
        ratio = math.exp(sum(logprobs[i][u] - float(step.old[i, u]) for u in counted) / len(counted))
    return abs(values[0] - values[1]) / 2e-6 < 0.5 * ratio * abs(float(step.advantages[i]))


def loss_oracle(
    objective: Objective, step: Step, logprobs: list[list[float]], sampled: list[list[float]] | None = None
) -> float:
    """The whole loss in float64 loops; with ``sampled``, log-probabilities under another distribution drawn from."""
    value_of = cispo_value if isinstance(objective, CISPO) else token_value
    traces = [[t for t in range(step.mask.shape[1]) if step.mask[i, t]] for i in range(step.mask.shape[0])]
    n_traces, n_tokens = sum(bool(t) for t in traces), sum(map(len, traces))
    loss = 0.0
    for i, counted in enumerate(traces):
        for t in counted:
            d = float(step.ref[i, t]) - logprobs[i][t]
            kl = {"k1": -d, "k2": d * d / 2, "k3": math.exp(d) - d - 1}[objective.kl_estimator]
            value = value_of(objective, step, i, t, logprobs)
            if sampled is not None:
                value *= min(math.exp(float(step.old[i, t]) - sampled[i][t]), objective.off_policy_bound)
            value += objective.entropy_coef * float(step.entropy[i, t]) - objective.beta * kl
            if isinstance(objective, DrGRPO):
                value /= objective.max_tokens * n_traces
            elif isinstance(objective, (DAPO, CISPO)):
                value /= n_tokens
            else:
                value /= len(counted) * n_traces
            loss -= float(step.weights[i]) * value
    return loss
