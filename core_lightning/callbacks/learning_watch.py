"""A warning when a run learns nothing, with the setting that is the likely reason."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any

from lightning.pytorch import Callback, Trainer
from lightning.pytorch.utilities import rank_zero_warn

Shares = Mapping[str, float]


class LearningWatch(Callback):
    """Warns once for each peer whose traces have given no signal for some steps in a row.

    Args:
        steps: How many steps to wait.
    """

    def __init__(self, steps: int = 5) -> None:
        if steps < 1:
            raise ValueError(f"learning_watch.steps is {steps}; set it to 1 or more")
        self.steps = steps
        self._recent: dict[str, deque[Shares]] = {}
        self._warned: set[str] = set()

    def on_train_batch_end(self, trainer: Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Look back on the last steps."""
        for peer, config in pl_module.peer_configs.items():
            metrics = pl_module.record.metrics
            names = ("no_signal", "truncated", "no_answer", "accuracy", "imitated")
            recent = self._recent.setdefault(peer, deque(maxlen=self.steps))
            recent.append({name: metrics.get(f"train/{peer}/{name}", math.nan) for name in names})
            if peer not in self._warned and (reason := why_nothing_is_learned(recent, self.steps)):
                self._warned.add(peer)
                tokens = f"peers.{peer}.generation.max_new_tokens ({config.generation.max_new_tokens})"
                line = reason.format(tokens=tokens, style=f"peers.{peer}.prompt_style")
                rank_zero_warn(f"peer {peer} has learned nothing in the last {self.steps} steps: {line}")


def why_nothing_is_learned(recent: Sequence[Shares], steps: int) -> str | None:
    """What is likely wrong, or None where a step had a signal or an imitated trace, or there are too few steps.

    Args:
        recent: Shares of a peer's traces in each step.
        steps: How many are needed.
    """
    if len(recent) < steps or any(not s["no_signal"] >= 0.99 or s["imitated"] > 0 for s in recent):
        return None

    def mean(name: str) -> float:
        known = [s[name] for s in recent if math.isfinite(s[name])]
        return sum(known) / len(known) if known else 0.0

    if mean("truncated") >= 0.5:
        return f"{100 * mean('truncated'):.0f} % of its completions are cut off; raise {{tokens}}"
    if mean("no_answer") >= 0.5:
        return (
            f"{100 * mean('no_answer'):.0f} % of its completions hold no answer; look at them in traces.jsonl, and change "
            "{style}, model.prompt or generation.stop"
        )
    if mean("accuracy") >= 0.95:
        return "it solves every problem; take harder ones"
    if mean("accuracy") <= 0.05:
        return "it solves none of the problems; take easier ones, or raise model.rounds.k"
    return "all traces of a problem earn the same; raise model.rounds.k or the sampling temperature"
