"""Settings of the step as a whole: how rewards become advantages, and the learning rate over training."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from core_lightning.objectives import Objective
from core_lightning.objectives.advantages import GroupBy, coverage_weights, group_advantages, group_ids, no_signal
from core_lightning.records import Group

Shaping = Literal["added", "normalized"]


@dataclass(frozen=True)
class AdvantageSettings:
    """How rewards become advantages."""

    group_by: GroupBy = "round"
    """Which traces are compared with each other. ``problem`` (published): all traces of a problem. ``peer``: those of one
    peer. ``round``: those of one peer and round; rescues beside failed cold traces would push all of these down. A single
    rescue then has none to be compared with, so ``credit.mode: hinted`` and ``both`` need ``rounds.k_rescue: 2``."""
    normalize_std: bool | None = None
    """Divide by the standard deviation of the traces that are compared. Unset, as the objective asks: no for Dr. GRPO, yes
    for all others."""
    std_floor: float = 0.25
    """Smallest number to divide by, in units of reward (published: 1e-4). With a smaller one, traces that differ in
    diversity alone would get advantages as large as right against wrong."""
    shaping: Shaping = "added"
    """How terms that only shade correctness enter (diversity, rarity, rescue, cross). ``added``: their mean is subtracted,
    and they are added to the advantage as they are. ``normalized`` (published): they are part of the reward that is divided
    by the standard deviation. Then a bonus changes nothing where there are two values only, and traces that differ in the
    bonus alone get advantages of full size."""
    coverage: float = 0.0
    """How much less a problem counts for a peer if the others solve it, in [0, 1]. Advantages are multiplied by
    ``(1 - coverage) + coverage * share``, where the share is the estimated probability that every other peer fails. At 1 a
    peer follows the gradient of the probability that the team has a right answer, not that of its own."""
    mask_no_signal: bool | None = None
    """Leave out all traces of a group in which every reward is equal, terms that only shade correctness aside. Otherwise
    they feel the KL term and those terms. Unset, yes for DAPO and no for all others."""
    mask_truncated: bool | None = None
    """Leave traces out of the loss that the token limit cut off. They are still compared with. Unset, yes for DAPO and no
    for all others."""

    def __post_init__(self) -> None:
        if self.group_by not in ("problem", "peer", "round"):
            raise ValueError(f"advantage.group_by is {self.group_by!r}; choose problem, peer or round")
        if not 0 < self.std_floor < math.inf:
            raise ValueError(f"advantage.std_floor is {self.std_floor}; set it above 0")
        if self.shaping not in get_args(Shaping):
            raise ValueError(f"advantage.shaping is {self.shaping!r}; choose added or normalized")
        if not 0 <= self.coverage <= 1:
            raise ValueError(f"advantage.coverage is {self.coverage}; set it in [0, 1]")

    def advantages(self, groups: Sequence[Group]) -> Tensor:
        """Advantage of every trace of a step, ``float64 Tensor[traces]`` in the order of the groups.

        Exactly 0 for a trace without an opinion on its reward, and for groups whose rewards are all equal.
        """
        return self._compared(groups)[0]

    def assign(self, groups: Sequence[Group]) -> None:
        """Set every trace's ``advantage``, whether that is a ``signal``, and whether it is ``masked``."""
        values, signals = self._compared(groups)
        traces = [t for group in groups for t in group]
        for trace, advantage, signal in zip(traces, values.tolist(), signals.tolist(), strict=True):
            trace.advantage, trace.signal = advantage, signal
            trace.masked = bool((not signal and self.mask_no_signal) or (trace.truncated and self.mask_truncated))

    def _compared(self, groups: Sequence[Group]) -> tuple[Tensor, Tensor]:
        """Advantages, and which of them come from more than shaping terms, both ``Tensor[traces]``."""
        traces = [t for group in groups for t in group]
        rewards = torch.tensor([t.reward for t in traces], dtype=torch.float64)
        shades = torch.tensor([t.shaping if self.shaping == "added" else 0.0 for t in traces], dtype=torch.float64)
        shades = torch.where(rewards.isnan(), torch.nan, shades)
        ids = group_ids(groups, self.group_by)
        plain = group_advantages(
            rewards - shades, ids, normalize_std=self.normalize_std is not False, std_floor=self.std_floor
        )
        weights = coverage_weights(groups, self.coverage)
        values = (plain + group_advantages(shades, ids, normalize_std=False)) * weights
        return values, ~no_signal(rewards - shades, ids) & (weights != 0)

    def of(self, objective: Objective) -> AdvantageSettings:
        """These settings with the objective's own where nothing was set.

        Raises:
            ValueError: A setting contradicts the objective, whose formula it is a part of.
        """
        own: dict[str, Any] = {
            "normalize_std": True,
            "mask_no_signal": False,
            "mask_truncated": False,
            **objective.advantage,
        }
        for name, value in objective.advantage.items():
            if getattr(self, name) not in (None, value):
                raise ValueError(
                    f"advantage.{name} is {getattr(self, name)}, but {type(objective).__name__} is defined with {value}; "
                    "leave it out"
                )
        return replace(self, **{name: value for name, value in own.items() if getattr(self, name) is None})


@dataclass(frozen=True)
class ScheduleSettings:
    """The learning rate over training: every peer's rate is multiplied by the same factor."""

    shape: Literal["cosine", "linear", "constant"] = "cosine"
    """After the warm-up: ``cosine``, half a cosine down to 0; ``linear``, a line down to 0; ``constant``, no change."""
    warmup: float = 0.1
    """Share of training in which the rate rises linearly from 0."""

    def __post_init__(self) -> None:
        if self.shape not in ("cosine", "linear", "constant"):
            raise ValueError(f"schedule.shape is {self.shape!r}; choose cosine, linear or constant")
        if not 0 <= self.warmup < 1:
            raise ValueError(f"schedule.warmup is {self.warmup}; set it in [0, 1)")

    def factor(self, step: int, total: float) -> float:
        """Multiplier of the learning rate before step ``step`` (from 0) of ``total``."""
        warm = self.warmup * total if math.isfinite(total) else 0.0
        if step < warm:
            return (step + 1) / (math.ceil(warm) or 1)
        if self.shape == "constant" or not math.isfinite(total):
            return 1.0
        done = (step - warm) / max(total - warm, 1.0)
        return 0.5 * (1 + math.cos(math.pi * min(done, 1.0))) if self.shape == "cosine" else max(0.0, 1 - done)


@dataclass(frozen=True)
class RolloutSettings:
    """How many problems a training step samples, and when."""

    max_draws: int = 1
    """Dynamic sampling (DAPO, arXiv 2503.14476): a step draws further problems until as many as it began with have a signal,
    and the peers learn from those alone. It draws at most so many times the problems it began with; 1 draws none, and learns
    from all. A problem has a signal if the loss acts on some trace of it, for some peer: a trace that follows the policy
    gradient with an advantage that is not 0, or an imitated one, each with a weight that is not 0. Terms that only shade
    correctness (diversity, say) make no signal if they are added: right traces nearly always differ in them. Traces that
    are left out of the loss (``advantage.mask_truncated``) have none, and the pull of the KL term is none. All that is
    sampled counts in ``train/traces``."""
    lag: int = 0
    """1 samples the cold round of the next step while the peers learn from this one: its traces come from the adapters of
    one update earlier, which the objective corrects for (``objective.off_policy``). Every peer needs
    ``generation.engine: server``; what samples on the device that learns gains nothing. The rescue round, whose hints the
    peers judge themselves, is sampled when its step begins, by the present adapters. A checkpoint holds what was sampled
    ahead, so a resumed run is exact; one that is prolonged beyond its last step samples its first cold round without a
    lag."""

    def __post_init__(self) -> None:
        if self.max_draws < 1:
            raise ValueError(
                f"rollout.max_draws is {self.max_draws}; set it to 2 or more, or to 1 for no further draws"
            )
        if self.lag not in (0, 1):
            raise ValueError(f"rollout.lag is {self.lag}; set it to 1 to sample a step ahead, or to 0")
        if self.lag and self.max_draws > 1:
            raise ValueError(
                f"rollout.lag is {self.lag} and rollout.max_draws {self.max_draws}: what a step draws beyond its problems "
                "is only known once it has begun, and cannot be sampled ahead; set lag to 0, or max_draws to 1"
            )
