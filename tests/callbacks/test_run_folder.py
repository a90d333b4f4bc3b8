from __future__ import annotations

import json
import multiprocessing
import sys
from pathlib import Path

import pytest

from core_lightning.callbacks import (
    MetricsCsv,
    RunFolder,
    RunFolderError,
    TraceLog,
    check_run_folder,
    claim,
    run_folder,
)
from core_lightning.callbacks.metrics_csv import read_metrics
from core_lightning.callbacks.run_folder import release
from core_lightning.data import DataError
from scripted_team import ScriptedTeam, WrittenProblems, trainer_in


def run(folder: Path, ckpt: str | None = None, **data: int) -> None:
    trainer = trainer_in(folder, [RunFolder(), TraceLog()], limit_val_batches=0, max_epochs=1)
    trainer.fit(ScriptedTeam(), WrittenProblems(**data), ckpt_path=ckpt)
    trainer.save_checkpoint(folder / "checkpoints/last.ckpt")


def test_a_folder_with_a_run_is_refused_in_one_line(tmp_path: Path) -> None:
    check_run_folder(tmp_path / "new")
    run(tmp_path)
    check_run_folder(tmp_path, tmp_path / "checkpoints/last.ckpt")
    for start in (lambda: check_run_folder(tmp_path), lambda: run(tmp_path)):
        with pytest.raises(
            RunFolderError, match=r"already holds a run; give another --trainer\.default_root_dir, or"
        ) as info:
            start()
        assert f"--ckpt_path {tmp_path / 'checkpoints/last.ckpt'}" in str(info.value)
        assert "\n" not in str(info.value)


def test_a_checkpoint_of_another_run_may_begin_in_an_empty_folder_only(tmp_path: Path) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    run(one)
    run(other)
    before = (other / "traces.jsonl").read_bytes()
    last = one / "checkpoints/last.ckpt"
    with pytest.raises(RunFolderError, match=r"is not one of its checkpoints; give another") as info:
        run(other, str(last))
    assert "\n" not in str(info.value)
    assert (other / "traces.jsonl").read_bytes() == before
    check_run_folder(tmp_path / "empty", last)
    moved = one.rename(tmp_path / "moved")
    check_run_folder(moved, moved / "checkpoints/last.ckpt")
    (tmp_path / "link").symlink_to(moved)
    check_run_folder(tmp_path / "link", moved / "checkpoints/last.ckpt")


def _claimed(folder: Path) -> str:
    """What another process is told that wants this folder."""
    context = multiprocessing.get_context("fork")
    said = context.SimpleQueue()

    def other() -> None:
        run_folder._CLAIMED.clear()  # it has claimed nothing
        try:
            claim(folder)
            said.put("")
        except RunFolderError as error:
            said.put(str(error))

    process = context.Process(target=other)
    process.start()
    process.join()
    return said.get()


@pytest.mark.skipif(sys.platform == "win32", reason="has no such locks")
def test_two_processes_do_not_write_into_one_folder(tmp_path: Path) -> None:
    claim(tmp_path)
    claim(tmp_path)  # this process has it
    assert "is in use by a run of another process; wait for its end, or give another" in _claimed(tmp_path)
    release(tmp_path)
    release(tmp_path)
    assert not _claimed(tmp_path)
    run(tmp_path / "run")
    assert not _claimed(tmp_path / "run")  # a run that is over has let it go


ROWS = "step,epoch,val/team_pass_at_2,train/traces\n0,0,0.5,\n"


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("metrics.csv", ROWS + "0,0,,16.0\n"),
        ("metrics.csv", ROWS + "3,0,0.25,\n"),
        ("traces.jsonl", ""),
        ("checkpoints/step-3.ckpt", ""),
    ],
)
def test_each_trace_of_a_run_counts(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text(text)
    with pytest.raises(RunFolderError, match="remove it"):
        check_run_folder(tmp_path)


@pytest.mark.parametrize("text", ["", "step,epo", ROWS, ROWS + "0,0,0.2"])
def test_a_run_killed_before_its_first_step_starts_over(tmp_path: Path, text: str) -> None:
    (tmp_path / "metrics.csv").write_text(text)
    check_run_folder(tmp_path)
    trainer = trainer_in(tmp_path, [RunFolder(), TraceLog()], logger=MetricsCsv(tmp_path), max_steps=1)
    trainer.fit(ScriptedTeam(), WrittenProblems())
    rows = read_metrics(tmp_path / "metrics.csv")
    assert [r["step"] for r in rows if not r["train/traces"]] == []  # without the evaluation, which nobody asked for
    assert [r["step"] for r in rows if r["train/traces"]] == ["0"]


def test_one_trainer_may_go_on(tmp_path: Path) -> None:
    trainer = trainer_in(tmp_path, [RunFolder(), TraceLog()], limit_val_batches=0, max_epochs=1)
    team, data = ScriptedTeam(), WrittenProblems()
    trainer.fit(team, data)
    trainer.fit_loop.max_epochs = 2
    trainer.fit(team, data)
    assert team.batches_done == 12


def test_manifest(tmp_path: Path) -> None:
    run(tmp_path)
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    assert manifest["seed"] == 42
    assert manifest["peers"]["a"]["model"] == "nano/a"
    assert {"python", "torch", "lightning", "transformers", "peft", "core-lightning"} <= manifest["versions"].keys()
    assert manifest["data"]["splits"]["train"]["size"] == 12


def test_resume_with_other_data_is_refused(tmp_path: Path) -> None:
    run(tmp_path)
    with pytest.raises(DataError, match="not those this run began with"):
        run(tmp_path, ckpt=str(tmp_path / "checkpoints/last.ckpt"), val=19)


def test_a_development_run_leaves_nothing(tmp_path: Path) -> None:
    trainer_in(tmp_path, [RunFolder(), TraceLog()], fast_dev_run=True).fit(ScriptedTeam(), WrittenProblems())
    assert list(tmp_path.iterdir()) == []


def test_metrics_grow_by_columns_and_survive_a_restart(tmp_path: Path) -> None:
    logger = MetricsCsv(tmp_path / "new")
    logger.log_metrics({"train/loss": 0.1, "epoch": 0.0}, 0)
    logger.log_metrics({"train/loss": float("nan"), 'odd, "name"': 2.0}, 1)
    again = MetricsCsv(tmp_path / "new")
    again.log_metrics({"val/score": 1.0}, 2)
    rows = read_metrics(tmp_path / "new/metrics.csv")
    assert [list(r.values()) for r in rows] == [
        ["0", "0", "0.1", "", ""],
        ["1", "", "nan", "2.0", ""],
        ["2", "", "", "", "1.0"],
    ]
    assert list(rows[0]) == ["step", "epoch", "train/loss", 'odd, "name"', "val/score"]
    again.rewind(1)
    assert [r["step"] for r in read_metrics(tmp_path / "new/metrics.csv")] == ["0"]


def test_rewind_keeps_the_evaluation_of_the_checkpoint(tmp_path: Path) -> None:
    logger = MetricsCsv(tmp_path)
    for step in range(4):
        logger.log_metrics({"val/score": 1.0}, step)
        logger.log_metrics({"train/loss": 0.5}, step)
    logger.rewind(2)
    kept = [(r["step"], bool(r["val/score"])) for r in read_metrics(tmp_path / "metrics.csv")]
    assert kept == [("0", True), ("0", False), ("1", True), ("1", False), ("2", True)]
    logger.rewind(2, evaluated=False)
    assert [r["step"] for r in read_metrics(tmp_path / "metrics.csv")] == ["0", "0", "1", "1"]
