"""``compare``: paired differences over the same problems, and a refusal of everything else."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from core_lightning.callbacks.evaluation_folder import write_evaluation
from core_lightning.cli.main import main
from core_lightning.report.evaluation import as_json, evaluate, from_json, score_problem
from scripted_team import problem, written_group


def evaluation(skill: float, n: int = 30, step: int = 4, k: int = 2, peers: tuple[str, ...] = ("a", "b"), stage: str = "val"):
    groups = [written_group(problem(i), list(peers), skill, "eval", 4) for i in range(n)]
    for group in groups:
        group.traces = group.of(round="cold")
    return evaluate([score_problem(g, peers, k) for g in groups], peers, k, step, stage)


def manifest(sha256: str = "x") -> dict[str, Any]:
    return {"data": {"splits": {s: {"sha256": sha256, "size": 30, "ids": []} for s in ("train", "val", "test")}}}


def trained(folder: Path, *history: Any, sha256: str = "x") -> str:
    """A run as far as it is compared: its last checkpoint and its manifest."""
    (folder / "checkpoints").mkdir(parents=True)
    torch.save({"callbacks": {"TeamPassAtKCallback": {"history": list(history)}}}, folder / "checkpoints/last.ckpt")
    (folder / "manifest.json").write_text(json.dumps(manifest(sha256)))
    return str(folder)


def evaluated(folder: Path, result: Any) -> str:
    write_evaluation(folder, result, [], manifest(), ["a", "b"], [])
    return str(folder)


def said(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    with pytest.raises(SystemExit) as stop:
        main(["compare", *arguments])
    assert stop.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    return line


@pytest.mark.parametrize("flags", [False, True])
def test_differences_are_paired_over_problems(tmp_path: Path, capsys: pytest.CaptureFixture[str], flags: bool) -> None:
    weak, strong = evaluation(0.3), evaluation(0.7, step=9)
    runs = [trained(tmp_path / "one", evaluation(0.1, step=0), weak), trained(tmp_path / "two", strong)]
    main(["compare", *(f"--run={r}" for r in runs), "--json"] if flags else ["compare", *runs, "--json"])
    found = json.loads(capsys.readouterr().out)
    assert [found[n]["step"] for n in ("first", "second")] == [4, 9]  # the last evaluation of each
    before, after = ([np.array(e["per_problem"][f"{p}/pass_at_1"]) for p in "ab"] for e in (weak, strong))
    for name, old, new in (("a/pass_at_1", before[0], after[0]), ("mean/pass_at_1", sum(before) / 2, sum(after) / 2)):
        figure = found["figures"][name]
        assert figure["first"] == pytest.approx(old.mean())
        assert figure["difference"]["value"] == pytest.approx((new - old).mean())
        half = 1.96 * (new - old).std(ddof=1) / len(old) ** 0.5  # of a paired t interval, which the real one resembles
        assert figure["difference"]["low"] == pytest.approx((new - old).mean() - half, abs=0.05)
        assert figure["difference"]["high"] == pytest.approx((new - old).mean() + half, abs=0.05)
    main(["compare", *runs])
    table = capsys.readouterr().out
    assert "30 val problems, percent" in table
    assert "Team Pass@2" in table


def test_evaluations_beside_a_run_and_by_themselves(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = trained(tmp_path / "run", evaluation(0.3))
    later = evaluated(tmp_path / "run/evaluations/validate-step9-x", evaluation(0.7, step=9))
    test = evaluated(tmp_path / "run/evaluations/test-step9-x", evaluation(0.5, step=9, stage="test"))
    main(["compare", run, later, "--json"])
    figures = json.loads(capsys.readouterr().out)["figures"].values()
    assert {f["difference"]["value"] for f in figures} == {0.0}  # the folder stands for its last step
    main(["compare", run, test, "--stage=test", "--json"])
    assert json.loads(capsys.readouterr().out)["stage"] == "test"
    assert "--stage test" in said(capsys, run, test)


def test_a_run_stands_for_its_own_evaluation_whatever_else_was_tried_on_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = [trained(tmp_path / name, evaluation(0.3)) for name in ("one", "two")]
    evaluated(tmp_path / "one/evaluations/validate-step4-x", evaluation(0.7))
    main(["compare", *runs, "--json"])
    figures = json.loads(capsys.readouterr().out)["figures"].values()
    assert {f["difference"]["value"] for f in figures} == {0.0}


def test_what_was_sampled_otherwise_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one, two = evaluation(0.3), evaluation(0.3)
    long = "Question: {question}\nThink it over, step by step.\nAnswer:"
    one["sampling"] = {"eval_samples": "4", "peers.a.generation.temperature": "1.0", "prompt.text": "{question}"}
    two["sampling"] = {"eval_samples": "4", "peers.a.generation.temperature": "0.15", "prompt.text": long}
    main(["compare", trained(tmp_path / "one", one), trained(tmp_path / "two", two)])
    printed = " ".join(capsys.readouterr().out.split())
    assert "sampled with other settings: peers.a.generation.temperature 1.0 and 0.15; prompt.text." in printed


def test_what_cannot_be_compared_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = trained(tmp_path / "run", evaluation(0.3))
    assert "share 20" in said(capsys, run, trained(tmp_path / "fewer", evaluation(0.3, n=20)))
    assert "other contents" in said(capsys, run, trained(tmp_path / "other", evaluation(0.3), sha256="y"))
    assert "same pass_at_k.k" in said(capsys, run, trained(tmp_path / "k", evaluation(0.3, k=1)))
    assert "validate --run" in said(capsys, run, trained(tmp_path / "none"))
    assert "test --run" in said(capsys, run, run, "--stage=test")
    assert "no such folder" in said(capsys, run, str(tmp_path / "nowhere"))
    assert "two runs, got 1" in said(capsys, run)
    assert "RUN RUN" in said(capsys, run, run, "--jason")
    evaluated(tmp_path / "damaged", evaluation(0.3))
    (tmp_path / "damaged/evaluation.json").write_text("{")
    assert "damaged" in said(capsys, run, str(tmp_path / "damaged"))


def test_one_peer_against_two_has_the_mean_and_the_team(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pair, solo = trained(tmp_path / "pair", evaluation(0.5)), trained(tmp_path / "solo", evaluation(0.5, peers=("c",)))
    main(["compare", pair, solo, "--json"])
    names = json.loads(capsys.readouterr().out)["figures"].keys()
    assert names == {"mean/pass_at_1", "team_pass_at_2", "majority_vote", "all_fail"}


def test_json_and_back() -> None:
    whole = evaluation(0.3)
    assert repr(from_json(json.loads(json.dumps(as_json(whole))))) == repr(whole)
