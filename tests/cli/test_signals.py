from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

from core_lightning.cli.signals import SecondInterrupt, end_on_hang_up
from killed_runs import run_in_process

pytestmark = pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="signals of Unix")


@pytest.fixture
def ended() -> object:
    """How often the process was told to end."""
    told: list[int] = []
    before = {name: signal.getsignal(name) for name in (signal.SIGTERM, signal.SIGHUP)}
    signal.signal(signal.SIGTERM, lambda number, _: told.append(number))
    yield told
    for name, handler in before.items():
        signal.signal(name, handler)


def test_a_closed_terminal_is_an_order_to_end(ended: list[int]) -> None:
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    end_on_hang_up()
    os.kill(os.getpid(), signal.SIGHUP)
    assert ended == [signal.SIGTERM]


def test_nohup_stays(ended: list[int]) -> None:
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    end_on_hang_up()
    os.kill(os.getpid(), signal.SIGHUP)
    assert ended == []


def interrupted_twice(folder: Path) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # as Lightning does
    SecondInterrupt().on_exception(None, None, KeyboardInterrupt())  # type: ignore[arg-type]
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(60)


def test_a_second_interrupt_ends_at_once(tmp_path: Path) -> None:
    assert run_in_process(interrupted_twice, tmp_path, after=50) == 130
