"""Several processes on one team: as DDP, but without its wrapper, and told apart whether nobody comes or one is gone.

The adapters' gradients are summed once a step by :func:`~core_lightning.training.ranks.sum_gradients`, so nothing of DDP's
wrapper is of use. It takes no module on several GPUs, and sends every frozen weight from the first process to all others.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import torch
from lightning.fabric.plugins.environments import ClusterEnvironment, TorchElasticEnvironment
from lightning.fabric.utilities.distributed import _init_dist_connection
from lightning.fabric.utilities.seed import reset_seed
from lightning.pytorch.strategies import DDPStrategy, StrategyRegistry
from lightning.pytorch.trainer.states import TrainerFn
from torch import Tensor, distributed
from torch.distributed.device_mesh import init_device_mesh

from core_lightning.peers.compute.sharding import ShardedLayers
from core_lightning.peers.turns import Turns
from core_lightning.training.ranks import ARRIVALS, MeetingError, arrive, why_not_met

#: Names of Lightning for what :class:`TeamStrategy` does.
DDP_NAMES = ("ddp", "ddp_find_unused_parameters_false", "ddp_find_unused_parameters_true")


class TeamStrategy(DDPStrategy):
    """Every process has all peers and its share of the problems. The command line takes it wherever Lightning takes DDP.

    Args:
        wait: Seconds that the processes wait for each other at the start.
        timeout: Seconds that an exchange may take later: the time by which one process may be slower in a step or in an
            evaluation.
        process_group_backend: What they talk by; unset, ``nccl`` between GPUs and ``gloo`` between processors.
        parallel_devices: Of the processes of this machine; unset, those of the trainer.
        cluster_environment: Who says where the others are; unset, what Lightning finds.

    Raises:
        MeetingError: Somebody did not come, or the place to meet is taken.
    """

    def __init__(
        self,
        wait: float = 300.0,
        timeout: float = 1800.0,
        process_group_backend: str | None = None,
        parallel_devices: list[torch.device] | None = None,
        cluster_environment: ClusterEnvironment | None = None,
    ) -> None:
        for name, value in (("wait", wait), ("timeout", timeout)):
            if not value > 0:
                raise ValueError(f"trainer.strategy {name} is {value}; give seconds, above 0")
        super().__init__(
            parallel_devices=parallel_devices,
            cluster_environment=cluster_environment,
            timeout=timedelta(seconds=timeout),
            process_group_backend=process_group_backend,
        )
        self._wait = timedelta(seconds=wait)

    def setup_distributed(self) -> None:
        """Meet the other processes. Lightning waits for them as long as for an exchange, half an hour."""
        reset_seed()
        self.set_world_ranks()
        self._process_group_backend = self._get_process_group_backend()
        options: dict[str, Any] = {"timeout": self._timeout}
        if self.root_device.type != "cpu":
            options["device_id"] = self.root_device
        place = self.cluster_environment
        assert place is not None
        if not distributed.is_initialized() and not isinstance(place, TorchElasticEnvironment):  # torchrun has met
            options["store"] = self._meet(place.main_address, place.main_port)
        _init_dist_connection(place, self._process_group_backend, **options)

    def _meet(self, address: str, port: int) -> distributed.Store:
        try:
            store = distributed.TCPStore(
                address, port, self.world_size, is_master=self.global_rank == 0, timeout=self._wait, multi_tenant=True
            )
        except (distributed.DistError, RuntimeError) as error:
            raise MeetingError(
                why_not_met(error, address, port, self.world_size, self._wait.total_seconds())
            ) from error
        assert self._timeout is not None
        store.set_timeout(self._timeout)
        return store

    def setup(self, trainer: Any) -> None:
        """As DDP's, without the wrapper."""
        assert self.accelerator is not None
        assert self.model is not None
        if not hasattr(self.model, "peer_configs"):
            raise ValueError(
                f"trainer.strategy {type(self).__name__} leaves sums to the module, a CollaborativeReasoningModule; "
                f"set it to ddp for {type(self.model).__name__}"
            )
        self.accelerator.setup(trainer)
        self.model = self.precision_plugin.convert_module(self.model)
        self.model_to_device()
        if trainer.state.fn == TrainerFn.FITTING:
            self.setup_optimizers(trainer)
        self.setup_precision_plugin()

    @torch.no_grad()
    def take(self, peer: Any) -> None:
        """Let a peer that was just loaded begin as that of the first process.

        Raises:
            ValueError: Its base is another one in another process.
        """
        total = torch.tensor(fingerprint(peer), device=self.root_device)
        least, most = total.clone(), total
        distributed.all_reduce(least, distributed.ReduceOp.MIN)
        distributed.all_reduce(most, distributed.ReduceOp.MAX)
        if bool(least != most):
            raise ValueError(
                f"peers.{peer.name}.model {peer.config.model} has other weights, or another type, in another process; give "
                "a revision and a dtype, or the same folder on every machine"
            )
        for parameter in peer.adapter_parameters().values():
            value = parameter.detach().to(self.root_device)
            distributed.broadcast(value, 0)
            parameter.copy_(value)


class ShardedTeamStrategy(TeamStrategy):
    """As :class:`TeamStrategy`, but each process holds only its part of every layer of the frozen bases (FSDP2).

    A peer that samples itself is whole in every process while it does so, one peer at a time. One that samples from a server
    never is, after it was loaded. Adapters are whole everywhere, and checkpoints are those of any other run.
    """

    turns: Turns | None = None
    """Of the peers of the module; they outlive a trainer."""

    def take(self, peer: Any) -> None:
        """Shard a peer that was just loaded, and look whether it still computes the same.

        Raises:
            ValueError: It cannot be sharded, or its base is another one in another process.
        """
        super().take(peer)
        if self.turns is None:
            self._arrive_together(Turns(self.root_device))
        assert self.turns is not None
        before = probe(peer)
        mesh = init_device_mesh(self.root_device.type, (self.world_size,))
        try:
            layers = ShardedLayers(peer.backbone, mesh)
        except ValueError as error:
            raise ValueError(
                f"peers.{peer.name}.model {peer.config.model} {error}, and cannot be sharded; set trainer.strategy to team"
            ) from error
        peer.shards = self.turns.add(peer, layers)
        after = probe(peer)
        self.turns.join()
        if not all(map(_alike, before, after)):
            raise ValueError(
                f"peers.{peer.name}.model {peer.config.model} computes something else when it is sharded; set "
                "trainer.strategy to team"
            )

    def setup(self, trainer: Any) -> None:
        """As without shards."""
        for peer in getattr(self.model, "peers", {}).values():  # whom another trainer may have had loaded
            self._arrive_together(peer.shards.turns)
        super().setup(trainer)

    def _arrive_together(self, turns: Turns) -> None:
        self.turns = turns
        ARRIVALS[:] = [turns.join]

    def barrier(self, *args: Any, **kwargs: Any) -> None:
        """As DDP's, when nobody has a pass left."""
        arrive()
        super().barrier(*args, **kwargs)

    def broadcast(self, obj: Any, src: int = 0) -> Any:
        """As DDP's, when nobody has a pass left."""
        arrive()
        return super().broadcast(obj, src)

    def reduce(self, *args: Any, **kwargs: Any) -> Any:
        """As DDP's, when nobody has a pass left."""
        arrive()
        return super().reduce(*args, **kwargs)

    def all_gather(self, *args: Any, **kwargs: Any) -> Tensor:
        """As DDP's, when nobody has a pass left."""
        arrive()
        return super().all_gather(*args, **kwargs)

    def teardown(self) -> None:
        """As DDP's; what follows knows nothing of these peers."""
        ARRIVALS.clear()
        super().teardown()


def probe(peer: Any) -> list[Tensor]:
    """Hidden states of a few tokens and what they give the adapter as a gradient; the peer is left as it was."""
    ids = torch.arange(1, 9, device=peer.device)[None]
    parameters = list(peer.adapter_parameters().values())
    peer.evaluate()
    with torch.enable_grad(), peer.policy():
        hidden = peer.backbone(input_ids=ids, use_cache=False).last_hidden_state
        hidden.float().square().sum().backward()
    gradients = [p.grad for p in parameters]
    for parameter in parameters:
        parameter.grad = None
    return [hidden.detach(), *(g for g in gradients if g is not None)]


def _alike(before: Tensor, after: Tensor) -> bool:
    most = 1e-4 if before.dtype == torch.float32 else 2e-2
    return bool((before - after).abs().max() <= most * before.abs().max())


def fingerprint(peer: Any) -> int:
    """The sum of all bytes of a peer's frozen weights, packed ones excepted: two GPUs may round differently as they pack."""
    return sum(map(_bytes, _frozen(peer))) % 2**62


def _frozen(peer: Any) -> Iterator[Tensor]:
    for name, parameter in peer.network.named_parameters():
        if "lora_" not in name and parameter.dtype.is_floating_point and parameter.dtype.itemsize > 1:
            yield parameter.detach()


def _bytes(weight: Tensor) -> int:
    flat = weight.contiguous().view(torch.uint8).flatten()
    return sum(int(part.sum(dtype=torch.int64)) for part in flat.split(2**26))


StrategyRegistry.register("sharded", ShardedTeamStrategy, description="Frozen bases in parts (FSDP2)", override=True)
StrategyRegistry.register("team", TeamStrategy, description="DDP without its wrapper", override=True)
