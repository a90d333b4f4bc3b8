"""Training steps whose samples come from a real vLLM server: sampled a step ahead, and drawn until there is a signal."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from core_lightning.peers import GenerationSettings
from core_lightning.peers.sampling.settings import ServerSettings
from core_lightning.protocol.credit import CreditSettings
from core_lightning.protocol.rounds import RoundSettings
from core_lightning.records import Trace
from core_lightning.rewards import WeightedTerm
from core_lightning.training.settings import AdvantageSettings, RolloutSettings
from counting_terms import Count
from naive import Scored, naive_logprobs
from real_server import free_port, serving
from runs import Diary, build, fit, peer

pytestmark = pytest.mark.vllm

HEAT, TOLERANCE = 0.8, 2e-3
ANYTHING = "abcdefghijklmnopqrstuvwxyz0123456789 "
TEACHING = ("p1", "p4", "p6")


class Groups(Diary):
    """Also keeps the groups of every step."""

    def __init__(self) -> None:
        super().__init__()
        self.groups: list[Any] = []

    def on_train_batch_end(self, trainer: Any, pl_module: Any, *rest: Any) -> None:
        super().on_train_batch_end(trainer, pl_module, *rest)
        self.groups.append(pl_module.record.groups)


@pytest.fixture(scope="module")
def served(folders: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """Two peers of one base model, an adapter each, from one server."""
    folder, port = folders("tiny"), free_port()
    with serving(folder, port, tmp_path_factory.mktemp("log") / "server.log"):
        generation = GenerationSettings(
            HEAT, max_new_tokens=10, max_prompt_tokens=200, engine="server",
            server=ServerSettings(url=f"http://127.0.0.1:{port}", retries=1),
        )  # fmt: skip
        yield {name: peer(folder, generation=generation) for name in "ab"}


@torch.no_grad()
def gap(module: Any, weights: dict[str, torch.Tensor], traces: list[Trace]) -> float:
    """Largest difference of recorded log-probabilities from those under some weights, computed the slow way."""
    module.load_state_dict(weights)
    return max(
        float((naive_logprobs(module.peers[t.peer], Scored(t.prompt_ids, t.token_ids), HEAT)[0] - torch.tensor(t.sampled_logprobs)).abs().max())
        for t in traces
    )  # fmt: skip


def test_cold_traces_a_step_ahead_are_those_of_the_adapter_before(served: dict[str, Any], tmp_path: Path) -> None:
    module = build(
        served,
        rewards={"count": WeightedTerm(Count(ANYTHING))},
        rounds=RoundSettings(k=2, k_rescue=1, students="all", hint_probability=0.0),
        rollout=RolloutSettings(lag=1),
    )
    diary = Groups()
    fit(module, tmp_path, diary, n=8)
    before = [diary.start, *diary.weights]
    for step, groups in enumerate(diary.groups):
        cold = [t for g in groups for t in g.of(round="cold")]
        rescue = [t for g in groups for t in g.of(round="rescue")]
        assert (len(cold), len(rescue)) == (8, 4)
        assert gap(module, before[step], rescue) < TOLERANCE
        assert gap(module, before[max(step - 1, 0)], cold) < TOLERANCE
        if step:
            assert gap(module, before[step], cold) > 2 * TOLERANCE
    assert len(diary.groups) == 4


def test_a_step_draws_until_it_has_its_problems(served: dict[str, Any], tmp_path: Path) -> None:
    module = build(
        served,
        rewards={"count": WeightedTerm(Count(ANYTHING, problems=TEACHING))},
        rounds=RoundSettings(k=3),
        credit=CreditSettings("hinted"),
        advantage=AdvantageSettings("peer"),
        rollout=RolloutSettings(max_draws=3),
    )
    diary = Groups()
    fit(module, tmp_path, diary, n=8)
    before = [diary.start, *diary.weights]
    for step, (groups, metrics) in enumerate(zip(diary.groups, diary.metrics, strict=True)):
        signal = {g.problem.id for g in groups if any(t.advantage for t in g)}
        assert signal <= set(TEACHING)
        assert len(groups) == metrics["train/drawn_problems"] <= 6
        assert len(signal) == metrics["train/drawn_problems"] - metrics["train/unused_problems"] <= 2
        assert len(signal) == 2 or len(groups) == 6
        assert gap(module, before[step], [t for g in groups for t in g]) < TOLERANCE
    assert max(m["train/drawn_problems"] for m in diary.metrics) > 2
