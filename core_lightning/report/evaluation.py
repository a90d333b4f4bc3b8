"""The figures of one evaluation, each with its interval, from the cold traces of held-out problems."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Any, NotRequired, TypedDict

import torch
from torch import Tensor

from core_lightning.answers import infer_kind
from core_lightning.metrics import (
    agreement_gate,
    bootstrap_interval,
    chance_pass_at_k,
    collaboration_gain,
    difference_interval,
    error_overlap,
    majority_vote,
    pass_at_k,
    share_interval,
    team_pass_at_k,
)
from core_lightning.records import Group
from core_lightning.report.rescue_score import RescueScore, candidates, rescue_columns, score_rescue

RESAMPLES = 1000
#: Problems of all resamples that are looked at together, which bounds the memory.
_DRAWN_TOGETHER = 1_000_000


class Figure(TypedDict):
    """A value and its 95 % interval over problems; NaN where undefined."""

    value: float
    low: float
    high: float


class Evaluation(TypedDict):
    """One evaluation, as plain containers, because it travels in checkpoints."""

    step: int
    """Training steps the adapters had seen: 0 before training."""
    stage: str
    """``val`` or ``test``."""
    values: dict[str, Figure]
    ids: list[str]
    """Problem ids, sorted."""
    per_problem: dict[str, list[float]]
    """Scores by figure in the order of ``ids``, for paired differences."""
    labels: NotRequired[dict[str, list[str]]]
    """Source, subject, level, ... of every problem in the order of ``ids``, for tables by kind of problem."""
    sampling: NotRequired[dict[str, str]]
    """What the peers were sampled with, by the names of the settings, as text."""
    closing: NotRequired[bool]
    """Made at the end of a training that ended between two evaluations; a longer run does not have it."""


@dataclass(frozen=True)
class ProblemScore:
    """What one problem contributes. Lists hold one entry per peer."""

    id: str
    chance: float
    samples: list[int]
    correct: list[int]
    tokens: list[float]
    truncated: list[float]
    no_answer: list[float]
    vote: float
    accepted: float
    agreed: float
    labels: dict[str, str] = field(default_factory=dict)
    greedy: list[float] | None = None
    """Whether each peer's likeliest trace is correct, where one was sampled."""
    rescue: RescueScore | None = None
    """The same problem without and with a rescue round, where there was one."""


def score_problem(group: Group, peers: Sequence[str], k: int, rescue: bool = False) -> ProblemScore:
    """Reduce one group to its counts; votes are taken among the first ``k`` cold traces of each peer.

    Args:
        group: All traces of a problem.
        peers: Names.
        k: Samples allowed to each peer.
        rescue: The evaluation has a rescue round; whether this problem had a use for it or not.
    """
    kind = infer_kind(group.problem.answer) if group.problem.kind == "auto" else group.problem.kind
    cold = [group.of(peer, "cold") for peer in peers]
    answers = candidates([traces[:k] for traces in cold], kind)
    correct = [[t.correct for t in traces[:k]] for traces in cold]
    accepted, agreed = agreement_gate(answers, correct)
    return ProblemScore(
        id=group.problem.id,
        chance=group.problem.chance,
        samples=[len(traces) for traces in cold],
        correct=[sum(t.correct for t in traces) for traces in cold],
        tokens=[_mean([len(t.token_ids) for t in traces]) for traces in cold],
        truncated=[_mean([t.truncated for t in traces]) for traces in cold],
        no_answer=[_mean([t.answer is None for t in traces]) for traces in cold],
        vote=majority_vote([*chain(*answers)], [*chain(*correct)]),
        accepted=accepted,
        agreed=agreed,
        labels={"source": group.problem.source, **group.problem.metadata},
        greedy=[float(group.solved(p, "greedy")) for p in peers] if group.of(round="greedy") else None,
        rescue=score_rescue(group, peers, k, kind) if rescue else None,
    )


def figure_names(peers: Sequence[str], k: int) -> set[str]:
    """Names of the figures :func:`evaluate` gives for a team."""
    each, one = [0] * len(peers), [0.0] * len(peers)
    score = ProblemScore("", 0.0, [k * len(peers)] * len(peers), each, one, one, one, 0.0, 0.0, 0.0)
    return set(evaluate([score], peers, k, 0, "val")["values"])


def evaluate(scores: Sequence[ProblemScore], peers: Sequence[str], k: int, step: int, stage: str) -> Evaluation:
    """All figures of an evaluation.

    Per peer ``<peer>/pass_at_1``, ``<peer>/pass_at_<k>``, at the team's budget ``<peer>/pass_at_<M*k>`` (NaN with fewer
    samples than that), ``completion_tokens``, ``truncated`` and ``no_answer``; for the team ``team_pass_at_<k>``,
    ``majority_vote``, ``all_fail``, and the chance levels of 1, k and M*k blind guesses, ``chance_pass_at_<n>``. With
    two peers or more also ``equal_budget`` (the best single peer at M*k), ``collaboration_gain``,
    ``agreement_accuracy``, ``agreement_coverage`` and ``phi``. Where it was sampled, ``<peer>/greedy_pass_at_1``; where
    there was a rescue round, ``without_rescue/...`` and ``with_rescue/...`` (:mod:`core_lightning.report.rescue_score`),
    ``rescue_rate``, ``faithful_rescue_rate`` and ``hinted_pairs``.

    Args:
        scores: Problems, each once.
        peers: Names, in the order of the scores' lists.
        k: Samples allowed to each peer.
        step: Training steps so far.
        stage: ``val`` or ``test``.
    """
    scores = sorted(scores, key=lambda s: s.id)  # the resamples do not depend on how ranks shared the problems
    budget = len(peers) * k
    n, c = torch.tensor([s.samples for s in scores]), torch.tensor([s.correct for s in scores])
    columns: dict[str, Tensor] = {}
    singles = []
    for i, peer in enumerate(peers):
        for allowed in dict.fromkeys((1, k, budget)):
            columns[f"{peer}/pass_at_{allowed}"] = _pass_at(n[:, i], c[:, i], allowed)
        singles.append(columns[f"{peer}/pass_at_{budget}"])
        for name in ("tokens", "truncated", "no_answer"):
            key = "completion_tokens" if name == "tokens" else name
            columns[f"{peer}/{key}"] = torch.tensor([getattr(s, name)[i] for s in scores], dtype=torch.float64)
        if all(s.greedy is not None for s in scores):
            known = [s.greedy[i] for s in scores if s.greedy is not None]
            columns[f"{peer}/greedy_pass_at_1"] = torch.tensor(known, dtype=torch.float64)
    team = team_pass_at_k(n, c, k)
    columns[f"team_pass_at_{k}"] = team
    columns["majority_vote"] = torch.tensor([s.vote for s in scores], dtype=torch.float64)
    columns["all_fail"] = (c == 0).all(1).double()
    for allowed in dict.fromkeys((1, k, budget)):
        guesses = [chance_pass_at_k(s.chance, allowed) for s in scores]
        columns[f"chance_pass_at_{allowed}"] = torch.tensor(guesses, dtype=torch.float64)
    if len(peers) > 1:
        baselines = torch.stack(singles, 1)
        gain = collaboration_gain(team, baselines)
        columns["equal_budget"] = team - gain
        columns["collaboration_gain"] = gain
    values = {name: mean_figure(column, paired=name == "collaboration_gain") for name, column in columns.items()}
    for name in columns:
        if name.startswith("chance_"):  # known, not estimated
            values[name] |= {"low": values[name]["value"], "high": values[name]["value"]}
    if len(peers) > 1:
        accepted = torch.tensor([s.accepted for s in scores], dtype=torch.float64)
        agreed = torch.tensor([s.agreed for s in scores], dtype=torch.float64)
        low, high = share_interval(agreed, accepted)
        values["agreement_accuracy"] = Figure(value=float(agreed.sum() / accepted.sum()), low=low, high=high)
        values["agreement_coverage"] = mean_figure(accepted)
        values["phi"] = _phi(c == 0)
    if len(peers) > 1 and all(s.rescue is not None for s in scores):
        rescues = [s.rescue for s in scores if s.rescue is not None]
        for name, column in rescue_columns(rescues, peers).items():
            columns[name] = column
            values[name] = mean_figure(column)
        for when in ("without_rescue", "with_rescue"):
            sides = [getattr(r, when) for r in rescues]
            accepted = torch.tensor([s.accepted for s in sides], dtype=torch.float64)
            agreed = torch.tensor([s.agreed for s in sides], dtype=torch.float64)
            low, high = share_interval(agreed, accepted)
            values[f"{when}/agreement_accuracy"] = Figure(
                value=float(agreed.sum() / accepted.sum()), low=low, high=high
            )
            values[f"{when}/phi"] = _phi(torch.tensor([s.solved for s in sides]) == 0)
        values |= rescue_rate_figures(rescues)
    return Evaluation(
        step=step,
        stage=stage,
        values=values,
        ids=[s.id for s in scores],
        per_problem={name: column.tolist() for name, column in columns.items()},
        labels={
            name: [s.labels.get(name, "") for s in scores] for name in dict.fromkeys(chain(*(s.labels for s in scores)))
        },
    )


def rescue_rate_figures(rescues: Sequence[RescueScore]) -> dict[str, Figure]:
    """Shares of the hinted pairs that were rescued, and faithfully rescued; and how many pairs of a problem were hinted."""
    hinted, rescued, faithful = (
        torch.tensor([float(getattr(r, name)) for r in rescues], dtype=torch.float64)
        for name in ("hinted", "rescued", "faithful")
    )
    figures = {}
    for name, part in (("rescue_rate", rescued), ("faithful_rescue_rate", faithful)):
        low, high = share_interval(part, hinted)
        figures[name] = Figure(value=float(part.sum() / hinted.sum()), low=low, high=high)
    total = float(hinted.sum())
    return figures | {"hinted_pairs": Figure(value=total, low=total, high=total)}


def mean_figure(column: Tensor, paired: bool = False) -> Figure:
    """Mean of ``Tensor[problems]`` with its interval; NaN as soon as one score is.

    Shares have a Wilson interval, differences of shares one made of it, everything else (tokens) a bootstrap.
    """
    value = float(column.double().mean())
    if not math.isfinite(value):
        return Figure(value=math.nan, low=math.nan, high=math.nan)
    if bool((column >= 0).all() and (column <= 1).all()) and not paired:
        low, high = share_interval(column)
    elif bool((column.abs() <= 1).all()):
        low, high = difference_interval(column)
    else:
        low, high = bootstrap_interval(column, resamples=RESAMPLES)
    return Figure(value=value, low=low, high=high)


def difference(before: Evaluation, after: Evaluation, name: str) -> Figure:
    """Change of a mean figure, with a paired interval when both evaluations are over the same problems."""
    if name in before["per_problem"] and name in after["per_problem"] and before["ids"] == after["ids"]:
        old, new = (torch.tensor(e["per_problem"][name], dtype=torch.float64) for e in (before, after))
        return mean_figure(new - old, paired=True)
    value = after["values"][name]["value"] - before["values"][name]["value"]
    return Figure(value=value, low=math.nan, high=math.nan)


def _pass_at(n: Tensor, c: Tensor, k: int) -> Tensor:
    return pass_at_k(n, c, k) if int(n.min()) >= k else torch.full(n.shape, math.nan, dtype=torch.float64)


def _phi(failed: Tensor) -> Figure:
    generator = torch.Generator().manual_seed(0)
    problems = len(failed)
    together = max(1, _DRAWN_TOGETHER // max(problems, 1))
    found = []
    for begin in range(0, RESAMPLES, together):
        count = min(together, RESAMPLES - begin)
        drawn = torch.stack([torch.randint(problems, (problems,), generator=generator) for _ in range(count)])
        found.append(error_overlap(failed[drawn])["phi"])
    resampled = torch.cat(found)
    low, high = resampled.nanquantile(torch.tensor([0.025, 0.975], dtype=torch.float64)).tolist()
    return Figure(value=float(error_overlap(failed)["phi"]), low=low, high=high)


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else math.nan


def sampled_k(evaluation: Evaluation) -> int:
    """The k that an evaluation was made with."""
    return next(int(m[1]) for n in evaluation["values"] if (m := re.fullmatch(r"team_pass_at_(\d+)", n)))


def as_json(value: Any) -> Any:
    """Plain data with null where a number is not finite, which JSON has no word for."""
    if isinstance(value, dict):
        return {name: as_json(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [as_json(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def from_json(data: dict[str, Any]) -> Evaluation:
    """An evaluation that :func:`as_json` made plain: null is a number that is not finite."""

    def number(value: Any) -> float:
        return math.nan if value is None else float(value)

    read: Any = dict(data)
    read["values"] = {n: {part: number(v) for part, v in figure.items()} for n, figure in data["values"].items()}
    read["per_problem"] = {name: [number(v) for v in scores] for name, scores in data["per_problem"].items()}
    return read
