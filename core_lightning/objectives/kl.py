"""Per-token estimates of the KL divergence from the reference policy (Schulman, "Approximating KL divergence")."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

KLEstimator = Literal["k1", "k2", "k3"]


def kl_estimate(logprobs: Tensor, ref_logprobs: Tensor, estimator: KLEstimator = "k3") -> Tensor:
    """Estimate ``KL(policy || reference)`` from tokens that the policy sampled.

    Args:
        logprobs: Log-probabilities of the sampled tokens under the policy, any shape.
        ref_logprobs: The same tokens under the reference.
        estimator: With ``d = log(ref / policy)``: ``k1 = -d`` is unbiased, may be negative, and its gradient as a loss
            averages to zero; ``k2 = d^2 / 2`` is biased, with the gradient of the true KL; ``k3 = exp(d) - 1 - d`` is
            unbiased and never negative (the choice of GRPO).
    """
    difference = ref_logprobs - logprobs
    if estimator == "k1":
        return -difference
    if estimator == "k2":
        return difference.square() / 2
    return torch.expm1(difference) - difference
