from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path
from typing import Any, ClassVar, get_args

import pytest
import torch
from lightning.pytorch import Callback

from core_lightning import CollaborativeReasoningModule, PeerConfig, SoloReasoningModule, TrioReasoningModule
from core_lightning.module import AdvantageSettings, ScheduleSettings
from core_lightning.objectives import GRPO
from core_lightning.peers import GenerationSettings
from core_lightning.protocol.credit import CreditMode, CreditSettings
from core_lightning.protocol.faithful import FaithfulSettings
from core_lightning.protocol.rounds import RoundSettings
from core_lightning.records import Group, Trace
from core_lightning.rewards import WeightedTerm
from counting_terms import Count
from runs import SGD_RATE, Diary, build, fit, of_peer, peer, problems, same, sgd, trainer, weights, written


@pytest.fixture
def pair(llama_folder: Path, neox_folder: Path) -> dict[str, PeerConfig]:
    return {"a": peer(llama_folder), "b": peer(neox_folder)}


def test_by_default_a_failed_peer_imitates_its_teacher_and_its_own_faithful_rescue(
    pair: dict[str, PeerConfig], tmp_path: Path
) -> None:
    taught, rescued = [], []

    class Taught(Callback):
        def on_train_batch_end(self, trainer: Any, pl_module: Any, *args: Any) -> None:
            groups = pl_module.record.groups
            assert all(len(group.of(name, "cold")) == 2 for group in groups for name in "ab")
            failed = [(group, name) for group in groups for name in "ab" if group.failed_cold(name)]
            assert all(len(group.of(name, "rescue")) <= 1 for group, name in failed)
            assert not any(group.of(n, "rescue") for group in groups for n in "ab" if group.solved(n))
            taught.append(sum(bool(group.teachers.get(name)) for group, name in failed))
            rescued.append(sum(bool(group.rescues(name, faithful=True)) for group, name in failed))

    diary = Diary()
    # The scripted peers speak in letters: under a random network no token is likely.
    credit = CreditSettings(faithful=FaithfulSettings(min_probability=0.0, finished=False))  # scripts have no end
    fit(build(pair, rounds=None, credit=credit, advantage=None), tmp_path, diary, Taught(), n=48, batch_size=8)
    assert sum(taught) > sum(rescued) > 0
    imitated = [m["train/a/imitated"] + m["train/b/imitated"] for m in diary.metrics]
    assert imitated == [t + r for t, r in zip(taught, rescued, strict=True)]


def test_the_default_method_runs_both_rounds(pair: dict[str, PeerConfig]) -> None:
    module = build(pair, rounds=None, credit=None, advantage=None)
    assert (module.rounds.k, module.rounds.k_rescue, module.rounds.teacher) == (2, 1, "quality")
    assert (module.credit.mode, module.advantage.group_by) == ("teacher_and_rescue", "round")


@pytest.mark.parametrize("mode", ["cold", "both", "adaptive", "teacher_and_rescue", "rescue_or_teacher"])
def test_credit_for_rescues_without_a_rescue_round_is_refused(pair: dict[str, PeerConfig], mode: str) -> None:
    with pytest.raises(ValueError, match=f"credit.mode is {mode}.*rounds.k_rescue is 0; set it to 1"):
        build(pair, rounds=RoundSettings(k_rescue=0), credit=CreditSettings(mode))


# --- counting and learning ------------------------------------------------------------------------------------------------


def test_global_step_counts_batches_and_the_users_term_is_recorded(pair: dict[str, PeerConfig], tmp_path: Path) -> None:
    pair["b"] = dataclasses.replace(pair["b"], lr=1e-3)
    module, diary = build(pair, schedule=ScheduleSettings("linear", warmup=0.5)), Diary()
    run = fit(module, tmp_path, diary)
    assert run.global_step == module.batches_done == len(diary.weights) == 4
    for metrics in diary.metrics:
        assert metrics.keys() == diary.metrics[0].keys()
        assert "reward/count/mean" in metrics
        assert metrics["train/traces"] >= 8
    trace = module.record.groups[0].traces[0]
    assert trace.terms["count"] == sum(c.isdigit() for c in trace.text)
    # The rate each step was taken at: warm-up over two of four steps, then a line to zero, each peer from its own.
    assert [m["train/a/lr"] for m in diary.metrics] == pytest.approx([2.5e-3, 5e-3, 5e-3, 2.5e-3])
    assert [m["train/b/lr"] for m in diary.metrics] == pytest.approx([5e-4, 1e-3, 1e-3, 5e-4])
    for name in "ab":
        for before, after in zip([diary.start, *diary.weights], diary.weights, strict=False):
            assert not same(of_peer(before, name), of_peer(after, name))


def test_peers_learn_what_is_rewarded(pair: dict[str, PeerConfig], tmp_path: Path) -> None:
    """What earned more than its group becomes more likely, by as much as the advantages say: no sampling noise in that."""
    module = build(pair, rewards={"count": WeightedTerm(Count())}, rounds=RoundSettings(k=8, k_rescue=0))
    likely: dict[str, list[float]] = {"a": [], "b": []}

    class Likelihood(Diary):
        def on_train_batch_end(self, trainer: Any, pl_module: Any, *rest: Any) -> None:
            super().on_train_batch_end(trainer, pl_module, *rest)
            self.first = getattr(self, "first", pl_module.record.groups)
            for name, values in likely.items():
                own = [t for g in self.first for t in g.of(name)]
                with torch.no_grad():
                    logprobs = pl_module.peers[name].logprobs(own)[0].sum(1).cpu()
                values.append(float(logprobs @ torch.tensor([t.advantage for t in own])))

    fit(module, tmp_path, Likelihood(), n=4, batch_size=4, max_epochs=4)
    for values in likely.values():
        assert values[-1] > values[0] + 1


@pytest.mark.parametrize("silent", ["from the start", "after one step"])
def test_a_peer_without_signal_does_not_move_at_all(pair: dict[str, PeerConfig], tmp_path: Path, silent: str) -> None:
    """Neither weight decay nor the momentum of earlier steps."""
    terms = {
        "mine": WeightedTerm(Count(peers=("a",))),
        "yours": WeightedTerm(Count(peers=("b",), until=0.2 if silent == "after one step" else 0.0)),
    }
    module = build(pair, rewards=terms, advantage=AdvantageSettings("peer"), rounds=RoundSettings(k=6))
    diary = Diary()
    run = fit(module, tmp_path, diary)
    moved = {
        name: [
            not same(of_peer(before, name), of_peer(after, name))
            for before, after in zip([diary.start, *diary.weights], diary.weights, strict=False)
        ]
        for name in "ab"
    }
    assert moved["a"] == [True] * 4
    assert moved["b"] == [silent == "after one step", False, False, False]
    assert [m["train/b/no_signal"] for m in diary.metrics][1:] == [1.0] * 3
    assert run.global_step == 4


def test_masked_groups_do_not_even_feel_the_kl_term(pair: dict[str, PeerConfig], tmp_path: Path) -> None:
    def moved(mask: bool) -> bool:
        terms = {"mine": WeightedTerm(Count(peers=("a",))), "yours": WeightedTerm(Count(peers=("b",), until=0.2))}
        settings = AdvantageSettings("peer", mask_no_signal=mask)
        rounds = RoundSettings(k=6)
        module, diary = build(pair, rewards=terms, advantage=settings, objective=GRPO(beta=0.5), rounds=rounds), Diary()
        fit(module, tmp_path, diary, limit_train_batches=2)
        return not same(of_peer(diary.weights[0], "b"), of_peer(diary.weights[1], "b"))

    assert moved(mask=False)
    assert not moved(mask=True)


def test_each_peers_gradient_is_clipped_on_its_own(pair: dict[str, PeerConfig], tmp_path: Path) -> None:
    module, diary = build(pair, optimizer=sgd, max_grad_norm=1e-2, schedule=ScheduleSettings("constant", 0)), Diary()
    fit(module, tmp_path, diary, limit_train_batches=1)
    for name in "ab":
        assert diary.metrics[0][f"train/{name}/grad_norm"] > 1e-2  # logged before it is clipped
        step = [diary.weights[0][n] - diary.start[n] for n in of_peer(diary.start, name)]
        norm = math.sqrt(sum(float(s.double().square().sum()) for s in step))
        assert norm == pytest.approx(SGD_RATE * 1e-2, rel=1e-3)


@dataclasses.dataclass(frozen=True)
class Watching(GRPO):
    """Keeps what it was called with."""

    seen: ClassVar[list[tuple[torch.Tensor | None, torch.Tensor]]] = []

    def __call__(self, logprobs: torch.Tensor, old_logprobs: Any, *args: Any, **kwargs: Any) -> Any:
        self.seen.append((old_logprobs, logprobs.detach()))
        return super().__call__(logprobs, old_logprobs, *args, **kwargs)


@pytest.mark.parametrize("updates", [1, 2])
def test_old_logprobs_are_frozen_over_the_updates_of_a_batch(
    pair: dict[str, PeerConfig], tmp_path: Path, updates: int
) -> None:
    Watching.seen.clear()
    module, diary = build(pair, objective=Watching(beta=0.0), updates_per_batch=updates), Diary()
    run = fit(module, tmp_path, diary, limit_train_batches=1)
    assert run.global_step == updates
    assert len(Watching.seen) == 2 * updates
    if updates == 1:
        assert all(old is None for old, _ in Watching.seen)
        return
    for i in range(2):  # peers a and b
        (old, first), (again, second) = Watching.seen[i], Watching.seen[2 + i]
        assert torch.equal(old, again)
        torch.testing.assert_close(old, first, atol=1e-4, rtol=1e-4)
        assert (second - old).abs().max() > 1e-3
    assert diary.metrics[0]["train/a/ratio"] != pytest.approx(1.0, abs=1e-6)


# --- steps that are not finite --------------------------------------------------------------------------------------------


class InfiniteSlope(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, value: torch.Tensor) -> torch.Tensor:  # type: ignore[override]
        return value.clone()

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> torch.Tensor:  # type: ignore[override]
        return grad * torch.inf


@dataclasses.dataclass(frozen=True)
class Breaking(GRPO):
    """Breaks some of its calls; with one micro-batch a peer, call 2 n + 1 is peer b's in step n."""

    calls: ClassVar[list[int]] = []
    bad: ClassVar[set[int]] = set()
    how: ClassVar[str] = "loss"

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        loss, diagnostics = super().__call__(*args, **kwargs)
        self.calls.append(len(self.calls))
        if self.calls[-1] in self.bad:
            loss = loss * math.nan if self.how == "loss" else InfiniteSlope.apply(loss)
        return loss, diagnostics


@pytest.fixture
def breaking(monkeypatch: pytest.MonkeyPatch) -> type[Breaking]:
    monkeypatch.setattr(Breaking, "calls", [])
    return Breaking


@pytest.mark.parametrize("how", ["loss", "gradient"])
def test_a_step_that_is_not_finite_is_skipped_counted_and_kept(
    pair: dict[str, PeerConfig], tmp_path: Path, breaking: type[Breaking], monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    monkeypatch.setattr(Breaking, "bad", {3})
    monkeypatch.setattr(Breaking, "how", how)
    module, diary = build(pair, objective=breaking(beta=0.0)), Diary()
    with pytest.warns(UserWarning, match="peer b: loss or gradient is not finite, the step is skipped"):
        run = fit(module, tmp_path, diary)
    assert run.global_step == 4
    assert [m["train/nonfinite_steps"] for m in diary.metrics] == [0, 1, 1, 1]
    assert same(of_peer(diary.weights[0], "b"), of_peer(diary.weights[1], "b"))
    assert not same(of_peer(diary.weights[0], "a"), of_peer(diary.weights[1], "a"))
    assert not same(of_peer(diary.weights[1], "b"), of_peer(diary.weights[2], "b"))
    assert all(torch.isfinite(v).all() for v in diary.weights[-1].values())
    (file,) = (tmp_path / "nonfinite").iterdir()
    dumped = json.loads(file.read_text())
    assert [t["token_ids"] for g in dumped for t in g["traces"]] == [ids for _, ids, *_ in diary.traces[1].values()]
    assert {g["problem"]["id"] for g in dumped} == set(diary.order[1])


def test_training_stops_after_so_many_broken_steps_in_a_row(
    pair: dict[str, PeerConfig], tmp_path: Path, breaking: type[Breaking], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Breaking, "bad", {1, 5, 7})  # steps 0, 2 and 3: only the last two are in a row
    module, diary = build(pair, objective=breaking(beta=0.0), max_nonfinite=2), Diary()
    with (
        pytest.warns(UserWarning, match="not finite"),
        pytest.raises(RuntimeError, match=r"2 steps in a row were not finite \(model.max_nonfinite\)") as error,
    ):
        fit(module, tmp_path, diary)
    assert str(tmp_path / "nonfinite") in str(error.value)
    assert len(diary.weights) == 3


# --- randomness -----------------------------------------------------------------------------------------------------------


def test_a_problems_traces_depend_on_nothing_beside_it(pair: dict[str, PeerConfig]) -> None:
    def rollout(peers: dict[str, PeerConfig], sizes: list[int], backwards: bool) -> dict:
        module = build(peers)
        module.configure_model()
        left = problems(20)[:: -1 if backwards else 1]
        traces: dict = {}
        torch.manual_seed(len(sizes))  # nor on the global stream
        for size in sizes:
            groups = module.team.rollout(left[:size], (7, 0), 0.0)
            module.assign_advantages(groups)
            left = left[size:]
            traces |= written(groups)
        return traces

    whole = rollout(pair, [20], backwards=False)
    assert {t[1] for t in whole if t[2] == "rescue"}
    parts = rollout({"b": pair["b"], "a": pair["a"]}, [8, 1, 11], backwards=True)
    assert whole.keys() == parts.keys()
    for key, (*fields, reward, advantage) in whole.items():
        *other, other_reward, other_advantage = parts[key]
        assert other == fields
        assert (other_reward, other_advantage) == pytest.approx((reward, advantage), abs=1e-9)


def test_epochs_differ_and_validation_repeats(pair: dict[str, PeerConfig]) -> None:
    module = build(pair, eval_samples=3)
    module.configure_model()
    one = module.team.rollout(problems(2), (7, 0), 0.0)
    two = module.team.rollout(problems(2), (7, 1), 0.0)
    assert written(one) != written(two)
    first, second = module.validation_step(problems(2), 0), module.test_step(problems(2), 5)
    assert written(first) == written(second)
    assert {t.round for g in first for t in g} == {"cold"}
    assert all(len(g.of(name)) == 3 for g in first for name in "ab")


# --- settings -------------------------------------------------------------------------------------------------------------


def test_problems_without_room_are_dropped_and_counted(pair: dict[str, PeerConfig], tmp_path: Path) -> None:
    module = build(pair)
    module.configure_model()
    # Room for a question with one digit, which those with two exceed by one character.
    room = max(len(module.peers[n].encode(module.prompt.render(problems(1)[0]))) for n in "ab")
    tight = {
        n: dataclasses.replace(
            c, generation=GenerationSettings(max_new_tokens=4, temperature=1.0, max_prompt_tokens=room)
        )
        for n, c in pair.items()
    }
    module, diary = build(tight), Diary()
    run = fit(module, tmp_path, diary, n=12, batch_size=3)
    assert sum(m["train/dropped_problems"] for m in diary.metrics) == 2  # p10 and p11
    assert run.global_step == 4
    trained = {key[0] for step in diary.traces for key in step}
    assert trained == {f"p{i}" for i in range(10)}


def test_a_step_whose_problems_are_all_dropped_changes_nothing(pair: dict[str, PeerConfig], tmp_path: Path) -> None:
    tight = {
        n: dataclasses.replace(c, generation=GenerationSettings(max_new_tokens=4, max_prompt_tokens=1))
        for n, c in pair.items()
    }
    module, diary = build(tight), Diary()
    run = fit(module, tmp_path, diary, limit_train_batches=2)
    assert run.global_step == 2
    assert same(diary.start, diary.weights[-1])
    assert [m["train/dropped_problems"] for m in diary.metrics] == [2, 2]


@pytest.mark.parametrize("precision", ["bf16-mixed", "16-mixed", "bf16-true", "16-true", "64-true"])
def test_other_trainer_precisions_are_refused_before_a_model_is_loaded(
    pair: dict[str, PeerConfig], tmp_path: Path, precision: str
) -> None:
    module = build(pair)
    # On a processor Lightning makes bf16-mixed of 16-mixed.
    named = "(bf)?16-mixed" if precision == "16-mixed" else precision
    with pytest.raises(ValueError, match=rf"trainer.precision is {named}; leave it at 32-true"):
        fit(module, tmp_path, precision=precision)
    assert len(module.peers) == 0


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"updates_per_batch": 0}, "model.updates_per_batch is 0"),
        ({"eval_samples": 0}, "model.eval_samples is 0"),
        ({"max_nonfinite": 0}, "model.max_nonfinite is 0"),
        ({"max_grad_norm": 0.0}, "model.max_grad_norm is 0.0"),
    ],
)
def test_wrong_settings_are_refused(pair: dict[str, PeerConfig], change: dict[str, Any], named: str) -> None:
    with pytest.raises(ValueError, match=named):
        build(pair, **change)


def test_wrong_teams_are_refused(pair: dict[str, PeerConfig], llama_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"1 peer\(s\), CollaborativeReasoningModule needs 2 or more; .*SoloReasoning"):
        build({"a": pair["a"]})
    with pytest.raises(ValueError, match="SoloReasoningModule takes at most 1"):
        build(pair, SoloReasoningModule)
    with pytest.raises(ValueError, match=r"TrioReasoningModule needs 3 or more"):
        build(pair, TrioReasoningModule)
    with pytest.raises(ValueError, match=r"peer name 'a/b' must be made of letters"):
        build({"a/b": pair["a"], "b": pair["b"]})
    with pytest.raises(ValueError, match="no such folder"):
        build({"a": PeerConfig("./nowhere"), "b": pair["b"]})
    with pytest.raises(ValueError, match=r"peers.a.adapter .* holds no adapter_config.json"):
        build({"a": peer(llama_folder, adapter=str(tmp_path)), "b": pair["b"]})


# --- teams of other sizes -------------------------------------------------------------------------------------------------


class QuartetReasoningModule(CollaborativeReasoningModule):
    """Four peers; the strongest reading of the method: everyone samples again, a teacher's trace is imitated."""

    min_peers = 4
    max_peers = 4


def test_one_peer_is_plain_group_relative_policy_optimisation(llama_folder: Path, tmp_path: Path) -> None:
    module, diary = build({"only": peer(llama_folder)}, SoloReasoningModule, rounds=None), Diary()
    run = fit(module, tmp_path, diary, limit_train_batches=2)
    assert run.global_step == 2
    assert {key[2] for step in diary.traces for key in step} == {"cold"}
    assert not same(diary.start, diary.weights[-1])


def test_three_peers_of_different_models(pair: dict[str, PeerConfig], llama_folder: Path, tmp_path: Path) -> None:
    trio = pair | {"c": peer(llama_folder, quantization="nf4", lr=1e-3)}
    module, diary = build(trio, TrioReasoningModule), Diary()
    fit(module, tmp_path, diary, limit_train_batches=2)
    for name in "abc":
        assert not same(of_peer(diary.start, name), of_peer(diary.weights[-1], name))


def test_four_peers_on_two_shared_bases(llama_folder: Path, neox_folder: Path, tmp_path: Path) -> None:
    folders = {"a": llama_folder, "b": llama_folder, "c": neox_folder, "d": neox_folder}
    module = build(
        {n: peer(f) for n, f in folders.items()},
        QuartetReasoningModule,
        share_base=True,
        rounds=RoundSettings(k=1, students="all", hint_probability=0.5),
        credit=CreditSettings("peer_trace"),
    )
    diary = Diary()
    fit(module, tmp_path, diary, limit_train_batches=2)
    assert len({id(p.network) for p in module.peers.values()}) == 2
    moved = {n: not same(of_peer(diary.start, n), of_peer(diary.weights[-1], n)) for n in folders}
    assert moved == dict.fromkeys("abcd", True)
    finals = [list(of_peer(diary.weights[-1], n).values()) for n in "ab"]
    assert any(not torch.equal(x, y) for x, y in zip(*finals, strict=True))


@pytest.mark.parametrize("mode", get_args(CreditMode))
def test_every_credit_trains(pair: dict[str, PeerConfig], tmp_path: Path, mode: str) -> None:
    module, diary = build(pair, credit=CreditSettings(mode, importance_bound=1.0), rounds=RoundSettings(k=4)), Diary()
    fit(module, tmp_path, diary, n=4, batch_size=4)
    assert not same(diary.start, diary.weights[-1])
    assert diary.metrics[0]["train/hints"] > 0
    assert all(math.isfinite(diary.metrics[0][f"train/{n}/loss"]) for n in "ab")


# --- parts ----------------------------------------------------------------------------------------------------------------


def written_group() -> Group:
    def trace(peer: str, round: str, reward: float, truncated: bool = False) -> Trace:
        return Trace(peer, round, 0, [1], [2], "", truncated, reward=reward)  # type: ignore[arg-type]

    return Group(
        problems(1)[0],
        [
            trace("a", "cold", 1.0),
            trace("a", "cold", 0.0, truncated=True),
            trace("b", "cold", 0.0),
            trace("b", "cold", 0.0),
            trace("b", "rescue", 1.0),
            trace("b", "rescue", math.nan),
        ],
    )


@pytest.mark.parametrize(
    ("group_by", "expected", "silent"),
    [
        # Known rewards 1 0 0 0 1: mean 0.4; of b: 0 0 1, mean 1/3; alone in its round nobody has a signal.
        ("problem", [0.6, -0.4, -0.4, -0.4, 0.6, 0.0], {5}),
        ("peer", [0.5, -0.5, -1 / 3, -1 / 3, 2 / 3, 0.0], {5}),
        ("round", [0.5, -0.5, 0.0, 0.0, 0.0, 0.0], {2, 3, 4, 5}),
    ],
)
def test_advantages_of_a_written_group(
    pair: dict[str, PeerConfig], group_by: Any, expected: list[float], silent: set[int]
) -> None:
    group, rounds = written_group(), RoundSettings(k=2, k_rescue=2)
    module = build(pair, rounds=rounds, advantage=AdvantageSettings(group_by, normalize_std=False))
    module.assign_advantages([group])
    assert [t.advantage for t in group] == pytest.approx(expected)
    assert {i for i, t in enumerate(group) if not t.signal} == silent
    assert not any(t.masked for t in group)
    masking = AdvantageSettings(group_by, mask_no_signal=True, mask_truncated=True)
    module = build(pair, rounds=rounds, advantage=masking)
    module.assign_advantages([group])
    assert {i for i, t in enumerate(group) if t.masked} == silent | {1}
    module.assign_advantages([])


@pytest.mark.parametrize(
    ("settings", "total", "expected"),
    [
        (ScheduleSettings("constant", 0.0), 4, [1, 1, 1, 1, 1]),
        (ScheduleSettings("linear", 0.0), 4, [1, 0.75, 0.5, 0.25, 0]),
        (ScheduleSettings("cosine", 0.0), 4, [1, 0.5 + 0.5 * math.cos(math.pi / 4), 0.5, 0.5 - 0.5 * 0.5**0.5, 0]),
        (ScheduleSettings("constant", 0.5), 4, [0.5, 1, 1, 1, 1]),
        (ScheduleSettings("linear", 0.5), 8, [0.25, 0.5, 0.75, 1, 1, 0.75, 0.5, 0.25, 0]),
        (ScheduleSettings("cosine", 0.1), math.inf, [1, 1, 1]),
    ],
)
def test_the_schedule_by_hand(settings: ScheduleSettings, total: float, expected: list[float]) -> None:
    assert [settings.factor(step, total) for step in range(len(expected))] == pytest.approx(expected)


def test_a_run_without_an_end_has_no_progress(pair: dict[str, PeerConfig], tmp_path: Path) -> None:
    class Stop(Diary):
        def on_train_batch_end(self, trainer: Any, pl_module: Any, *rest: Any) -> None:
            assert pl_module.progress == 0
            trainer.should_stop = True

    module = build(pair)
    fit(module, tmp_path, Stop(), max_epochs=-1)
    assert module.batches_done == 1


def test_the_module_can_be_asked_for_traces_without_a_trainer(pair: dict[str, PeerConfig]) -> None:
    module = build(pair)
    module.configure_model()
    before = dict(module.peers.items())
    module.configure_model()  # idempotent: Lightning calls it again before a restore
    assert dict(module.peers.items()) == before
    assert weights(module)
    assert trainer(Path()).global_step == 0
