"""Models as they are, before any step: which problems they solve, and what their rescues are worth, to be read."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import torch

from benchmarks.learning.arms import ARMS
from benchmarks.learning.pairs import Pair
from benchmarks.learning.templates import known, problems_of
from benchmarks.learning.training import evaluate, make_module
from core_lightning.metrics import team_pass_at_k
from core_lightning.records import Group, Trace


@dataclass(frozen=True)
class FirstRounds:
    """What both rounds gave, each figure over the problems of one team."""

    problems: int
    pass_at_1: dict[str, float]
    """Share of right cold traces of each peer."""
    team_pass_at_2: float
    """Share of problems solved by a trace each of two peers, or two of one: the mean over all draws."""
    hints: int
    """Pairs of a problem and a peer that failed it and was shown a hint."""
    rescued: int
    """Of these, how many gave a right rescue."""
    faithful: int
    """Of these, how many gave one without a flaw."""
    leaking: int
    """Hints in which the answer still stands."""
    copies: int
    """Faithful rescues that are, word for word, the trace the hint was taken from."""

    @classmethod
    def of(cls, groups: Sequence[Group], peers: Sequence[str]) -> FirstRounds:
        """Count them."""
        cold = [{peer: group.of(peer, "cold") for peer in peers} for group in groups]
        k = len(cold[0][peers[0]])
        right = torch.tensor([[sum(t.correct for t in traces[peer]) for peer in peers] for traces in cold])
        shown = [(g, p, g.of(p, "rescue")) for g in groups for p in peers if g.of(p, "rescue")]
        return cls(
            len(groups),
            {peer: float(right[:, i].double().mean() / k) for i, peer in enumerate(peers)},
            float(team_pass_at_k(k, right, 2).mean()),
            len(shown),
            sum(bool(group.rescues(peer)) for group, peer, _ in shown),
            sum(bool(group.rescues(peer, faithful=True)) for group, peer, _ in shown),
            sum(traces[0].hint is not None and traces[0].hint.leaks for _, _, traces in shown),
            sum(any(_is_copy(t, group) for t in group.rescues(peer, faithful=True)) for group, peer, _ in shown),
        )

    def __str__(self) -> str:
        rates = ", ".join(f"{peer} {100 * rate:.1f} %" for peer, rate in self.pass_at_1.items())
        hints = max(self.hints, 1)
        return (
            f"{self.problems} problems. Pass@1: {rates}. Team Pass@2: {100 * self.team_pass_at_2:.1f} %.\n"
            f"{self.hints} hints: {self.rescued} rescued ({100 * self.rescued / hints:.0f} %), {self.faithful} of these "
            f"faithfully ({100 * self.faithful / max(self.rescued, 1):.0f} %); the answer stands in {self.leaking} hints.\n"
            f"{self.copies} of the faithful rescues are the trace that the hint was taken from, word for word."
        )


def _is_copy(rescue: Trace, group: Group) -> bool:
    hint = rescue.hint
    assert hint is not None
    written = [t.text.strip() for t in group.of(hint.teacher, "cold") if t.index == hint.teacher_index]
    return rescue.text.strip() in written


def first_rounds(pair: Pair, problems: int, accelerator: str = "cpu", seed: int = 0) -> tuple[FirstRounds, list[Group]]:
    """Play both rounds of the default arm on training problems, without a step.

    Args:
        pair: Models and data.
        problems: How many training problems.
        accelerator: Of the trainer.
        seed: Of the samples.
    """
    arm = ARMS["default_derived"]
    peers = pair.peers(0)
    module = make_module(pair, arm, peers, seed, pair.lr, eval_samples=arm.rounds.k, eval_rescue=True)
    groups = evaluate(module, pair.data().splits["train"][:problems], accelerator)
    return FirstRounds.of(groups, list(peers)), groups


def screen(pair: Pair, peer: str, problems: int, samples: int, accelerator: str, file: Path) -> None:
    """Write how often a peer solves each template as it is, ``{template: [right samples, samples]}``.

    Args:
        pair: Whose prompt and settings are used.
        peer: One of its peers.
        problems: Problems of a template.
        samples: Of a problem.
        accelerator: Of the trainer.
        file: Written after every ten templates.
    """
    module = make_module(pair, ARMS["solo"], {peer: pair.peers(0)[peer]}, 0, pair.lr, eval_samples=samples)
    counts: dict[int, list[int]] = {}
    numbers = known()
    for first in range(0, len(numbers), 10):
        some = [p for n in numbers[first : first + 10] for p in islice(problems_of(n), problems)]
        for group in evaluate(module, some, accelerator):
            count = counts.setdefault(int(group.problem.source.rsplit("/", 1)[-1]), [0, 0])
            count[0] += sum(trace.correct for trace in group)
            count[1] += len(group)
        file.write_text(json.dumps(counts) + "\n")


def write_rescues(groups: Sequence[Group], number: int, file: Path, said: str) -> None:
    """Some right rescues, drawn at random, with what they were shown, to be read by a person."""
    rescues = [(group, trace) for group in groups for trace in group.of(round="rescue") if trace.correct]
    chosen = random.Random(0).sample(rescues, min(number, len(rescues)))
    parts = [said, *(_rescue(i, *found) for i, found in enumerate(chosen, start=1))]
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("\n\n".join(parts) + "\n", encoding="utf-8")


def _rescue(number: int, group: Group, trace: Trace) -> str:
    assert trace.hint is not None
    lines: list[tuple[str, Any]] = [
        ("question", group.problem.question),
        ("answer", group.problem.answer),
        ("hint", trace.hint.text + (" (leaks)" if trace.hint.leaks else "")),
        ("rescue", trace.text.strip()),
        ("faithful", "yes" if trace.flaw is None else f"no: {trace.flaw}"),
        ("cold", " | ".join(t.text.strip() for t in group.of(trace.peer, "cold"))),
    ]
    return "\n".join([f"{number}. {trace.peer}", *(f"   {name}: {value}" for name, value in lines)])
