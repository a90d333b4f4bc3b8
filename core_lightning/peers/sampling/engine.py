"""The interface of everything that samples: prompts in, token ids and log-probabilities out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
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
    redrawn: int | None = None
    """How many of its tokens were first drawn outside the nucleus and then again; None where the engine does not say."""


@dataclass(frozen=True)
class Rig:
    """What an engine may use of its peer."""

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
    """Which short cuts through the network are on. It is the peer's own object: what the peer switches off is off here."""


class Engine(ABC):
    """Samples completions of one peer.

    Every engine keeps three promises. A completion is drawn from the peer's distribution at the sampling temperature, cut to
    the nucleus. Its log-probabilities are those of the full distribution at that temperature; where :attr:`own` is False,
    those of the nucleus. Its end token is among its ids.
    """

    own: bool = True
    """True if it runs the peer's own network. False if what it draws from is only nearly the peer's distribution; the
    objective then weighs each token by its importance ratio."""

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

    def begin(
        self, prompts: Sequence[Sequence[int]], seeds: Sequence[Sequence[int]], settings: GenerationSettings
    ) -> Callable[[], list[list[SampledTokens]]]:
        """Begin to sample; what is returned waits for the completions. Until it was called the adapter must not move.

        An engine that runs the peer's own network only begins when it is waited for.
        """
        return partial(self.sample, prompts, seeds, settings)

    def give_up(self) -> None:  # noqa: B027
        """Leave off what was begun and nobody will wait for."""

    def sync(self, save_adapter: Callable[[Path], None]) -> None:  # noqa: B027
        """Bring the adapter's present weights to the engine. An engine that runs the peer's own network has nothing to do.

        Args:
            save_adapter: Writes the adapter into a folder in PEFT format.
        """
