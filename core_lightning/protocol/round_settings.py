"""How the two rounds run: how many traces, who is a student, who teaches, what a hint is."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, get_args

TeacherPolicy = Literal["quality", "total_reward", "correctness", "shortest", "round_robin"]
TieBreak = Literal["likelihood", "length"]
HintForm = Literal["full", "first_fraction", "key_lines"]


@dataclass(frozen=True)
class RoundSettings:
    """How the two rounds run. The defaults are this project's decisions; "published" marks the paper's value."""

    k: int = 2
    """Cold traces per peer and problem (published: 2)."""
    k_rescue: int = 1
    """Rescue traces per failed peer and problem (published: 1). 0 leaves the rescue round out."""
    students: Literal["failed", "all"] = "failed"
    """Who samples the rescue round. ``failed``: peers whose cold traces all failed. ``all``: every peer (the authors'
    code)."""
    hint_probability: float = 1.0
    """With ``students: all``, how often the hint is shown (the authors' code: 0.75)."""
    rescue_temperature: float | None = None
    """Sampling temperature of the rescue round; unset, the peer's own. Log-probabilities use the one that was sampled
    with."""
    rescue_top_p: float | None = None
    """Nucleus of the rescue round; unset, the peer's own."""
    teacher: TeacherPolicy = "quality"
    """Which correct cold trace of another peer teaches, as hint and for imitation alike. One that was cut off never does.
    ``quality``: it has a derivation, other correct traces agree with its steps, and among equals ``teacher_ties`` decides.
    ``total_reward`` (published): the highest reward. ``correctness``: the highest value of that term. ``shortest``: the
    fewest tokens. ``round_robin``: one of each peer in turn."""
    teacher_ties: TieBreak = "likelihood"
    """Among equals of ``quality``. ``likelihood``: the trace that the student itself finds likeliest, which costs a scoring
    pass. ``length``: the shortest."""
    teacher_equations: bool = True
    """A trace with a false equation never teaches (published: False)."""
    hint_tokens: int = 512
    """Longest hint, in the student's tokens."""
    hint_form: HintForm = "full"
    """What of the derivation is shown. ``full``: all of it. ``first_fraction``: its first part (``hint_fraction``).
    ``key_lines``: its lines that carry a computation."""
    hint_fraction: float = 0.5
    """With ``first_fraction`` or ``progressive``, the share of the derivation that is shown."""
    hint_think: bool = False
    """Keep a reasoning model's think block in the hint."""
    progressive: bool = False
    """A student first sees the first part of the derivation (``hint_fraction``), whatever ``hint_form`` says. If it fails
    with that, it tries once more with all of it."""

    def __post_init__(self) -> None:
        if self.k < 1:
            raise ValueError(f"rounds.k is {self.k}; a cold round needs 1 or more traces")
        if self.k_rescue < 0:
            raise ValueError(f"rounds.k_rescue is {self.k_rescue}; set 1 or more, or 0 for no rescue round")
        if self.students not in ("failed", "all"):
            raise ValueError(f"rounds.students is {self.students!r}; choose failed or all")
        if not 0 <= self.hint_probability <= 1:
            raise ValueError(f"rounds.hint_probability is {self.hint_probability}; set it in [0, 1]")
        if self.students == "failed" and self.hint_probability != 1:
            raise ValueError(
                "rounds.hint_probability only applies to students: all; set students: all or leave it at 1"
            )
        if self.rescue_temperature is not None and not 0 < self.rescue_temperature < math.inf:
            raise ValueError(f"rounds.rescue_temperature is {self.rescue_temperature}; set it above 0 or leave it out")
        if self.rescue_top_p is not None and not 0 < self.rescue_top_p <= 1:
            raise ValueError(f"rounds.rescue_top_p is {self.rescue_top_p}; set it in (0, 1] or leave it out")
        if self.teacher_ties not in get_args(TieBreak):
            raise ValueError(f"rounds.teacher_ties is {self.teacher_ties!r}; choose likelihood or length")
        if self.teacher not in get_args(TeacherPolicy):
            raise ValueError(f"rounds.teacher is {self.teacher!r}; choose one of {', '.join(get_args(TeacherPolicy))}")
        if self.hint_form not in get_args(HintForm):
            raise ValueError(f"rounds.hint_form is {self.hint_form!r}; choose one of {', '.join(get_args(HintForm))}")
        if self.hint_tokens < 1:
            raise ValueError(f"rounds.hint_tokens is {self.hint_tokens}; set it to 1 or more")
        if not 0 < self.hint_fraction <= 1:
            raise ValueError(f"rounds.hint_fraction is {self.hint_fraction}; set it in (0, 1]")
