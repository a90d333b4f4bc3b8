"""What all policy objectives share: masking, importance ratio, KL, entropy bonus, normalisation and diagnostics."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import ClassVar, Self, get_args

import torch
from torch import Tensor

from core_lightning.objectives.kl import KLEstimator, kl_estimate
from core_lightning.objectives.normalization import Totals, trace_mean_share
from core_lightning.objectives.off_policy import OffPolicy, truncated_importance
from core_lightning.schedule import Schedule, value_at


@dataclass(frozen=True)
class TokenBatch:
    """What :meth:`Objective.surrogate` is given: float32, with every masked position already set to 0."""

    logprobs: Tensor
    """``Tensor[traces, tokens]``, with gradient."""
    log_ratio: Tensor
    """Log-probability minus that of the policy that sampled, ``Tensor[traces, tokens]``, with gradient."""
    advantages: Tensor
    """``Tensor[traces, 1]``."""
    mask: Tensor
    """``bool Tensor[traces, tokens]``, the completion tokens that count."""
    rescue: Tensor
    """``bool Tensor[traces, 1]``, the traces of the rescue round."""

    @property
    def lengths(self) -> Tensor:
        """Counted tokens of every trace, ``float32 Tensor[traces]``."""
        return self.mask.sum(1).float()


@dataclass(frozen=True)
class Objective(ABC):
    """A policy-gradient loss as a pure function of log-probabilities.

    A subclass says what one token is worth (:meth:`surrogate`) and how tokens are averaged (:meth:`token_share`).
    """

    advantage: ClassVar[Mapping[str, bool]] = {}
    """Settings of ``advantage`` that are a part of the method. They hold where nothing is set, and a contradiction is
    refused."""

    beta: float | Schedule = 0.0
    """Weight of the KL divergence from the reference policy (the peer before training), a number or a schedule over
    training; 0 leaves it out."""
    kl_estimator: KLEstimator = "k3"
    """How that divergence is estimated from a sampled token, with d = log(reference / policy). ``k1``: -d. ``k2``: d^2 / 2.
    ``k3``: exp(d) - 1 - d, never negative."""
    entropy_coef: float | Schedule = 0.0
    """Weight of a bonus for the policy's entropy, a number or a schedule over training; 0 leaves it out."""
    off_policy: OffPolicy = field(default="auto", kw_only=True)
    """Whether a token counts by its probability under the policy over that under the distribution it was drawn from.
    ``auto``: for peers that another engine than this library's samples for."""
    off_policy_bound: float = field(default=2.0, kw_only=True)
    """Largest weight of that kind."""

    def __post_init__(self) -> None:
        for name in ("beta", "entropy_coef"):
            if not all(0.0 <= value_at(getattr(self, name), progress) < math.inf for progress in (0.0, 1.0)):
                raise ValueError(f"{type(self).__name__}.{name} must be a number >= 0, got {getattr(self, name)}")
        if self.off_policy not in get_args(OffPolicy):
            raise ValueError(f"{type(self).__name__}.off_policy must be auto, always or never, got {self.off_policy!r}")
        if not 1.0 <= self.off_policy_bound < math.inf:
            raise ValueError(
                f"{type(self).__name__}.off_policy_bound must be a number >= 1, got {self.off_policy_bound}"
            )
        if self.kl_estimator not in get_args(KLEstimator):
            raise ValueError(f"{type(self).__name__}.kl_estimator must be k1, k2 or k3, got {self.kl_estimator!r}")

    @property
    def needs_reference(self) -> bool:
        """Whether the KL term is on, so that it asks for log-probabilities under the reference."""
        return self.beta != 0

    @property
    def needs_entropy(self) -> bool:
        """Whether the entropy bonus is on."""
        return self.entropy_coef != 0

    def corrects(self, own_engine: bool) -> bool:
        """Whether samples are weighed; ``own_engine`` when this library's sampler drew them from the peer's own network."""
        return self.off_policy == "always" or (self.off_policy == "auto" and not own_engine)

    def at(self, progress: float) -> Self:
        """This objective with its scheduled weights as they are when ``progress`` (in [0, 1]) of training is done."""
        return replace(self, beta=value_at(self.beta, progress), entropy_coef=value_at(self.entropy_coef, progress))

    def completed(self, max_tokens: int) -> Self:
        """This objective with what it takes from the peers' settings, here the longest completion, where it is unset."""
        return self

    @abstractmethod
    def surrogate(self, batch: TokenBatch) -> tuple[Tensor, Tensor]:
        """Value of every token, which training maximises, and whether the objective held back its gradient (clipping).

        Both are ``Tensor[traces, tokens]``, or ``Tensor[traces, 1]`` when equal for all tokens of a trace.
        """

    def token_share(self, lengths: Tensor, total: Totals) -> Tensor:
        """Share of the loss that each token of a trace holds, ``Tensor[traces]``; by default a mean of trace means."""
        return trace_mean_share(lengths, total)

    def __call__(
        self,
        logprobs: Tensor,
        old_logprobs: Tensor | None,
        ref_logprobs: Tensor | None,
        advantages: Tensor,
        mask: Tensor,
        *,
        weights: Tensor | None = None,
        rescue: Tensor | None = None,
        entropy: Tensor | None = None,
        sampled_logprobs: Tensor | None = None,
        total: Totals | None = None,
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Loss of one micro-batch, to be minimised.

        Args:
            logprobs: Log-probabilities of the sampled tokens under the policy in training, ``Tensor[traces, tokens]``.
                Computation is in float32 whatever comes in; masked positions may hold anything, NaN included.
            old_logprobs: The same under the policy that sampled, frozen. None when this is the only update of the
                batch: the ratio is then 1, with the same gradient.
            ref_logprobs: The same under the reference policy; None leaves the KL term out.
            advantages: ``Tensor[traces]``.
            mask: 1 for completion tokens that count (end token included), ``Tensor[traces, tokens]``.
            weights: Weight of every trace in the loss, ``Tensor[traces]``; CORE gives rescue traces 0.8.
            rescue: Traces of the rescue round, ``bool Tensor[traces]``; only SAPO treats them differently.
            entropy: Entropy of the policy at every token in nats, ``Tensor[traces, tokens]``, with gradient if it is
                to be raised.
            sampled_logprobs: Of the tokens under the distribution they were drawn from, ``Tensor[traces, tokens]``, where
                that is not quite the policy's: each token's surrogate is weighed by :func:`truncated_importance`. The KL
                and entropy terms are not.
            total: Size of the whole step, if this is only a part of it. Losses, gradients and diagnostics of all
                parts then *sum* to those of the step.

        Returns:
            The loss and detached diagnostics, means per token: ``ratio``, ``clip_fraction`` (share of tokens whose
            gradient the objective held back), ``approx_kl`` (from the sampling policy), and where given ``kl`` (from
            the reference) and ``entropy``.

        Raises:
            ValueError: An entropy bonus is set and no entropy given, or a weight is still a schedule.
        """
        beta, entropy_coef = self.beta, self.entropy_coef
        if isinstance(beta, Schedule) or isinstance(entropy_coef, Schedule):
            raise ValueError(f"{type(self).__name__} has a schedule: take its value with at(progress) before the call")
        if entropy_coef and entropy is None:
            raise ValueError(f"{type(self).__name__}.entropy_coef is set: pass the entropy of every token")
        mask = mask.bool()

        def clean(values: Tensor) -> Tensor:
            # Before any exp: a NaN behind the mask would survive a multiplication by 0, in the gradient as well.
            return torch.where(mask, values.float(), 0.0)

        logprobs = clean(logprobs)
        log_ratio = logprobs - (logprobs if old_logprobs is None else clean(old_logprobs)).detach()
        batch = TokenBatch(
            logprobs=logprobs,
            log_ratio=log_ratio,
            advantages=advantages.float()[:, None],
            mask=mask,
            rescue=(torch.zeros_like(advantages) if rescue is None else rescue).bool()[:, None],
        )
        value, held_back = self.surrogate(batch)
        if sampled_logprobs is not None:
            before = logprobs if old_logprobs is None else clean(old_logprobs)
            value = value * truncated_importance(before, clean(sampled_logprobs), mask, self.off_policy_bound)
        diagnostics = {
            "ratio": log_ratio.exp(),
            "clip_fraction": held_back.expand_as(mask).float(),
            "approx_kl": torch.expm1(log_ratio) - log_ratio,
        }
        if ref_logprobs is not None:
            diagnostics["kl"] = kl_estimate(logprobs, clean(ref_logprobs).detach(), self.kl_estimator)
            value = value - beta * diagnostics["kl"] if beta else value
        if entropy is not None:
            diagnostics["entropy"] = clean(entropy)
            value = value + entropy_coef * diagnostics["entropy"]

        total = total or Totals.of(mask)
        share = self.token_share(batch.lengths, total)
        if weights is not None:
            share = share * weights.float()
        loss = -(share[:, None] * clean(value.expand_as(logprobs))).sum()
        return loss, {name: clean(d.detach()).sum() / max(total.tokens, 1.0) for name, d in diagnostics.items()}
