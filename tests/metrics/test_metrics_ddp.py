"""Two processes that each see an uneven share report what one process reports that sees everything."""

from math import isnan
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from core_lightning.metrics import AgreementGate, ErrorOverlap, MajorityVote, PassAtK, RescueRate, TeamPassAtK

N = 4
CORRECT = torch.tensor([[1, 0], [4, 2], [0, 0], [3, 1], [0, 4]])
ANSWERS = [[["a", "b"], ["a", "a"]], [["b", "b"], ["b", None]], [["a"], ["a"]], [["b"], ["a"]], [[None], ["a"]]]


def report(rows: list[int]) -> dict[str, float]:
    passed, team, vote, gate = PassAtK(2), TeamPassAtK(2), MajorityVote(), AgreementGate()
    rescue, overlap = RescueRate(), ErrorOverlap()
    failed = CORRECT == 0
    for row in rows:
        passed.update(N, CORRECT[row])
        team.update(N, CORRECT[row : row + 1])
        right = [[a == "a" for a in peer] for peer in ANSWERS[row]]
        vote.update([[a for peer in ANSWERS[row] for a in peer]], [[r for peer in right for r in peer]])
        gate.update([ANSWERS[row]], [right])
        rescue.update(failed[row] & torch.tensor([True, False]), failed[row])
        overlap.update(failed[row : row + 1])
    flat = {"passed": passed, "team": team, "vote": vote, "rescue": rescue}
    values = {name: metric.compute() for name, metric in flat.items()} | gate.compute() | overlap.compute()
    return {name: value.item() for name, value in values.items()}


def process(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
    try:
        torch.save(report([0] if rank == 0 else [1, 2, 3, 4]), f"{folder}/{rank}.pt")
    finally:
        dist.destroy_process_group()


def test_two_processes_equal_one(tmp_path: Path) -> None:
    mp.start_processes(process, args=(str(tmp_path),), nprocs=2, start_method="forkserver")
    expected = report([0, 1, 2, 3, 4])
    assert not any(isnan(value) for value in expected.values())
    for rank in range(2):
        assert torch.load(tmp_path / f"{rank}.pt") == pytest.approx(expected, abs=1e-12)
