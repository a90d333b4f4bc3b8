"""Whether sampling a step ahead (``rollout.lag: 1``) gains anything where the server has the same cores as the peers.

    python -m benchmarks.ahead [--url http://127.0.0.1:8000] [--problems 4] [--new-tokens 32] [--steps 3]

Two adapters on one SmolLM2 in float32, two samples of each problem, no rescue round. (It is never sampled ahead, so without
it a lag can gain most.) A vLLM server of that model on the same machine samples; docs/gpus.md says how to start it, and
``python -m core_lightning.peers.sources embedded/smollm2-135m-instruct`` where the model lies.

- a lag of 0 and one of 1 take turns, each in a run of its own that begins with the same adapters
- the steps in between are timed: nothing was sampled ahead for a run's first step, and nothing is in its last
- they are compared by the seconds for 1,000 sampled tokens, since a completion may end before its token limit
- at best: how much faster a lag would be if sampling and the losses did not slow each other
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import fsum
from typing import Any

from lightning.pytorch import Trainer

from benchmarks.measure import Report, parse, parser, ratios
from benchmarks.teams import PROMPTS, Turns, bare_trainer, models, problems, quiet
from core_lightning import CollaborativeReasoningModule, PeerConfig
from core_lightning.data.module import RescueDataModule
from core_lightning.data.splits import Split
from core_lightning.peers import GenerationSettings
from core_lightning.peers.sampling.settings import ServerSettings
from core_lightning.protocol.credit import CreditSettings
from core_lightning.protocol.rounds import RoundSettings
from core_lightning.records import Group, Problem
from core_lightning.rewards import RewardContext, RewardTerm, WeightedTerm
from core_lightning.training.settings import RolloutSettings


class Rolls(RescueDataModule):
    """So many word problems."""

    def __init__(self, count: int, **options: Any) -> None:
        super().__init__(val_fraction=0.0, test_fraction=0.0, **options)
        self.count = count

    def load(self) -> dict[Split, list[Problem]]:
        """All are for training, and none is asked twice."""
        return {"train": list({p.question: p for p in problems(4 * self.count)}.values())[: self.count]}


@dataclass(frozen=True)
class Later(RewardTerm):
    """The later trace of a problem is the better one: every trace takes part in the loss, whatever the model says."""

    def __call__(self, group: Group, context: RewardContext) -> Sequence[float | None]:
        """A reward for each trace."""
        return [float(i) for i, _ in enumerate(group)]


class Steps(Turns):
    """Also counts the tokens of every step but the first."""

    def __init__(self) -> None:
        super().__init__()
        self.tokens: list[int] = []

    def on_train_batch_end(self, trainer: Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Count."""
        super().on_train_batch_end(trainer, pl_module, outputs, batch, batch_idx)
        if batch_idx:
            self.tokens.append(sum(len(trace.token_ids) for group in pl_module.record.groups for trace in group))


@dataclass(frozen=True)
class Setting:
    """A run: the model, where it is served, and the size of its steps."""

    model: str
    url: str
    problems: int
    new_tokens: int
    steps: int

    def run(self, lag: int) -> tuple[float, float, float, float]:
        """Train.

        Returns:
            Of the steps in between: seconds of a step, tokens of a step, and the seconds of sampling and of the losses.
        """
        generation = GenerationSettings(
            0.7, max_new_tokens=self.new_tokens, max_prompt_tokens=192, engine="server", server=ServerSettings(url=self.url)
        )
        peer = PeerConfig(self.model, quantization="none", dtype="float32", prompt_style="plain", generation=generation)
        module = CollaborativeReasoningModule(
            {"a": peer, "b": peer},
            share_base=True,
            rounds=RoundSettings(k=2, k_rescue=0),
            credit=CreditSettings("peer_trace"),
            prompt=PROMPTS,
            rewards={"later": WeightedTerm(Later())},
            rollout=RolloutSettings(lag=lag),
        )
        turns = Steps()
        with bare_trainer(turns) as trainer:
            trainer.fit(module, datamodule=Rolls((self.steps + 2) * self.problems, batch_size=self.problems))
        timed = turns.metrics[: self.steps]  # the first step is not among them, and the last is left out

        def mean(phases: Sequence[str]) -> float:
            names = [f"time/{phase}/{peer}" for phase in phases for peer in module.peer_configs]
            return fsum(metrics[name] for metrics in timed for name in names) / self.steps

        seconds = fsum(turns.seconds["step"][: self.steps]) / self.steps
        tokens = fsum(turns.tokens[: self.steps]) / self.steps
        return seconds, tokens, mean(("sample",)), mean(("score", "backward"))


def main(args: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser_ = parser(__doc__, rounds=3)
    parser_.add_argument("--url", default="http://127.0.0.1:8000", help="of the vLLM server")
    parser_.add_argument("--problems", type=int, default=4, help="of a step")
    parser_.add_argument("--new-tokens", type=int, default=32, help="token limit of a completion")
    parser_.add_argument("--steps", type=int, default=3, help="timed steps of a run")
    options = parse(parser_, args)
    quiet()
    setting = Setting(
        next(iter(models(options.quick).values())), options.url, options.problems, options.new_tokens, options.steps
    )
    runs: dict[int, list[tuple[float, float, float, float]]] = {0: [], 1: []}
    for _ in range(options.rounds):
        for lag, taken in runs.items():
            taken.append(setting.run(lag))
    report = Report("ahead", options)
    case = f"{options.problems} problems, {4 * options.problems} completions of {options.new_tokens} tokens"
    rates = {lag: [1000 * seconds / tokens for seconds, tokens, _, _ in taken] for lag, taken in runs.items()}
    for lag, taken in runs.items():
        report.add(case, f"lag {lag}: a step", [seconds for seconds, *_ in taken], "s")
        report.add(case, f"lag {lag}: 1,000 sampled tokens", rates[lag], "s")
    plain = runs[0]
    report.add(case, "lag 0: sampling", [100 * sampling / seconds for seconds, _, sampling, _ in plain], "%")
    report.add(case, "lag 0: losses", [100 * losses / seconds for seconds, _, _, losses in plain], "%")
    report.add(case, "times faster with a lag", ratios(rates[0], rates[1]))
    report.add(case, "at best", [s / (s - min(sampling, losses)) for s, _, sampling, losses in plain])
    report.finish()


if __name__ == "__main__":
    main()
