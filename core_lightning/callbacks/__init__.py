"""What a run leaves behind: evaluations, rescue rates, traces, metrics, checkpoints, tables and a report."""

from core_lightning.callbacks.adapter_checkpoint import AdapterCheckpoint
from core_lightning.callbacks.evaluation_folder import EvaluationFolder
from core_lightning.callbacks.learning_watch import LearningWatch
from core_lightning.callbacks.metrics_csv import MetricsCsv
from core_lightning.callbacks.rescue_progress_bar import RescueProgressBar
from core_lightning.callbacks.rescue_rate import RescueRateCallback
from core_lightning.callbacks.run_config import RunConfig
from core_lightning.callbacks.run_folder import RunFolder, RunFolderError, check_run_folder, claim
from core_lightning.callbacks.run_report import RunReport
from core_lightning.callbacks.run_summary import RunSummary
from core_lightning.callbacks.team_pass_at_k import TeamPassAtKCallback
from core_lightning.callbacks.trace_log import TraceLog
from core_lightning.callbacks.tracker_media import TrackerMedia
from core_lightning.callbacks.trackio_logger import TrackioLogger

__all__ = [
    "AdapterCheckpoint",
    "EvaluationFolder",
    "LearningWatch",
    "MetricsCsv",
    "RescueProgressBar",
    "RescueRateCallback",
    "RunConfig",
    "RunFolder",
    "RunFolderError",
    "RunReport",
    "RunSummary",
    "TeamPassAtKCallback",
    "TraceLog",
    "TrackerMedia",
    "TrackioLogger",
    "check_run_folder",
    "claim",
]
