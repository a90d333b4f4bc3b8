from __future__ import annotations

from pathlib import Path

import pytest
from lightning.pytorch.callbacks import ModelCheckpoint

from core_lightning.callbacks import MetricsCsv, TeamPassAtKCallback
from core_lightning.callbacks.metrics_csv import read_metrics
from core_lightning.report.evaluation import evaluate, score_problem
from scripted_team import ScriptedTeam, WrittenProblems, trainer_in, written_group

pytestmark = pytest.mark.usefixtures("few_resamples")


def expected(data: WrittenProblems, skill: float, step: int, stage: str = "val") -> dict:
    groups = [written_group(p, ["a", "b"], skill, "eval", 4) for p in data.splits[stage]]
    return evaluate([score_problem(g, ["a", "b"], 2) for g in groups], ["a", "b"], 2, step, stage)


def same(first: dict, second: dict) -> bool:
    told = [{name: value for name, value in one.items() if name != "sampling"} for one in (first, second)]
    return repr(told[0]) == repr(told[1])  # NaN is equal to itself here


def test_sanity_check_is_the_evaluation_before_training(tmp_path: Path) -> None:
    callback, data = TeamPassAtKCallback(), WrittenProblems()
    trainer_in(tmp_path, [callback], max_epochs=1, logger=MetricsCsv(tmp_path)).fit(ScriptedTeam(), data)
    assert [e["step"] for e in callback.history] == [0, 6]
    assert same(callback.history[0], expected(data, 0.3, 0))
    assert same(callback.history[1], expected(data, 0.3 + 0.4 * 6 / 8, 6))
    rows = {r["step"]: r for r in read_metrics(tmp_path / "metrics.csv") if r["val/team_pass_at_2"]}
    assert list(rows) == ["0", "6"]
    for evaluation in callback.history:
        figure = evaluation["values"]["team_pass_at_2"]
        row = rows[str(evaluation["step"])]
        assert [float(row[f"val/team_pass_at_2{b}"]) for b in ("", "/low", "/high")] == list(figure.values())


def test_a_partial_sanity_check_is_not_an_evaluation(tmp_path: Path) -> None:
    callback = TeamPassAtKCallback()
    trainer_in(tmp_path, [callback], max_epochs=1, num_sanity_val_steps=2).fit(ScriptedTeam(), WrittenProblems())
    assert [e["step"] for e in callback.history] == [6]
    assert len(callback.history[0]["ids"]) == 20


def test_model_checkpoint_can_monitor_it(tmp_path: Path) -> None:
    best = ModelCheckpoint(monitor="val/team_pass_at_2", mode="max", dirpath=tmp_path)
    callback = TeamPassAtKCallback()
    trainer_in(tmp_path, [callback, best]).fit(ScriptedTeam(), WrittenProblems())
    values = [e["values"]["team_pass_at_2"]["value"] for e in callback.history[1:]]
    assert float(best.best_model_score) == pytest.approx(max(values), abs=1e-6)


def test_validate_and_test_return_the_figures(tmp_path: Path) -> None:
    trainer, team, data = trainer_in(tmp_path, [TeamPassAtKCallback()]), ScriptedTeam(), WrittenProblems()
    for stage, run in (("val", trainer.validate), ("test", trainer.test)):
        results = run(team, data, verbose=False)[0]
        figures = expected(data, 0.3, 0, stage)["values"]
        assert results[f"{stage}/team_pass_at_2"] == pytest.approx(figures["team_pass_at_2"]["value"])
        assert results[f"{stage}/a/pass_at_1/high"] == pytest.approx(figures["a/pass_at_1"]["high"])


def test_k_must_be_sampled(tmp_path: Path) -> None:
    trainer = trainer_in(tmp_path, [TeamPassAtKCallback(k=5)])
    with pytest.raises(ValueError, match=r"pass_at_k\.k is 5, but model\.eval_samples is 4"):
        trainer.fit(ScriptedTeam(), WrittenProblems())
    with pytest.raises(ValueError, match=r"set it to 1 or more"):
        TeamPassAtKCallback(k=0)


def test_a_run_that_goes_on_keeps_its_k(tmp_path: Path) -> None:
    """Its tables pair the first evaluation with the last."""
    first = trainer_in(tmp_path, [TeamPassAtKCallback(k=2)], max_steps=2, num_sanity_val_steps=-1)
    first.fit(ScriptedTeam(), WrittenProblems())
    first.save_checkpoint(tmp_path / "checkpoints/last.ckpt")
    again = trainer_in(tmp_path, [TeamPassAtKCallback(k=1)], max_steps=4)
    with pytest.raises(ValueError, match=r"pass_at_k\.k is 1, and the run that goes on was evaluated with 2; set it back"):
        again.fit(ScriptedTeam(), WrittenProblems(), ckpt_path=tmp_path / "checkpoints/last.ckpt")
    again.validate(ScriptedTeam(), WrittenProblems(), ckpt_path=tmp_path / "checkpoints/last.ckpt", verbose=False)
