"""What the trained peers do on held-out problems with the cold prompt, as counts that any figure can be made from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from lightning.pytorch import Callback, Trainer

from core_lightning.peers import Peer
from core_lightning.protocol.credit import Example
from core_lightning.records import Group
from core_lightning.report.evaluation import score_problem

VOTES = 2
"""Traces of each peer that vote."""


class Collector(Callback):
    """Keeps the groups of a test run."""

    def __init__(self) -> None:
        self.groups: list[Group] = []

    def on_test_batch_end(
        self, trainer: Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        self.groups += outputs


def measure(groups: Sequence[Group], peers: Mapping[str, Peer]) -> dict[str, Any]:
    """Counts of every problem, in the order of their ids, and the peers' distance from where they started.

    Returns:
        ``sources`` and ``vote`` (majority of two traces of each peer) by problem; by peer and problem ``correct``
        among ``samples``; by peer ``tokens`` of a completion, share ``truncated``, ``kl`` from the reference and
        ``entropy`` of a token in nats.
    """
    names = list(peers)
    scores = sorted((score_problem(group, names, VOTES) for group in groups), key=lambda s: s.id)
    sources = {group.problem.id: group.problem.source for group in groups}
    drift = {name: _drift([t for g in groups[::4] for t in g.of(name)[:1]], peer) for name, peer in peers.items()}
    return {
        "samples": scores[0].samples[0],
        "sources": [sources[s.id] for s in scores],
        "correct": {name: [s.correct[i] for s in scores] for i, name in enumerate(names)},
        "vote": [round(s.vote, 3) for s in scores],
        "tokens": {name: _mean([s.tokens[i] for s in scores]) for i, name in enumerate(names)},
        "truncated": {name: _mean([s.truncated[i] for s in scores]) for i, name in enumerate(names)},
        "kl": {name: drift[name][0] for name in names},
        "entropy": {name: drift[name][1] for name in names},
    }


@torch.no_grad()
def _drift(traces: Sequence[Any], peer: Peer) -> tuple[float, float]:
    """KL divergence from the reference (k3, arXiv 2402.03300, Eq. 4) and entropy, means over tokens, in nats."""
    examples = [Example(t.prompt_ids, t.token_ids) for t in traces]
    divergence = entropy = tokens = 0.0
    for indices in peer.micro_batches(examples):
        chosen = [examples[i] for i in indices]
        own, entropies, mask = peer.logprobs(chosen)
        log_ratio = peer.logprobs(chosen, "reference")[0] - own
        divergence += float(((log_ratio.exp() - 1 - log_ratio) * mask).sum())
        entropy += float((entropies * mask).sum())
        tokens += float(mask.sum())
    return round(divergence / tokens, 4), round(entropy / tokens, 4)


def _mean(values: Sequence[float]) -> float:
    return round(sum(values) / len(values), 4)
