"""Two processes end together when one is told to; when one is killed, the other one says so and ends."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch

pytestmark = pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="signals of Unix")


def run_two(folder: Path, number: int) -> list[tuple[int, str]]:
    """Exit code and last printed line of each rank, started as a launcher of several machines would."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    ranks = []
    for rank in ("0", "1"):
        place = {"LOCAL_RANK": rank, "NODE_RANK": "0", "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
        environment = os.environ | place | {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
        script = str(Path(__file__).with_name("ended_processes.py"))
        arguments = [sys.executable, script, str(folder), str(number)]
        ranks.append(subprocess.Popen(arguments, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True))
    ended = []
    for process in ranks:
        out, error = process.communicate(timeout=300)
        ended.append((process.returncode, (out.splitlines() or [error[-2000:]])[-1]))
    return ended


@pytest.mark.parametrize("order", [signal.SIGTERM, signal.SIGINT])
def test_all_end_after_the_step_in_which_one_was_told(tmp_path: Path, order: int) -> None:
    assert run_two(tmp_path, order) == [(0, "told to end"), (0, "told to end")]
    saved = torch.load(tmp_path / "checkpoints/last.ckpt", weights_only=True)
    assert saved["loops"]["fit_loop"]["epoch_loop.batch_progress"]["total"]["processed"] == 3


def test_the_others_of_a_killed_one(tmp_path: Path) -> None:
    first, second = run_two(tmp_path, signal.SIGKILL)
    assert first == (0, "lost a rank")
    assert second[0] == -signal.SIGKILL
    assert (tmp_path / "checkpoints/last.ckpt").exists()  # from before the first step
