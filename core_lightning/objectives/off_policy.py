"""Samples of a slightly different distribution than the policy's: how much each token of them should count."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor

OffPolicy = Literal["auto", "always", "never"]


def truncated_importance(logprobs: Tensor, sampled_logprobs: Tensor, mask: Tensor, bound: float) -> Tensor:
    """``min(p / q, bound)`` of every token: what makes a mean over samples of q one over the policy p.

    The bound trades a little bias for a bounded variance (truncated importance sampling, Ionides 2008; for rollouts of
    another engine, Yao et al. 2025, "Your efficient RL framework secretly brings you off-policy RL training").

    Args:
        logprobs: Under the policy before its update, ``Tensor[traces, tokens]``.
        sampled_logprobs: Under the distribution the tokens were drawn from, ``Tensor[traces, tokens]``.
        mask: 1 for tokens that count, ``Tensor[traces, tokens]``; others may hold anything.
        bound: Largest weight.

    Returns:
        ``float32 Tensor[traces, tokens]`` without gradient, 1 where masked.
    """
    log_ratio = torch.where(mask.bool(), logprobs.float() - sampled_logprobs.float(), 0.0).detach()
    return log_ratio.clamp(max=math.log(bound)).exp()  # the minimum first: exp may overflow


def off_policy_report(log_ratios: Tensor, bound: float) -> dict[str, float]:
    """How far the samples are from the policy.

    Args:
        log_ratios: Log-probability under the policy minus that under the distribution drawn from, of all tokens of a
            step, ``Tensor[tokens]``.
        bound: Largest weight.

    Returns:
        ``off_policy_ratio``, the mean of p / q (1 where both are one; with ``top_p`` below 1 and log-probabilities of the
        nucleus, the mass that the nucleus holds), ``off_policy_ratio_p99``, its 99th percentile, and
        ``off_policy_truncated``, the share of tokens above the bound. Nothing for no tokens.
    """
    if not log_ratios.numel():
        return {}
    ratios = log_ratios.double().exp()
    ordered = ratios.sort().values  # quantile() takes at most 2^24 values
    return {
        "off_policy_ratio": float(ratios.mean()),
        "off_policy_ratio_p99": float(ordered[math.ceil(0.99 * len(ordered)) - 1]),
        "off_policy_truncated": float((ratios > bound).double().mean()),
    }
