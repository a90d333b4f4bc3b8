"""Strategies that no team can be trained with are refused in one line, before a model is loaded, and so are odd places."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from lightning.pytorch import Trainer
from lightning.pytorch.strategies import (
    DDPStrategy,
    ModelParallelStrategy,
    SingleDeviceStrategy,
    Strategy,
    StrategyRegistry,
)

from core_lightning import CollaborativeReasoningModule, PeerConfig
from core_lightning.cli.config_checks import check_trainer, several_processes
from core_lightning.training import strategy_checks
from core_lightning.training.placement import own_gpus
from core_lightning.training.strategies import DDP_NAMES, ShardedTeamStrategy, TeamStrategy
from core_lightning.training.strategy_checks import check_loaded, check_named_strategy, check_strategy

Config = Callable[..., Path]
Refused = Callable[..., str]

#: Of every name that Lightning knows, how the line goes on behind it; None where a team is trained.
NAMED = {
    **dict.fromkeys([*DDP_NAMES, "team", "sharded", "single_device"]),
    **{
        f"ddp_{start}{rest}": ", whose processes start from within this one"
        for start in ("spawn", "fork", "notebook")
        for rest in ("", "_find_unused_parameters_false", "_find_unused_parameters_true")
    },
    **{
        f"deepspeed{stage}": ", which steps one model by its own optimizer"
        for stage in ("", "_stage_1", "_stage_2", "_stage_2_offload", "_stage_3", "_stage_3_offload", "_stage_3_offload_nvme")
    },
    **dict.fromkeys(["fsdp", "fsdp_cpu_offload"], ", which cannot shard frozen and trained weights of several models"),
    **dict.fromkeys(["xla", "xla_debug", "single_xla"], ", and samples are drawn in float64, which a TPU has not"),
    "single_tpu": ", ",
}


def test_the_table_has_every_name() -> None:
    assert set(StrategyRegistry.available_strategies()) == set(NAMED)


@pytest.mark.parametrize(("name", "line"), NAMED.items())
def test_name(name: str, line: str | None) -> None:
    if line is None:
        check_named_strategy(name, several=False)
        return
    with pytest.raises(ValueError, match=f"^trainer.strategy is {name}{line}") as refused:
        check_named_strategy(name, several=False)
    assert "\n" not in str(refused.value)


LIGHTNING = "lightning.pytorch.strategies"


@pytest.mark.parametrize(
    ("strategy", "arguments", "line"),
    [
        ("ModelParallelStrategy", {}, "ModelParallelStrategy, which shards what a module shards itself"),
        ("DDPStrategy", {"start_method": "fork"}, r"DDPStrategy, whose processes start from within this one \(fork\)"),
        ("DDPStrategy", {"model_averaging_period": 2}, "DDPStrategy with model_averaging_period, which has no effect"),
        ("DDPStrategy", {"start_method": "popen", "ddp_comm_hook": None}, None),
    ],
)
def test_class_in_a_config(strategy: str, arguments: dict[str, Any], line: str | None) -> None:
    given = SimpleNamespace(class_path=f"{LIGHTNING}.{strategy}", init_args=SimpleNamespace(**arguments))
    if line is None:
        check_named_strategy(given, several=True)
        return
    with pytest.raises(ValueError, match=f"^trainer.strategy is {line}"):
        check_named_strategy(given, several=True)


@pytest.mark.parametrize(
    ("argument", "line"),
    [
        ("--trainer.strategy=ddp_notebook", "trainer.strategy is ddp_notebook, whose processes start from within this one (fork)"),
        ("--trainer.strategy=fsdp", "trainer.strategy is fsdp, which cannot shard frozen and trained weights"),
        ("--trainer.strategy=dp", "trainer.strategy is 'dp', which there is not; set it to auto, ddp, team or sharded"),
        (
            f'--trainer.strategy={{"class_path": "{LIGHTNING}.ModelParallelStrategy"}}',
            "trainer.strategy is ModelParallelStrategy, which shards what a module shards itself",
        ),
        (
            '--trainer.strategy={"class_path": "core_lightning.training.strategies.TeamStrategy", "init_args": {"wait": 0}}',
            "trainer.strategy wait is 0.0; give seconds, above 0",
        ),
        pytest.param(
            "--model.peers.a.device=own",
            "peers.a.device is 'own', and torch finds no GPU here; set it to auto or cpu",
            marks=pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU"),
        ),
    ],
)
def test_command_line(config: Config, refused: Refused, argument: str, line: str) -> None:
    assert line in refused("fit", f"--config={config()}", argument)


def test_several_processes_in_a_notebook(config: Config, refused: Refused, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(strategy_checks, "_IS_INTERACTIVE", True)
    line = refused("fit", f"--config={config()}", "--trainer.devices=2")
    assert line.startswith("trainer.strategy is auto with several processes; in a notebook a run is one process: set devices")


class Own(Strategy):
    """Somebody's own."""


@pytest.mark.parametrize(
    ("strategy", "line"),
    [
        (ModelParallelStrategy(), "ModelParallelStrategy, which shards what a module shards itself"),
        (DDPStrategy(start_method="spawn"), r"DDPStrategy, whose processes start from within this one \(spawn\)"),
        (DDPStrategy(ddp_comm_hook=print), "DDPStrategy with ddp_comm_hook, which has no effect"),
    ],
)
def test_plain_python(llama_folder: Path, tmp_path: Path, strategy: Strategy, line: str) -> None:
    """The earliest hook of a module is asked, because a Trainer looks at none when it is made."""
    peers = {n: PeerConfig(str(llama_folder), quantization="none") for n in "ab"}
    module = CollaborativeReasoningModule(peers, seed=1)
    module.trainer = Trainer(strategy=strategy, accelerator="cpu", devices=1, logger=False, default_root_dir=tmp_path)
    with pytest.raises(ValueError, match=f"^trainer.strategy is {line}"):
        module.configure_callbacks()
    assert not len(module.peers)


def test_one_device_where_several_were_asked_for(tmp_path: Path) -> None:
    asked = Trainer(strategy="single_device", accelerator="cpu", devices=2, logger=False, default_root_dir=tmp_path)
    assert asked.num_devices == 1
    with pytest.raises(ValueError, match="one of a single device, and devices asks for 2; set it to auto"):
        check_strategy(asked, {})
    check_strategy(Trainer(accelerator="cpu", devices=1, logger=False, default_root_dir=tmp_path), {})


def test_an_unknown_class(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="Own, with which no team has been trained; set it to auto, ddp, team or sharded"):
        strategy_checks._refuse("Own", Own, {})


@pytest.mark.parametrize(
    ("peer", "module", "line"),
    [
        ({}, {"share_base": True}, "model.share_base is on, and a shared base cannot be sharded; switch it off"),
        ({}, {"parallel_peers": "always"}, "model.parallel_peers is always, and sharded peers take turns; set it to auto"),
        ({"quantization": "nf4"}, {}, "peers.b.quantization is nf4, and packed weights cannot be sharded; set it to none"),
        ({"device": "cpu"}, {}, "peers.b.device is cpu, and a sharded peer is on all devices; set it to auto"),
        ({"sampling_weights": "half"}, {}, "peers.b.sampling_weights is half, which keeps a whole copy; set it to own"),
        ({}, {}, None),
    ],
)
def test_what_does_not_go_with_shards(peer: dict[str, Any], module: dict[str, Any], line: str | None) -> None:
    plain = {"quantization": "none"}
    peers = {"a": PeerConfig("m", **plain), "b": PeerConfig("m", **(plain | peer))}
    trainer = SimpleNamespace(strategy=ShardedTeamStrategy())
    trainer.strategy.parallel_devices = [torch.device("cpu")] * 2
    if line is None:
        check_strategy(trainer, peers, **module)
        return
    with pytest.raises(ValueError, match=f"^{line}"):
        check_strategy(trainer, peers, **module)


@pytest.mark.parametrize(("strategy", "shards"), [(ShardedTeamStrategy, None), (TeamStrategy, "some")])
def test_peers_that_were_loaded_for_another_trainer(strategy: type[Strategy], shards: str | None) -> None:
    trainer, loaded = SimpleNamespace(strategy=strategy()), [SimpleNamespace(shards=shards)]
    with pytest.raises(ValueError, match="for another trainer; make the module anew, and give ckpt_path"):
        check_loaded(trainer, loaded)
    check_loaded(SimpleNamespace(strategy=TeamStrategy() if shards is None else ShardedTeamStrategy()), loaded)


# --- places -------------------------------------------------------------------------------------------------------------


def on_gpus(kind: type[DDPStrategy], processes: int) -> Any:
    """A trainer as it would be on a machine with GPUs, as far as its strategy is looked at."""
    strategy = kind(parallel_devices=[torch.device("cuda", i) for i in range(processes)])
    strategy.cluster_environment = SimpleNamespace(local_rank=lambda: 0)
    return SimpleNamespace(strategy=strategy)


@pytest.mark.parametrize(
    ("kind", "processes", "device", "line"),
    [
        (DDPStrategy, 2, "cuda:1", "device is cuda:1, which all 2 processes would share; set it to auto, or own for one each"),
        (TeamStrategy, 2, "cuda:1", "device is cuda:1, which all 2 processes would share"),
        (DDPStrategy, 1, "cuda:1", "device is cuda:1, and DDP takes no module on several devices; set trainer.strategy to team"),
        (DDPStrategy, 2, "cpu", "device is cpu, and DDP takes no module on several devices"),
        (DDPStrategy, 1, "cuda:0", None),
        (TeamStrategy, 1, "cuda:1", None),  # a process on each of several machines
        (TeamStrategy, 2, "cpu", None),
        (TeamStrategy, 2, "auto", None),
    ],
)
def test_a_peer_that_is_placed_by_hand(kind: type[DDPStrategy], processes: int, device: str, line: str | None) -> None:
    peers = {"a": PeerConfig("m"), "b": PeerConfig("m", device=device)}
    if line is None:
        check_strategy(on_gpus(kind, processes), peers)
        return
    with pytest.raises(ValueError, match=f"^peers.b.{line}"):
        check_strategy(on_gpus(kind, processes), peers)


@pytest.mark.parametrize(("processes", "wanting", "count"), [(1, 1, 2), (2, 1, 4), (2, 2, 6), (4, 1, 8), (3, 1, 8)])
def test_no_two_peers_of_a_machine_share_a_gpu(processes: int, wanting: int, count: int) -> None:
    names, trainers = [f"p{i}" for i in range(wanting)], list(range(processes))
    given = [own_gpus(names, trainers, rank, count) for rank in range(processes)]
    used = [*trainers, *(gpu for mine in given for gpu in mine.values())]
    assert all(list(mine) == names for mine in given)
    assert len(set(used)) == len(used) == processes * (1 + wanting)
    assert max(used) < count
    with pytest.raises(ValueError, match=f"need {processes * wanting} GPUs beside the {processes} of trainer.devices"):
        own_gpus(names, trainers, 0, processes * (1 + wanting) - 1)


def test_gpus_that_were_chosen_by_number() -> None:
    assert own_gpus(["b"], [1, 3], 1, 4) == {"b": 2}


@pytest.mark.parametrize(
    ("settings", "several"),
    [
        ({}, False),
        ({"devices": 2}, True),
        ({"devices": "1"}, False),
        ({"devices": [0]}, False),
        ({"devices": "0,1"}, True),
        ({"devices": "0,"}, False),
        ({"num_nodes": 2, "devices": 1}, True),
    ],
)
def test_how_many_processes_a_config_asks_for(settings: dict[str, Any], several: bool) -> None:
    trainer = SimpleNamespace(**({"accelerator": "cpu", "devices": "auto", "num_nodes": 1} | settings))
    assert several_processes(trainer) == several


def test_a_tpu() -> None:
    trainer = SimpleNamespace(accelerator="tpu", devices="auto", num_nodes=1, strategy="auto")
    with pytest.raises(ValueError, match=r"^trainer\.accelerator is tpu, and samples are drawn in float64"):
        check_trainer(trainer, fit=False)


def test_strategies_of_one_device_are_left_alone() -> None:
    strategy_checks._refuse("single_device", SingleDeviceStrategy, {})
