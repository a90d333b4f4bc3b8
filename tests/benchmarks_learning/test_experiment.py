"""The learning experiment in small: budget, records, resumption, and what the arms change."""

import dataclasses
import json
from contextlib import nullcontext
from hashlib import sha256
from pathlib import Path

import pytest

from benchmarks.learning import sweep as sweeping
from benchmarks.learning.arms import ARMS
from benchmarks.learning.bare_answers import counts
from benchmarks.learning.budget import BudgetLoader
from benchmarks.learning.legs import legs
from benchmarks.learning.legs import main as show_legs
from benchmarks.learning.pairs import PAIRS
from benchmarks.learning.teacher_bonus import TeacherBonus
from benchmarks.learning.training import run
from core_lightning.data import NanoTasks
from core_lightning.nano import nano_folder
from core_lightning.records import Group, Hint, Problem, Trace
from core_lightning.rewards import RewardContext

TINY = dataclasses.replace(
    PAIRS["nano"],
    peers=lambda pretraining_seed, shipped=PAIRS["nano"].peers: shipped(0),  # none is pretrained here
    data=lambda: NanoTasks(train_size=60, val_size=0, test_size=4),
    pretraining_seeds=(0,),
    steps=2,
    completions=24,
    eval_samples=2,
)


@pytest.mark.parametrize("arm", ["solo", "default"])
def test_every_arm_keeps_the_budget_and_reports_every_problem(arm):
    result = run(TINY, ARMS[arm], 0, 0)
    budget, held_out = result["budget"], result["held_out"]
    cost_of_one = 2 * (3 + ARMS[arm].rounds.k_rescue)  # the plan is met to within half a problem
    assert abs(budget["completions"] - budget["planned_completions"]) <= cost_of_one / 2 + 1
    assert budget["planned_completions"] == 24 * 2 * 2
    assert sum(result["training"]["traces"]) == pytest.approx(budget["completions"])
    assert set(held_out["correct"]) == {"a", "b"}
    assert all(len(v) == 4 and max(v) <= 2 for v in held_out["correct"].values())
    assert set(result["training"]) >= {"a/pass_at_1", "b/pass_at_1", "a/entropy", "b/hints"}
    for peer, kl in held_out["kl"].items():  # who had a gradient has moved, and nobody else
        assert (kl > 0) == any(result["training"][f"{peer}/grad_norm"])
    json.dumps(result, allow_nan=False)


def test_the_untrained_arm_is_the_models_as_they_are():
    result = run(TINY, ARMS["base"], 0, 0)
    assert result["budget"]["completions"] == 0
    assert result["training"] == {}
    assert set(result["held_out"]["kl"].values()) == {0.0}


def test_a_sweep_goes_on_where_it_stopped(tmp_path, monkeypatch):
    ran = []

    def noted(pair, arm, pretraining_seed, seed, lr, accelerator, check):
        ran.append((arm.about, pretraining_seed, seed, lr))
        if len(ran) == 3:
            raise KeyboardInterrupt
        return {"budget": {}}

    monkeypatch.setattr(sweeping, "run", noted)
    monkeypatch.setitem(PAIRS, "nano", TINY)
    out = tmp_path / "lines.jsonl"
    job = ("nano", ["base", "solo"], [0, 5], [0], 2e-3, out)
    with pytest.raises(KeyboardInterrupt):
        sweeping.sweep(*job)
    out.write_text(out.read_text() + '{"torn')  # a line that a crash cut off
    sweeping.sweep(*job)
    assert len(ran) == 5  # the interrupted run again, and none of the finished ones
    lines = list(sweeping.read(out))
    assert [(line["arm"], line["pretraining_seed"]) for line in lines] == [
        ("base", 0), ("solo", 0), ("base", 5), ("solo", 5),
    ]  # fmt: skip
    assert [line["lr"] for line in lines] == [TINY.lr, 2e-3] * 2  # the models as they are have no rate of their own
    assert lines[1]["settings"]["solo"] is True
    sweeping.sweep(*job)
    assert len(ran) == 5


def test_runs_of_other_models_are_not_added(tmp_path, monkeypatch):
    monkeypatch.setattr(sweeping, "run", lambda *_: {"budget": {}})
    monkeypatch.setitem(PAIRS, "nano", TINY)
    out = tmp_path / "lines.jsonl"
    sweeping.sweep("nano", ["base"], [0, 5], [0], None, out)
    lines = list(sweeping.read(out))
    (digest,) = {line["models"]["a"] for line in lines}
    assert digest == sha256((nano_folder("a") / "model.safetensors").read_bytes()).hexdigest()
    elsewhere = [lines[0] | {"models": {"a": "other", "b": "other"}}, lines[1]]
    unknown = [lines[0], {k: v for k, v in lines[1].items() if k != "models"}]
    shipped = [{k: v for k, v in lines[0].items() if k != "models"}, lines[1]]
    for held, seed, refused in ((elsewhere, 0, True), (unknown, 5, True), (elsewhere, 5, False), (shipped, 0, False)):
        out.write_text("".join(json.dumps(line) + "\n" for line in held))
        with pytest.raises(SystemExit, match=f"runs of pretraining seed {seed}") if refused else nullcontext():
            sweeping.sweep("nano", ["solo"], [seed], [0], None, out)
        assert len(list(sweeping.read(out))) == 2 + (not refused)


def test_the_loader_asks_for_as_many_problems_as_are_left_in_the_plan():
    problems = [Problem(f"{s}{i}", "q", "1", source=s) for s in "xy" for i in range(40)]
    loader = BudgetLoader(problems, steps=3, completions=40, cost=4.0, seed=0)
    batches = iter(loader)
    first = next(batches)
    assert len(first) == 10
    assert sorted(p.source for p in first) == ["x"] * 5 + ["y"] * 5
    loader.spent, loader.cost = 60, 5.0  # it cost more: 20 are left for the second step
    assert len(next(batches)) == 4
    loader.spent = 80
    assert len(next(batches)) == 8
    assert loader.drawn == 22


def test_problems_that_come_again_have_other_noise():
    loader = BudgetLoader([Problem(i, "q", "1") for i in "xyz"], steps=1, completions=7, cost=1.0, seed=0)
    ids = [p.id for p in next(iter(loader))]
    assert len(set(ids)) == 7
    assert sorted(i[0] for i in ids[:3]) == ["x", "y", "z"]


def test_the_embedded_pair_is_the_quickstarts():
    pair = PAIRS["embedded"]
    assert pair.lr_factors.keys() < pair.peers(0).keys()
    assert all(peer.quantization == "nf4" for peer in pair.peers(0).values())
    assert "{hint}" in pair.prompt.text_hinted


def test_legs_of_an_animal_are_the_answer_over_their_number(capsys):
    known = {
        "dog": 4,
        "ant": 6,
        "human": 2,
        "snake": 0,
        "spider": 8,
        "crab": 10,
        "cat": 4,
        "lion": 4,
        "bee": 6,
        "wasp": 6,
    }
    found = 0
    for problem in PAIRS["words"].data().splits["test"]:
        animal = problem.question.rsplit("have ", 1)[1].strip(" ?\n").split(" ", 1)[1]
        for name in {animal, animal.removesuffix("s")} & known.keys():
            assert legs(problem) == known[name]
            found += 1
    assert found > 10
    show_legs(Path(sweeping.__file__).with_name("results") / "words.jsonl")
    assert "gemma3" in capsys.readouterr().out


def test_problems_the_peers_disagree_on_are_drawn_more_often():
    problems = [Problem(f"{s}{i}", "q", "1", source=s) for s in "xy" for i in range(300)]
    loader = BudgetLoader(problems, 1, 400, 1.0, seed=1, prefer_disagreement=True)
    loader._disagreement = {"x": 0.95, "y": 0.05}
    drawn = [p.source for p in next(iter(loader))]
    assert 0.85 < drawn.count("x") / 400 < 0.97  # 1.0 to 0.1: 91 %


def test_only_the_trace_that_taught_a_rescued_peer_earns_the_bonus():
    def trace(peer, round, index, correct, hint=None):
        return Trace(peer, round, index, [], [], "", False, correct=correct, hint=hint)

    hint = Hint("3@7=5", "a", 1, leaks=False)
    cold = [trace("a", "cold", 0, True), trace("a", "cold", 1, True), trace("b", "cold", 0, False)]
    for rescued in (True, False):
        group = Group(Problem("p", "q", "1"), [*cold, trace("b", "rescue", 0, rescued, hint)])
        assert TeacherBonus()(group, RewardContext()) == [0.0, float(rescued), 0.0, 0.0]


def test_arms_differ_and_share_what_is_not_theirs():
    settings = {name: json.dumps(sweeping.plain(name) | {"about": ""}) for name in ARMS}
    assert len(set(settings.values())) == len(ARMS)
    assert all("correctness" not in arm.rewards for arm in ARMS.values())


def test_bare_answers_are_counted_apart_from_derivations() -> None:
    def trace(round: str, text: str, correct: bool, flaw: str | None = None) -> Trace:
        hint = Hint("3 * 4 =", "b", 0, False) if round == "rescue" else None
        return Trace("a", round, 0, [1], [2], text, False, "12", correct, hint=hint, flaw=flaw)  # type: ignore[arg-type]

    problem = Problem("p", "How many legs have 3 dogs?", "12")
    cold = [trace("cold", " 13", False), trace("cold", " 3 * 4 = 13", False)]
    rescues = [trace("rescue", " 12", True), trace("rescue", " 3 * 4 = 12", True), trace("rescue", " 12", True, "cut off")]
    assert counts([Group(problem, [*cold, *rescues])], "a") == {
        "cold": 2, "cold_right": 0, "cold_bare": 1, "faithful_rescues": 2, "faithful_rescues_bare": 1,
    }  # fmt: skip
