"""Sources of problems: one data module each, with seeded disjoint splits, stateful loaders and a manifest."""

from core_lightning.data.aime import AIME
from core_lightning.data.errors import DataError
from core_lightning.data.gpqa import GPQA
from core_lightning.data.gsm8k import GSM8K
from core_lightning.data.hub import HubDataModule
from core_lightning.data.loader import ProblemLoader, TrainLoader
from core_lightning.data.math import MATH
from core_lightning.data.module import RescueDataModule
from core_lightning.data.nano import NanoTasks
from core_lightning.data.reasoning_gym import ReasoningGym, Task
from core_lightning.data.table import JsonLines, Table

__all__ = [
    "AIME",
    "GPQA",
    "GSM8K",
    "MATH",
    "DataError",
    "HubDataModule",
    "JsonLines",
    "NanoTasks",
    "ProblemLoader",
    "ReasoningGym",
    "RescueDataModule",
    "Table",
    "Task",
    "TrainLoader",
]
