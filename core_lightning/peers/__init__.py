"""One language model of the team: settings, loading, sampling, scoring, adapters."""

from core_lightning.peers.config import GenerationSettings, LoraSettings, PeerConfig
from core_lightning.peers.peer import Peer, PeerSourceError

__all__ = ["GenerationSettings", "LoraSettings", "Peer", "PeerConfig", "PeerSourceError"]
