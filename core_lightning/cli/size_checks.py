"""Runs that would fill the memory or never end, refused by what they ask for."""

from __future__ import annotations

import os
from typing import Any

#: Sampled tokens of one training step, at most, above which nobody can have meant it: days on a machine of GPUs.
_MOST_TOKENS = 1_000_000_000
#: Bytes a sampled token takes while its step lasts: its id as a Python number, its log-probability, its text.
_TOKEN_BYTES = 64
#: With this variable a large run is tried anyway.
ANYWAY = "CORE_LIGHTNING_LARGE"


def memory() -> int:
    """Bytes of memory this machine has."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") if hasattr(os, "sysconf") else 1 << 62


def check_step(module: Any, batch_size: int) -> None:
    """Refuse a training step or an evaluation batch that cannot fit.

    Args:
        module: A :class:`~core_lightning.CollaborativeReasoningModule`; its peers need not be loaded.
        batch_size: Problems a step.

    Raises:
        ValueError: Names the settings, what they add up to, and the mend.
    """
    if os.environ.get(ANYWAY):
        return
    peers = list(module.peer_configs.values())
    longest = sum(c.generation.max_new_tokens for c in peers)
    rounds = module.rounds.k + (module.rounds.k_rescue if len(peers) > 1 else 0)
    traces = len(peers) * rounds
    for name, problems, samples, pairs in (
        ("rounds.k", batch_size * module.rollout.max_draws, rounds, traces**2 if module.rewards.needs_distance else 0),
        ("model.eval_samples", batch_size, module.eval_samples, 0),
    ):
        tokens = problems * samples * longest
        # Distances of the traces of a problem, in float64, and two more matrices on the way to them.
        needed = tokens * _TOKEN_BYTES + problems * pairs * 24
        if needed > memory():
            raise ValueError(
                f"{name} asks for up to {samples * len(peers):,} traces a problem and {tokens:,} tokens a step: about "
                f"{needed / 1e9:,.0f} GB, and this machine has {memory() / 1e9:,.0f}; lower it or data.batch_size "
                f"({ANYWAY}=1 tries anyway)"
            )
        if tokens > _MOST_TOKENS:
            raise ValueError(
                f"{name} asks for up to {tokens:,} sampled tokens a step; lower it, data.batch_size or "
                f"generation.max_new_tokens ({ANYWAY}=1 tries anyway)"
            )
