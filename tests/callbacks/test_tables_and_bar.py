from __future__ import annotations

import math
import re
import time
from io import StringIO
from pathlib import Path

import pytest
import rich
import torch
from rich.console import Console

from core_lightning.callbacks import RescueProgressBar, RescueRateCallback, RunSummary, TeamPassAtKCallback
from core_lightning.callbacks.learning_watch import why_nothing_is_learned
from core_lightning.callbacks.rescue_progress_bar import busiest, progress_parts
from core_lightning.callbacks.run_summary import cost
from core_lightning.metrics import share_interval
from core_lightning.report.phases import phase_seconds
from core_lightning.report.rescue import RescueCounts
from core_lightning.report.tables import (
    Table,
    before_after_table,
    profile_table,
    rescue_rates_table,
    rescues_table,
    to_rich,
    with_interval,
)
from scripted_team import ScriptedTeam, WrittenProblems, trainer_in

pytestmark = pytest.mark.usefixtures("few_resamples")

TIMES = {
    "time/sample/a": [1.0, 3.0],
    "time/sample/b": [2.0, math.nan],
    "time/verify": [0.5, 0.5],
    "time/odd/b": [1.0, 1.0],
}


def drawn(table: Table, width: int = 140) -> str:
    out = StringIO()
    Console(file=out, width=width).print(to_rich(table))
    return out.getvalue()


def test_phases_are_means_in_order_with_the_rest() -> None:
    seconds = phase_seconds(TIMES | {"time/total": [6.0, 6.0], "step": [0, 1]})
    assert seconds == {"sample": {"a": 2.0, "b": 1.0}, "verify": {"": 0.5}, "odd": {"b": 1.0}, "other": {"": 1.5}}
    assert "other" not in phase_seconds(TIMES | {"time/total": [1.0, 1.0]})
    table = profile_table(seconds, ["a", "b"], 2)
    assert table.rows[0] == ["sample", "2.00", "1.00", "3.00", "50.0"]
    assert table.rows[-1] == ["all", "2.00", "2.00", "6.00", ""]


def test_what_a_rescue_costs() -> None:
    seconds = {"sample": {"a": 5.0}, "rescue": {"a": 1.0, "b": 2.0}}  # of a mean step; two steps
    rows = profile_table(seconds, ["a", "b"], 2, counts=RescueCounts(hinted=4, rescued=2, faithful=1, leaks=0)).rows[-3:]
    assert [(r[0], r[-2]) for r in rows] == [
        ("rescue round, per hinted pair (4)", "1.50"),
        ("rescue round, per rescued pair (2)", "3.00"),
        ("rescue round, per faithfully rescued pair (1)", "6.00"),
    ]
    assert len(profile_table(seconds, ["a", "b"], 2, counts=RescueCounts(4, 0, 0, 0)).rows) == 4


def test_faithful_rescues_stand_beside_all() -> None:
    figures = {n: {"value": 0.5, "low": 0.2, "high": 0.8} for n in ("a", "b", "team")}
    table = rescue_rates_table(figures, {"a": 3, "b": 1}, {"a": 2, "b": 0}, {"a": 1, "b": 0})
    assert [row[:3] + row[4:5] for row in table.rows] == [["a", "3", "2", "1"], ["b", "1", "0", "0"], ["team", "4", "2", "1"]]
    low, high = share_interval(torch.tensor([1.0, 0, 0, 0]))
    assert table.rows[-1][-1] == f"25.0 [{100 * low:.1f}, {100 * high:.1f}]"


def test_interval_text() -> None:
    assert with_interval({"value": 0.5, "low": 0.25, "high": 0.75}) == "50.0 [25.0, 75.0]"
    assert with_interval({"value": 0.5, "low": math.nan, "high": math.nan}, sign=True) == "+50.0"
    assert with_interval({"value": math.nan, "low": math.nan, "high": math.nan}) == "–"


def fit(
    tmp_path: Path, team: ScriptedTeam, *extra: object, **settings: object
) -> tuple[TeamPassAtKCallback, RescueRateCallback]:
    passes, rescues = TeamPassAtKCallback(), RescueRateCallback()
    trainer_in(tmp_path, [passes, rescues, *extra], **settings).fit(team, WrittenProblems())
    return passes, rescues


def test_before_and_after(tmp_path: Path) -> None:
    passes, rescues = fit(tmp_path, ScriptedTeam())
    table = before_after_table(passes.history[0], passes.history[-1])
    assert table.columns == ["", "step 0", "step 12", "change", "one peer ×4", "chance"]
    row = dict(zip(table.columns, next(r for r in table.rows if r[0] == "Team Pass@2"), strict=True))
    last = passes.history[-1]["values"]
    assert row["step 12"] == with_interval(last["team_pass_at_2"])
    assert row["one peer ×4"] == f"{100 * last['equal_budget']['value']:.1f}"
    assert row["chance"] == "68.4"
    assert before_after_table(passes.history[0], passes.history[0]).columns == ["", "step 0", "one peer ×4", "chance"]
    text = drawn(rescues_table(rescues.rescues, 2))
    assert rescues.rescues[0]["question"] in text
    assert rescues.rescues[0]["hint"] in text
    assert rescues.rescues[2]["question"] not in text


def test_of_every_long_text_a_terminal_shows_the_beginning() -> None:
    long = dict.fromkeys(("question", "student", "wrong_answer", "gold", "teacher", "hint", "text"), "7 " * 500)
    (row,) = rescues_table([long | {"student": "a", "teacher": "b"}], width=40).rows  # type: ignore[list-item]
    beginning = "7 " * 19 + "7…"
    assert row == [beginning, f"a: {beginning}  (gold {beginning})", f"b: {beginning}", beginning]
    label = drawn(Table("By source, percent", ["", "n"], [["x" * 3000, "1"]]), 4000)
    assert label.count("x") == 1999
    assert "…" in label


def test_model_text_is_not_markup() -> None:
    assert "[bold]x[/nonsense]" in drawn(Table("[red]", ["a"], [["[bold]x[/nonsense]"]], text=True))


def test_summary_prints_without_a_bar(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fit(tmp_path, ScriptedTeam(), RunSummary())
    printed = capsys.readouterr().out
    for part in (
        "20 held-out problems",
        "Team Pass@2",
        "Rescue rate over the run",
        "after the hint",
        "Seconds per step, mean of 12",
    ):
        assert part in printed


def test_a_run_on_gpus_tells_their_memory_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", [3.04e9, 12e9].__getitem__)
    said = re.fullmatch(r"took 1:05, (\d+\.\d) GB of memory and 3\.0 \+ 12\.0 GB of the GPU's at the peak", cost(65.2))
    assert said is not None


def test_summary_ends_with_wall_time_and_peak_memory(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    start = time.monotonic()
    fit(tmp_path, ScriptedTeam(), RunSummary())
    upper = time.monotonic() - start
    last = capsys.readouterr().out.splitlines()[-1]
    found = re.fullmatch(r"took (\d+):(\d\d), (\d+\.\d) GB of memory at the peak", last)
    assert found is not None
    assert 0 <= 60 * int(found[1]) + int(found[2]) <= upper + 0.5
    status = Path("/proc/self/status")
    if status.exists():  # the kernel's own count of the same, in another file
        peak = int(re.search(r"VmHWM:\s+(\d+) kB", status.read_text())[1]) * 1024 / 1e9  # type: ignore[index]
        assert float(found[3]) == pytest.approx(peak, abs=0.1)


def test_summary_of_a_run_without_evaluation_and_of_one_peer(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fit(tmp_path, ScriptedTeam(["a"]), RunSummary(), limit_val_batches=0)
    printed = capsys.readouterr().out
    assert "Seconds per step" in printed
    assert "held-out" not in printed
    assert "Rescue" not in printed


def test_summary_after_ctrl_c(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        fit(tmp_path, ScriptedTeam(fail_at=(7, KeyboardInterrupt())), RunSummary())
    assert "mean of 7 steps" in capsys.readouterr().out


def test_lines_where_there_is_no_terminal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _, rescues = fit(tmp_path, ScriptedTeam(), RescueProgressBar(every_n_steps=5), enable_progress_bar=True)
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith(("step", "evaluation"))]
    kinds = [line.split(" · ")[0] for line in lines]
    assert kinds == [
        "evaluation after 0 steps",
        "step 5/12",
        "step 6/12",
        "evaluation after 6 steps",
        "step 10/12",
        "step 12/12",
        "evaluation after 12 steps",
    ]
    counts = rescues.totals()
    assert f"so far {counts.rescued} of {counts.hinted}, {counts.faithful} faithfully" in lines[-2]


def test_evaluations_tell_their_size_and_have_a_row(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bar, summary = RescueProgressBar(), RunSummary()
    fit(tmp_path, ScriptedTeam(), bar, summary, enable_progress_bar=True)
    printed = capsys.readouterr().out
    lines = [line for line in printed.splitlines() if line.startswith("evaluating 0 of")]
    assert len(lines) == len(summary.evaluations) == 3
    assert lines[0] == "evaluating 0 of 20 problems, 4 samples of each of 2 peers"
    assert lines[1].startswith(f"{lines[0]}, ")  # the second one knows what the first one took
    assert "one evaluation (of 3)" in printed
    assert "Epoch" not in printed
    assert "Sanity" not in printed


def test_the_last_step_is_followed_by_an_evaluation(tmp_path: Path) -> None:
    passes, _ = fit(tmp_path, ScriptedTeam(), max_steps=10, max_epochs=None, val_check_interval=4)
    assert [e["step"] for e in passes.history] == [0, 4, 10]


NO_SIGNAL = {"no_signal": 1.0, "truncated": 0.0, "no_answer": 0.0, "accuracy": 0.5, "imitated": 0.0}


@pytest.mark.parametrize(
    ("shares", "named"),
    [
        ({"truncated": 0.9}, "{tokens}"),
        ({"no_answer": 0.8}, "{style}"),
        ({"accuracy": 1.0}, "harder"),
        ({"accuracy": 0.0}, "easier"),
        ({}, "model.rounds.k"),
        ({"no_signal": 0.9}, None),
        ({"imitated": 1.0}, None),
        ({"no_signal": math.nan}, None),
    ],
)
def test_what_keeps_a_run_from_learning(shares: dict[str, float], named: str | None) -> None:
    reason = why_nothing_is_learned([NO_SIGNAL | shares] * 3, steps=3)
    assert reason is None if named is None else named in str(reason)
    assert why_nothing_is_learned([NO_SIGNAL] * 2, steps=3) is None


def test_live_bar_shows_the_figures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "160")
    monkeypatch.setattr(rich, "_console", None)
    _, rescues = fit(tmp_path, ScriptedTeam(), RescueProgressBar(), enable_progress_bar=True)
    printed = capsys.readouterr().out
    counts = rescues.totals()
    assert f"so far: {counts.rescued} of {counts.hinted}, {counts.faithful} faithfully · solved: 100%" in printed
    assert "step 5/12" not in printed  # a line; the bar has a bar between them
    (course,) = [re.sub(r"\x1b\[[0-9;]*[a-zA-Z]", "", printed)]
    assert re.search(r"step\s+\S+\s+12/12", course)  # of both epochs
    assert not re.search(r"Epoch|step\s+\S+\s+\d+/6\b", course)


def test_parts() -> None:
    metrics = {
        "train/team_solved": 0.75,
        "train/a/accuracy": 0.5,
        "train/b/accuracy": math.nan,
        "train/a/tokens_per_second": 12.4,
    }
    metrics |= {"train/hints": 4.0, "train/rescues": 2.0, "train/faithful_rescues": 1.0}
    metrics |= {"time/sample/a": 3.0, "time/sample/b": 3.0, "time/score/a": 2.0}
    parts = progress_parts(metrics, ["a", "b"], RescueCounts(7, 3, 2, 0))
    assert parts == {
        "rescued": "2 of 4 hinted, 1 faithfully",
        "so far": "3 of 7, 2 faithfully",
        "solved": "75%",
        "a": "50%",
        "b": "–",
        "tokens/s": "12",
        "time": "sample 38+38% score 25%",
    }
    troubled = metrics | {"train/a/truncated": 0.98, "train/b/truncated": 0.9, "train/a/no_signal": 0.4}
    shown = progress_parts(troubled, ["a", "b"])
    assert shown["cut off"] == "94%"
    assert not {"no signal", "no answer"} & shown.keys()
    drawn = progress_parts(metrics | {"train/drawn_problems": 7.0, "train/unused_problems": 3.0}, ["a", "b"])
    assert drawn["problems"] == "7 drawn, 3 without a signal"
    assert busiest({}) == []
    assert progress_parts({}, ["a"]) == {}
