"""From training examples to gradients: frozen log-probabilities first, then one backward pass per micro-batch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from core_lightning.objectives import Objective, Totals, bounded_importance_nll, nll, off_policy_report
from core_lightning.peers.peer import Peer
from core_lightning.protocol.credit import CreditSettings, Example


@dataclass
class FrozenBatch:
    """One micro-batch with the log-probabilities that must not move while any peer is updated."""

    examples: list[Example]
    old: Tensor | None
    """Under the policy that sampled, ``Tensor[traces, tokens]``; None when a single update makes the ratio 1."""
    reference: Tensor | None
    """Under the reference policy, ``Tensor[traces, tokens]``; None when the objective has no KL term."""
    temperature: float | None = None
    """All examples are scored at it; None is the peer's own."""


@dataclass
class PeerBatch:
    """Everything one peer is trained on in a step."""

    policy: list[FrozenBatch]
    imitation: list[FrozenBatch]
    policy_totals: Totals
    imitation_totals: Totals
    beginning: list[int]
    """What all prompts begin with, read once for all micro-batches."""

    @property
    def totals(self) -> Totals:
        """Of policy and imitated examples together: what the imitation loss is divided by, so that few imitated traces
        do not weigh as much as many."""
        return self.policy_totals + self.imitation_totals

    def __bool__(self) -> bool:
        return bool(self.policy or self.imitation)

    def sum_totals(self, over_ranks: Callable[..., list[float]]) -> None:
        """Make the totals those of all processes, whose gradients are added up.

        Args:
            over_ranks: Sums numbers over all processes.
        """
        policy, imitation = self.policy_totals, self.imitation_totals
        sums = over_ranks(policy.traces, policy.tokens, imitation.traces, imitation.tokens)
        self.policy_totals, self.imitation_totals = Totals(*sums[:2]), Totals(*sums[2:])


def freeze(
    peer: Peer, examples: Sequence[Example], *, need_old: bool, need_reference: bool, need_entropy: bool = False
) -> PeerBatch:
    """Cut a peer's examples into micro-batches and score them under the policies that stay fixed.

    This happens for all peers before any of them takes a step.
    """
    # An example without advantage still feels the KL term and the entropy bonus; without them it only costs time.
    policy = [e for e in examples if not e.imitate and (need_reference or need_entropy or e.advantage != 0)]
    imitation = [e for e in examples if e.imitate]
    beginning = peer.common_beginning([*policy, *imitation])

    def batches(part: list[Example], old: bool, reference: bool) -> list[FrozenBatch]:
        frozen = []
        # One temperature a pass, and apart from the others those whose log-probabilities were recorded as they were sampled.
        for temperature, recorded in dict.fromkeys(map(_kind, part)):
            alike = [e for e in part if _kind(e) == (temperature, recorded)]
            for indices in peer.micro_batches(alike, len(beginning)):
                chosen = [alike[i] for i in indices]
                with torch.no_grad():
                    frozen.append(
                        FrozenBatch(
                            chosen,
                            peer.logprobs(chosen, temperature=temperature)[0] if old else None,
                            peer.logprobs(chosen, "reference", temperature=temperature)[0] if reference else None,
                            temperature,
                        )
                    )
        return frozen

    def totals(part: list[Example]) -> Totals:
        return Totals(float(len(part)), float(sum(len(e.token_ids) for e in part)))

    return PeerBatch(
        policy=batches(policy, need_old, need_reference),
        imitation=batches(imitation, False, False),
        # Examples without advantage count in the mean, whether or not they are computed.
        policy_totals=totals([e for e in examples if not e.imitate]),
        imitation_totals=totals(imitation),
        beginning=beginning,
    )


def accumulate(
    peer: Peer,
    batch: PeerBatch,
    objective: Objective,
    credit: CreditSettings,
    backward: Callable[[Tensor], None],
) -> dict[str, float]:
    """Add the gradients of all micro-batches of one peer to its adapter.

    Losses are divided by the totals of the whole step, so the cut into micro-batches does not matter.

    Returns:
        The loss, summed over micro-batches; the objective's diagnostics, means over the tokens computed here; how far the
        samples were from the policy; and ``reliance``, how much likelier the tokens of imitated rescues were with the
        hint than without, in nats per token. ``policy_tokens`` and ``rescue_tokens`` are what these are means over.
    """
    sums: dict[str, float] = {}
    log_ratios: list[Tensor] = []  # of all policy tokens
    correct = objective.corrects(peer.engine.own)
    reliance = relying = 0.0  # nats, and tokens of imitated rescues

    def add(loss: Tensor, diagnostics: dict[str, Tensor], scale: float) -> None:
        sums["loss"] = sums.get("loss", 0.0) + float(loss)
        for name, value in diagnostics.items():
            sums[name] = sums.get(name, 0.0) + float(value) * scale

    with peer.reading(batch.beginning):
        for frozen in batch.policy:
            examples = frozen.examples
            logprobs, entropy, mask = peer.logprobs(
                examples, entropy_grad=objective.needs_entropy, temperature=frozen.temperature
            )
            sampled = _sampled(examples, logprobs)
            if sampled is not None:
                before = logprobs.detach() if frozen.old is None else frozen.old
                log_ratios.append((before - sampled)[mask].cpu())
            loss, diagnostics = objective(
                logprobs,
                frozen.old,
                frozen.reference,
                _column([e.advantage for e in examples], logprobs),
                mask,
                weights=_column([e.weight for e in examples], logprobs),
                rescue=_column([e.rescue for e in examples], logprobs),
                entropy=entropy,
                sampled_logprobs=sampled if correct else None,
                total=batch.policy_totals,
            )
            backward(loss)
            add(loss.detach(), diagnostics, _to_local_mean(batch.policy_totals, batch.policy))
        for frozen in batch.imitation:
            examples = frozen.examples
            logprobs, _, mask = peer.logprobs(examples)
            sampled = _sampled(examples, logprobs)
            weights = _column([e.weight for e in examples], logprobs)
            loss, diagnostics = _imitation_loss(logprobs, sampled, mask, weights, batch.totals, objective, credit)
            backward(loss)
            add(loss.detach(), diagnostics, _to_local_mean(batch.totals, batch.imitation))
            if sampled is not None:
                relying += float(mask.sum())
                reliance += float((sampled - logprobs.detach())[mask].sum())
    sums["policy_tokens"] = float(_tokens(batch.policy))
    if relying:
        sums |= {"reliance": reliance / relying, "rescue_tokens": relying}
    if log_ratios:
        sums |= off_policy_report(torch.cat(log_ratios), objective.off_policy_bound)
    return sums


def _imitation_loss(
    logprobs: Tensor,
    sampled: Tensor | None,
    mask: Tensor,
    weights: Tensor,
    total: Totals,
    objective: Objective,
    credit: CreditSettings,
) -> tuple[Tensor, dict[str, Tensor]]:
    # A rescue is scored under the plain prompt here; only what this peer has sampled itself has an importance weight.
    share, bound = objective.token_share, credit.importance_bound
    if bound is not None and sampled is not None:
        return bounded_importance_nll(logprobs, sampled, mask, bound, weights=weights, total=total, token_share=share)
    return nll(logprobs, mask, weights, total, credit.probability_floor, share)


def _to_local_mean(total: Totals, computed: Sequence[FrozenBatch]) -> float:
    # Diagnostics are divided by the tokens of the whole step: all ranks, and the examples that were not worth computing.
    return total.tokens / _tokens(computed)


def _tokens(batches: Sequence[FrozenBatch]) -> int:
    return sum(len(e.token_ids) for frozen in batches for e in frozen.examples)


def _kind(example: Example) -> tuple[float | None, bool]:
    return example.temperature, example.sampled_logprobs is not None


def _column(values: Sequence[float], like: Tensor) -> Tensor:
    return torch.tensor(values, dtype=torch.float32, device=like.device)


def _sampled(examples: Sequence[Example], like: Tensor) -> Tensor | None:
    """Log-probabilities as they were drawn, ``Tensor[traces, tokens]``, if all examples have theirs."""
    if any(e.sampled_logprobs is None for e in examples):
        return None
    return _padded([e.sampled_logprobs or [] for e in examples], like)


def _padded(rows: Sequence[Sequence[float]], like: Tensor) -> Tensor:
    out = torch.zeros_like(like)
    for row, values in zip(out, rows, strict=True):
        row[: len(values)] = torch.tensor(values, device=like.device)
    return out
