"""The one final answer of a completion, and whether it equals the gold answer: exact, and without ever hanging a run."""

from core_lightning.answers.ballots import ballots
from core_lightning.answers.equality import canonical_answer, infer_kind
from core_lightning.answers.equations import Equation, false_equations, read_equations
from core_lightning.answers.extraction import extract_answer
from core_lightning.answers.hints import leaks_answer, remove_answer
from core_lightning.answers.statements import strip_think
from core_lightning.answers.verifier import Verdict, Verifier, default_verifier, is_correct
from core_lightning.answers.worker import WorkerStartError

__all__ = [
    "Equation",
    "Verdict",
    "Verifier",
    "WorkerStartError",
    "ballots",
    "canonical_answer",
    "default_verifier",
    "extract_answer",
    "false_equations",
    "infer_kind",
    "is_correct",
    "leaks_answer",
    "read_equations",
    "remove_answer",
    "strip_think",
]
