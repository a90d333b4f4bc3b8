from __future__ import annotations

import math
from pathlib import Path

import pytest

from core_lightning.callbacks import MetricsCsv, RescueRateCallback
from core_lightning.callbacks.metrics_csv import read_metrics
from core_lightning.module import StepRecord
from core_lightning.protocol import Group
from scripted_team import ScriptedTeam, WrittenProblems, group_of, problem, trainer_in, written_group

pytestmark = pytest.mark.usefixtures("few_resamples")


class Recorded:
    """What the callback reads of a module, with the names and values it logs."""

    def __init__(self, groups: list[Group], step: int = 0) -> None:
        self.peer_configs = {"a": None, "b": None}
        self.record = StepRecord(step, groups)
        self.logged: dict[str, float] = {}

    def log_dict(self, metrics: dict[str, float], batch_size: int) -> None:
        self.logged |= metrics


def counted(groups: list[Group], **settings: int) -> tuple[RescueRateCallback, dict[str, float]]:
    callback, module = RescueRateCallback(**settings), Recorded(groups)
    callback.on_fit_start(None, module)
    callback.on_train_batch_end(None, module, None, None, 0)
    return callback, module.logged


def test_hand_counted_pairs() -> None:
    groups = [
        group_of(
            problem(1), {"a": [False, False], "b": [True, False]}, {"a": [False, True]}
        ),  # rescued by its second trace
        group_of(problem(10), {"a": [True, True], "b": [False, False]}, {"b": [False]}),  # hint leaks, no rescue
        group_of(problem(2), {"a": [False, True], "b": [True, True]}),  # nobody failed
        group_of(problem(3), {"a": [False, False], "b": [False, False]}),  # nobody to teach
        group_of(problem(4), {"a": [True, False], "b": [True, False]}, {"a": [True]}),  # hinted without having failed
    ]
    callback, logged = counted(groups)
    assert (callback.hinted, callback.rescued, callback.leaks) == ({"a": 1, "b": 1}, {"a": 1, "b": 0}, {"a": 0, "b": 1})
    assert callback.faithful == {"a": 1, "b": 0}
    expected = {"rate": 0.5, "faithful_rate": 0.5, "a/rate": 1.0, "b/rate": 0.0, "hints": 2.0, "rescues": 1.0, "leakage": 0.5}
    assert logged == {f"rescue/{name}": value for name, value in expected.items()}
    assert callback.figures()["team"]["value"] == 0.5
    half = 1.959964 * (0.25 / 2 + 1.959964**2 / 16) ** 0.5 / (1 + 1.959964**2 / 2)  # Wilson, one of two
    bounds = (callback.figures()["team"]["low"], callback.figures()["team"]["high"])
    assert bounds == pytest.approx((0.5 - half, 0.5 + half))
    (rescue,) = callback.rescues
    assert (rescue["student"], rescue["teacher"], rescue["wrong_answer"], rescue["answer"]) == ("a", "b", "-1", "3")


def test_a_rescue_with_a_flaw_is_counted_but_not_as_faithful() -> None:
    group = group_of(problem(1), {"a": [False, False], "b": [True, False]}, {"a": [True]})
    group.of("a", "rescue")[0].flaw = "unlikely token (0.01)"
    callback, logged = counted([group])
    assert (callback.rescued["a"], callback.faithful["a"]) == (1, 0)
    assert (logged["rescue/rate"], logged["rescue/faithful_rate"]) == (1.0, 0.0)
    assert callback.rescues[0]["flaw"] == "unlikely token (0.01)"


def test_no_hint_is_nan() -> None:
    callback, logged = counted([group_of(problem(1), {"a": [True], "b": [True]})])
    assert math.isnan(logged["rescue/rate"])
    assert math.isnan(callback.figures()["team"]["low"])


def test_kept_rescues_prefer_hints_without_the_gold_value_one_per_problem() -> None:
    def rescue(i: int) -> Group:
        return group_of(problem(i), {"a": [False], "b": [True]}, {"a": [True]})

    callback, _ = counted([rescue(10), rescue(20), rescue(1), rescue(1), rescue(2)], examples=3)
    assert [r["leaks"] for r in callback.rescues] == [False, False, True]
    assert {r["problem"] for r in callback.rescues[:2]} == {"p001", "p002"}


def test_questions_can_be_withheld() -> None:
    group = group_of(problem(1), {"a": [False], "b": [True]}, {"a": [True]})
    callback, _ = counted([group], questions=False)
    assert group.problem.question not in str(callback.state_dict())


def test_counts_over_a_run(tmp_path: Path) -> None:
    callback, data = RescueRateCallback(), WrittenProblems()
    trainer_in(tmp_path, [callback], logger=MetricsCsv(tmp_path)).fit(ScriptedTeam(), data)
    hinted = rescued = 0
    for epoch in range(2):
        for task in data.splits["train"]:
            group = written_group(task, ["a", "b"], 0.35, f"train/{epoch}")
            for peer in ("a", "b"):
                hinted += bool(group.of(peer, "rescue"))
                rescued += any(t.correct for t in group.of(peer, "rescue"))
    assert (sum(callback.hinted.values()), sum(callback.rescued.values())) == (hinted, rescued)
    last = [r for r in read_metrics(tmp_path / "metrics.csv") if r["rescue/rate"]][-1]
    assert float(last["rescue/rate"]) == pytest.approx(rescued / hinted)
