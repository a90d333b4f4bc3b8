"""Two processes with sharded peers leave and take the files of one, and sample from the network that they train."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from pytest_httpserver import HTTPServer

from core_lightning.peers.peer import Peer, Scored
from runs import Diary, fit, of_peer, peer, same, weights
from served import ServedModel
from sharded_processes import LORA, team


def test_sharded_peers_in_two_processes(
    llama_folder: Path, neox_folder: Path, tmp_path: Path, httpserver: HTTPServer
) -> None:
    served = ServedModel(httpserver, llama_folder)
    plain, begun = Diary(save_after=2, path=tmp_path / "plain.ckpt"), team(llama_folder, neox_folder)
    fit(begun, tmp_path, plain, batch_size=4, max_epochs=1)
    begun.peers["a"].save_adapter(tmp_path / "plain-adapter")

    script = str(Path(__file__).with_name("sharded_processes.py"))
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
    arguments = [sys.executable, script, str(tmp_path), str(llama_folder), str(neox_folder), httpserver.url_for("/").rstrip("/")]
    finished = subprocess.run(arguments, env=environment, capture_output=True, text=True, timeout=200, check=False)
    assert finished.returncode == 0, finished.stderr[-3000:]
    ranks = [torch.load(tmp_path / f"rank-{r}.pt", weights_only=True) for r in (0, 1)]

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
    assert len(served.asked) > 16
    assert all(same(*both) for both in zip(*(rank["from_server"] for rank in ranks), strict=True))
    assert not same(*ranks[0]["from_server"])

    # Checkpoint and adapter of a sharded run begin a plain one, and the other way round.
    after, going_on = Diary(), team(llama_folder, neox_folder)
    fit(going_on, tmp_path, after, batch_size=4, max_epochs=2, ckpt_path=tmp_path / "sharded.ckpt")
    assert same(after.start, ranks[0]["weights"][2])
    assert len(after.weights) == 1
    started = Peer("a", peer(llama_folder, lora=LORA, adapter=str(tmp_path / "adapter-0")), torch.device("cpu"))
    end = of_peer(ranks[0]["weights"][-1], "a")
    assert same({f"a.{n}": p.detach() for n, p in started.adapter_parameters().items()}, end)
    assert same(ranks[0]["from_plain"], plain.weights[-1])
    assert same(of_peer(ranks[0]["started"], "a"), of_peer(weights(begun), "a"))
