"""How different two traces are: embeddings and operation signatures, computed once per step (CORE, Eq. 13)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import normalize

from core_lightning.records import Group
from core_lightning.rewards.operations import operation_signature

EmbedTexts = Callable[[Sequence[str]], Tensor]
"""Texts to ``Tensor[texts, dim]``; the rows need not have unit length."""


def jaccard(sets: Sequence[frozenset[str]]) -> Tensor:
    """Pairwise Jaccard index, ``float64 Tensor[sets, sets]``; two empty sets count as equal (1)."""
    members = sorted(frozenset().union(*sets))
    table = torch.tensor([[float(m in s) for m in members] for s in sets], dtype=torch.float64)
    table = table.reshape(len(sets), len(members))
    shared = table @ table.T
    size = table.sum(1)
    union = size[:, None] + size[None, :] - shared
    return torch.where(union > 0, shared / union.clamp_min(1.0), 1.0)


@dataclass(frozen=True)
class HybridDistance:
    """Weighted sum of embedding distance and operation distance of texts (CORE, arXiv 2601.21600, Eq. 13)."""

    embedding_weight: float = 0.6
    """Weight of 1 - cosine of the embeddings."""
    operation_weight: float = 0.4
    """Weight of 1 - Jaccard of the operation signatures."""

    def __post_init__(self) -> None:
        weights = (self.embedding_weight, self.operation_weight)
        if min(weights) < 0 or abs(sum(weights) - 1) > 1e-9:
            raise ValueError(f"HybridDistance weights must be >= 0 and add up to 1, got {weights[0]} and {weights[1]}")

    def __call__(self, embeddings: Tensor, signatures: Sequence[frozenset[str]]) -> Tensor:
        """Pairwise distance of texts.

        Args:
            embeddings: ``Tensor[texts, dim]``; a zero row is at cosine 0 to every other.
            signatures: Operation signature of every text.

        Returns:
            ``float64 Tensor[texts, texts]``, symmetric, zero on the diagonal. Opposite embeddings would exceed 1 and
            are clamped, so that 1 - distance stays a similarity in [0, 1].
        """
        units = normalize(embeddings.double(), dim=1)
        mixed = self.embedding_weight * (1 - units @ units.T) + self.operation_weight * (1 - jaccard(signatures))
        # A matrix product need not be symmetric to the last bit.
        return ((mixed + mixed.T) / 2).clamp(0.0, 1.0).fill_diagonal_(0.0)


class StepDistances:
    """Trace distances of every group of one step, with as few embedding calls as possible.

    The first distance asked for embeds every distinct text of all groups in one call. Traces added to a group later
    (the rescue round) cost one more call, with only the texts not seen before.

    Args:
        groups: All groups of the step; they may grow.
        embed: Texts to ``Tensor[texts, dim]``, for instance an :class:`~core_lightning.rewards.Embedder`.
        distance: How embeddings and operation signatures are weighed; with embedding weight 0 nothing is embedded.
    """

    def __init__(self, groups: Sequence[Group], embed: EmbedTexts, distance: HybridDistance | None = None) -> None:
        self.groups = groups
        self.embed = embed
        self.distance = distance or HybridDistance()
        self._embeddings: dict[str, Tensor] = {}
        self._signatures: dict[str, frozenset[str]] = {}

    def __call__(self, group: Group) -> Tensor:
        """Pairwise distance of the group's traces as they are now, ``float64 Tensor[traces, traces]``."""
        self._learn(trace.text for g in (*self.groups, group) for trace in g)
        texts = list(dict.fromkeys(trace.text for trace in group))
        if not texts:
            return torch.zeros(0, 0, dtype=torch.float64)
        distinct = self.distance(
            torch.stack([self._embeddings[text] for text in texts]), [self._signatures[text] for text in texts]
        )
        # Distances of distinct texts, spread over the traces: equal texts are at exactly 0.
        where = torch.tensor([texts.index(trace.text) for trace in group])
        return distinct[where][:, where]

    def _learn(self, texts: Iterable[str]) -> None:
        new = [text for text in dict.fromkeys(texts) if text not in self._signatures]
        if not new:
            return
        rows = self.embed(new) if self.distance.embedding_weight else torch.zeros(len(new), 1)
        self._embeddings.update(zip(new, rows.detach().to("cpu", torch.float64), strict=True))
        self._signatures.update((text, operation_signature(text)) for text in new)
