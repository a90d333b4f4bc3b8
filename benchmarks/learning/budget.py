"""Equal budget: every arm draws as many problems a step as its completions allow.

How many completions a problem costs depends on the arm, and with rescues on the data. The loader therefore steers: the
next step gets as many problems as bring the completions spent so far up to the plan, at the cost per problem seen lately.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from lightning.pytorch import Callback, Trainer

from core_lightning.records import Group, Problem


class BudgetLoader(Callback):
    """Batches of fresh problems whose number keeps the run on its budget; also the callback that counts.

    Args:
        problems: Training problems, drawn in a seeded order, kind by kind in turn; all before any comes again.
        steps: Optimizer steps of the run.
        completions: Budget of one step, all peers of the run together.
        cost: Expected completions of the first problems.
        seed: Seed of the order.
        prefer_disagreement: Draw kinds of problems in proportion to how often the peers lately disagreed on them,
            instead of in turn.
    """

    def __init__(
        self,
        problems: Sequence[Problem],
        steps: int,
        completions: int,
        cost: float,
        seed: int,
        prefer_disagreement: bool = False,
    ) -> None:
        self.steps = steps
        self.completions = completions
        self.cost = cost
        self.spent = 0
        self.drawn = 0
        self.prefer_disagreement = prefer_disagreement
        self._rng = random.Random(f"{seed}/order")
        self._pools: dict[str, list[Problem]] = defaultdict(list)
        for problem in self._rng.sample(problems, len(problems)):
            self._pools[problem.source].append(problem)
        self._disagreement = dict.fromkeys(self._pools, 0.5)
        self._turn = 0

    def __len__(self) -> int:
        # A loader without a length would be asked for the next batch before this one is counted.
        return self.steps

    def __iter__(self) -> Iterator[list[Problem]]:
        for step in range(self.steps):
            left = (step + 1) * self.completions - self.spent
            yield [self._draw() for _ in range(max(1, round(left / self.cost)))]

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: Any, outputs: Any, batch: list[Problem], batch_idx: int
    ) -> None:
        """Count what the step cost."""
        groups = pl_module.record.groups
        spent = sum(map(len, groups))
        self.spent += spent
        self.cost += 0.3 * (spent / len(groups) - self.cost)
        for source, rate in _disagreements(groups).items():
            self._disagreement[source] += 0.2 * (rate - self._disagreement[source])

    def _draw(self) -> Problem:
        sources = list(self._pools)
        if self.prefer_disagreement:
            source = self._rng.choices(sources, [0.05 + self._disagreement[s] for s in sources])[0]
        else:
            source = sources[self._turn % len(sources)]
            self._turn += 1
        self.drawn += 1
        problem = self._pools[source].pop(0)
        # A pool that is used up starts anew, under other ids: a trace's noise hangs on the id of its problem.
        self._pools[source].append(replace(problem, id=f"{problem.id}'"))
        return problem


def _disagreements(groups: Sequence[Group]) -> dict[str, float]:
    """Share of a kind's problems that some peer solved cold and another one did not."""
    found: dict[str, list[bool]] = defaultdict(list)
    for group in groups:
        solved = {group.solved(peer) for peer in group.peers()}
        found[group.problem.source].append(len(solved) == 2)
    return {source: sum(values) / len(values) for source, values in found.items()}
