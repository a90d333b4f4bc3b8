"""CollaborativeReasoningModule: one step is rounds -> rewards -> advantages -> credit -> losses -> one optimizer step."""

from __future__ import annotations

import dataclasses
import json
import math
import random
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.cli import OptimizerCallable
from lightning.pytorch.utilities import rank_zero_info, rank_zero_warn
from torch import nn

from core_lightning.answers import Verifier
from core_lightning.objectives import GRPO, Objective, Totals, group_advantages, group_ids, no_signal
from core_lightning.peers.config import PeerConfig
from core_lightning.peers.peer import Peer
from core_lightning.peers.sources import check as check_source
from core_lightning.protocol.credit import CreditSettings, Example, assign_credit
from core_lightning.protocol.prompts import PromptSettings
from core_lightning.protocol.records import Group, Problem
from core_lightning.protocol.rounds import RoundSettings
from core_lightning.rewards import HybridDistance, MiniLMEmbedder, RewardModel, WeightedTerm, default_terms
from core_lightning.rewards.embedder import Embedder
from core_lightning.settings import AdvantageSettings, ScheduleSettings
from core_lightning.step_metrics import prediction, rescue_outcomes, step_metrics
from core_lightning.team import Team, load_peers
from core_lightning.update import PeerBatch, accumulate, freeze


@dataclass
class StepRecord:
    """What the last training step did, for callbacks."""

    step: int = -1
    groups: list[Group] = field(default_factory=list)
    metrics: dict[str, float] = field(default_factory=dict)


class CollaborativeReasoningModule(LightningModule):
    """Language models that teach each other to reason, trained together (CORE, arXiv 2601.21600).

    A batch is a ``list[Problem]``. Subclasses change :attr:`min_peers` and :attr:`max_peers`, or the step's parts.

    Args:
        peers: The team, by name.
        rounds: The cold and the rescue round: how many traces, who is a student, who teaches, what a hint is.
        prompt: Templates of both rounds.
        rewards: Weighted reward terms by name; unset, the five terms with their published weights and a determinantal
            diversity term.
        embedder: Vectors for the terms that compare traces; unset, all-MiniLM-L6-v2 on the CPU.
        distance: How embeddings and operations are weighed in the trace distance.
        advantage: Baseline and scale of advantages.
        credit: Which prompt a rescue is trained under.
        objective: Policy loss; unset, GRPO.
        optimizer: Optimizer of all adapters, one parameter group per peer.
        schedule: Learning rate over training.
        max_grad_norm: Each peer's gradient is clipped to this norm.
        updates_per_batch: Optimizer steps on each batch of traces. Above 1, old log-probabilities are frozen first.
        share_base: Peers of the same model, quantization and device share one copy of it in memory.
        parallel_peers: Sample peers on different devices at the same time.
        eval_samples: Cold traces per peer and problem in validation and test.
        seed: Seed of sampling and adapter initialisation. Every trace has a stream of its own.
        max_nonfinite: Stop after so many steps in a row with a loss or gradient that is not finite.
        answer_timeout: Seconds one symbolic answer comparison may take.

    Raises:
        ValueError: A setting cannot work; one line that names it and the mend. No model is loaded before this is known.
    """

    min_peers: ClassVar[int] = 2
    max_peers: ClassVar[int | None] = None
    default_k_rescue: ClassVar[int] = 1

    def __init__(
        self,
        peers: dict[str, PeerConfig],
        rounds: RoundSettings | None = None,
        prompt: PromptSettings | None = None,
        rewards: dict[str, WeightedTerm] | None = None,
        embedder: Embedder | None = None,
        distance: HybridDistance | None = None,
        advantage: AdvantageSettings | None = None,
        credit: CreditSettings | None = None,
        objective: Objective | None = None,
        optimizer: OptimizerCallable = lambda params: torch.optim.AdamW(params, lr=1e-5, weight_decay=0.01),
        schedule: ScheduleSettings | None = None,
        max_grad_norm: float = 1.0,
        updates_per_batch: int = 1,
        share_base: bool = False,
        parallel_peers: Literal["auto", "always", "never"] = "auto",
        eval_samples: int = 4,
        seed: int = 42,
        max_nonfinite: int = 3,
        answer_timeout: float = 1.0,
    ) -> None:
        super().__init__()
        self.automatic_optimization = False
        # Checkpoints hold adapters only; on_load_checkpoint checks that none is missing.
        self.strict_loading = False
        self.peer_configs = dict(peers)
        self.rounds = rounds or RoundSettings(k_rescue=self.default_k_rescue)
        self.prompt = prompt or PromptSettings()
        self.rewards = RewardModel(default_terms() if rewards is None else rewards)
        self.embedder = embedder or (MiniLMEmbedder() if self.rewards.needs_distance else None)
        self.distance = distance or HybridDistance()
        self.advantage = advantage or AdvantageSettings()
        self.credit = credit or CreditSettings()
        self.objective = objective or GRPO()
        self.make_optimizer = optimizer
        self.schedule = schedule or ScheduleSettings()
        self.max_grad_norm = max_grad_norm
        self.updates_per_batch = updates_per_batch
        self.share_base = share_base
        self.parallel_peers = parallel_peers
        self.eval_samples = eval_samples
        self.seed = seed
        self.max_nonfinite = max_nonfinite
        self._check_settings()
        self.verifier = Verifier(answer_timeout)
        self.peers = nn.ModuleDict()
        self.record = StepRecord()
        self.batches_done = 0
        self.nonfinite_steps = 0
        self._nonfinite_in_a_row = 0
        self._planned = math.inf
        self.rescued, self.hinted = 0.0, 0.0

    def _check_settings(self) -> None:
        count = len(self.peer_configs)
        if count < self.min_peers:
            raise ValueError(
                f"model.peers has {count} peer(s), {type(self).__name__} needs {self.min_peers} or more; "
                "add a peer, or use SoloReasoningModule for one"
            )
        if self.max_peers is not None and count > self.max_peers:
            raise ValueError(f"model.peers has {count} peers, {type(self).__name__} takes at most {self.max_peers}")
        for name, config in self.peer_configs.items():
            if not re.fullmatch(r"[A-Za-z0-9_-]+", name):
                raise ValueError(f"peer name {name!r} must be made of letters, digits, _ and -: it names a folder")
            check_source(config.model)
            if config.adapter is not None and not (Path(config.adapter).expanduser() / "adapter_config.json").is_file():
                raise ValueError(
                    f"peers.{name}.adapter {config.adapter!r} holds no adapter_config.json; give a folder in PEFT format"
                )
        for name, least in (("updates_per_batch", 1), ("eval_samples", 1), ("max_nonfinite", 1)):
            if getattr(self, name) < least:
                raise ValueError(f"model.{name} is {getattr(self, name)}; set it to {least} or more")
        if self.max_grad_norm <= 0:
            raise ValueError(f"model.max_grad_norm is {self.max_grad_norm}; set it above 0")

    # --- set-up -------------------------------------------------------------------------------------------------------

    def configure_model(self) -> None:
        """Load the peers on this process's device, once."""
        if len(self.peers):
            return
        device = self.trainer.strategy.root_device if self._trainer is not None else torch.device("cpu")
        if self.embedder is not None:
            self.embedder.prepare()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)  # adapter initialisation does not depend on what ran before
            self.peers = load_peers(self.peer_configs, device, self.share_base)
        self.team = Team(
            self._peers,
            self.prompt,
            self.rounds,
            self.rewards,
            self.embedder,
            self.distance,
            self.verifier,
            self.parallel_peers,
        )

    @property
    def _peers(self) -> dict[str, Peer]:
        return dict(self.peers.items())  # type: ignore[arg-type]

    def setup(self, stage: str) -> None:
        """Refuse trainer settings that cannot work with manual optimization of several adapters."""
        if stage == "fit" and self.trainer.precision not in ("32-true", "32"):
            raise ValueError(
                f"trainer.precision is {self.trainer.precision}; leave it at 32-true and set peers.<name>.dtype instead: "
                "adapters must stay float32"
            )

    def configure_optimizers(self) -> Any:
        """One optimizer with a parameter group per peer, so that ``global_step`` counts batches."""
        groups = []
        for name, peer in self._peers.items():
            group: dict[str, Any] = {"params": list(peer.adapter_parameters().values()), "name": name}
            if peer.config.lr is not None:
                group["lr"] = peer.config.lr
            groups.append(group)
        optimizer = self.make_optimizer(groups)
        self._optimizer_settings = [{k: v for k, v in g.items() if k != "params"} for g in optimizer.param_groups]
        scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: self.schedule.factor(step, self._planned))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def on_train_start(self) -> None:
        """Fix the schedule's length, and let the optimizer's settings win over those a checkpoint brought back."""
        # Not earlier: asking for the length sets up the loader, and then Lightning never restores its saved position.
        self._planned = self.total_batches()
        optimizer: Any = self.optimizers()
        scheduler: Any = self.lr_schedulers()
        scheduler.base_lrs = [settings["lr"] for settings in self._optimizer_settings]
        for group, settings in zip(optimizer.param_groups, self._optimizer_settings, strict=True):
            before = group | {"lr": group["initial_lr"]}
            for name, now in settings.items():
                if before.get(name) != now:
                    rank_zero_info(
                        f"resume: {name} of peer {group['name']}'s optimizer was {before.get(name)} in the checkpoint and "
                        f"is now {now}; the new value holds"
                    )
            factor = self.schedule.factor(scheduler.last_epoch, self._planned)
            group.update(settings, initial_lr=settings["lr"], lr=settings["lr"] * factor)

    def total_batches(self) -> float:
        """Training batches of the whole run, infinite when the trainer sets no end."""
        steps = float(self.trainer.estimated_stepping_batches)
        by_limit = self.trainer.max_steps / self.updates_per_batch if self.trainer.max_steps > 0 else math.inf
        return min(steps, by_limit)

    @property
    def progress(self) -> float:
        """Share of training done, in [0, 1]; 0 when the run has no end."""
        return min(1.0, self.batches_done / self._planned) if self._planned > 0 else 0.0

    # --- one step -----------------------------------------------------------------------------------------------------

    def training_step(self, batch: list[Problem], batch_idx: int) -> None:
        """Sample both rounds of a batch of problems, score them and update every peer."""
        self.team.watch.take()  # what came between steps, an evaluation say, is not this step's
        problems = [p for p in batch if self.fits(p)]
        key = (self.seed, self.current_epoch)
        groups, terms = self.team.rollout(problems, key, self.progress)
        masked = self.assign_advantages(groups)
        batches = {name: self._freeze(peer, groups, masked) for name, peer in self._peers.items()}
        updates = {}
        for _ in range(self.updates_per_batch):
            updates = self.update(batches, groups)
        # After the update: a state saved in mid-step must not have counted this batch.
        self.batches_done += 1
        self._count_rescues(groups)
        self._log_step(groups, terms, updates, dropped=len(batch) - len(problems))
        scheduler = self.lr_schedulers()
        scheduler.step()  # type: ignore[union-attr]

    def fits(self, problem: Problem) -> bool:
        """Whether every peer has room for the problem's cold prompt."""
        prompt = self.prompt.render(problem)
        return all(len(peer.encode(prompt)) <= peer.room() for peer in self._peers.values())

    def assign_advantages(self, groups: Sequence[Group]) -> set[int]:
        """Set every trace's advantage; returns the ids of traces that are left out of the loss."""
        settings = self.advantage
        traces = [t for g in groups for t in g]
        if not traces:
            return set()
        rewards = torch.tensor([t.reward for t in traces], dtype=torch.float64)
        ids = group_ids(groups, settings.group_by)
        values = group_advantages(rewards, ids, normalize_std=settings.normalize_std, std_floor=settings.std_floor)
        silent = no_signal(rewards, ids)
        for trace, advantage in zip(traces, values.tolist(), strict=True):
            trace.advantage = advantage
        masked = {id(t) for t, s in zip(traces, silent.tolist(), strict=True) if s and settings.mask_no_signal}
        return masked | {id(t) for t in traces if t.truncated and settings.mask_truncated}

    def examples(self, peer: Peer, groups: Sequence[Group], masked: set[int]) -> list[Example]:
        """What one peer is trained on."""
        rate = self.rescued / self.hinted if self.hinted else 1.0
        return assign_credit(
            groups,
            peer.name,
            self.credit,
            peer.encode_completion,
            rescue_rate=rate,
            drop=lambda trace: id(trace) in masked,
        )

    def _freeze(self, peer: Peer, groups: Sequence[Group], masked: set[int]) -> PeerBatch:
        with self.team.watch("score", peer.name):
            batch = freeze(
                peer,
                self.examples(peer, groups, masked),
                need_old=self.updates_per_batch > 1,
                need_reference=self.objective.beta > 0,
                need_entropy=self.objective.entropy_coef > 0,
            )
        for totals in ("policy_totals", "imitation_totals"):
            own = getattr(batch, totals)
            setattr(batch, totals, Totals(*self._over_ranks(own.traces, own.tokens)))
        return batch

    def update(self, batches: Mapping[str, PeerBatch], groups: Sequence[Group]) -> dict[str, dict[str, float]]:
        """One optimizer step of all peers. A peer whose loss or gradient is not finite does not move."""
        optimizer: Any = self.optimizers()
        optimizer.zero_grad(set_to_none=True)
        reports: dict[str, dict[str, float]] = {}
        broken = []
        for name, peer in self._peers.items():
            parameters = list(peer.adapter_parameters().values())
            with self.team.watch("backward", name), self._unsynced():
                report = (
                    accumulate(peer, batches[name], self.objective, self.credit, self.manual_backward)
                    if batches[name]
                    else {}
                )
            self._sum_gradients(parameters, bool(batches[name]))
            report["grad_norm"] = float(nn.utils.clip_grad_norm_(parameters, self.max_grad_norm))
            # A rank's loss is its part of the sum over ranks, and what is logged is the mean over ranks.
            report["loss"] = report.get("loss", 0.0) * self.trainer.world_size
            if self._over_ranks(float(not math.isfinite(report["loss"] + report["grad_norm"]))) != [0]:
                broken.append(name)
                for parameter in parameters:
                    parameter.grad = None
            reports[name] = report
        with self.team.watch("step"):
            # Always stepped: parameters without gradient stay where they are, and global_step counts every batch.
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        self._note_nonfinite(broken, groups)
        return reports

    def _note_nonfinite(self, broken: list[str], groups: Sequence[Group]) -> None:
        self._nonfinite_in_a_row = self._nonfinite_in_a_row + 1 if broken else 0
        if not broken:
            return
        self.nonfinite_steps += 1
        folder = Path(self.trainer.default_root_dir) / "nonfinite"
        folder.mkdir(parents=True, exist_ok=True)
        file = folder / f"batch-{self.batches_done}-rank-{self.global_rank}.json"
        file.write_text(json.dumps([dataclasses.asdict(g) for g in groups], default=dict))
        rank_zero_warn(
            f"peer {', '.join(broken)}: loss or gradient is not finite, the step is skipped; batch in {file}"
        )
        if self._nonfinite_in_a_row >= self.max_nonfinite:
            raise RuntimeError(
                f"{self._nonfinite_in_a_row} steps in a row were not finite (model.max_nonfinite); lower the learning "
                f"rate; the batches are in {folder}"
            )

    # --- several processes --------------------------------------------------------------------------------------------

    def _unsynced(self) -> Any:
        # DDP's own reduction hangs when a rank has no signal for a peer, so gradients are summed by hand, once a step.
        strategy = self.trainer.strategy
        return strategy.block_backward_sync() if hasattr(strategy, "block_backward_sync") else nullcontext()

    def _over_ranks(self, *values: float) -> list[float]:
        """Each value summed over all processes."""
        if self.trainer.world_size == 1:
            return list(values)
        sums = torch.tensor(values, device=self.trainer.strategy.root_device)  # counts are exact in float32
        torch.distributed.all_reduce(sums)
        return sums.tolist()

    def _sum_gradients(self, parameters: Sequence[nn.Parameter], has_signal: bool) -> None:
        if self.trainer.world_size == 1:
            return
        if self._over_ranks(float(has_signal)) == [0]:
            return
        grads = [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]
        flat = torch.cat([g.flatten() for g in grads])
        torch.distributed.all_reduce(flat)  # losses were divided by the totals over ranks, so gradients add up
        for parameter, part in zip(parameters, flat.split([p.numel() for p in parameters]), strict=True):
            parameter.grad = part.view_as(parameter)

    def _mean_over_ranks(self, metrics: dict[str, float]) -> dict[str, float]:
        """Means over the ranks that have a value, in one exchange for all metrics."""
        known = [not math.isnan(value) for value in metrics.values()]
        sums = self._over_ranks(
            *(v if k else 0.0 for k, v in zip(known, metrics.values(), strict=True)), *map(float, known)
        )
        totals, counts = sums[: len(known)], sums[len(known) :]
        return {n: t / c if c else math.nan for n, t, c in zip(metrics, totals, counts, strict=True)}

    # --- evaluation ---------------------------------------------------------------------------------------------------

    def validation_step(self, batch: list[Problem], batch_idx: int, dataloader_idx: int = 0) -> list[Group]:  # type: ignore[override]
        """Cold traces of held-out problems; callbacks compute the metrics. The same noise every time it is called."""
        return self.team.cold([p for p in batch if self.fits(p)], self.eval_samples, (self.seed, "eval"))

    def test_step(self, batch: list[Problem], batch_idx: int, dataloader_idx: int = 0) -> list[Group]:  # type: ignore[override]
        """As in validation, on the test split."""
        return self.validation_step(batch, batch_idx, dataloader_idx)

    def predict_step(self, batch: list[Problem], batch_idx: int, dataloader_idx: int = 0) -> list[dict[str, Any]]:
        """Answers of every peer to every problem, and the team's majority, as plain data."""
        return [prediction(group) for group in self.validation_step(batch, batch_idx)]

    # --- logging ------------------------------------------------------------------------------------------------------

    def _count_rescues(self, groups: Sequence[Group]) -> None:
        outcomes = rescue_outcomes(groups)
        hinted, rescued = self._over_ranks(len(outcomes), sum(outcomes))
        self.hinted += hinted
        self.rescued += rescued

    def _log_step(
        self, groups: list[Group], terms: dict[str, float], updates: dict[str, dict[str, float]], dropped: int
    ) -> None:
        metrics = step_metrics(groups, list(self.peer_configs), terms, updates, self.team.watch.take())
        metrics["train/dropped_problems"] = float(dropped)
        metrics["train/answer_timeouts"] = float(self.verifier.timeouts)
        metrics["train/nonfinite_steps"] = float(self.nonfinite_steps)
        optimizer: Any = self.optimizers()
        for group in optimizer.param_groups:
            metrics[f"train/{group['name']}/lr"] = group["lr"]
        metrics = self._mean_over_ranks(metrics)
        self.record = StepRecord(self.batches_done - 1, groups, metrics)
        self.log_dict(metrics, batch_size=max(len(groups), 1))

    # --- checkpoints --------------------------------------------------------------------------------------------------

    def state_dict(self, *args: Any, **kwargs: Any) -> dict[str, Any]:  # type: ignore[override]
        """Adapters only: ``<peer>.<weight>``."""
        return {
            f"{name}.{weight}": value.detach()
            for name, peer in self._peers.items()
            for weight, value in peer.adapter_parameters().items()
        }

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False) -> Any:
        """Load adapters.

        Raises:
            ValueError: The checkpoint lacks a trainable weight, holds one this team does not have, or one of another shape.
        """
        own = self.state_dict()
        missing, unexpected = sorted(own.keys() - state_dict.keys()), sorted(state_dict.keys() - own.keys())
        wrong = [n for n in own.keys() & state_dict.keys() if own[n].shape != state_dict[n].shape]
        for names, complaint in (
            (missing, "lacks"),
            (unexpected, "holds the unknown"),
            (wrong, "has another shape of"),
        ):
            if names:
                raise ValueError(
                    f"the checkpoint {complaint} adapter weight {names[0]} ({len(names)} in all); "
                    "resume with the peers and lora settings it was made with"
                )
        with torch.no_grad():
            for name, value in own.items():
                value.copy_(state_dict[name])
        return nn.modules.module._IncompatibleKeys([], [])

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add counters and random states; plain containers and tensors only, since checkpoints are read weights-only."""
        version, internal, gauss = random.getstate()
        checkpoint["core_lightning"] = {
            "batches_done": self.batches_done,
            "nonfinite_steps": self.nonfinite_steps,
            "rescued": self.rescued,
            "hinted": self.hinted,
            "settings": json.dumps(self.settings(), sort_keys=True),
            "python_rng": [version, list(internal), gauss],
            "torch_rng": torch.get_rng_state(),
            "cuda_rng": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
        }

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Restore counters and random states, and say which settings differ from those the checkpoint was made with."""
        state = checkpoint.get("core_lightning")
        if state is None:
            raise ValueError("the checkpoint was not made by core_lightning; give one from a run's checkpoints folder")
        self.batches_done = state["batches_done"]
        self.nonfinite_steps = state["nonfinite_steps"]
        self.rescued, self.hinted = state["rescued"], state["hinted"]
        for name, before, now in _differences(json.loads(state["settings"]), self.settings()):
            rank_zero_info(f"resume: {name} was {before} in the checkpoint and is now {now}; the new value holds")
        version, internal, gauss = state["python_rng"]
        random.setstate((version, tuple(internal), gauss))
        torch.set_rng_state(state["torch_rng"].cpu())
        if state["cuda_rng"] and torch.cuda.is_available():
            torch.cuda.set_rng_state_all([s.cpu() for s in state["cuda_rng"]])

    def settings(self) -> dict[str, Any]:
        """The settings of a run as plain data."""
        values = {
            "peers": {n: dataclasses.asdict(c) for n, c in self.peer_configs.items()},
            "rewards": {n: _plain(t) for n, t in self.rewards.terms.items()},
            "objective": _plain(self.objective),
        }
        for name in ("rounds", "prompt", "distance", "advantage", "credit", "schedule"):
            values[name] = dataclasses.asdict(getattr(self, name))
        for name in ("max_grad_norm", "updates_per_batch", "share_base", "seed"):
            values[name] = getattr(self, name)
        return json.loads(json.dumps(values))


class SoloReasoningModule(CollaborativeReasoningModule):
    """One peer and no rescue round: plain group-relative policy optimization, the equal-budget baseline."""

    min_peers = 1
    max_peers = 1
    default_k_rescue = 0


class TrioReasoningModule(CollaborativeReasoningModule):
    """Three peers; shows how a team of another size is declared."""

    min_peers = 3
    max_peers = 3


def _plain(value: Any) -> Any:
    """A settings object as plain data, with the class names of the objects in it."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {f.name: _plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
        return {"class": type(value).__name__, **fields}
    return value if isinstance(value, int | float | str | bool | None) else str(value)


def _differences(before: Any, now: Any, name: str = "model") -> Iterator[tuple[str, Any, Any]]:
    if isinstance(before, dict) and isinstance(now, dict):
        for key in sorted(before.keys() | now.keys()):
            yield from _differences(before.get(key), now.get(key), f"{name}.{key}")
    elif before != now:
        yield name, before, now
