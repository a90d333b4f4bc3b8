"""Pass@k of one peer and of a team, the unbiased estimators, and the baselines they must be read against."""

from __future__ import annotations

import torch
from torch import Tensor

from core_lightning.metrics.plotted import ShareMetric


def _check_k(k: int) -> None:
    if k < 1:
        raise ValueError(f"pass@k needs k >= 1, got k={k}")


def _all_wrong(n: Tensor | int, c: Tensor | int, k: int) -> Tensor:
    """C(n-c, k) / C(n, k): probability that k samples drawn without replacement are all wrong, in float64."""
    _check_k(k)
    correct = torch.as_tensor(c)
    samples, correct = torch.broadcast_tensors(torch.as_tensor(n, device=correct.device), correct)
    if (samples < k).any():
        raise ValueError(
            f"pass@k needs k <= n: k={k}, but a problem has n={int(samples.min())}; sample more or lower k"
        )
    if ((correct < 0) | (correct > samples)).any():
        raise ValueError("pass@k needs 0 <= c <= n: the correct samples are counted among the n samples")
    # As a product of k ratios, because the binomials overflow; a factor clamped to 0 is C(n-c, k) = 0 for n-c < k.
    drawn = torch.arange(k, device=samples.device, dtype=torch.float64)
    return (((samples - correct).unsqueeze(-1) - drawn).clamp(min=0) / (samples.unsqueeze(-1) - drawn)).prod(-1)


def pass_at_k(n: Tensor | int, c: Tensor | int, k: int) -> Tensor:
    """Probability that at least one of k samples is correct, estimated without bias from n >= k samples.

    1 - C(n-c, k) / C(n, k), Chen et al. 2021, "Evaluating Large Language Models Trained on Code", eq. 1.
    ``pass_at_k(n, c, k=M * k)`` of a single peer is the equal-budget baseline of a team of M.

    Args:
        n: Samples of each problem, any shape.
        c: Correct ones among them, broadcast against n.
        k: Samples allowed.

    Returns:
        float64 tensor of the broadcast shape.

    Raises:
        ValueError: If k < 1, if k > n for any problem, or if c is not in [0, n].

    Example:
        >>> pass_at_k(n=4, c=1, k=2)
        tensor(0.5000, dtype=torch.float64)
    """
    return 1 - _all_wrong(n, c, k)


def team_pass_at_k(n: Tensor | int, c: Tensor, k: int) -> Tensor:
    """Probability that any peer has a correct sample among its k, estimated without bias.

    1 - prod_m C(n_m - c_m, k) / C(n_m, k). An oracle over M*k candidates, because it needs the gold answer to choose
    among them: read it beside :func:`majority_vote`, which does not, and one peer's Pass@(M*k), the same budget.

    Args:
        n: Samples, ``Tensor[..., peers]``, or one number for all.
        c: Correct ones among them, ``Tensor[..., peers]``.
        k: Samples allowed to each peer.

    Returns:
        float64 tensor without the peers dimension, usually ``Tensor[problems]``.

    Raises:
        ValueError: As :func:`pass_at_k`.

    Example:
        >>> team_pass_at_k(n=4, c=torch.tensor([[1, 0], [1, 1]]), k=2)
        tensor([0.5000, 0.7500], dtype=torch.float64)
    """
    return 1 - _all_wrong(n, c, k).prod(-1)


def chance_pass_at_k(chance: float, k: int) -> float:
    """Pass@k of a guesser that is right with probability ``chance`` each time: 1 - (1 - chance)^k.

    A team of M peers guesses M*k times: with four options, Team Pass@2 of two guessers is

    >>> round(chance_pass_at_k(0.25, k=4), 3)
    0.684
    """
    if not 0 <= chance <= 1:
        raise ValueError(f"chance must lie in [0, 1], got {chance}")
    return 1 - (1 - chance) ** k


def collaboration_gain(team: Tensor, singles: Tensor) -> Tensor:
    """What a team gains over its best single peer at an equal budget, problem by problem.

    Against a peer's Pass@k instead of its Pass@(M*k) the difference would only count the extra samples.

    Args:
        team: Team Pass@k, ``Tensor[problems]``.
        singles: Pass@(M*k) of every single-peer baseline, ``Tensor[problems, baselines]``.

    Returns:
        ``Tensor[problems]``: the team minus the baseline that is best on average. Its mean is the collaboration
        gain, and it goes into :func:`bootstrap_interval` as it is.

    Example:
        >>> collaboration_gain(torch.tensor([1.0, 1.0]), torch.tensor([[1.0, 0.0], [0.5, 0.0]]))
        tensor([0.0000, 0.5000])
    """
    return team - singles[:, singles.mean(0).argmax()]


class PassAtK(ShareMetric):
    """Mean unbiased Pass@k over problems, see :func:`pass_at_k`.

    Args:
        k: Samples allowed.

    Example:
        >>> metric = PassAtK(k=2)
        >>> metric.update(n=torch.tensor([4, 4]), c=torch.tensor([1, 4]))
        >>> metric.compute()
        tensor(0.7500, dtype=torch.float64)
    """

    total: Tensor
    problems: Tensor

    def __init__(self, k: int, **kwargs: object) -> None:
        super().__init__(**kwargs)
        _check_k(k)
        self.k = k
        self.add_state("total", torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("problems", torch.zeros((), dtype=torch.long), dist_reduce_fx="sum")

    def update(self, n: Tensor | int, c: Tensor) -> None:
        """Add problems: ``n`` samples of which ``c`` are correct, ``Tensor[problems]`` each."""
        self._add(pass_at_k(n, c, self.k))

    def _add(self, scores: Tensor) -> None:
        self.total += scores.sum()
        self.problems += scores.numel()

    def compute(self) -> Tensor:
        """Mean over problems, NaN when there were none."""
        return self.total / self.problems


class TeamPassAtK(PassAtK):
    """Mean unbiased Team Pass@k over problems, see :func:`team_pass_at_k`.

    Args:
        k: Samples allowed to each peer.

    Example:
        >>> metric = TeamPassAtK(k=2)
        >>> metric.update(n=4, c=torch.tensor([[1, 0], [1, 1]]))
        >>> metric.compute()
        tensor(0.6250, dtype=torch.float64)
    """

    def update(self, n: Tensor | int, c: Tensor) -> None:
        """Add problems: ``n`` samples of which ``c`` are correct, ``Tensor[problems, peers]`` each."""
        self._add(team_pass_at_k(n, c, self.k))
