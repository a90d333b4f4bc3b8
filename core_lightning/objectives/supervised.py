"""Likelihood losses for traces that are imitated: credited to another prompt than they were sampled from."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

from core_lightning.objectives.normalization import Totals, trace_mean_share

#: Share of the loss that each token of a trace holds, from the traces' lengths and the totals of the step.
TokenShare = Callable[[Tensor, Totals], Tensor]


def nll(
    logprobs: Tensor,
    mask: Tensor,
    weights: Tensor | None = None,
    total: Totals | None = None,
    floor: float = 0.0,
    token_share: TokenShare = trace_mean_share,
) -> tuple[Tensor, dict[str, Tensor]]:
    """Negative log-likelihood: by default a mean over a trace's tokens, then over traces, the scale of GRPO.

    The gradient of ``-log p`` is ``-p'/p``: a token of probability 1e-6 that one wrong trace holds is the largest gradient
    of a batch. With a floor it is ``-p'/max(p, floor)``, so it is bounded.

    Args:
        logprobs: Log-probabilities of the trace's tokens under the prompt it is credited to,
            ``Tensor[traces, tokens]``; masked positions may hold anything.
        mask: 1 for tokens that count, ``Tensor[traces, tokens]``.
        weights: Weight of every trace, ``Tensor[traces]``.
        total: Size of the whole step, if this is only a part of it; parts then sum to the step.
        floor: A token less likely than this pulls in proportion to its probability; 0 for no floor.
        token_share: The objective's own normaliser, :meth:`~core_lightning.objectives.Objective.token_share`.

    Returns:
        The loss and detached diagnostics: ``nll``, mean per token, and with a floor ``floored``, the share of tokens
        under it.
    """
    total = total or Totals.of(mask)
    logprobs = torch.where(mask.bool(), logprobs.float(), 0.0)
    if floor <= 0:
        return _weighted_nll(logprobs, torch.ones_like(logprobs), mask.bool(), weights, total, token_share)
    log_pull = (logprobs.detach() - math.log(floor)).clamp(max=0.0)
    loss, diagnostics = _weighted_nll(logprobs, log_pull.exp(), mask.bool(), weights, total, token_share)
    diagnostics["floored"] = (log_pull < 0).sum() / max(total.tokens, 1.0)
    return loss, diagnostics


def bounded_importance_nll(
    logprobs: Tensor,
    sampled_logprobs: Tensor,
    mask: Tensor,
    bound: float = 1.0,
    level: Literal["token", "sequence"] = "token",
    weights: Tensor | None = None,
    total: Totals | None = None,
    token_share: TokenShare = trace_mean_share,
) -> tuple[Tensor, dict[str, Tensor]]:
    """Negative log-likelihood weighted by ``min(ratio, bound)``, the weight without gradient.

    A rescue was sampled under the hinted prompt and is trained under the plain one. The importance ratio, plain over
    hinted, is what an unbiased policy gradient would multiply with; the bound trades bias for variance (truncated
    importance sampling, Ionides 2008). Plain :func:`nll` is the case without correction; a bound of 1 only ever weighs
    down tokens that the plain prompt makes unlikely.

    Args:
        logprobs: Log-probabilities under the plain prompt, ``Tensor[traces, tokens]``, with gradient.
        sampled_logprobs: The same tokens under the prompt they were sampled from, frozen.
        mask: 1 for tokens that count, ``Tensor[traces, tokens]``.
        bound: Largest weight, > 0.
        level: ``token``: every token has its own ratio; ``sequence``: one per trace, the geometric mean over its
            tokens as in GSPO, since the plain product vanishes for a trace of any length.
        weights: Weight of every trace, ``Tensor[traces]``.
        total: Size of the whole step, if this is only a part of it; parts then sum to the step.
        token_share: The objective's own normaliser.

    Returns:
        The loss and detached diagnostics, means per token: ``nll``, ``importance`` (the weight) and ``bounded`` (share
        of tokens at the bound).
    """
    if bound <= 0:
        raise ValueError(f"the importance bound must be > 0, got {bound}")
    if level not in {"token", "sequence"}:
        raise ValueError(f"the importance level must be token or sequence, got {level!r}")
    mask = mask.bool()
    logprobs = torch.where(mask, logprobs.float(), 0.0)
    log_ratio = (logprobs - torch.where(mask, sampled_logprobs.float(), 0.0)).detach()
    if level == "sequence":
        log_ratio = (log_ratio.sum(1) / mask.sum(1).clamp_min(1))[:, None].expand_as(mask)
    total = total or Totals.of(mask)
    # The minimum is taken before exp, which may overflow.
    importance = log_ratio.clamp(max=math.log(bound)).exp()
    loss, diagnostics = _weighted_nll(logprobs, importance, mask, weights, total, token_share)
    for name, values in {"importance": importance, "bounded": log_ratio > math.log(bound)}.items():
        diagnostics[name] = (values * mask).sum() / max(total.tokens, 1.0)
    return loss, diagnostics


def _weighted_nll(
    logprobs: Tensor, importance: Tensor, mask: Tensor, weights: Tensor | None, total: Totals, token_share: TokenShare
) -> tuple[Tensor, dict[str, Tensor]]:
    share = token_share(mask.sum(1).float(), total)
    if weights is not None:
        share = share * weights.float()
    loss = -(share[:, None] * importance * logprobs).sum()
    return loss, {"nll": -logprobs.detach().sum() / max(total.tokens, 1.0)}
