"""Whether an engine with weights of its own computes what the peer computes.

A wrong base model or adapter, or log-probabilities of another kind, would go unnoticed in the samples alone. So after every
change of the adapter a few completions are scored by the peer itself.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from core_lightning.peers.compute.architecture import backbone_of
from core_lightning.peers.config import GenerationSettings
from core_lightning.peers.sampling.engine import Rig, SampledTokens

#: Completions, and tokens of each, that are scored.
_COMPLETIONS, _TOKENS = 4, 64


class DisagreementError(ValueError):
    """An engine's log-probabilities are not the peer's; one line with both, and the mend."""


@torch.no_grad()
def compare(
    rig: Rig,
    prompts: Sequence[Sequence[int]],
    completions: Sequence[SampledTokens],
    settings: GenerationSettings,
    tolerance: float | None,
    mend: str,
) -> float:
    """Mean absolute difference between an engine's log-probabilities and the peer's own, in nats a token.

    Args:
        rig: The peer's network, with its adapter switched on.
        prompts: Of each completion.
        completions: What the engine sampled; only a few are looked at.
        settings: Temperature and nucleus they were sampled with; the engine's log-probabilities are those of the nucleus.
        tolerance: Largest difference; unset, 0.1, or 0.5 for a quantized base, whose engine has the plain weights.
        mend: What to do about a larger one, and the name of the setting.

    Raises:
        DisagreementError: The difference is larger, or is no number.
    """
    differences: list[float] = []
    device = rig.network.device
    for prompt, completion in list(zip(prompts, completions, strict=True))[:_COMPLETIONS]:
        ids = completion.token_ids[:_TOKENS]
        hidden = backbone_of(rig.network)(input_ids=torch.tensor([[*prompt, *ids]], device=device)).last_hidden_state
        logits = rig.head.logits(hidden[0, len(prompt) - 1 : -1]).float() / settings.temperature
        own = torch.log_softmax(logits, -1).gather(1, torch.tensor(ids, device=device)[:, None])[:, 0]
        own = own - nucleus_mass(logits, settings.top_p).log()
        differences += (own.cpu() - torch.tensor(completion.logprobs[: len(ids)])).abs().tolist()
    mean = sum(differences) / len(differences)
    quantized = getattr(rig.network.config, "quantization_config", None) is not None
    most = tolerance or (0.5 if quantized else 0.1)
    if not mean <= most:  # NaN, too
        raise DisagreementError(
            f"peer {rig.name!r}: the engine's log-probabilities and the peer's own differ by {mean:.3f} nats a token "
            f"(allowed: {most:g}); {mend}"
        )
    return mean


def nucleus_mass(logits: Tensor, top_p: float) -> Tensor:
    """Probability of each row's nucleus: the tokens that have less than ``top_p`` above them.

    Args:
        logits: ``Tensor[rows, vocabulary]``.
        top_p: In (0, 1].

    Returns:
        ``float32 Tensor[rows]``.
    """
    if top_p >= 1:
        return logits.new_ones(len(logits))
    ordered = torch.softmax(logits, -1).sort(-1, descending=True).values
    above = ordered.cumsum(-1) - ordered
    return torch.where(above < top_p, ordered, 0.0).sum(-1)
