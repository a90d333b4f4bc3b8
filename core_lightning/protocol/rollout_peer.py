"""What the rounds need of a peer, and how its work is seeded and shared out. No model code is known here."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from core_lightning.protocol.prompts import Prompt


@dataclass(frozen=True)
class Completion:
    """One sampled completion, as a peer hands it over."""

    token_ids: list[int]
    text: str
    truncated: bool
    logprobs: list[float] | None = None
    redrawn: int | None = None


class RolloutPeer(Protocol):
    """What the rounds need of a peer."""

    name: str

    def encode(self, prompt: Prompt) -> list[int]:
        """Token ids of a prompt."""

    def room(self) -> int:
        """Longest prompt in tokens."""

    def cut(self, text: str, tokens: int) -> str:
        """The text's longest beginning of at most so many of the peer's own tokens."""

    def encode_completion(self, text: str) -> list[int]:
        """Token ids of somebody else's completion as this peer would write it, its end included."""

    def in_own_words(self, text: str, prompt_ids: Sequence[int]) -> str:
        """Somebody else's completion as this peer would have written it behind a prompt: cut at its own stop."""

    def completion_room(self) -> int:
        """Longest completion in tokens."""

    def likelihoods(self, prompts: Sequence[list[int]], completions: Sequence[list[int]]) -> list[float]:
        """Mean log-probability per token of each completion under its prompt, in nats."""

    def begin(
        self,
        prompts: Sequence[list[int]],
        seeds: Sequence[Sequence[int]],
        *,
        temperature: float | None = None,
        top_p: float | None = None,
    ) -> Callable[[], list[list[Completion]]]:
        """Begin to sample completions of every prompt, one per seed; what is returned waits for them.

        Temperature and nucleus are the peer's own unless given.
        """


def trace_seed(*key: object) -> int:
    """63-bit seed of one trace, from (seed, epoch, problem, peer, round, index): no stream depends on another."""
    digest = hashlib.blake2b("\x1f".join(map(str, key)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


def in_turn(work: Callable[[RolloutPeer], Any], peers: Sequence[RolloutPeer]) -> list[Any]:
    """Apply ``work`` to one peer after the other."""
    return [work(peer) for peer in peers]
