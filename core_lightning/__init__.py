"""Two or more language models train together and teach each other to reason (CORE, arXiv 2601.21600).

Each model, a *peer*, solves a problem alone. One that failed is shown a part of another peer's right solution and tries
again. :class:`CollaborativeReasoningModule` is the LightningModule that runs this, :class:`RescueDataModule` brings the
problems, and :class:`PeerConfig` says which model a peer is. The parts of the method are in ``core_lightning.rewards``,
``.objectives``, ``.metrics``, ``.answers``, ``.data``, ``.callbacks`` and ``.protocol``.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from core_lightning.data import RescueDataModule
    from core_lightning.module import CollaborativeReasoningModule, SoloReasoningModule, TrioReasoningModule
    from core_lightning.peers import PeerConfig

# Loaded on first use, so that core_lightning.answers imports neither torch nor Lightning.
_WHERE = {
    "CollaborativeReasoningModule": "core_lightning.module",
    "PeerConfig": "core_lightning.peers",
    "RescueDataModule": "core_lightning.data",
    "SoloReasoningModule": "core_lightning.module",
    "TrioReasoningModule": "core_lightning.module",
}

__all__ = [
    "CollaborativeReasoningModule",
    "PeerConfig",
    "RescueDataModule",
    "SoloReasoningModule",
    "TrioReasoningModule",
    "__version__",
]


def __getattr__(name: str) -> Any:
    if name in _WHERE:
        return getattr(import_module(_WHERE[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
