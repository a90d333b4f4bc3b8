"""Which reward terms cannot change anything under the other settings of a run, found by trying.

A term may be switched on and do nothing: a bonus for rescues where rescues are imitated, rarity where each peer has a
baseline of its own and rewards are divided by their standard deviation, greedy diversity in small groups. No list of such
cases would be complete, so written groups are scored with and without the term, and what training reads is compared.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor

from core_lightning.protocol.credit import POLICY_RESCUE_MODES, CreditSettings
from core_lightning.protocol.round_settings import RoundSettings
from core_lightning.protocol.teachers import known_reward
from core_lightning.records import Group, Hint, Problem, Trace
from core_lightning.rewards import RewardModel, WeightedTerm
from core_lightning.training.settings import AdvantageSettings

_GROUPS = 40
_LEAST = 1e-9


def inert_terms(
    terms: Mapping[str, WeightedTerm],
    rounds: RoundSettings,
    advantage: AdvantageSettings,
    credit: CreditSettings,
    peers: int = 2,
) -> list[str]:
    """Names of this library's shaping terms that change no advantage of a policy example and no choice of a teacher.

    Args:
        terms: The run's reward terms; terms of a user's own are not looked at, since only they know what they read.
        rounds: How many traces there are, and who teaches.
        advantage: Baseline and scale.
        credit: Whether traces of the rescue round are policy examples.
        peers: Size of the team.
    """
    own = [n for n, t in terms.items() if t.term.shaping and type(t.term).__module__.startswith("core_lightning.")]
    groups = [_written_group(random.Random(i), rounds, peers) for i in range(_GROUPS)] if own else []
    inert = []
    for name in own:
        models = (RewardModel({n: t for n, t in terms.items() if n != name}), RewardModel(terms))
        # Most terms act in the first groups, and no further one is asked for.
        if not any(
            _differ(*(_what_training_reads(group, model, progress, rounds, advantage, credit) for model in models))
            for group in groups
            for progress in (0.0, 1.0)
        ):
            inert.append(name)
    return inert


Read = tuple[Tensor, list[int]]
"""Advantages of the policy examples of a group, and the order in which its correct cold traces teach."""


def _differ(before: Read, after: Read) -> bool:
    return before[1] != after[1] or bool((before[0] - after[0]).abs().max() > _LEAST)


def _what_training_reads(
    group: Group,
    model: RewardModel,
    progress: float,
    rounds: RoundSettings,
    advantage: AdvantageSettings,
    credit: CreditSettings,
) -> Read:
    model.assign([group], progress, _random_distances)  # type: ignore[arg-type]
    policy = [t.round == "cold" or credit.mode in POLICY_RESCUE_MODES for t in group]
    correct = [i for i, t in enumerate(group) if t.correct and t.round == "cold"]
    by_reward = sorted(correct, key=lambda i: known_reward(group.traces[i]), reverse=True)
    order = by_reward if rounds.teacher == "total_reward" else []
    return replace(advantage, coverage=0.0).advantages([group])[torch.tensor(policy)], order


def _written_group(draw: random.Random, rounds: RoundSettings, peers: int) -> Group:
    names = [f"m{i}" for i in range(peers)]
    group = Group(Problem(str(draw.random()), "", "1"))
    for name in names:
        rate = draw.random()
        group.add(
            Trace(name, "cold", i, [], [], "", False, correct=draw.random() < rate) for i in range(min(rounds.k, 8))
        )
    for name in names:
        other = next((n for n in names if n != name and group.solved(n)), None)
        if other and (rounds.students == "all" or group.failed_cold(name)):
            hint = Hint("", other, 0, False)
            group.add(
                Trace(name, "rescue", i, [], [], "", False, correct=draw.random() < 0.5, hint=hint)
                for i in range(min(rounds.k_rescue, 8))
            )
    return group


def _random_distances(group: Group) -> Tensor:
    """Distances of traces with random directions, the same ones whenever the group is asked for."""
    generator = torch.Generator().manual_seed(int(float(group.problem.id) * 2**31))
    rows = torch.nn.functional.normalize(torch.randn(len(group), 4, generator=generator, dtype=torch.float64), dim=1)
    return ((1 - rows @ rows.T) / 2).clamp(0, 1).fill_diagonal_(0)
