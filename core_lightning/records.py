"""The records that travel through one step: a problem, its traces, and the group they form.

Nothing here knows a model, a tokenizer or a trainer: a record holds what was asked, what was sampled and what came of it,
so that rewards, objectives, metrics and the trace log can all be tested on hand-written groups.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal

AnswerKind = Literal["number", "math", "choice", "text", "auto"]
Round = Literal["cold", "rescue", "greedy"]
"""The two rounds of the method; ``greedy`` is an evaluation's extra trace of the likeliest tokens."""


@dataclass(frozen=True, slots=True)
class Problem:
    """A question with its gold answer."""

    id: str
    """Unique over all splits of one data module."""
    question: str
    """What the peer reads, options of a multiple-choice problem included."""
    answer: str
    """Gold answer, in the form :func:`core_lightning.answers.is_correct` compares with; empty where it is unknown."""
    kind: AnswerKind = "number"
    """How answers are extracted and compared, and which answer format the prompt asks for."""
    source: str = ""
    """Data set or task the problem comes from, for reports by task."""
    chance: float = 0.0
    """Probability that one blind guess is right: 0.25 for four options, 0 for open answers."""
    metadata: Mapping[str, str] = field(default_factory=dict)
    """Anything worth a column in the trace log (subject, level, ...)."""
    choices: tuple[str, ...] = ()
    """Texts of the options in the order of their letters, the gold one in the place of ``answer``; empty without options."""

    @property
    def answer_forms(self) -> tuple[str, ...]:
        """What says the gold answer besides ``answer``: the text of the gold option.

        >>> Problem("1", "Even?", "B", kind="choice", choices=("3", "4")).answer_forms
        ('4',)
        """
        place = "ABCDEFGHIJ".find(self.answer.strip().upper()) if len(self.answer.strip()) == 1 else -1
        return self.choices[place : place + 1] if place >= 0 else ()

    @property
    def stem(self) -> str:
        """The question without the options that stand at its end.

        >>> Problem("1", "Is 4 even?\\n\\nA) no\\nB) yes", "B", kind="choice", choices=("no", "yes")).stem
        'Is 4 even?'
        """
        stem = self.question
        for choice in reversed(self.choices):
            place = stem.rfind(choice)
            stem = stem[:place] if place >= 0 else stem
        return re.sub(r"\s*\(?[A-J][).:]?\s*\Z", "", stem) if self.choices else stem


@dataclass(frozen=True, slots=True)
class Hint:
    """What a failed peer is shown: a teacher's derivation without its final answer."""

    text: str
    teacher: str
    """Name of the peer that wrote it."""
    teacher_index: int
    """Index of the teacher's trace among its cold traces."""
    leaks: bool
    """The gold value still stands in the text (hint leakage, which is measured and reported)."""


@dataclass(slots=True)
class Trace:
    """One sampled completion and everything later stages learn about it."""

    peer: str
    round: Round
    index: int
    """Position among the traces of the same peer and round, from 0."""
    prompt_ids: list[int]
    """Token ids of the prompt this trace was really sampled from (the hint included, if there was one)."""
    token_ids: list[int]
    """Exact sampled ids, the end-of-sequence token included if one was sampled."""
    text: str
    """Completion as text, without special tokens and without the stop string; behind the mark of a think block if the
    prompt ended in one."""
    truncated: bool
    """The token limit ended it: neither an end token nor a stop string was met."""
    answer: str | None = None
    """Extracted final answer, None when there is none or it is ambiguous."""
    correct: bool = False
    hint: Hint | None = None
    """The hint shown in this trace's prompt; always None in the cold round."""
    sampled_logprobs: list[float] | None = None
    """Log-probability of each sampled id at the sampling temperature, where the sampler recorded it."""
    redrawn: int | None = None
    """How many tokens were first drawn outside the nucleus (``top_p``) and then again, where the sampler says so."""
    temperature: float | None = None
    """Sampling temperature, where it was another than the peer's own (the rescue round may have one)."""
    flaw: str | None = None
    """Why a correct rescue is not faithful, in words; None for a faithful one and for every other trace."""
    terms: dict[str, float | None] = field(default_factory=dict)
    """Unweighted reward of every term by name; None where a term had no opinion."""
    reward: float = 0.0
    """Weighted sum of the terms; NaN when a weighted term had no opinion."""
    shaping: float = 0.0
    """The part of the reward that comes from shaping terms: diversity, rarity, rescue, cross distance."""
    advantage: float = 0.0
    signal: bool = False
    """Its reward differs from that of a trace it is compared with, by more than terms that only shade correctness."""
    masked: bool = False
    """It is left out of the loss."""


@dataclass(slots=True)
class Group:
    """Every trace of one problem: all peers, both rounds, in the order they were sampled."""

    problem: Problem
    traces: list[Trace] = field(default_factory=list)
    teachers: dict[str, list[Trace]] = field(default_factory=dict)
    """For each student the traces that can teach it, best first; the first one is shown as hint and imitated."""

    def __iter__(self) -> Iterator[Trace]:
        return iter(self.traces)

    def __len__(self) -> int:
        return len(self.traces)

    def of(self, peer: str | None = None, round: Round | None = None) -> list[Trace]:
        """Traces of one peer and/or one round, in sampling order."""
        return [t for t in self.traces if peer in (None, t.peer) and round in (None, t.round)]

    def peers(self) -> list[str]:
        """Names of the peers that have a trace here, in order of first appearance."""
        return list(dict.fromkeys(t.peer for t in self.traces))

    def solved(self, peer: str, round: Round = "cold") -> bool:
        """Whether any trace of the peer in this round is correct."""
        return any(t.correct for t in self.of(peer, round))

    def failed_cold(self, peer: str) -> bool:
        """Whether the peer sampled in the cold round and every one of its traces is wrong."""
        cold = self.of(peer, "cold")
        return bool(cold) and not any(t.correct for t in cold)

    def rescues(self, peer: str, *, faithful: bool = False) -> list[Trace]:
        """Correct traces that a peer sampled with a hint after all its cold traces had failed.

        Args:
            peer: Whose.
            faithful: Only those without a flaw.
        """
        if not self.failed_cold(peer):
            return []
        return [
            t
            for t in self.of(peer, "rescue")
            if t.correct and t.hint is not None and not (faithful and t.flaw is not None)
        ]

    def add(self, traces: Iterable[Trace]) -> None:
        """Append traces, keeping sampling order."""
        self.traces.extend(traces)
