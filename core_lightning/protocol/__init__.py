"""Problem, trace and group, and the two rounds in which peers teach each other. No model code, no trainer."""

from core_lightning.records import AnswerKind, Group, Hint, Problem, Round, Trace

__all__ = ["AnswerKind", "Group", "Hint", "Problem", "Round", "Trace"]
