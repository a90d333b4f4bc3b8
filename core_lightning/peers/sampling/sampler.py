"""What a peer samples with: an engine, the weights it reads, and which state of the adapter it has."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

from core_lightning.peers.compute.head import LogitHead, half_head
from core_lightning.peers.config import GenerationSettings, PeerConfig
from core_lightning.peers.sampling.choice import make_engine
from core_lightning.peers.sampling.engine import Engine, Rig, SampledTokens
from core_lightning.peers.sampling.rollout_weights import RolloutWeights


class Sampler:
    """The sampling side of one peer.

    Args:
        rig: What an engine may use of the peer, with the head that scores.
        config: The peer's settings.
        backbone: The layers that copies are made of, where the settings ask for copies.

    Attributes:
        engine: What samples.
    """

    engine: Engine

    def __init__(self, rig: Rig, config: PeerConfig, backbone: Any) -> None:
        self._rig = rig
        self._settings = config.generation
        self._half = config.sampling_weights == "half"
        self._copies = None if config.sampling_weights == "own" else RolloutWeights(backbone, keep_half=self._half)
        self._recorded = config.generation.cuda_graphs and config.compute != "plain"
        self._synced: list[int] | None = None
        self._engine_for(rig.head)

    def _engine_for(self, head: LogitHead) -> None:
        self.engine = make_engine(self._settings, replace(self._rig, head=half_head(head) if self._half else head))

    @property
    def in_process(self) -> bool:
        """Whether samples come from the peer's own network, not from another process."""
        return self.engine.own

    def sync(self, state: list[int], save_adapter: Callable[[Path], None]) -> None:
        """Bring the adapter to the engine if it has changed since.

        Args:
            state: A number of each weight of the adapter that counts its changes.
            save_adapter: Writes the adapter into a folder in PEFT format.
        """
        if state != self._synced:
            self.engine.sync(save_adapter)
            self._synced = state

    def begin(
        self,
        prompts: Sequence[Sequence[int]],
        seeds: Sequence[Sequence[int]],
        settings: GenerationSettings,
        *,
        stays: bool = True,
    ) -> Callable[[], list[list[SampledTokens]]]:
        """Begin to sample, see :meth:`Engine.begin`.

        Args:
            prompts: Token ids of each prompt.
            seeds: For each prompt one seed per completion.
            settings: Temperature, nucleus, limits and stop strings.
            stays: The weights lie where they lay at the last call, so that what was recorded of it can be replayed.
        """
        if not self._recorded or not stays:
            settings = replace(settings, cuda_graphs=False)
        return self.engine.begin(prompts, seeds, settings)

    def weights(self, adapter: str | None) -> AbstractContextManager[None]:
        """Run the network from copies of its weights, if the settings ask for that; without gradients.

        Args:
            adapter: The adapter that is active; None if it is off.
        """
        return nullcontext() if self._copies is None else self._copies.running(adapter)

    def run_plainly(self) -> None:
        """Sample from the layers as they are, from now on: no copies, and nothing recorded."""
        self._copies, self._half, self._recorded = None, False, False
        if self.in_process:
            self._engine_for(self._rig.head)

    @contextmanager
    def with_head(self, head: LogitHead) -> Iterator[None]:
        """Draw by another head for a while; an engine in another process goes on with its own."""
        engine = self.engine
        if self.in_process:
            self._engine_for(head)
        try:
            yield
        finally:
            self.engine = engine
