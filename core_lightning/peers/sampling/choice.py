"""Which engine the settings name; each is imported when it is asked for, so an absent package breaks nothing else."""

from __future__ import annotations

from core_lightning.peers.config import GenerationSettings, PeerConfig
from core_lightning.peers.sampling.engine import Engine, Rig


def make_engine(generation: GenerationSettings, rig: Rig) -> Engine:
    """The engine that ``generation.engine`` names."""
    if generation.engine == "vllm":
        from core_lightning.peers.sampling.vllm import VllmEngine

        return VllmEngine(rig, generation)
    if generation.engine == "server":
        from core_lightning.peers.sampling.server import ServerEngine

        return ServerEngine(rig, generation)
    from core_lightning.peers.sampling.native import NativeEngine

    return NativeEngine(rig)


def check_engine(name: str, config: PeerConfig) -> None:
    """Refuse an engine that can be known not to work, before any model is loaded.

    Args:
        name: The peer's name.
        config: Its settings.

    Raises:
        ServerError: The server is away, or serves another model.
    """
    if config.generation.engine == "server":
        from core_lightning.peers.sampling.server import check_server

        check_server(name, config)
