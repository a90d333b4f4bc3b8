"""Two processes end together when one is told to; when one is killed, the other one says so and ends."""

from __future__ import annotations

import multiprocessing
import signal
import socket
from pathlib import Path

import pytest
import torch

from ended_processes import one_of_two

pytestmark = pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="signals of Unix")


def run_two(folder: Path, number: int) -> list[tuple[int | None, str]]:
    """Exit code of each rank, and how its run ended."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    context = multiprocessing.get_context("forkserver")
    ranks = []
    for rank in ("0", "1"):
        place = {"LOCAL_RANK": rank, "NODE_RANK": "0", "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
        ranks.append(context.Process(target=one_of_two, args=(folder, number, place)))
        ranks[-1].start()
    for process in ranks:
        process.join(300)
    said = [folder / f"ended-{rank}" for rank in "01"]
    return [(p.exitcode, file.read_text() if file.exists() else "") for p, file in zip(ranks, said, strict=True)]


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
