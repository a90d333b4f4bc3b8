"""What Lightning asks of peers that train together, whatever a step is: their weights, one optimizer, their checkpoints."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule
from lightning.pytorch.cli import OptimizerCallable
from torch import nn

from core_lightning.peers.config import PeerConfig
from core_lightning.peers.peer import Peer
from core_lightning.training.checkpoint import load_adapters
from core_lightning.training.checks import check_trainer
from core_lightning.training.lanes import Parallel
from core_lightning.training.optimizer import group_settings, one_optimizer, put_settings
from core_lightning.training.placement import placed
from core_lightning.training.ranks import sum_over_ranks
from core_lightning.training.settings import ScheduleSettings
from core_lightning.training.strategies import TeamStrategy
from core_lightning.training.strategy_checks import check_loaded, check_strategy
from core_lightning.training.team import load_peers


class TeamModule(LightningModule):
    """Peers that are loaded once and moved by one optimizer, with manual optimization; a subclass says what a step is.

    Attributes:
        peers: The loaded peers by name; empty until ``configure_model``.
        batches_done: Finished training steps of the run.

    Args:
        peers: The team, by name.
        optimizer: Optimizer of all adapters, one parameter group per peer.
        schedule: Learning rate over training.
        updates_per_batch: Optimizer steps on each batch of traces.
        share_base: Peers of the same model, quantization and device share one copy of it in memory.
        parallel_peers: Whether peers sample and learn at the same time.
        seed: Seed of adapter initialisation.
    """

    def __init__(
        self,
        peers: Mapping[str, PeerConfig],
        optimizer: OptimizerCallable,
        schedule: ScheduleSettings,
        updates_per_batch: int,
        share_base: bool,
        parallel_peers: Parallel,
        seed: int,
    ) -> None:
        super().__init__()
        self.automatic_optimization = False
        # Checkpoints hold adapters only; load_state_dict checks that none is missing.
        self.strict_loading = False
        self.peer_configs = dict(peers)
        self.make_optimizer = optimizer
        self.schedule = schedule
        self.updates_per_batch = updates_per_batch
        self.share_base = share_base
        self.parallel_peers = parallel_peers
        self.seed = seed
        self.peers = nn.ModuleDict()
        self.batches_done = 0
        self._planned = math.inf

    # --- weights ------------------------------------------------------------------------------------------------------

    def configure_model(self) -> None:
        """Load the peers on this process's device."""
        strategy = self.trainer.strategy if self._trainer is not None else None
        device = torch.device("cpu") if strategy is None else strategy.root_device
        take = strategy.take if isinstance(strategy, TeamStrategy) else None
        # A peer says itself where each of its tensors is. Lightning calls this hook with its device as the default of all
        # tensors, where numbers meant for the processor would land on a GPU.
        with torch.device("cpu"), torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)  # adapter initialisation does not depend on what ran before
            self.peers = load_peers(placed(self.peer_configs, strategy), device, self.share_base, take)

    @property
    def _peers(self) -> dict[str, Peer]:
        return dict(self.peers.items())  # type: ignore[arg-type]

    def setup(self, stage: str) -> None:
        """Refuse trainer settings that cannot work with manual optimization of several adapters."""
        if stage == "fit":
            check_trainer(self.trainer, self.updates_per_batch)

    def configure_callbacks(self) -> Sequence[Callback]:
        """None; no other hook comes as early, so the trainer is looked at here.

        Raises:
            ValueError: The trainer's strategy is none that a team can be trained with.
        """
        check_strategy(self.trainer, self.peer_configs, self.share_base, self.parallel_peers)
        check_loaded(self.trainer, self._peers.values())
        return []

    # --- one optimizer, one schedule ----------------------------------------------------------------------------------

    def configure_optimizers(self) -> Any:
        """One optimizer with a parameter group per peer, so that ``global_step`` does not count peers."""
        optimizer = one_optimizer(self._peers.values(), self.make_optimizer)
        self._optimizer_settings = group_settings(optimizer)
        scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: self.schedule.factor(step, self._planned))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def on_train_start(self) -> None:
        """Fix the schedule's length, and let the optimizer's settings win over those a checkpoint brought back."""
        # Not earlier: asking for the length sets up the loader, and then Lightning never restores its saved position.
        self._planned = self.total_batches()
        optimizer: Any = self.optimizers()
        scheduler: Any = self.lr_schedulers()
        put_settings(self._optimizer_settings, optimizer, scheduler)

    def total_batches(self) -> float:
        """Training batches of the whole run, infinite when the trainer sets no end."""
        batches = float(self.trainer.estimated_stepping_batches)  # max_steps, where that is less
        by_limit = self.trainer.max_steps / self.updates_per_batch if self.trainer.max_steps > 0 else math.inf
        return min(batches, by_limit)

    @property
    def progress(self) -> float:
        """Share of training done, in [0, 1]; 0 when the run has no end."""
        return min(1.0, self.batches_done / self._planned) if self._planned > 0 else 0.0

    @property
    def _loader(self) -> Any:
        return self.trainer.train_dataloader

    # --- several processes --------------------------------------------------------------------------------------------

    def _unsynced(self) -> AbstractContextManager[Any]:
        # Gradients are summed by hand, once a step, see sum_gradients.
        strategy = self.trainer.strategy
        return strategy.block_backward_sync() if hasattr(strategy, "block_backward_sync") else nullcontext()

    def over_ranks(self, *values: float) -> list[float]:
        """Each number summed over all processes, which must all call this."""
        return sum_over_ranks(values, self.trainer.strategy.root_device)

    # --- checkpoints --------------------------------------------------------------------------------------------------

    def state_dict(self, *args: Any, **kwargs: Any) -> dict[str, Any]:  # type: ignore[override]
        """Adapters only: ``<peer>.<weight>``."""
        return {
            f"{name}.{weight}": value.detach()
            for name, peer in self._peers.items()
            for weight, value in peer.adapter_parameters().items()
        }

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False) -> Any:
        """Load adapters; every weight must be there, and fit."""
        load_adapters(self.state_dict(), state_dict)
        return nn.modules.module._IncompatibleKeys([], [])
