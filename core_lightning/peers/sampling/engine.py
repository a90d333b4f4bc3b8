"""The interface of everything that samples: prompts in, token ids and log-probabilities out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from core_lightning.peers.compute.head import LogitHead
from core_lightning.peers.compute.paths import Paths
from core_lightning.peers.config import GenerationSettings


@dataclass(frozen=True)
class SampledTokens:
    """One sampled completion as token ids."""

    token_ids: list[int]
    """Exact ids, the end token included if one was sampled."""
    logprobs: list[float]
    """Of each id at the sampling temperature, see :class:`Engine`."""
    stopped: bool
    """An end token or a stop string ended it, not the token limit."""


@dataclass(frozen=True)
class Rig:
    """What an engine is given of its peer."""

    name: str
    """The peer's, for messages."""
    network: Any
    """The peer's transformers model with its head, adapter included."""
    head: LogitHead
    tokenizer: Any
    stop_ids: frozenset[int]
    """Token ids that end a completion."""
    source: str
    """Hub id or folder of the base model, for an engine that loads its own copy."""
    revision: str | None
    rank: int
    """Of the adapter."""
    paths: Paths
    """Short cuts of the network; the peer's own object, so what it switches off is off here."""


class Engine(ABC):
    """Samples completions of one peer.

    Whatever the engine, a completion's distribution is the peer's at the sampling temperature, cut to the nucleus; its
    log-probabilities are those of the full distribution at that temperature (of the nucleus, where :attr:`own` is off); its
    end token is among its ids.
    """

    own: bool = True
    """It runs the peer's own network; otherwise what it draws from is only nearly the peer's distribution."""

    @abstractmethod
    def sample(
        self, prompts: Sequence[Sequence[int]], seeds: Sequence[Sequence[int]], settings: GenerationSettings
    ) -> list[list[SampledTokens]]:
        """Completions of every prompt, one per seed, in order.

        Args:
            prompts: Token ids of each prompt.
            seeds: For each prompt one seed per completion.
            settings: Temperature, nucleus, limits and stop strings.
        """

    def sync(self, save_adapter: Callable[[Path], None]) -> None:  # noqa: B027
        """Bring the adapter's present weights to the engine; nothing to do for one that runs the peer's own network.

        Args:
            save_adapter: Writes the adapter into a folder in PEFT format.
        """
