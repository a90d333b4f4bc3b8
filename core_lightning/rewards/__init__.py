"""What a trace earns: one term per file, and their weighted sum with schedules over training."""

from core_lightning.rewards.correctness import Correctness
from core_lightning.rewards.cross_distance import CrossDistance
from core_lightning.rewards.distance import HybridDistance, StepDistances
from core_lightning.rewards.embedder import Embedder, HashingEmbedder, MiniLMEmbedder
from core_lightning.rewards.greedy_margin_diversity import GreedyMarginDiversity
from core_lightning.rewards.log_det_diversity import LogDetDiversity
from core_lightning.rewards.model import RewardModel, WeightedTerm, default_terms, merged_terms, published_terms
from core_lightning.rewards.rarity import Rarity
from core_lightning.rewards.rescue_bonus import RescueBonus
from core_lightning.rewards.term import RewardContext, RewardTerm
from core_lightning.schedule import Constant, Linear, Schedule, Step

__all__ = [
    "Constant",
    "Correctness",
    "CrossDistance",
    "Embedder",
    "GreedyMarginDiversity",
    "HashingEmbedder",
    "HybridDistance",
    "Linear",
    "LogDetDiversity",
    "MiniLMEmbedder",
    "Rarity",
    "RescueBonus",
    "RewardContext",
    "RewardModel",
    "RewardTerm",
    "Schedule",
    "Step",
    "StepDistances",
    "WeightedTerm",
    "default_terms",
    "merged_terms",
    "published_terms",
]
