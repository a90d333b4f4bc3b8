"""Two processes that share every step do what one does with the doubled batch, also when a rank has no signal."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from pytest_httpserver import HTTPServer

import two_processes
from core_lightning.peers.peer import Peer, Scored
from runs import ACCELERATOR, Diary, fit, of_peer, peer, same
from served import ServedModel
from sharded_processes import LORA, team
from two_processes import run, run_drawing

pytestmark = pytest.mark.skipif(
    ACCELERATOR != "cpu" and torch.cuda.device_count() < 2, reason="needs two GPUs"
)
Weights = list[dict[str, torch.Tensor]]


def all_alike(one: Weights, first: Weights, second: Weights) -> None:
    """After every step both processes have the same weights, and those of one process up to rounding."""
    assert len(one) == len(first) == len(second)
    for alone, ours, theirs in zip(one, first, second, strict=True):
        assert same(ours, theirs)
        for name, weight in alone.items():
            torch.testing.assert_close(ours[name], weight, atol=1e-5, rtol=1e-4)


def of_one(diary: Diary, step: int, of_two: list[dict[str, float]]) -> dict[str, float]:
    """The metrics of one process, but for what hangs on the clock, and a percentile, which two processes do not know."""
    own = diary.metrics[step]
    other = ("time/", "/tokens_per_second", "/off_policy_ratio_p99")
    return {name: of_two[step][name] if any(part in name for part in other) else value for name, value in own.items()}


@dataclass
class Two:
    """What two processes have left, and what one had left for them."""

    folder: Path
    ranks: list[dict[str, Any]]
    plain: Diary
    begun: Any
    served: ServedModel


@pytest.fixture(scope="module")
def two(
    llama_folder: Path, neox_folder: Path, tmp_path_factory: pytest.TempPathFactory, make_httpserver: HTTPServer
) -> Two:
    """One start of two processes, which takes longer than most of what they do."""
    folder = tmp_path_factory.mktemp("two")
    make_httpserver.clear()
    served = ServedModel(make_httpserver, llama_folder)
    plain, begun = Diary(save_after=2, path=folder / "plain.ckpt"), team(llama_folder, neox_folder)
    fit(begun, folder, plain, batch_size=4, max_epochs=1)
    begun.peers["a"].save_adapter(folder / "plain-adapter")

    script = two_processes.__file__
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
    url = make_httpserver.url_for("/").rstrip("/")
    arguments = [sys.executable, script, str(folder), str(llama_folder), str(neox_folder), url]
    finished = subprocess.run(arguments, env=environment, capture_output=True, text=True, timeout=600, check=False)
    assert finished.returncode == 0, finished.stderr[-3000:]
    ranks = [torch.load(folder / f"rank-{r}.pt", weights_only=True) for r in (0, 1)]
    return Two(folder, ranks, plain, begun, served)


def test_two_processes_equal_one(two: Two, llama_folder: Path, neox_folder: Path, tmp_path: Path) -> None:
    ranks = two.ranks
    one = run(tmp_path / "one", llama_folder, neox_folder, 4)
    # The same problems in every step, dealt out.
    for step, order in enumerate(one.order):
        assert sorted(order) == sorted(ranks[0]["order"][step] + ranks[1]["order"][step])
    assert same(ranks[0]["start"], ranks[1]["start"])
    assert same(ranks[0]["start"], one.start)
    all_alike(one.weights, *(rank["weights"] for rank in ranks))
    moved = {"a": 0, "b": 0}
    before = one.start
    for step, weights in enumerate(one.weights):
        for name in "ab":
            stays = same(of_peer(before, name), of_peer(weights, name))
            previous = ranks[0]["weights"][step - 1] if step else one.start
            assert stays == same(of_peer(previous, name), of_peer(ranks[0]["weights"][step], name))
            moved[name] += not stays
        before = weights
    # So do two that hold a part of every layer, and that have not the same to do.
    assert sum(rank["empty"] for rank in ranks) > 0
    all_alike(one.weights, *(rank["sharded"] for rank in ranks))
    # Peer b has a signal on one problem of eight: two steps of four, on one rank each.
    assert moved["a"] > moved["b"] == 2

    # A loss that is infinite on one rank only is left out on both.
    start, skipped, taken = ranks[0]["broken"]
    assert all(same(x, y) for x, y in zip(ranks[0]["broken"], ranks[1]["broken"], strict=True))
    assert same(of_peer(start, "a"), of_peer(skipped, "a"))
    assert not same(of_peer(start, "b"), of_peer(skipped, "b"))
    assert not same(of_peer(skipped, "a"), of_peer(taken, "a"))

    for step, metrics in enumerate(one.metrics):
        first, second = (rank["metrics"][step] for rank in ranks)
        assert first.keys() == second.keys() == metrics.keys()
        assert first == pytest.approx(second, nan_ok=True)  # every rank knows the team's means
        assert first == pytest.approx(of_one(one, step, ranks[0]["metrics"]), rel=1e-3, abs=1e-5, nan_ok=True)
        # The running rates, which adaptive credit looks at, are those of all processes.
        assert ranks[0]["rates"][step] == ranks[1]["rates"][step]
        assert ranks[0]["rates"][step] == pytest.approx(one.rates[step])
    assert sum(m["train/hints"] for m in one.metrics) > 0

    # Further problems are dealt out as well, and what decides on them is counted over both.
    drawing = run_drawing(tmp_path / "drawing", llama_folder, neox_folder, 4)
    for step, weights in enumerate(drawing.weights):
        drawn = drawing.metrics[step]["train/drawn_problems"]
        for rank in ranks:
            # The two have not the same number of problems, so means of their means would be other numbers.
            assert rank["drawing_metrics"][step] == pytest.approx(of_one(drawing, step, rank["drawing_metrics"]), rel=1e-3, abs=1e-5, nan_ok=True)
        sampled = sorted(ranks[0]["sampled"][step] + ranks[1]["sampled"][step])
        assert sampled == sorted({key[0] for key in drawing.traces[step]})
        assert len(sampled) == drawn
        assert same(ranks[0]["drawing"][step], ranks[1]["drawing"][step])
        for name, weight in weights.items():
            torch.testing.assert_close(ranks[0]["drawing"][step][name], weight, atol=1e-5, rtol=1e-4)
    assert any(m["train/unused_problems"] > 0 for m in drawing.metrics)
    all_alike(drawing.weights, *(rank["sharded_drawing"] for rank in ranks))

    # What was sampled a step ahead comes back to the rank that it is for.
    for rank in ranks:
        assert len(rank["ahead"]) == 4
        assert len(rank["resumed"]) == 2
        assert all(map(same, rank["resumed"], rank["ahead"][2:]))
        assert all(map(same, rank["ahead"], ranks[0]["ahead"]))
    # And to one that holds a part of every layer from then on.
    all_alike(ranks[0]["ahead"][2:], *(rank["resumed_in_parts"] for rank in ranks))


def test_files_and_samples_of_sharded_peers(two: Two, llama_folder: Path, neox_folder: Path) -> None:
    ranks, plain, begun, folder = [rank["parts"] for rank in two.ranks], two.plain, two.begun, two.folder

    # Each holds half of the layers, and all of the adapters.
    assert [rank["share"] for rank in ranks] == pytest.approx([0.5, 0.5])
    assert all(same(*both) for both in zip(*(rank["weights"] for rank in ranks), strict=True))
    assert not same(ranks[0]["weights"][0], ranks[0]["weights"][-1])
    # A resumed run is the uninterrupted one, bit for bit.
    assert len(ranks[0]["weights"]) == 4
    assert same(ranks[0]["weights"][3], ranks[0]["again"][-1])
    assert repr(ranks[0]["figures"]) == repr(ranks[1]["figures"])  # some are no number
    assert ranks[0]["figures"]

    # What was sampled has the probabilities that a whole peer, as it was before the first step, gives it.
    whole = {n: Peer(n, peer(f, lora=LORA), torch.device("cpu")) for n, f in (("a", llama_folder), ("b", neox_folder))}
    for name, one in whole.items():
        own = of_peer(plain.start, name)
        for weight, parameter in one.adapter_parameters().items():
            parameter.data.copy_(own[f"{name}.{weight}"])
        samples = [s for rank in ranks for s in rank["samples"] if s[0] == name]
        assert len(samples) > 8
        for _, prompt, tokens, sampled in samples:
            with torch.no_grad():
                expected = one.logprobs([Scored(prompt, tokens)])[0][0]
            torch.testing.assert_close(torch.tensor(sampled), expected, atol=1e-4, rtol=0)

    # From a server, whose log-probabilities are compared with those of the layers in parts (tolerance 1e-3 a token).
    assert len(two.served.asked) > 16
    assert all(same(*both) for both in zip(*(rank["from_server"] for rank in ranks), strict=True))

    # Checkpoint and adapter of a sharded run begin a plain one, and the other way round.
    after, going_on = Diary(), team(llama_folder, neox_folder)
    fit(going_on, folder, after, batch_size=4, max_epochs=2, ckpt_path=folder / "sharded.ckpt")
    assert same(after.start, ranks[0]["weights"][2])
    assert len(after.weights) == 1
    started = Peer("a", peer(llama_folder, lora=LORA, adapter=str(folder / "adapter-0")), torch.device("cpu"))
    end = of_peer(ranks[0]["weights"][-1], "a")
    assert same({f"a.{n}": p.detach() for n, p in started.adapter_parameters().items()}, end)
    assert same(ranks[0]["from_plain"], plain.weights[-1])
    assert same(of_peer(ranks[0]["started"], "a"), of_peer(begun.state_dict(), "a"))
