"""Error overlap: do the peers fail on the same problems."""

from __future__ import annotations

import torch
from torch import Tensor

from core_lightning.metrics.plotted import ShareMetric


def _count(failed: Tensor) -> tuple[Tensor, Tensor]:
    """``joint[..., a, b]``, the number of problems both a and b fail (a alone on the diagonal), and how many all fail."""
    fails = failed.to(torch.float64)
    return fails.mT @ fails, fails.prod(-1).sum(-1)


def _phi(joint: Tensor, problems: Tensor) -> Tensor:
    """Mean over pairs of (n n_ab - n_a n_b) / sqrt(n_a (n - n_a) n_b (n - n_b)), undefined pairs left out."""
    fails = joint.diagonal(dim1=-2, dim2=-1)
    spread = fails * (problems - fails)
    pairwise = (problems * joint - _outer(fails)) / _outer(spread).sqrt()
    first, second = torch.triu_indices(joint.shape[-1], joint.shape[-1], offset=1)
    return pairwise[..., first, second].nanmean(-1)


def _outer(vector: Tensor) -> Tensor:
    return vector[..., :, None] * vector[..., None, :]


def error_overlap(failed: Tensor) -> dict[str, Tensor]:
    """P(all peers fail) and the phi correlation of the peers' failures.

    Phi is Pearson's correlation of two binary variables: 1 when two peers fail on the same problems, 0 when they fail
    independently, negative when they complement each other. For more than two peers it is the mean over pairs.

    Args:
        failed: Boolean ``Tensor[..., problems, peers]``: all samples of the peer are wrong.

    Returns:
        ``all_fail`` and ``phi``, each ``float64 Tensor[...]``. A pair in which one peer always or never fails has no phi and
        is left out; NaN when no pair is left.

    Example:
        >>> overlap = error_overlap(torch.tensor([[True, False], [False, True], [True, True], [False, False]]))
        >>> overlap["all_fail"], overlap["phi"]
        (tensor(0.2500, dtype=torch.float64), tensor(0., dtype=torch.float64))
    """
    joint, all_fail = _count(failed)
    problems = joint.new_tensor(failed.shape[-2])
    return {"all_fail": all_fail / problems, "phi": _phi(joint, problems)}


class ErrorOverlap(ShareMetric):
    """P(all peers fail) and mean pairwise phi of their failures, see :func:`error_overlap`.

    Args:
        peers: Number of peers, at least 2.

    Example:
        >>> metric = ErrorOverlap(peers=2)
        >>> metric.update(torch.tensor([[True, True], [False, False]]))
        >>> metric.compute()["phi"]
        tensor(1., dtype=torch.float64)
    """

    higher_is_better = False
    plot_lower_bound = -1.0  # phi is a correlation
    joint: Tensor
    all_fail: Tensor
    problems: Tensor

    def __init__(self, peers: int = 2, **kwargs: object) -> None:
        super().__init__(**kwargs)
        if peers < 2:
            raise ValueError(f"error overlap needs at least 2 peers, got peers={peers}")
        self.add_state("joint", torch.zeros(peers, peers, dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("all_fail", torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("problems", torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")

    def update(self, failed: Tensor) -> None:
        """Add problems: which peers failed, boolean ``Tensor[problems, peers]``."""
        if failed.shape[1:] != self.joint.shape[1:]:
            raise ValueError(f"expected failures of {len(self.joint)} peers, got a tensor of shape {failed.shape}")
        joint, all_fail = _count(failed)
        self.joint += joint
        self.all_fail += all_fail
        self.problems += len(failed)

    def compute(self) -> dict[str, Tensor]:
        """``all_fail`` and ``phi``, float64 scalars, NaN where undefined."""
        return {"all_fail": self.all_fail / self.problems, "phi": _phi(self.joint, self.problems)}
