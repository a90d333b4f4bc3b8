"""Which engine a setting names; each is imported when it is asked for, so an absent package breaks nothing else."""

from __future__ import annotations

from core_lightning.peers.sampling.engine import Engine, Rig


def make_engine(name: str, rig: Rig) -> Engine:
    """The engine that ``generation.engine`` names."""
    if name == "continuous":
        from core_lightning.peers.sampling.continuous import ContinuousEngine

        return ContinuousEngine(rig)
    if name == "vllm":
        from core_lightning.peers.sampling.vllm import VllmEngine

        return VllmEngine(rig)
    from core_lightning.peers.sampling.native import NativeEngine

    return NativeEngine(rig)
