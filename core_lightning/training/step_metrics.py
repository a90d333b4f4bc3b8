"""What is logged of a training step: per peer and for the team, first of one process, then of all."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch

from core_lightning.records import Group, Trace
from core_lightning.report.phases import PEER_PHASES, TEAM_PHASES
from core_lightning.training.ranks import Count, Figure, Mean, combined

OF_THE_POLICY = ("kl", "entropy", "clip_fraction", "ratio")
OFF_POLICY = ("off_policy_ratio", "off_policy_ratio_p99", "off_policy_truncated")


@dataclass
class StepRecord:
    """What the last training step did, for callbacks."""

    step: int = -1
    groups: list[Group] = field(default_factory=list)
    metrics: dict[str, float] = field(default_factory=dict)


def step_metrics(
    groups: Sequence[Group],
    peers: Sequence[str],
    terms: Mapping[str, float],
    updates: Mapping[str, Mapping[str, float]],
    seconds: Mapping[str, float],
) -> dict[str, Figure]:
    """Flat metrics of one step, of this process, to be combined with those of the others.

    Args:
        groups: The step's scored groups.
        peers: Names of all peers, so that every step has the same keys.
        terms: Reward statistics by ``<term>/<statistic>``.
        updates: Each peer's loss, gradient norm, number of imitated traces and objective diagnostics, and the tokens that
            these are means over.
        seconds: Wall-clock seconds by ``<phase>`` or ``<phase>/<peer>``.

    Returns:
        ``train/...`` for the team, ``train/<peer>/...`` for each peer, ``reward/...`` and ``time/...``. A mean over
        nothing (the accuracy of a step without a problem) has a count of 0.
    """
    pairs = {peer: rescue_pairs(groups, peer) for peer in peers}
    metrics = _rescued("train", [pair for own in pairs.values() for pair in own])
    metrics["train/hint_leakage"] = _mean([t.hint.leaks for g in groups for t in g if t.hint is not None])
    solved = [any(t.correct for t in g.of(round="cold")) for g in groups]
    metrics["train/team_solved"] = _mean(solved)
    metrics["train/all_fail"] = _mean([not one for one in solved])
    metrics["train/traces"] = Count(sum(map(len, groups)))
    for peer in peers:
        own = [t for g in groups for t in g.of(peer)]
        cold = [t for t in own if t.round == "cold"]
        prefix = f"train/{peer}"
        metrics[f"{prefix}/accuracy"] = _mean([t.correct for t in cold])
        metrics |= _rescued(prefix, pairs[peer])
        metrics[f"{prefix}/reward"] = _mean([t.reward for t in own if not math.isnan(t.reward)])
        metrics[f"{prefix}/no_signal"] = _mean([not any(t.signal for t in g.of(peer)) for g in groups if g.of(peer)])
        metrics[f"{prefix}/no_answer"] = _mean([t.answer is None for t in own])
        metrics[f"{prefix}/completion_tokens"] = _mean([len(t.token_ids) for t in own])
        metrics[f"{prefix}/truncated"] = _mean([t.truncated for t in own])
        metrics[f"{prefix}/sampled_nll"] = _sampled_nll(own)
        metrics[f"{prefix}/outside_nucleus"] = _outside_nucleus(own)
        spent = seconds.get(f"sample/{peer}", 0.0) + seconds.get(f"rescue/{peer}", 0.0)
        # Processes sample at the same time, so their rates add up.
        metrics[f"{prefix}/tokens_per_second"] = Count(_ratio(sum(len(t.token_ids) for t in own), spent))
        update = updates.get(peer, {})
        for name in ("loss", "grad_norm", "imitated"):
            metrics[f"{prefix}/{name}"] = update.get(name, math.nan)
        for tokens, names in (("rescue_tokens", ("reliance",)), ("policy_tokens", (*OF_THE_POLICY, *OFF_POLICY))):
            for name in names:
                count = update.get(tokens, 0.0) if name in update else 0.0
                metrics[f"{prefix}/{name}"] = Mean(update.get(name, math.nan) * count, count)
    for name, value in terms.items():
        term, statistic = name.rsplit("/", 1)
        of_traces = sum(t.terms[term] is not None for g in groups for t in g)
        count = len(groups) if statistic == "zero_groups" else of_traces
        metrics[f"reward/{name}"] = Mean(value * count, count)
    # All phases, also those that did not happen: ranks must log the same keys.
    phases = [*TEAM_PHASES, *(f"{phase}/{peer}" for peer in peers for phase in PEER_PHASES)]
    metrics.update({f"time/{phase}": seconds.get(phase, 0.0) for phase in phases})
    return metrics


def of_all_processes(metrics: Mapping[str, Figure], device: torch.device) -> dict[str, float]:
    """The step's metrics over all processes, which must all call this.

    Args:
        metrics: Of this process.
        device: Where the exchange takes place.

    Returns:
        The same names. Rescue rates are those of the summed counts.
    """
    numbers = combined(metrics, device)
    return numbers | _rescue_rates(numbers)


def _rescue_rates(metrics: Mapping[str, float]) -> dict[str, float]:
    """Rates of the team and of each peer, from their counts; NaN without a hint.

    ``rescue_rate`` is rescued over hinted pairs, ``faithful_rate`` faithfully rescued over hinted pairs, and
    ``faithful_share`` faithfully rescued over rescued ones; ``clean_rescue_rate`` and ``clean_faithful_rate`` count only
    hints without the gold value.
    """
    prefixes = [
        name.removesuffix("/hints") for name in metrics if name.startswith("train/") and name.endswith("/hints")
    ]
    parts = {
        "rescue_rate": ("rescues", "hints"),
        "faithful_rate": ("faithful_rescues", "hints"),
        "faithful_share": ("faithful_rescues", "rescues"),
        "clean_rescue_rate": ("clean_rescues", "clean_hints"),
        "clean_faithful_rate": ("clean_faithful_rescues", "clean_hints"),
    }
    return {
        f"{p}/{rate}": _ratio(metrics[f"{p}/{part}"], metrics[f"{p}/{whole}"])
        for p in prefixes
        for rate, (part, whole) in parts.items()
    }


@dataclass(frozen=True)
class RescuePair:
    """What came of one (problem, peer) pair that had failed cold and saw a hint."""

    rescued: bool
    """Some rescue trace is correct."""
    faithful: bool
    """Some correct rescue trace has no flaw."""
    leaks: bool
    """The gold value stood in the hint."""


def rescue_pairs(groups: Sequence[Group], peer: str | None = None) -> list[RescuePair]:
    """Every hinted pair of a step, of one peer or of all."""
    pairs = []
    for group in groups:
        for name in group.peers():
            shown = [t.hint for t in group.of(name, "rescue") if t.hint is not None]
            if peer in (None, name) and shown and group.failed_cold(name):
                pairs.append(
                    RescuePair(
                        group.solved(name, "rescue"),
                        bool(group.rescues(name, faithful=True)),
                        any(hint.leaks for hint in shown),
                    )
                )
    return pairs


def _rescued(prefix: str, pairs: Sequence[RescuePair]) -> dict[str, Figure]:
    counts: dict[str, Figure] = {}
    for mark, counted in (("", pairs), ("clean_", [p for p in pairs if not p.leaks])):
        counts[f"{prefix}/{mark}hints"] = Count(len(counted))
        counts[f"{prefix}/{mark}rescues"] = Count(sum(p.rescued for p in counted))
        counts[f"{prefix}/{mark}faithful_rescues"] = Count(sum(p.faithful for p in counted))
    # The rates have their place beside their counts; they are divided when these are those of all processes.
    return counts | dict.fromkeys(_rescue_rates(dict.fromkeys(counts, 0.0)), math.nan)


def _sampled_nll(traces: Sequence[Trace]) -> Mean:
    values = [-v for t in traces for v in t.sampled_logprobs or ()]
    return _mean(values)


def _outside_nucleus(traces: Sequence[Trace]) -> Mean:
    """Estimated without bias: each token is first drawn from the whole distribution."""
    told = [t for t in traces if t.redrawn is not None]
    return Mean(sum(t.redrawn or 0 for t in told), sum(len(t.token_ids) for t in told))


def _mean(values: Sequence[float]) -> Mean:
    return Mean(sum(values), len(values))


def _ratio(part: float, whole: float) -> float:
    return part / whole if whole else math.nan
