"""Determinantal diversity, the default: how much a trace adds to what the others of its group show already."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from core_lightning.records import Group
from core_lightning.rewards.term import RewardContext, RewardTerm


def similarity_kernel(distance: Tensor) -> Tensor:
    """Similarity ``1 - distance`` repaired to a correlation matrix, ``float64 Tensor[traces, traces]``.

    The hybrid distance promises no positive semi-definite similarity. Negative eigenvalues are set to 0, which is the
    nearest semi-definite matrix (Higham 1988), and the diagonal is scaled back to 1. Duplicates stay duplicates and a
    trace orthogonal to all others stays so, as the repair acts on the spectrum only.
    """
    values, vectors = torch.linalg.eigh(1 - distance.double())
    repaired = (vectors * values.clamp_min(0.0)) @ vectors.T
    scale = repaired.diagonal().rsqrt()
    return scale[:, None] * repaired * scale[None, :]


def conditional_variances(kernel: Tensor) -> Tensor:
    """Variance of every variable given all the others, ``Tensor[traces]``, under covariance ``kernel``.

    ``det(K) / det(K without i)``, the exponential of the marginal log-volume of ``i``, equals ``1 / inverse(K)[i, i]``
    (Schur complement): one inverse serves all traces.
    """
    return torch.cholesky_inverse(torch.linalg.cholesky(kernel)).diagonal().reciprocal()


@dataclass(frozen=True)
class LogDetDiversity(RewardTerm):
    """How much a trace differs from all others of its group, in [0, 1]: its variance that the others do not explain.

    With the kernel ``L = diag(q) S diag(q)`` of a determinantal point process (Kulesza and Taskar 2012), a trace's
    marginal log-volume is ``log det(L + eps I) - log det(L without i + eps I)``, and its exponential is the variance
    of trace ``i`` that the others leave unexplained: 0 for a duplicate, 1 for a trace orthogonal to all.

    The quality of the *other* traces cancels out of it (up to eps) and one's own enters as the factor ``q^2``: in a
    per-trace marginal, quality is a second correctness reward. It is therefore 1 for all by default, and
    ``wrong_quality`` lowers it for wrong traces.
    """

    wrong_quality: float = 0.0
    """Quality of a wrong trace, in [0, 1], where a correct one has 1: it earns at most ``wrong_quality ** 2``. At 0 it
    earns nothing and correct traces are compared among themselves only."""
    epsilon: float = 1e-6
    """Ridge added to the kernel."""

    needs_distance = True
    shaping = True

    def __post_init__(self) -> None:
        if not 0.0 <= self.wrong_quality <= 1.0:
            raise ValueError(f"LogDetDiversity.wrong_quality must be in [0, 1], got {self.wrong_quality}")
        if not 1e-10 <= self.epsilon <= 1e-2:
            raise ValueError(f"LogDetDiversity.epsilon must be in [1e-10, 1e-2], got {self.epsilon}")

    def __call__(self, group: Group, context: RewardContext) -> Sequence[float | None]:
        """Conditional variance of every trace given all other traces of the group, in [0, 1]."""
        quality = torch.tensor([1.0 if t.correct else self.wrong_quality for t in group], dtype=torch.float64)
        kernel = quality[:, None] * similarity_kernel(context.distance) * quality[None, :]
        variances = conditional_variances(kernel + self.epsilon * torch.eye(len(group), dtype=torch.float64))
        # The ridge leaves a duplicate between eps and 2 eps, an orthogonal trace 1 + eps: map them to exactly 0 and 1.
        return ((variances - 2 * self.epsilon) / (1 - self.epsilon)).clamp(0.0, 1.0).tolist()
