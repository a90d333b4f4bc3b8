"""CollaborativeReasoningModule: one step is rounds -> rewards -> advantages -> credit -> losses -> one optimizer step."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, cast

import torch
from lightning.pytorch import Callback
from lightning.pytorch.cli import OptimizerCallable
from torch import nn

from core_lightning.answers import Verifier
from core_lightning.callbacks.siblings import find_callback
from core_lightning.callbacks.team_pass_at_k import TeamPassAtKCallback
from core_lightning.objectives import GRPO, Objective
from core_lightning.peers.config import PeerConfig
from core_lightning.peers.peer import Peer
from core_lightning.peers.sampling.drawing import NotFiniteError
from core_lightning.protocol.credit import CreditSettings, Example, RunningRate, assign_credit
from core_lightning.protocol.prompts import PromptSettings
from core_lightning.protocol.round_settings import RoundSettings
from core_lightning.records import Group, Problem
from core_lightning.rewards import HybridDistance, MiniLMEmbedder, RewardModel, WeightedTerm, merged_terms
from core_lightning.rewards.embedder import Embedder
from core_lightning.training.ahead import Ahead, warn_of_shared_cores
from core_lightning.training.checkpoint import restore_run, run_settings, run_state
from core_lightning.training.checks import check_counts, check_team, check_together
from core_lightning.training.draws import Sampled, check_loader, draw_until_enough, has_signal
from core_lightning.training.lanes import Parallel
from core_lightning.training.nonfinite import NonfiniteGuard
from core_lightning.training.out_of_memory import freeze_within_memory
from core_lightning.training.prediction import prediction, rescued_prediction
from core_lightning.training.ranks import Count, Figure, sum_gradients
from core_lightning.training.settings import AdvantageSettings, RolloutSettings, ScheduleSettings
from core_lightning.training.step_metrics import StepRecord, of_all_processes, step_metrics
from core_lightning.training.team import Team
from core_lightning.training.team_module import TeamModule
from core_lightning.training.update import PeerBatch


class CollaborativeReasoningModule(TeamModule):
    """Language models that teach each other to reason, trained together (CORE, arXiv 2601.21600).

    A batch is a ``list[Problem]``. Subclasses change :attr:`min_peers` and :attr:`max_peers`, or the step's parts.

    Args:
        peers: The team, by name.
        rounds: The cold and the rescue round: how many traces, who is a student, who teaches, what a hint is.
        prompt: Templates of both rounds.
        rewards: Weighted reward terms by name. The default ones are ``correctness`` without partial credit and
            ``diversity`` among right traces. A term of another name is added, one of the same name takes its place, and
            None removes it.
        embedder: Turns texts into vectors, for reward terms that compare traces; unset, all-MiniLM-L6-v2 on the CPU.
        distance: How two traces are compared: by the vectors of their texts and by the operations they use.
        advantage: How rewards become advantages: which traces are compared, and what the difference is divided by.
        credit: What a failed peer is taught; unset, it imitates the correct trace of another peer and its own faithful
            rescue.
        objective: The policy loss; unset, GRPO.
        optimizer: Optimizer of all adapters, one parameter group per peer.
        schedule: Learning rate over training.
        max_grad_norm: Each peer's gradient is clipped to this norm.
        updates_per_batch: Optimizer steps on each batch of traces. Above 1, the log-probabilities of the sampling policy
            are kept from before the first, and ``trainer.max_steps``, which counts optimizer steps, must be a multiple
            of it.
        rollout: How many problems a step samples until enough of them have a signal, and whether a step ahead.
        share_base: Peers of the same model, quantization and device share one copy of it in memory.
        parallel_peers: Whether peers sample and learn at the same time. ``auto``: if they are on different devices.
            ``always``: on one processor, too, whose cores are divided among them. ``never``: one after the other.
        eval_samples: Cold traces per peer and problem in validation and test.
        eval_greedy: In validation and test every peer also writes its likeliest tokens, for
            ``<peer>/greedy_pass_at_1``.
        eval_rescue: Validation and test also run a rescue round, with hints from traces known to be right, and report the
            team's answers without and with it. It costs up to a second sampling of the problems that some peer failed.
        seed: Seed of sampling and adapter initialisation; unset, the one ``seed_everything`` was given. Every trace has a
            stream of its own.
        max_nonfinite: Stop after so many steps in a row with a loss or gradient that is not finite.
        answer_timeout: Seconds one symbolic answer comparison may take.

    Raises:
        ValueError: A setting cannot work; one line that names it and the mend. No model is loaded before this is known.
    """

    min_peers: ClassVar[int] = 2
    max_peers: ClassVar[int | None] = None

    def __init__(
        self,
        peers: dict[str, PeerConfig],
        rounds: RoundSettings | None = None,
        prompt: PromptSettings | None = None,
        rewards: dict[str, WeightedTerm | None] | None = None,
        embedder: Embedder | None = None,
        distance: HybridDistance | None = None,
        advantage: AdvantageSettings | None = None,
        credit: CreditSettings | None = None,
        objective: Objective | None = None,
        optimizer: OptimizerCallable = lambda params: torch.optim.AdamW(params, lr=1e-5, weight_decay=0.01),
        schedule: ScheduleSettings | None = None,
        max_grad_norm: float = 1.0,
        updates_per_batch: int = 1,
        rollout: RolloutSettings | None = None,
        share_base: bool = False,
        parallel_peers: Parallel = "auto",
        eval_samples: int = 4,
        eval_greedy: bool = False,
        eval_rescue: bool = False,
        seed: int | None = None,
        max_nonfinite: int = 3,
        answer_timeout: float = 1.0,
    ) -> None:
        seed = int(os.environ.get("PL_GLOBAL_SEED", "42")) if seed is None else seed
        schedule = schedule or ScheduleSettings()
        super().__init__(peers, optimizer, schedule, updates_per_batch, share_base, parallel_peers, seed)
        self.rounds = rounds or RoundSettings()
        prompt = prompt or PromptSettings()
        self.prompt = prompt.dated()
        self.day_set = prompt.date is not None
        self.rewards = RewardModel(merged_terms(rewards or {}))
        self.embedder = embedder or (MiniLMEmbedder() if self.rewards.needs_distance else None)
        self.distance = distance or HybridDistance()
        self.credit = credit or CreditSettings()
        longest = max((c.generation.max_new_tokens for c in self.peer_configs.values()), default=1)
        self.objective = (objective or GRPO()).completed(longest)
        self.advantage = (advantage or AdvantageSettings()).of(self.objective)
        self.rollout = rollout or RolloutSettings()
        self.max_grad_norm = max_grad_norm
        self.eval_samples = eval_samples
        self.eval_greedy = eval_greedy
        self.eval_rescue = eval_rescue
        self.predict_rescue = False
        self.max_nonfinite = max_nonfinite
        check_team(self.peer_configs, self.min_peers, self.max_peers, type(self).__name__)
        check_counts(updates_per_batch=updates_per_batch, eval_samples=eval_samples, max_nonfinite=max_nonfinite)
        check_together(
            self.peer_configs,
            self.rounds,
            self.rewards.terms,
            self.advantage,
            self.credit,
            self.objective,
            self.rollout,
        )
        if max_grad_norm <= 0:
            raise ValueError(f"model.max_grad_norm is {max_grad_norm}; set it above 0")
        self.verifier = Verifier(answer_timeout)
        self.record = StepRecord()
        self.ahead = Ahead()
        self.nonfinite = NonfiniteGuard(max_nonfinite)
        self.rescue_rates = {name: RunningRate() for name in self.peer_configs}

    # --- set-up -------------------------------------------------------------------------------------------------------

    def configure_model(self) -> None:
        """Load the peers on this process's device, once, and make a team of them."""
        if len(self.peers):
            return
        if self.embedder is not None:
            with torch.device("cpu"):  # see the hook of the base class
                self.embedder.prepare()
        super().configure_model()
        for peer in self._peers.values():
            peer.end_at(self.prompt.next_question)
        self.team = Team(
            self._peers,
            self.prompt,
            self.rounds,
            self.rewards,
            self.embedder,
            self.distance,
            self.verifier,
            self.parallel_peers,
            self.credit,
        )

    def configure_callbacks(self) -> Sequence[Callback]:
        """The figures of an evaluation, for a Trainer that was given nothing to compute them."""
        super().configure_callbacks()
        if find_callback(self.trainer, TeamPassAtKCallback) is not None:
            return []
        return [TeamPassAtKCallback(k=min(2, self.eval_samples), at_end=False)]

    def on_train_start(self) -> None:
        """Fix the schedule's length, and refuse a loader that cannot give what ``rollout`` needs of it."""
        super().on_train_start()
        check_loader(self._loader, self.rollout)
        if self.rollout.lag:
            warn_of_shared_cores(self._peers.values())

    # --- one step -----------------------------------------------------------------------------------------------------

    def training_step(self, batch: list[Problem], batch_idx: int) -> None:
        """Sample both rounds of a batch of problems, score them and update every peer."""
        self.team.watch.take()  # what came between steps, an evaluation say, is not this step's
        with self.ahead.step(self.team.give_up):
            sampled = self.sample(batch)
            if self.rollout.lag:
                self.begin_next(batch_idx)
            objective = self.objective.at(self.progress)
            batches = {name: self._freeze(peer, sampled, objective) for name, peer in self._peers.items()}
            updates = {}
            for _ in range(self.updates_per_batch):
                updates = self.update(batches, sampled.used, objective)
        # After the update: a state saved in mid-step must not have counted this batch.
        self.batches_done += 1
        self._log_step(sampled, updates)
        scheduler = self.lr_schedulers()
        scheduler.step()  # type: ignore[union-attr]

    def sample(self, batch: Sequence[Problem]) -> Sampled:
        """The traces of a step: of its problems, and of further ones where too few of these have a signal."""
        sampled = self.draw(batch)
        if self.rollout.max_draws > 1:
            further, most = self._loader.further, self.rollout.max_draws
            draw_until_enough(sampled, further, self.draw, self.teaches, self.over_ranks, most)
        sampled.terms = self.rewards.statistics(sampled.groups, self.progress)
        return sampled

    def draw(self, problems: Sequence[Problem], number: int = 0) -> Sampled:
        """Both rounds of some problems, judged, scored and compared.

        Args:
            problems: Those without room are left out.
            number: How many draws of the same step came before.
        """
        fitting = [p for p in problems if self.fits(p)]
        key = (self.seed, self.current_epoch, *(("further", self.batches_done, number) if number else ()))
        try:
            groups = self.team.rollout(fitting, key, self.progress, self.ahead.take(fitting))
        except NotFiniteError as error:
            raise NotFiniteError(f"step {self.batches_done + 1}: {error}") from error
        self.assign_advantages(groups)
        return Sampled(groups, groups, len(problems), len(problems) - len(fitting))

    def fits(self, problem: Problem) -> bool:
        """Whether every peer has room for the problem's plain prompt."""
        prompt = self.prompt.render(problem)
        return all(len(peer.encode(prompt)) <= peer.room() for peer in self._peers.values())

    def assign_advantages(self, groups: Sequence[Group]) -> None:
        """Set every trace's ``advantage``, whether that is a ``signal``, and whether it is ``masked``."""
        self.advantage.assign(groups)

    def teaches(self, group: Group) -> bool:
        """Whether some peer learns from a problem, see ``rollout.max_draws``."""
        return any(has_signal(self.examples(peer, [group])) for peer in self._peers.values())

    def begin_next(self, batch_idx: int) -> None:
        """Begin the cold round of the next step, if there is one, with the weights as they are before this step's update."""
        if self.batches_done + 1 < self._planned:
            over = batch_idx + 1 >= self.trainer.num_training_batches
            problems = [p for p in self._loader.peek(over) if self.fits(p)]
            self.ahead.begin(self.team.begin_cold(problems, (self.seed, self.current_epoch + over)))

    def _freeze(self, peer: Peer, sampled: Sampled, objective: Objective) -> PeerBatch:
        with self.team.watch("score", peer.name, peer.device):
            batch = freeze_within_memory(
                peer,
                self.examples(peer, sampled.used),
                need_old=self.updates_per_batch > 1,
                need_reference=objective.needs_reference,
                need_entropy=objective.needs_entropy,
            )
        batch.sum_totals(self.over_ranks)
        return batch

    def examples(self, peer: Peer, groups: Sequence[Group]) -> list[Example]:
        """What one peer is trained on."""
        return assign_credit(
            groups,
            peer.name,
            self.credit,
            peer.encode_completion,
            own_words=peer.in_own_words,
            rescue_rate=self.rescue_rates[peer.name].value,
        )

    def update(
        self, batches: Mapping[str, PeerBatch], groups: Sequence[Group], objective: Objective
    ) -> dict[str, dict[str, float]]:
        """One optimizer step of all peers. A peer whose loss or gradient is not finite does not move."""
        optimizer: Any = self.optimizers()
        optimizer.zero_grad(set_to_none=True)
        with self._unsynced():
            reports = self.team.learn(batches, objective, self.manual_backward)
        self.ahead.wait()
        broken = []
        for name, peer in self._peers.items():
            parameters, report = list(peer.adapter_parameters().values()), reports[name]
            sum_gradients(parameters, bool(batches[name]), self.trainer.strategy.root_device)
            report["grad_norm"] = float(nn.utils.clip_grad_norm_(parameters, self.max_grad_norm))
            # A rank's loss is its part of the sum over ranks, and what is logged is the mean over ranks.
            report["loss"] = report.get("loss", 0.0) * self.trainer.world_size
            report["imitated"] = batches[name].imitation_totals.traces  # of all ranks
            if self.over_ranks(float(not math.isfinite(report["loss"] + report["grad_norm"]))) != [0]:
                broken.append(name)
                for parameter in parameters:
                    parameter.grad = None
        with self.team.watch("step"):
            # Always stepped: parameters without gradient stay where they are, and global_step counts every update.
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        name = f"batch-{self.batches_done}-rank-{self.global_rank}.json"
        self.nonfinite.note(broken, groups, Path(self.trainer.default_root_dir) / "nonfinite" / name)
        return reports

    def _log_step(self, sampled: Sampled, updates: dict[str, dict[str, float]]) -> None:
        groups, seconds, optimizer = sampled.groups, self.team.watch.take(), cast(Any, self.optimizers())
        figures: dict[str, Figure] = {
            **step_metrics(groups, list(self.peer_configs), sampled.terms, updates, seconds),
            **sampled.counts(),
            "train/answer_timeouts": Count(self.verifier.timeouts),
            "train/answer_workers_lost": Count(self.verifier.replaced),
            "train/nonfinite_steps": float(self.nonfinite.steps),
            **{f"train/{group['name']}/lr": group["lr"] for group in optimizer.param_groups},
        }
        metrics = of_all_processes(figures, self.trainer.strategy.root_device)
        for name, rate in self.rescue_rates.items():
            rate.add(metrics[f"train/{name}/rescues"], metrics[f"train/{name}/hints"], self.credit.adaptive_pairs)
        self.record = StepRecord(self.batches_done - 1, groups, metrics)
        self.log_dict(metrics, batch_size=max(len(groups), 1))

    # --- evaluation ---------------------------------------------------------------------------------------------------

    def validation_step(self, batch: list[Problem], batch_idx: int, dataloader_idx: int = 0) -> list[Group]:  # type: ignore[override]
        """Cold traces of held-out problems; callbacks compute the metrics. The same noise every time it is called."""
        key = (self.seed, "eval")
        groups = self.team.cold([p for p in batch if self.fits(p)], self.eval_samples, key)
        if self.eval_greedy:
            self.team.greedy(groups, key)
        if self.eval_rescue:
            passes = find_callback(self.trainer, TeamPassAtKCallback)
            self.team.rescue_failed(groups, passes.k if passes is not None else self.rounds.k, key)
        return groups

    def test_step(self, batch: list[Problem], batch_idx: int, dataloader_idx: int = 0) -> list[Group]:  # type: ignore[override]
        """As in validation, on the test split."""
        return self.validation_step(batch, batch_idx, dataloader_idx)

    def predict_step(self, batch: list[Problem], batch_idx: int, dataloader_idx: int = 0) -> list[dict[str, Any]]:
        """Answers of every peer to every problem, and the team's majority, as plain data."""
        key = (self.seed, "eval")
        groups = self.team.cold([p for p in batch if self.fits(p)], self.eval_samples, key)
        if not self.predict_rescue:
            return [prediction(group) for group in groups]

        def rescue(group: Group) -> None:
            self.team.rescue_failed([group], self.eval_samples, key)

        return [rescued_prediction(group, self.team.judge_again, rescue) for group in groups]

    # --- checkpoints --------------------------------------------------------------------------------------------------

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add counters, random states and settings."""
        checkpoint["core_lightning"] = run_state(self)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Restore counters and random states, and say which settings differ from those the checkpoint was made with."""
        state = checkpoint.get("core_lightning")
        if state is None:
            raise ValueError("the checkpoint was not made by core_lightning; give one from a run's checkpoints folder")
        restore_run(self, state)

    def settings(self) -> dict[str, Any]:
        """The settings of a run as plain data."""
        return run_settings(self)


class SoloReasoningModule(CollaborativeReasoningModule):
    """One peer and nobody to learn from: plain group-relative policy optimization, the equal-budget baseline."""

    min_peers = 1
    max_peers = 1


class TrioReasoningModule(CollaborativeReasoningModule):
    """Three peers; shows how a team of another size is declared."""

    min_peers = 3
    max_peers = 3
