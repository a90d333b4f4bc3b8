"""``ask --rescue``: a peer that failed is shown a derivation, of the gold answer or of the majority's."""

from __future__ import annotations

import json
import random
import re
from pathlib import Path

import pytest

from core_lightning.cli.main import main
from core_lightning.nano.tasks import solve
from scripted_engine import Script, ScriptedEngine


def writes(right: bool) -> Script:
    """The whole derivation, or a wrong number of its own every time; with a hint everybody is right."""

    def say(prompt: str, seed: int) -> str:
        steps, answer = solve(re.findall(r"Q:(\S+)", prompt)[-1])
        given = answer if right or "H:" in prompt else str(random.Random(seed).randrange(1000, 10**6))
        return " ".join([*steps, "####", given])

    return say


@pytest.fixture(autouse=True)
def scripted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("core_lightning.peers.self_test.self_test", lambda peer: [])  # a script has no numbers
    scripts = {"llama": writes(True), "stablelm": writes(False)}  # a and b
    monkeypatch.setattr(
        "core_lightning.peers.sampling.sampler.make_engine",
        lambda settings, rig: ScriptedEngine(rig, scripts[rig.network.config.model_type]),
    )


@pytest.mark.parametrize("gold", [[], ["--answer=6"]])
def test_a_peer_that_failed_tries_again(gold: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    base = ["--config=configs/nano.yaml", f"--trainer.default_root_dir={tmp_path}", "--model.eval_samples=2"]
    main(["ask", "2*3", *base, *gold, "--rescue"])
    lines = capsys.readouterr().out.splitlines()
    assert next(line for line in lines if "majority" in line).strip().startswith("majority: 6 (50 %")
    (again,) = (line for line in lines if "again, with a hint of" in line)
    assert again.strip().startswith("b again, with a hint of a: ")
    assert lines[-1].strip().startswith("answer: 6, rescued")


def test_nobody_to_rescue(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    base = ["--config=configs/nano.yaml", f"--trainer.default_root_dir={tmp_path}", "--model.eval_samples=2"]
    main(["ask", "2*3", *base, "--answer=77", "--rescue=true"])  # nobody says 77
    assert "nobody was rescued" in capsys.readouterr().out


def test_an_evaluation_with_a_rescue_round(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main([
        "validate", "--config=configs/nano.yaml", f"--trainer.default_root_dir={tmp_path}", "--data.val_size=4",
        "--model.eval_samples=2", "--model.eval_greedy=true", "--model.eval_rescue=true",
    ])  # fmt: skip
    (folder,) = (tmp_path / "evaluations").iterdir()
    values = {n: f["value"] for n, f in json.loads((folder / "evaluation.json").read_text())["values"].items()}
    assert (values["a/greedy_pass_at_1"], values["b/greedy_pass_at_1"]) == (1.0, 0.0)
    assert (values["without_rescue/b/solved"], values["with_rescue/b/solved"]) == (0.0, 1.0)
    assert (values["hinted_pairs"], values["rescue_rate"]) == (4, 1.0)
    assert (values["without_rescue/agreement_coverage"], values["with_rescue/agreement_accuracy"]) == (0.0, 1.0)
    assert values["a/pass_at_1"] == 1.0
    assert values["b/pass_at_2"] == 0.0  # what is cold stays cold
    assert "Without and with a rescue round" in (folder / "table.txt").read_text()
    assert "Without and with a rescue round" in capsys.readouterr().out
