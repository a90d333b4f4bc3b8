"""A step ahead: the next cold round is sampled while the peers learn, from the adapters of one update earlier."""

from __future__ import annotations

import dataclasses
import gc
import threading
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest
import torch
from lightning.pytorch import Trainer
from pytest_httpserver import HTTPServer
from torch.utils.data import DataLoader
from werkzeug import Request, Response

from core_lightning import PeerConfig, SoloReasoningModule
from core_lightning.callbacks import AdapterCheckpoint
from core_lightning.objectives import GRPO
from core_lightning.peers import GenerationSettings
from core_lightning.peers.sampling.client import ServerError
from core_lightning.peers.sampling.settings import ServerSettings
from core_lightning.protocol.rounds import RoundSettings
from core_lightning.records import Group, Problem, Trace
from core_lightning.rewards import RewardContext, RewardTerm, WeightedTerm
from core_lightning.training.ahead import Ahead, warn_of_shared_cores
from core_lightning.training.settings import RolloutSettings
from naive import Scored, naive_logprobs
from runs import Diary, build, data, fit, peer, problems, same, trainer
from served import ServedModel

TOKENS, HEAT = 5, 0.8
#: Every peer tries again, always without a hint: what is sampled does not depend on what a random model says.
BOTH_ROUNDS = RoundSettings(k=2, k_rescue=1, students="all", hint_probability=0.0)


@pytest.fixture(autouse=True, scope="module")
def scripted() -> None:
    """What is sampled comes from a server here."""


@pytest.fixture(autouse=True)
def collector() -> Iterator[None]:
    """A peer that is collected takes its adapter off the server; in the server's own thread that would wait for itself."""
    gc.disable()
    yield
    gc.enable()


@pytest.fixture
def generation(httpserver: HTTPServer) -> GenerationSettings:
    server = ServerSettings(url=httpserver.url_for("/").rstrip("/"), retries=0, tolerance=1e-3)
    return GenerationSettings(HEAT, max_new_tokens=TOKENS, max_prompt_tokens=200, engine="server", server=server)


@dataclass(frozen=True)
class Later(RewardTerm):
    """The later trace of a problem is the better one: a signal in every step, whatever a random model says."""

    def __call__(self, group: Group, context: RewardContext) -> Sequence[float | None]:
        return [float(i) for i, _ in enumerate(group)]


SETTINGS = {"rewards": {"later": WeightedTerm(Later())}}


def team(folder: Path, generation: GenerationSettings, lag: int = 1, **options: Any) -> Any:
    peers = {name: peer(folder, generation=generation) for name in "ab"}
    return build(peers, **SETTINGS | {"rollout": RolloutSettings(lag=lag), "rounds": BOTH_ROUNDS} | options)


def solo(folder: Path, generation: GenerationSettings, lag: int = 1, **options: Any) -> Any:
    peers = {"a": peer(folder, generation=generation)}
    return build(peers, SoloReasoningModule, **SETTINGS | {"rollout": RolloutSettings(lag=lag)} | options)


class Kept(Diary):
    """Also keeps the groups of every step."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.groups: list[list[Group]] = []

    def on_train_batch_end(self, trainer: Any, pl_module: Any, *rest: Any) -> None:
        super().on_train_batch_end(trainer, pl_module, *rest)
        self.groups.append(pl_module.record.groups)


# --- at the same time -----------------------------------------------------------------------------------------------------


class Meeting:
    """The loss of a step and the requests of the next: each waits for the other to have begun."""

    def __init__(self, steps: int, requests: int) -> None:
        self.steps, self.requests = steps, requests
        self.asked = self.losses = 0
        self.changed = threading.Condition()

    def request(self) -> None:
        with self.changed:
            step, self.asked = self.asked // self.requests, self.asked + 1
            self.changed.notify_all()
            # Step 0 is sampled before anybody learns; of the others the answer waits for the loss of the step before.
            assert self.changed.wait_for(lambda: self.losses >= step, 30), f"nobody learned while step {step} was sampled"

    def loss(self) -> None:
        with self.changed:
            self.losses += 1
            self.changed.notify_all()
            ahead = min(self.losses, self.steps - 1) * self.requests
            assert self.changed.wait_for(lambda: self.asked > ahead or self.losses == self.steps, 30), "nothing was asked"


class WaitingModel(ServedModel):
    meeting: Meeting | None = None

    def _completion(self, request: Request) -> Response:
        if self.meeting and "allowed_token_ids" not in request.json:
            self.meeting.request()
        return super()._completion(request)


@dataclass(frozen=True)
class Meets(GRPO):
    meeting: ClassVar[Meeting | None] = None

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        assert self.meeting is not None
        self.meeting.loss()
        return super().__call__(*args, **kwargs)


def test_the_next_step_is_sampled_while_the_peers_learn(
    httpserver: HTTPServer, generation: GenerationSettings, llama_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    served = WaitingModel(httpserver, llama_folder)
    served.meeting = Meeting(steps=4, requests=4)
    monkeypatch.setattr(Meets, "meeting", served.meeting)
    diary = Diary()
    fit(solo(llama_folder, generation, objective=Meets(beta=0.0)), tmp_path, diary)
    assert served.meeting.losses == len(diary.weights) == 4
    assert served.meeting.asked == 16


# --- what is sampled, and by whom -----------------------------------------------------------------------------------------


@torch.no_grad()
def gap(module: Any, weights: dict[str, torch.Tensor], traces: list[Trace]) -> float:
    """Largest difference of recorded log-probabilities from those under some weights, computed the slow way."""
    module.load_state_dict(weights)
    return max(
        float((naive_logprobs(module.peers[t.peer], Scored(t.prompt_ids, t.token_ids), HEAT)[0].cpu() - torch.tensor(t.sampled_logprobs)).abs().max())
        for t in traces
    )  # fmt: skip


def test_cold_traces_are_those_of_the_adapter_before_and_rescues_of_the_present_one(
    httpserver: HTTPServer, generation: GenerationSettings, llama_folder: Path, tmp_path: Path
) -> None:
    ServedModel(httpserver, llama_folder)
    module, diary = team(llama_folder, generation), Kept()
    fit(module, tmp_path, diary, n=6)
    before = [diary.start, *diary.weights]
    for step, groups in enumerate(diary.groups):
        cold = [t for g in groups for t in g.of(round="cold")]
        rescue = [t for g in groups for t in g.of(round="rescue")]
        assert len(cold) == 8
        assert len(rescue) == 4
        assert gap(module, before[step], rescue) < 1e-4
        assert gap(module, before[max(step - 1, 0)], cold) < 1e-4
        if step:
            assert gap(module, before[step], cold) > 1e-3
    for step, groups in enumerate(diary.groups):
        module.load_state_dict(before[step])
        for name in "ab":
            # The reported mean ratio, by hand: over the tokens that have an advantage.
            ratios = []
            for t in (t for g in groups for t in g.of(name) if t.advantage):
                now = naive_logprobs(module.peers[name], Scored(t.prompt_ids, t.token_ids), HEAT)[0].cpu()
                ratios += (now.detach() - torch.tensor(t.sampled_logprobs)).double().exp().tolist()
            reported = diary.metrics[step][f"train/{name}/off_policy_ratio"]
            assert reported == pytest.approx(sum(ratios) / len(ratios), abs=1e-3)


@pytest.mark.parametrize("limit", [None, 1])
def test_the_same_is_asked_for_as_without_a_lag_and_nothing_in_vain(
    httpserver: HTTPServer, generation: GenerationSettings, llama_folder: Path, tmp_path: Path, limit: int | None
) -> None:
    """Over the ends of epochs, whole ones with a short last step and ones that are cut."""
    served = ServedModel(httpserver, llama_folder)
    asked, orders = [], []
    for lag in (0, 1):
        served.asked.clear()
        diary = Kept()
        options = {} if limit is None else {"limit_train_batches": limit}
        fit(solo(llama_folder, generation, lag), tmp_path / str(lag), diary, n=3, max_epochs=2, **options)
        asked.append(Counter((*a["prompt"], a["seed"]) for a in served.asked if "allowed_token_ids" not in a))
        orders.append([[g.problem.id for g in groups] for groups in diary.groups])
    assert asked[0] == asked[1]
    assert orders[0] == orders[1]
    assert len(orders[0]) == 2 * (limit or 2)


# --- a resumed run --------------------------------------------------------------------------------------------------------


def test_a_resumed_run_equals_one_that_was_not_interrupted(
    httpserver: HTTPServer, generation: GenerationSettings, llama_folder: Path, tmp_path: Path
) -> None:
    """Saved in mid-epoch, and at its end."""
    ServedModel(httpserver, llama_folder)

    class SavesAll(Kept):
        def on_train_batch_end(self, trainer: Trainer, *rest: Any) -> None:
            super().on_train_batch_end(trainer, *rest)
            trainer.save_checkpoint(tmp_path / f"{len(self.weights)}.ckpt")

    whole = SavesAll()
    fit(team(llama_folder, generation), tmp_path, whole, n=4, max_epochs=2)
    assert len(whole.weights) == 4
    for saved in (1, 2):
        diary = Kept()
        fit(team(llama_folder, generation), tmp_path, diary, n=4, max_epochs=2, ckpt_path=tmp_path / f"{saved}.ckpt")
        assert diary.traces == whole.traces[saved:]
        assert len(diary.weights) == 4 - saved
        assert all(map(same, diary.weights, whole.weights[saved:]))


def test_a_server_that_dies_with_samples_on_their_way_loses_no_step(
    httpserver: HTTPServer, generation: GenerationSettings, llama_folder: Path, tmp_path: Path
) -> None:
    served = ServedModel(httpserver, llama_folder)
    whole = Kept()
    fit(solo(llama_folder, generation), tmp_path / "whole", whole)
    module = solo(llama_folder, generation)
    begin = module.begin_next

    def die(batch_idx: int) -> None:
        begin(batch_idx)
        if module.batches_done == 2:
            served.failures = [503] * 99

    module.begin_next = die
    failing = trainer(tmp_path)
    failing.callbacks.append(AdapterCheckpoint())
    with pytest.raises(ServerError, match="answers 503"):
        failing.fit(module, datamodule=data(tmp_path))
    served.failures = []
    checkpoint = tmp_path / "checkpoints/last.ckpt"
    assert torch.load(checkpoint, weights_only=True)["core_lightning"]["batches_done"] == 2
    diary = Kept()
    fit(solo(llama_folder, generation), tmp_path, diary, ckpt_path=checkpoint)
    assert diary.traces == whole.traces[2:]
    assert all(map(same, diary.weights, whole.weights[2:]))


def test_samples_of_other_settings_are_thrown_away(
    httpserver: HTTPServer, generation: GenerationSettings, llama_folder: Path, tmp_path: Path, caplog: Any
) -> None:
    ServedModel(httpserver, llama_folder)
    fit(solo(llama_folder, generation), tmp_path, Diary(2, tmp_path / "saved.ckpt"))
    module, diary = solo(llama_folder, dataclasses.replace(generation, temperature=1.3)), Kept()
    with caplog.at_level("INFO"):
        fit(module, tmp_path, diary, ckpt_path=tmp_path / "saved.ckpt")
    assert "resume: what was sampled a step ahead is thrown away, because settings have changed since" in caplog.messages
    (first, *_), start = diary.groups, diary.start
    module.load_state_dict(start)
    for t in (t for g in first for t in g):
        own = naive_logprobs(module.peers["a"], Scored(t.prompt_ids, t.token_ids), 1.3)[0].cpu()
        torch.testing.assert_close(own.float(), torch.tensor(t.sampled_logprobs), atol=1e-4, rtol=1e-4)


def test_each_process_gets_its_own_samples_back() -> None:
    def made(name: str) -> list[dict[str, Any]]:
        fields = {"peer": "a", "index": 0, "prompt_ids": [1], "token_ids": [2], "text": name, "truncated": False}
        fields |= {"answer": None, "correct": True, "sampled_logprobs": [-0.5]}
        return [{"problem": name, "traces": [fields]}]

    ahead = Ahead()
    state = [made("p0"), made("p1")]
    ahead.restore(state, 1, 2)
    one, other = problems(2)
    assert ahead.take([one]) is None
    (group,) = ahead.take([other]) or []
    assert (group.problem, group.traces[0].text, group.traces[0].correct, group.traces[0].round) == (other, "p1", True, "cold")
    group.add(group.traces)  # what a step does to it is not kept
    assert [len(g) for g in ahead.take([other]) or []] == [1]
    assert ahead.take([one, other]) is None
    ahead.restore(state, 0, 1)
    assert ahead.take([one]) is None


def test_a_step_that_fails_leaves_nothing_to_be_waited_for() -> None:
    ahead, given_up = Ahead(), []

    def fail() -> None:
        with ahead.step(lambda: given_up.append(1)):
            ahead.begin(lambda: [Group(Problem("p", "?", "1"))])
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert given_up == [1]
    with ahead.step(lambda: given_up.append(2)):
        ahead.wait()
    assert ahead.ready is None
    assert given_up == [1]


# --- settings -------------------------------------------------------------------------------------------------------------


def test_what_cannot_help_or_be_right_is_refused(llama_folder: Path, tmp_path: Path, generation: GenerationSettings) -> None:
    made: Callable[..., Any] = lambda **options: solo(llama_folder, generation, **options)  # noqa: E731
    with pytest.raises(ValueError, match=r"rollout.lag is 2; set it to 1 to sample a step ahead, or to 0"):
        RolloutSettings(lag=2)
    with pytest.raises(ValueError, match=r"rollout.lag is 1 and rollout.max_draws 3: .* set lag to 0, or max_draws to 1"):
        RolloutSettings(lag=1, max_draws=3)
    with pytest.raises(ValueError, match=r"nothing corrects for samples of an earlier adapter; set objective.off_policy to auto"):
        made(objective=GRPO(off_policy="never"))
    native = {"a": peer(llama_folder, generation=generation), "b": peer(llama_folder)}
    with pytest.raises(ValueError, match=r"peers.b.generation.engine is native, which does not sample while its peer learns"):
        build(native, rollout=RolloutSettings(lag=1))


@pytest.mark.parametrize(
    ("url", "device", "warned"),
    [
        ("http://127.0.0.1:8000", "cpu", True),
        ("http://localhost:8001", "cpu", True),
        ("http://[::1]:8000", "cpu", True),
        ("http://gpu-node:8000", "cpu", False),
        ("http://127.0.0.1:8000", "cuda:0", False),
    ],
)
def test_a_server_on_the_processor_that_learns_is_warned_of(url: str, device: str, warned: bool) -> None:
    generation = GenerationSettings(engine="server", server=ServerSettings(url=url))
    one = SimpleNamespace(name="one", device=torch.device(device), config=PeerConfig("any", generation=generation))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        warn_of_shared_cores([one, one])  # type: ignore[list-item]
    assert [f"peer one learns on the processor that its server ({url})" in str(w.message) for w in caught] == [True] * warned


def test_a_run_with_a_lag_is_warned_and_one_without_is_not(
    httpserver: HTTPServer, generation: GenerationSettings, llama_folder: Path, tmp_path: Path
) -> None:
    ServedModel(httpserver, llama_folder)
    with pytest.warns(UserWarning, match="slow each other more than a step ahead saves"):
        fit(solo(llama_folder, generation), tmp_path / "lag", n=2)
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".*a step ahead.*")
        fit(solo(llama_folder, generation, lag=0), tmp_path / "none", n=2)


def test_a_loader_that_does_not_say_what_comes_is_refused(
    httpserver: HTTPServer, generation: GenerationSettings, llama_folder: Path, tmp_path: Path
) -> None:
    ServedModel(httpserver, llama_folder)
    loader = DataLoader(problems(4), batch_size=2, collate_fn=list)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"rollout.lag is 1, and the training loader \(DataLoader\) does not say which"):
        trainer(tmp_path).fit(solo(llama_folder, generation), train_dataloaders=loader)
