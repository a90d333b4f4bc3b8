"""The real vLLM on a processor: a server of its own, and the engine in this process. Runs with ``make test-vllm`` only."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

import tiny
from core_lightning.peers import GenerationSettings, Peer
from core_lightning.peers.sampling.client import ServerError
from core_lightning.peers.sampling.settings import ServerSettings
from naive import Scored, make_peer, naive_logprobs
from real_server import ENVIRONMENT, free_port, serving

pytestmark = pytest.mark.vllm

PROMPTS = [[5, 6, 7], [8, 9, 10, 11, 12], [13]]
SEEDS = [[1, 2], [3], [4, 5, 6]]
LIMITS = {"max_new_tokens": 24, "max_prompt_tokens": 40, "temperature": 0.8}


def made(folder: Path, engine: str, port: int = 0, **changes: object) -> Peer:
    server = ServerSettings(url=f"http://127.0.0.1:{port}", retries=1) if port else ServerSettings()
    settings = GenerationSettings(**(LIMITS | changes), engine=engine, server=server)  # type: ignore[arg-type]
    return make_peer(folder, generation=settings)


@torch.no_grad()
def gap(peer: Peer, sampled: list, prompts: list[list[int]] = PROMPTS) -> float:
    """Largest difference to the peer's own log-probabilities, from full logits in float64."""
    return max(
        float((naive_logprobs(peer, Scored(p, c.token_ids), 0.8)[0] - torch.tensor(c.logprobs)).abs().max())
        for p, group in zip(prompts, sampled, strict=True)
        for c in group
    )


def move(peer: Peer, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in peer.adapter_parameters().values():
            weight.add_(torch.randn(weight.shape, generator=generator) * 0.01)


def check_samples(peer: Peer, tolerance: float) -> None:
    """Numbers, seeds, ends, and twenty changes of the adapter."""
    sampled = peer.sample(PROMPTS, SEEDS)
    assert [len(g) for g in sampled] == [2, 1, 3]
    assert gap(peer, sampled) < tolerance
    assert peer.sample(PROMPTS, SEEDS) == sampled
    completions = [c for g in sampled for c in g]
    for c in completions:
        assert len(c.token_ids) == len(c.logprobs)
        assert c.truncated is (c.token_ids[-1] not in peer.stop_ids)
        assert not c.truncated or len(c.token_ids) == 24
    for seed in range(20):
        move(peer, seed)
        assert gap(peer, peer.sample(PROMPTS, SEEDS)) < tolerance


def check_many(peer: Peer, tolerance: float) -> None:
    """More prompts at once than vLLM reads in one pass on a processor (2,048 tokens as a server, 4,096 in process)."""
    prompts = [[5 + (i + j) % 20 for j in range(40)] for i in range(120)]
    sampled = peer.sample(prompts, [[i] for i in range(120)])
    assert gap(peer, sampled[::20], prompts[::20]) < tolerance


def check_stop(peer: Peer, free: list) -> None:
    """A completion ends with the token that completes a stop string, or it has none; its beginning is the free one's."""
    (stop,) = peer.config.generation.stop
    ended = 0
    for c, without in zip((c for g in peer.sample(PROMPTS, SEEDS) for c in g), (c for g in free for c in g), strict=True):
        assert c.token_ids == without.token_ids[: len(c.token_ids)]
        assert stop not in c.text
        assert stop not in peer.tokenizer.decode(c.token_ids[:-1])
        if len(c.token_ids) < len(without.token_ids):
            ended += 1
            assert stop in peer.tokenizer.decode(c.token_ids)
            assert not c.truncated
    assert ended


def common_text(free: list) -> str:
    return max((c.text for g in free for c in g), key=len)[4:6]


@pytest.mark.parametrize(("name", "tolerance"), [("tiny", 2e-3), ("smollm2", 2e-2)])
def test_a_server(folders: Callable[[str], Path], name: str, tolerance: float, tmp_path: Path) -> None:
    folder, port, log = folders(name), free_port(), tmp_path / "server.log"
    with serving(folder, port, log) as process:
        peer = made(folder, "server", port)
        check_samples(peer, tolerance)
        if name == "tiny":  # it takes minutes of a larger one
            check_many(peer, tolerance)
        adapters = [m for m in peer.engine.client.get("/v1/models")["data"] if m["parent"]]
        assert len(adapters) == 1
        free = peer.sample(PROMPTS, SEEDS)
        stopping = made(folder, "server", port, stop=[common_text(free)])
        stopping.load_state_dict(peer.state_dict())
        for theirs, ours in zip(
            stopping.adapter_parameters().values(), peer.adapter_parameters().values(), strict=True
        ):
            assert torch.equal(theirs, ours)
        check_stop(stopping, free)
        if name == "tiny":
            os.killpg(process.pid, signal.SIGKILL)
            process.wait(60)
            with pytest.raises(ServerError, match=f"the server at http://127.0.0.1:{port} does not answer"):
                peer.sample(PROMPTS, SEEDS)
            with serving(folder, port, log):
                assert gap(peer, peer.sample(PROMPTS, SEEDS)) < tolerance


def test_the_engine_in_this_process(folders: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch) -> None:
    for variable, value in ENVIRONMENT.items():
        monkeypatch.setenv(variable, value)
    folder = folders("tiny")
    peer = made(folder, "vllm")
    check_samples(peer, 2e-3)
    check_many(peer, 2e-3)
    assert [f.name for f in Path(peer.engine._folder).iterdir()] == [str(peer.engine._version)]
    free = peer.sample(PROMPTS, SEEDS)
    settings = GenerationSettings(**LIMITS, engine="vllm", stop=[common_text(free)])
    peer.config = type(peer.config)(str(folder), quantization="none", dtype="float32", generation=settings)
    check_stop(peer, free)


ENDS = """
import sys
from test_real_vllm import PROMPTS, SEEDS, Path, made
made(Path(sys.argv[1]), "vllm").sample(PROMPTS, SEEDS)
print("sampled", flush=True)
if sys.argv[2] == "fail":
    raise SystemExit("an error of the run")
"""


@pytest.mark.parametrize("end", ["well", "fail"])
def test_no_process_outlives_a_run(folders: Callable[[str], Path], end: str) -> None:
    paths = os.pathsep.join(map(str, [Path(__file__).parent, Path(tiny.__file__).parent, Path(__file__).parents[2]]))
    run = subprocess.Popen(
        [sys.executable, "-c", ENDS, str(folders("tiny")), end],
        env=os.environ | ENVIRONMENT | {"PYTHONPATH": paths}, stdout=subprocess.PIPE, start_new_session=True,
    )  # fmt: skip
    output, _ = run.communicate(timeout=400)
    assert b"sampled" in output
    for _ in range(100):
        if not group_of(run.pid):
            return
        time.sleep(0.1)
    raise AssertionError(group_of(run.pid))


def group_of(group: int) -> list[str]:
    """Command lines of a process group's living processes."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            state = (folder / "stat").read_text().rpartition(")")[2].split()
            if int(state[2]) == group and state[0] != "Z":
                found.append((folder / "cmdline").read_text().replace("\0", " "))
        except (FileNotFoundError, ProcessLookupError):
            pass
    return found
