"""Dynamic sampling: a step draws further problems until enough of them have a signal, and a resumed run draws the same."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader

from core_lightning import PeerConfig, SoloReasoningModule
from core_lightning.callbacks import AdapterCheckpoint
from core_lightning.data import TrainLoader
from core_lightning.objectives import DAPO, GRPO
from core_lightning.peers import GenerationSettings
from core_lightning.protocol.credit import CreditSettings, Example
from core_lightning.protocol.rounds import RoundSettings
from core_lightning.records import Group, Problem, Trace
from core_lightning.report.facts import facts
from core_lightning.rewards import HashingEmbedder, HybridDistance, RewardModel, WeightedTerm, default_terms
from core_lightning.rewards.distance import StepDistances
from core_lightning.training.draws import draw_until_enough, has_signal
from core_lightning.training.settings import AdvantageSettings, RolloutSettings
from counting_terms import Count
from runs import Diary, build, data, fit, peer, problems, same, trainer

#: Problems that earn anything at all; the others have no signal.
TEACHING = ("p1", "p4", "p6", "p9")


@pytest.fixture
def pair(llama_folder: Path, neox_folder: Path) -> dict[str, PeerConfig]:
    return {"a": peer(llama_folder), "b": peer(neox_folder)}


def sparse(pair: dict[str, PeerConfig], max_draws: int = 3, **options: Any) -> Any:
    """A team that has a signal on some problems only: two texts of a script are hardly ever of one length."""
    options = {
        "rewards": {"count": WeightedTerm(Count("abcdefghij0123456789", problems=TEACHING))},
        "rounds": RoundSettings(k=6),
        "credit": CreditSettings("hinted"),
        "advantage": AdvantageSettings("peer"),
        "rollout": RolloutSettings(max_draws=max_draws),
    } | options
    return build(pair, **options)


def trained_on(step: dict) -> set[str]:
    """Problems of a step's traces with an advantage, read from the diary."""
    return {key[0] for key, (*_, advantage) in step.items() if advantage != 0}


class Parts(Diary):
    """Notes what the peers learned from."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.used: list[list[str]] = []

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        super().on_train_start(trainer, pl_module)
        update = pl_module.update

        def noting(batches: Any, groups: Any, objective: Any) -> Any:
            self.used.append([g.problem.id for g in groups])
            return update(batches, groups, objective)

        pl_module.update = noting


# --- what a signal is ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("example", "acts"),
    [
        (Example([1], [2], advantage=0.1), True),
        (Example([1], [2], advantage=-1e-9), True),
        (Example([1], [2], advantage=0.0), False),
        (Example([1], [2], advantage=0.5, weight=0.0), False),
        (Example([1], [2], advantage=0.5, signal=True), True),
        (Example([1], [2], imitate=True, weight=1.6), True),
        (Example([1], [2], imitate=True, weight=0.0), False),
    ],
)
def test_a_signal_is_what_the_loss_acts_on(example: Example, acts: bool) -> None:
    """The definition, against the gradient of the losses themselves."""
    assert has_signal([Example([1], [2]), example]) is acts
    logprobs = torch.tensor([[-1.0], [-2.0]], requires_grad=True)
    mask = torch.ones(2, 1, dtype=torch.bool)
    weights = torch.tensor([1.0, example.weight])
    if example.imitate:
        from core_lightning.objectives import Totals, nll

        loss, _ = nll(logprobs[1:], mask[1:], weights[1:], Totals(1.0, 1.0), 0.0, GRPO().token_share)
    else:
        advantages = torch.tensor([0.0, example.advantage])
        loss, _ = GRPO(beta=0.0)(logprobs, None, None, advantages, mask, weights=weights)
    loss.backward()
    assert bool((logprobs.grad != 0).any()) is acts


def test_no_example_is_no_signal() -> None:
    assert not has_signal([])


def test_what_only_shades_correctness_is_no_signal() -> None:
    """The loss acts on it, but a problem that everybody solves is not worth a place in the step for it."""
    assert not has_signal([Example([1], [2], advantage=0.005, signal=False)])


@pytest.mark.parametrize(
    ("right", "signal"), [((True, True), False), ((False, False), False), ((True, False), True)]
)
def test_by_default_solved_and_failed_problems_have_no_signal(
    pair: dict[str, PeerConfig], right: tuple[bool, bool], signal: bool
) -> None:
    """Right traces differ in their texts, and the default diversity term tells them apart."""
    group = Group(problems(1)[0])
    for i, correct in enumerate(right):
        texts = {n: " ".join(f"{n}{i} says {j} * {n}" for j in range(3 + i)) for n in "ab"}
        group.add([Trace(n, "cold", i, [1], [2], texts[n], False, answer="7", correct=correct) for n in "ab"])
    rewards = RewardModel(default_terms())
    distances = StepDistances([group], HashingEmbedder(), HybridDistance())
    rewards.assign([group], 0.0, distances)
    AdvantageSettings().of(GRPO()).assign([group])
    shaded = [t.shaping for t in group if t.correct]
    assert not shaded or len(set(shaded)) > 1 or signal, "the term did not tell right traces apart"
    assert all(t.signal is signal for t in group)
    masking = AdvantageSettings().of(DAPO())
    masking.assign([group])
    assert all(t.masked is not signal for t in group)


# --- the draws of a step ------------------------------------------------------------------------------------------------


def test_a_step_draws_until_it_has_its_problems(pair: dict[str, PeerConfig], tmp_path: Path) -> None:
    diary = Parts()
    run = fit(sparse(pair), tmp_path, diary, n=10, batch_size=2, max_epochs=2)
    assert run.global_step == len(diary.weights) == 10  # an epoch is as long as without
    loader = TrainLoader(problems(10), 2, seed=42)
    extra = endless(problems(10), 42)
    for step, (traces, metrics, order) in enumerate(zip(diary.traces, diary.metrics, diary.order, strict=True)):
        if step % 5 == 0:
            loader.set_epoch(step // 5)
            batches = iter(loader)
        assert order == [p.id for p in next(batches)]
        # By hand: what is missing is drawn, up to three times what the step began with.
        drawn = list(order)
        while (missing := min(2 - len(set(drawn) & set(TEACHING)), 6 - len(drawn))) > 0:
            drawn += itertools.islice((p for p in extra if p not in drawn), missing)
        assert {key[0] for key in traces} == set(drawn)
        used = [p for p in drawn if p in TEACHING]
        assert diary.used[step] == used
        assert trained_on(traces) == set(used)
        assert metrics["train/drawn_problems"] == len(drawn)
        assert metrics["train/unused_problems"] == len(drawn) - len(used)
        assert metrics["train/traces"] == len(traces) >= 12 * len(drawn)
    assert {m["train/drawn_problems"] for m in diary.metrics} > {2}
    assert all(len(used) <= 2 for used in diary.used)
    # A problem that comes again, in the same epoch too, is sampled anew.
    seen: dict[tuple, list[tuple]] = {}
    for traces in diary.traces:
        for key, (_, ids, *_) in traces.items():
            seen.setdefault(key[:3], []).append((key[3], tuple(ids)))
    again = [texts for texts in seen.values() if len({i for i, _ in texts}) < len(texts)]
    assert again
    for texts in again:
        samples = [sorted(t) for t in _split(texts)]
        assert len({tuple(s) for s in samples}) == len(samples)
    assert {len(used) for used in diary.used} >= {2}


def _split(texts: list[tuple]) -> list[list[tuple]]:
    """Traces of one problem and peer, apart by the step they are of: indices begin at 0 in each."""
    parts: list[list[tuple]] = []
    for index, ids in texts:
        if index == 0:
            parts.append([])
        parts[-1].append((index, ids))
    return parts


def endless(all_problems: list[Problem], seed: int) -> Any:
    """Ids of the further problems: the documented order, written down once more."""
    import random

    for turn in itertools.count():
        order = list(all_problems)
        random.Random(f"{seed}:further {turn}").shuffle(order)
        yield from (p.id for p in order)


def test_a_step_without_any_signal_ends_at_the_cap_and_moves_nothing(pair: dict[str, PeerConfig], tmp_path: Path) -> None:
    module = sparse(pair, rewards={"count": WeightedTerm(Count(problems=()))}, objective=GRPO(beta=0.5))
    diary = Diary()
    fit(module, tmp_path, diary, n=10, limit_train_batches=2)
    assert [m["train/drawn_problems"] for m in diary.metrics] == [6, 6]
    assert [m["train/unused_problems"] for m in diary.metrics] == [6, 6]
    assert same(diary.start, diary.weights[-1])  # the pull of the KL term is no signal


def test_problems_that_all_teach_are_not_drawn_again(pair: dict[str, PeerConfig], tmp_path: Path) -> None:
    """Then the setting changes nothing, bit for bit."""
    rewards = {"count": WeightedTerm(Count("abcdefghij0123456789"))}
    diaries = []
    for most in (1, 4):
        diary = Diary()
        fit(sparse(pair, most, rewards=rewards), tmp_path / str(most), diary, limit_train_batches=3)
        diaries.append(diary)
    assert diaries[0].traces == diaries[1].traces
    assert all(map(same, diaries[0].weights, diaries[1].weights))
    assert all(m["train/unused_problems"] == 0 for d in diaries for m in d.metrics)


def test_a_step_that_has_every_problem_stops(pair: dict[str, PeerConfig], tmp_path: Path) -> None:
    diary = Diary()
    fit(sparse(pair, 10), tmp_path, diary, n=4, batch_size=3, limit_train_batches=1)
    assert {key[0] for key in diary.traces[0]} == {"p0", "p1", "p2", "p3"}
    assert diary.metrics[0]["train/drawn_problems"] == 4


def test_problems_without_room_are_replaced_too(pair: dict[str, PeerConfig], tmp_path: Path) -> None:
    module = build(pair)
    module.configure_model()
    room = max(len(module.peers[n].encode(module.prompt.render(problems(1)[0]))) for n in "ab")
    import dataclasses

    generation = GenerationSettings(max_new_tokens=10, temperature=1.0, max_prompt_tokens=room)
    tight = {n: dataclasses.replace(c, generation=generation) for n, c in pair.items()}
    teaching = {"count": WeightedTerm(Count("abcdefghij0123456789"))}
    diary = Diary()
    fit(sparse(tight, 4, rewards=teaching), tmp_path, diary, n=12, batch_size=4)  # p10 and p11 have no room
    assert [len({key[0] for key in step}) for step in diary.traces] == [4, 4, 4]
    assert sum(m["train/dropped_problems"] for m in diary.metrics) >= 2
    assert all(m["train/drawn_problems"] - m["train/dropped_problems"] == 4 for m in diary.metrics)


def test_truncated_traces_that_are_masked_are_no_signal(llama_folder: Path, tmp_path: Path) -> None:
    generation = GenerationSettings(max_new_tokens=1, temperature=1.0)
    module = build(
        {"a": peer(llama_folder, generation=generation)},
        SoloReasoningModule,
        rewards={"count": WeightedTerm(Count("abcdefghij0123456789"))},
        objective=DAPO(),
        advantage=None,
        rollout=RolloutSettings(max_draws=2),
    )
    diary = Diary()
    fit(module, tmp_path, diary, limit_train_batches=1)
    assert diary.metrics[0]["train/a/truncated"] == 1
    assert diary.metrics[0]["train/unused_problems"] == diary.metrics[0]["train/drawn_problems"] == 4


# --- several processes, without any ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("world", [1, 2, 3])
def test_ranks_take_the_same_draws_and_share_what_one_would_draw(world: int) -> None:
    """The loop on threads that stand for processes: the same problems for any number, and no rank left waiting."""
    import threading

    batch, all_problems = 6 // world, problems(40)
    teaching = {p.id for p in all_problems[::3]}
    barrier, values = threading.Barrier(world), [0.0] * world
    found: list[Any] = [None] * world
    calls = [0] * world

    def process(rank: int) -> None:
        from core_lightning.records import Group
        from core_lightning.training.draws import Sampled

        def over_ranks(value: float) -> list[float]:
            calls[rank] += 1
            values[rank] = value
            barrier.wait(20)
            total = sum(values)
            barrier.wait(20)
            return [total]

        def draw(some: Any, number: int = 0) -> Sampled:
            groups = [Group(p) for p in some]
            return Sampled(groups, groups, len(groups), 0)

        loader = TrainLoader(all_problems, batch, 3, rank, world)
        steps = []
        for first in itertools.islice(iter(loader), 3):
            sampled = draw(first)
            draw_until_enough(sampled, loader.further, draw, lambda g: g.problem.id in teaching, over_ranks, 4)
            steps.append([[g.problem.id for g in groups] for groups in (sampled.groups, sampled.used)])
        found[rank] = steps

    threads = [threading.Thread(target=process, args=(rank,)) for rank in range(world)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(set(calls)) == 1
    alone = by_hand(all_problems, teaching)
    for step in range(3):
        for part in (0, 1):
            together = sorted(i for rank in found for i in rank[step][part])
            assert together == sorted(alone[step][part])


def by_hand(all_problems: list[Problem], teaching: set[str]) -> list[tuple[list[str], list[str]]]:
    loader, extra = TrainLoader(all_problems, 6, 3), endless(all_problems, 3)
    steps = []
    for first in itertools.islice(iter(loader), 3):
        drawn = [p.id for p in first]
        while (missing := min(6 - len(set(drawn) & teaching), 24 - len(drawn))) > 0:
            drawn += itertools.islice((p for p in extra if p not in drawn), missing)
        steps.append((drawn, [p for p in drawn if p in teaching]))
    return steps


# --- a resumed run --------------------------------------------------------------------------------------------------------


def test_a_resumed_run_draws_what_the_run_would_have_drawn(pair: dict[str, PeerConfig], tmp_path: Path) -> None:
    """Saved in mid-epoch, at its end and in the next, in orders of further problems that went round meanwhile."""

    class SavesAll(Diary):
        def on_train_batch_end(self, trainer: Any, *rest: Any) -> None:
            super().on_train_batch_end(trainer, *rest)
            trainer.save_checkpoint(tmp_path / f"{len(self.weights)}.ckpt")

    whole = SavesAll()
    fit(sparse(pair), tmp_path, whole, n=10, batch_size=2, max_epochs=2)
    assert sum(m["train/drawn_problems"] - 2 for m in whole.metrics) > 10  # more than once round
    for saved in (3, 5, 8):
        diary = Diary()
        fit(sparse(pair), tmp_path, diary, n=10, batch_size=2, max_epochs=2, ckpt_path=tmp_path / f"{saved}.ckpt")
        assert diary.order == whole.order[saved:]
        assert diary.traces == whole.traces[saved:]
        assert all(map(same, diary.weights, whole.weights[saved:]))


def test_a_step_that_fails_after_its_draws_is_repeated_with_the_same(pair: dict[str, PeerConfig], tmp_path: Path) -> None:
    whole = Diary()
    fit(sparse(pair), tmp_path / "whole", whole, n=10)
    module = sparse(pair)
    update = module.update

    def failing(*args: Any) -> Any:
        if module.batches_done == 2:
            raise RuntimeError("out of luck")
        return update(*args)

    module.update = failing
    run = trainer(tmp_path)
    run.callbacks.append(AdapterCheckpoint())
    with pytest.raises(RuntimeError, match="out of luck"):
        run.fit(module, datamodule=data(tmp_path, 10))
    drawn = run.train_dataloader.drawn
    checkpoint = tmp_path / "checkpoints/last.ckpt"
    (saved,) = torch.load(checkpoint, weights_only=True)["loops"]["fit_loop"]["state_dict"]["combined_loader"]
    assert saved["drawn"] < drawn  # the failed step had drawn some
    diary = Diary()
    fit(sparse(pair), tmp_path, diary, n=10, ckpt_path=checkpoint)
    assert diary.traces == whole.traces[2:]
    assert all(map(same, diary.weights, whole.weights[2:]))


# --- settings -------------------------------------------------------------------------------------------------------------


def test_settings_that_cannot_work(pair: dict[str, PeerConfig], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"rollout.max_draws is 0; set it to 2 or more, or to 1"):
        RolloutSettings(max_draws=0)
    told = facts(sparse(pair, 4).settings())["Problems of a step"]
    assert told == "drawn until as many as it began with have a signal, at most 4 times as many"
    assert "Problems of a step" not in facts(sparse(pair, 1).settings())
    run = trainer(tmp_path)
    loader = DataLoader(problems(4), batch_size=2, collate_fn=list)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"max_draws is 3, and the training loader \(DataLoader\) draws no further"):
        run.fit(sparse(pair), train_dataloaders=loader)
    assert data(tmp_path).train_dataloader().further(2)[1] == 2
