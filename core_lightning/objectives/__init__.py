"""From rewards to a loss: group advantages, and policy objectives as pure functions of tensors."""

from core_lightning.objectives.advantages import GroupBy, coverage_weights, group_advantages, group_ids, no_signal
from core_lightning.objectives.cispo import CISPO
from core_lightning.objectives.dapo import DAPO
from core_lightning.objectives.dr_grpo import DrGRPO
from core_lightning.objectives.grpo import GRPO
from core_lightning.objectives.gspo import GSPO
from core_lightning.objectives.kl import KLEstimator, kl_estimate
from core_lightning.objectives.normalization import Totals
from core_lightning.objectives.objective import Objective
from core_lightning.objectives.off_policy import OffPolicy, off_policy_report, truncated_importance
from core_lightning.objectives.sapo import SAPO
from core_lightning.objectives.supervised import bounded_importance_nll, nll

__all__ = [
    "CISPO",
    "DAPO",
    "GRPO",
    "GSPO",
    "SAPO",
    "DrGRPO",
    "GroupBy",
    "KLEstimator",
    "Objective",
    "OffPolicy",
    "Totals",
    "bounded_importance_nll",
    "coverage_weights",
    "group_advantages",
    "group_ids",
    "kl_estimate",
    "nll",
    "no_signal",
    "off_policy_report",
    "truncated_importance",
]
