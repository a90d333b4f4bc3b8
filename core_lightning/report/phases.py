"""Mean seconds of each phase of a step, for the time table and its figure."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

#: In the order of a step. Of the first kind every peer has its own, the second is done for all of them at once.
PHASES = ("sample", "rescue", "verify", "embed", "reward", "score", "backward", "step")
PEER_PHASES = ("sample", "rescue", "score", "backward")
TEAM_PHASES = tuple(phase for phase in PHASES if phase not in PEER_PHASES)


def phase_seconds(columns: Mapping[str, Sequence[float]]) -> dict[str, dict[str, float]]:
    """Mean seconds per step by phase, and within it by peer; work done for all peers at once goes under an empty name.

    The phase ``other`` is what no stopwatch saw. Phases of peers that work at the same time add up to more than the
    step.
    """
    seconds: dict[str, dict[str, float]] = {}
    for name, column in columns.items():
        if name.startswith("time/") and name != "time/total":
            phase, _, peer = name.removeprefix("time/").partition("/")
            seconds.setdefault(phase, {})[peer] = _total(column) / max(len(column), 1)
    spent = sum(sum(by_peer.values()) for by_peer in seconds.values())
    total = columns.get("time/total", [])
    if total and (rest := _total(total) / len(total) - spent) > 0:
        seconds["other"] = {"": rest}
    known = [phase for phase in PHASES if phase in seconds]
    return {phase: seconds[phase] for phase in [*known, *(p for p in seconds if p not in known)]}


def _total(column: Sequence[float]) -> float:
    return math.fsum(v for v in column if math.isfinite(v))
