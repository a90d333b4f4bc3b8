"""A run that was interrupted and resumed leaves the folder of one that was not."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from core_lightning.callbacks import (
    AdapterCheckpoint,
    MetricsCsv,
    RescueRateCallback,
    RunFolder,
    RunReport,
    RunSummary,
    TeamPassAtKCallback,
    TraceLog,
)
from core_lightning.callbacks.metrics_csv import read_metrics
from core_lightning.cli.command_checks import check_unfinished
from scripted_team import ScriptedTeam, WrittenProblems, trainer_in

pytestmark = pytest.mark.usefixtures("few_resamples")

FILES = ("traces.jsonl", "metrics.csv", "manifest.json")


class Run:
    """Twelve steps in two epochs, evaluated every three steps, checkpointed every four."""

    def __init__(
        self,
        folder: Path,
        ckpt: Path | None = None,
        fail_at: tuple[int, BaseException] | None = None,
        in_evaluation: bool = False,
        **options: int,
    ) -> None:
        self.passes, self.rescues, self.report = TeamPassAtKCallback(), RescueRateCallback(), RunReport()
        self.summary = RunSummary(rescues=0)
        callbacks = [RunFolder(), self.passes, self.rescues, TraceLog(), AdapterCheckpoint(every_n_batches=4)]
        # Both tell of the run at its end; here only what they keep matters.
        for told in (self.report, self.summary):
            told.on_fit_end = lambda trainer, module: None  # type: ignore[method-assign]
        trainer = trainer_in(folder, [*callbacks, self.report, self.summary], logger=MetricsCsv(folder), val_check_interval=3, **options)
        self.team = ScriptedTeam(fail_at=fail_at, in_evaluation=in_evaluation)
        trainer.fit(self.team, WrittenProblems(), ckpt_path=str(ckpt) if ckpt else None)

    def state(self) -> str:
        columns = {n: c for n, c in self.report.columns.items() if n != "time/total"}
        evaluated = list(self.summary.evaluations)
        return repr((evaluated, self.passes.state_dict(), self.rescues.state_dict(), columns, self.team.peers["a"].weight.item()))


@pytest.fixture(scope="module")
def whole(few_resamples: None, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Run]:
    folder = tmp_path_factory.mktemp("whole")
    return folder, Run(folder)


def names(folder: Path) -> set[str]:
    return {str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file()}


@pytest.mark.parametrize("step", [5, 6, 7])
def test_after_an_error(whole: tuple[Path, Run], tmp_path: Path, step: int) -> None:
    with pytest.raises(RuntimeError, match="broken"):
        Run(tmp_path, fail_at=(step, RuntimeError("broken")))
    saved = torch.load(tmp_path / "checkpoints/last.ckpt", weights_only=True)
    assert saved["batches_done"] == step  # not only the multiple of four before it
    resumed = Run(tmp_path, ckpt=tmp_path / "checkpoints/last.ckpt")
    assert resumed.state() == whole[1].state()
    assert names(tmp_path) == names(whole[0])
    for file in FILES:
        assert (tmp_path / file).read_text() == (whole[0] / file).read_text()


@pytest.mark.parametrize("step", [3, 6, 9])
def test_after_an_error_in_an_evaluation(whole: tuple[Path, Run], tmp_path: Path, step: int) -> None:
    """The evaluation is done over: within an epoch, at its end, and in the second one."""
    with pytest.raises(RuntimeError, match="broken"):
        Run(tmp_path, fail_at=(step, RuntimeError("broken")), in_evaluation=True)
    resumed = Run(tmp_path, ckpt=tmp_path / "checkpoints/last.ckpt")
    assert step in [e["step"] for e in resumed.passes.history]
    assert resumed.state() == whole[1].state()
    for file in FILES:
        assert (tmp_path / file).read_text() == (whole[0] / file).read_text()


def test_after_ctrl_c(whole: tuple[Path, Run], tmp_path: Path) -> None:
    with pytest.raises(SystemExit):
        Run(tmp_path, fail_at=(5, KeyboardInterrupt()))
    assert Run(tmp_path, ckpt=tmp_path / "checkpoints/last.ckpt").state() == whole[1].state()


def test_from_an_earlier_checkpoint_of_a_finished_run(whole: tuple[Path, Run], tmp_path: Path) -> None:
    Run(tmp_path)
    resumed = Run(tmp_path, ckpt=tmp_path / "checkpoints/step-8.ckpt")
    assert resumed.state() == whole[1].state()
    for file in FILES:
        assert (tmp_path / file).read_text() == (whole[0] / file).read_text()


def test_after_a_kill_in_mid_write(whole: tuple[Path, Run], tmp_path: Path) -> None:
    with pytest.raises(RuntimeError):
        Run(tmp_path, fail_at=(10, RuntimeError("killed")))
    for file, half in (("traces.jsonl", '{"step": 10, "prob'), ("metrics.csv", "10,1,0.33")):
        with (tmp_path / file).open("a") as stream:
            stream.write(half)
    assert Run(tmp_path, ckpt=tmp_path / "checkpoints/last.ckpt").state() == whole[1].state()
    for file in FILES:
        assert (tmp_path / file).read_text() == (whole[0] / file).read_text()


def test_a_finished_run_can_be_prolonged(whole: tuple[Path, Run], tmp_path: Path) -> None:
    run = Run(tmp_path)
    callbacks = [RunFolder(), run.passes, TraceLog(), AdapterCheckpoint(every_n_batches=4)]
    trainer = trainer_in(tmp_path, callbacks, max_epochs=3, logger=MetricsCsv(tmp_path), val_check_interval=3)
    trainer.fit(ScriptedTeam(), WrittenProblems(), ckpt_path=str(tmp_path / "checkpoints/last.ckpt"))
    lines = [json.loads(line) for line in (tmp_path / "traces.jsonl").read_text().splitlines()]
    assert sorted({line["step"] for line in lines}) == list(range(18))
    steps = [0, 3, 6, 9, 12, 15, 18]
    assert [e["step"] for e in run.passes.history] == steps
    rows = read_metrics(tmp_path / "metrics.csv")
    assert [int(r["step"]) for r in rows if r["val/team_pass_at_2"]] == steps
    assert [int(r["step"]) for r in rows if r["train/traces"]] == list(range(18))


@pytest.mark.parametrize("step", [2, 3, 5, 6, 8, 9])
def test_a_run_that_max_steps_ended_goes_on_in_its_epoch(whole: tuple[Path, Run], tmp_path: Path, step: int) -> None:
    """With the problems that were left: between evaluations, at one, and at the end of the first epoch."""
    Run(tmp_path, max_steps=step)
    resumed = Run(tmp_path, ckpt=tmp_path / "checkpoints/last.ckpt")
    assert resumed.state() == whole[1].state()
    for file in FILES:
        assert (tmp_path / file).read_text() == (whole[0] / file).read_text()


@pytest.mark.parametrize("step", [2, 5])
def test_the_end_of_a_run_is_evaluated_and_no_part_of_a_longer_one(
    whole: tuple[Path, Run], tmp_path: Path, step: int
) -> None:
    short = Run(tmp_path, max_steps=step)
    assert [e["step"] for e in short.passes.history] == [s for s in (0, 3) if s < step] + [step]
    rows = [r for r in read_metrics(tmp_path / "metrics.csv") if r["val/team_pass_at_2"]]
    assert [int(r["step"]) for r in rows] == [e["step"] for e in short.passes.history]
    saved = torch.load(tmp_path / "checkpoints/last.ckpt", weights_only=True)
    best = max(short.passes.history, key=lambda e: e["values"]["team_pass_at_2"]["value"])
    assert best["step"] == step  # a scripted team gets better with every step
    assert torch.load(tmp_path / "checkpoints/best.ckpt", weights_only=True)["batches_done"] == step
    (kept,) = (c for c in saved["callbacks"].values() if "best_score" in c)
    assert kept["best_score"] == pytest.approx(best["values"]["team_pass_at_2"]["value"])
    (tmp_path / "report.html").touch()
    for name in ("last", "best"):  # neither was stopped in its last evaluation
        found = torch.load(tmp_path / f"checkpoints/{name}.ckpt", weights_only=True)
        with pytest.raises(ValueError, match=rf"^the run is complete at step {step}; raise trainer\.max_steps, which is {step}, to go on$"):
            check_unfinished(found, SimpleNamespace(max_steps=step, max_epochs=-1, default_root_dir=tmp_path))
    resumed = Run(tmp_path, ckpt=tmp_path / "checkpoints/last.ckpt")
    assert [e["step"] for e in resumed.passes.history] == [0, 3, 6, 9, 12]
    assert resumed.state() == whole[1].state()
    for file in FILES:
        assert (tmp_path / file).read_text() == (whole[0] / file).read_text()


@pytest.mark.parametrize("step", [5, 6])
def test_ctrl_c_in_the_last_evaluation(tmp_path: Path, caplog: pytest.LogCaptureFixture, step: int) -> None:
    """The one that follows the training, or the one that was due: all steps are kept, and nothing is left to resume for."""
    with pytest.raises(SystemExit), caplog.at_level("INFO"):
        Run(tmp_path, max_steps=step, fail_at=(step, KeyboardInterrupt()), in_evaluation=True)
    saved = torch.load(tmp_path / "checkpoints/last.ckpt", weights_only=True)
    assert saved["batches_done"] == step
    assert (tmp_path / "adapters/a/adapter_model.bin").exists()
    assert [int(r["step"]) for r in read_metrics(tmp_path / "metrics.csv") if r["train/traces"]] == list(range(step))
    (line,) = (m for m in caplog.messages if "finished steps" in m)
    mend = f"validate --run {tmp_path}"
    assert line.endswith(f"that is all of them; evaluate the last with: {mend}")
    (tmp_path / "report.html").touch()  # Ctrl-C leaves one, too
    with pytest.raises(ValueError, match=f"complete at step {step}; .* stopped in its last evaluation, .*: {re.escape(mend)}$"):
        check_unfinished(saved, SimpleNamespace(max_steps=step, max_epochs=-1, default_root_dir=tmp_path))


@pytest.mark.parametrize(("epochs", "interval"), [(1, 5), (2, 4)])
def test_a_run_whose_epoch_ends_without_an_evaluation_goes_on_alike(tmp_path: Path, epochs: int, interval: int) -> None:
    """Six steps an epoch: the evaluation at the end leaves no trace in the loop's own counters."""

    def run(folder: Path, epochs: int, ckpt: Path | None = None) -> tuple[TeamPassAtKCallback, str, Path]:
        passes = TeamPassAtKCallback()
        callbacks = [RunFolder(), passes, TraceLog(), AdapterCheckpoint(every_n_batches=4)]
        settings = {"max_epochs": epochs, "val_check_interval": interval, "logger": MetricsCsv(folder)}
        trainer_in(folder, callbacks, **settings).fit(ScriptedTeam(), WrittenProblems(), ckpt_path=ckpt and str(ckpt))
        return passes, (folder / "metrics.csv").read_text(), folder / "checkpoints/last.ckpt"

    short, _, last = run(tmp_path / "short", epochs)
    assert short.history[-1]["step"] == 6 * epochs
    prolonged, metrics, _ = run(tmp_path / "short", 3, ckpt=last)
    straight, expected, _ = run(tmp_path / "straight", 3)
    assert repr(prolonged.history) == repr(straight.history)  # NaN is equal to itself here
    assert metrics == expected


def test_the_evaluation_at_the_end_can_be_left_out(tmp_path: Path) -> None:
    passes = TeamPassAtKCallback(at_end=False)
    trainer_in(tmp_path, [passes], max_steps=2).fit(ScriptedTeam(), WrittenProblems())
    assert [e["step"] for e in passes.history] == [0]


def test_the_evaluation_at_the_end_is_announced(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO"):
        trainer_in(tmp_path, [TeamPassAtKCallback()], max_steps=2).fit(ScriptedTeam(), WrittenProblems())
        trainer_in(tmp_path, [TeamPassAtKCallback()], max_steps=6).fit(ScriptedTeam(), WrittenProblems())
    (line,) = (m for m in caplog.messages if "not evaluated" in m)
    assert re.search(r"20 problems, 4 samples of each peer, about \d+ s \(pass_at_k.at_end: false", line)


def test_trace_lines(whole: tuple[Path, Run]) -> None:
    lines = [json.loads(line) for line in (whole[0] / "traces.jsonl").read_text().splitlines()]
    rescue = next(line for line in lines if line["round"] == "rescue")
    assert rescue["reward"] is None  # not a number: a term had no opinion
    assert rescue["terms"]["rarity"] is None
    assert rescue["hint"].startswith("add p")
    assert rescue["teacher"] != rescue["peer"]
    assert all(isinstance(line["advantage"], float) and math.isfinite(line["advantage"]) for line in lines)
    cold = [line for line in lines if line["step"] == 0 and line["round"] == "cold"]
    assert len(cold) == 2 * 2 * 2  # problems, peers, traces
    assert {line["hint"] for line in cold} == {None}


def test_questions_can_be_left_out(tmp_path: Path) -> None:
    trainer_in(tmp_path, [TraceLog(questions=False, every_n_steps=4)], limit_val_batches=0).fit(
        ScriptedTeam(), WrittenProblems()
    )
    text = (tmp_path / "traces.jsonl").read_text()
    assert "What is" not in text
    assert {json.loads(line)["step"] for line in text.splitlines()} == {0, 4, 8}
