"""Processes of a run that do not come together: told soon, each with its own mend."""

from __future__ import annotations

import socket
from datetime import timedelta

import pytest
import torch
from lightning.fabric.plugins.environments import LightningEnvironment
from torch import distributed

from core_lightning.cli.endings import ending
from core_lightning.training.ranks import MeetingError, is_lost_rank
from core_lightning.training.strategies import TeamStrategy


def strategy(rank: int, world_size: int, wait: float = 1.0) -> TeamStrategy:
    environment = LightningEnvironment()
    environment.set_global_rank(rank)
    environment.set_world_size(world_size)
    return TeamStrategy(wait, parallel_devices=[torch.device("cpu")], cluster_environment=environment)


@pytest.fixture
def port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def line(rank: int, port: int) -> str:
    with pytest.raises(MeetingError) as error:
        strategy(rank, 2)._meet("127.0.0.1", port)
    told = ending(error.value)
    assert told == (str(error.value), 1)
    return told[0]


def test_a_machine_that_does_not_come(port: int) -> None:
    said = line(0, port)
    assert said.startswith(f"1 of 2 processes of this run came to 127.0.0.1:{port} within 1 seconds; start the command on every")


def test_a_first_machine_that_is_not_there(port: int) -> None:
    said = line(1, port)
    assert said.startswith(f"the first process of this run was not found at 127.0.0.1:{port} within 1 seconds; start it there")


def test_a_port_that_belongs_to_another_program() -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        assert line(0, port) == (
            f"port {port} of this machine is in use, perhaps by another run; set MASTER_PORT to a free one, the same on "
            "every machine"
        )
        # As Lightning's own strategies meet.
        with pytest.raises(distributed.DistError) as error:
            distributed.TCPStore("127.0.0.1", port, 2, is_master=True, timeout=timedelta(seconds=1))
        assert not is_lost_rank(error.value)
        assert ending(error.value) == (line(0, port), 1)


def test_those_who_have_met_may_take_their_time(port: int) -> None:
    store = strategy(0, 1)._meet("127.0.0.1", port)
    assert store.timeout == timedelta(seconds=1800)
