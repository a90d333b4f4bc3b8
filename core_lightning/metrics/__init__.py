"""Metrics of a team, each a pure function and a ``torchmetrics.Metric`` whose states are sums; intervals over problems."""

from core_lightning.metrics.interval import (
    bootstrap_interval,
    bootstrap_ratio_interval,
    difference_interval,
    share_interval,
)
from core_lightning.metrics.overlap import ErrorOverlap, error_overlap
from core_lightning.metrics.pass_at_k import (
    PassAtK,
    TeamPassAtK,
    chance_pass_at_k,
    collaboration_gain,
    pass_at_k,
    team_pass_at_k,
)
from core_lightning.metrics.rescue import RescueRate, rescue_rate
from core_lightning.metrics.voting import AgreementGate, MajorityVote, agreement_gate, majority_vote

__all__ = [
    "AgreementGate",
    "ErrorOverlap",
    "MajorityVote",
    "PassAtK",
    "RescueRate",
    "TeamPassAtK",
    "agreement_gate",
    "bootstrap_interval",
    "bootstrap_ratio_interval",
    "chance_pass_at_k",
    "collaboration_gain",
    "difference_interval",
    "error_overlap",
    "majority_vote",
    "pass_at_k",
    "rescue_rate",
    "share_interval",
    "team_pass_at_k",
]
