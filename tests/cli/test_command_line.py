"""The real entry point over small YAMLs: two tiny models of different architecture and tokenizer, end to end."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import yaml

from core_lightning.main import main


@pytest.fixture
def config(llama_folder: Path, neox_folder: Path, tmp_path: Path) -> Callable[..., Path]:
    """Writes a config; keyword arguments replace arguments of the module."""
    problems = [{"id": str(i), "question": f"What is {i} + 1?", "answer": str(i + 1)} for i in range(10)]
    (tmp_path / "problems.jsonl").write_text("\n".join(map(json.dumps, problems)))

    def write(**changes: object) -> Path:
        generation = {"max_new_tokens": 6, "temperature": 1.0, "max_prompt_tokens": 400}
        shared = {"quantization": "none", "lora": {"r": 4, "targets": "all-linear"}, "generation": generation}
        arguments = {
            "peers": {"a": {"model": str(llama_folder), **shared}, "b": {"model": str(neox_folder), **shared}},
            "embedder": "HashingEmbedder",
            "eval_samples": 2,
        }
        settings = {
            "model": {"class_path": "CollaborativeReasoningModule", "init_args": arguments | changes},
            "data": {
                "class_path": "JsonLines",
                "init_args": {"path": str(tmp_path / "problems.jsonl"), "batch_size": 2, "val_fraction": 0.2},
            },
            "pass_at_k": {"k": 1},
            "trainer": {
                "default_root_dir": str(tmp_path / "run"),
                "accelerator": "cpu",
                "max_steps": 2,
                "enable_progress_bar": False,
            },
        }
        file = tmp_path / "config.yaml"
        file.write_text(yaml.safe_dump(settings))
        return file

    return write


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """The one line a command that cannot work ends with."""
    with pytest.raises(SystemExit) as stop:
        main(list(arguments))
    assert stop.value.code not in (0, None)
    return capsys.readouterr().err.strip().splitlines()[-1]


def test_fit_leaves_a_run_folder_and_refuses_to_overwrite_it(
    config: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = config()
    main(["fit", f"--config={file}", "--model.peers.a.lora.r=8"])
    run = tmp_path / "run"
    for name in ("config.yaml", "manifest.json", "metrics.csv", "traces.jsonl", "report.html", "checkpoints/last.ckpt"):
        assert (run / name).is_file(), name
    assert json.loads((run / "adapters/a/adapter_config.json").read_text())["r"] == 8
    assert json.loads((run / "adapters/b/adapter_config.json").read_text())["r"] == 4
    kept = (run / "traces.jsonl").read_bytes()
    assert "already holds a run" in refused(capsys, "fit", f"--config={file}")
    assert (run / "traces.jsonl").read_bytes() == kept


def test_validate_test_and_predict(config: Callable[..., Path]) -> None:
    for command in ("validate", "test", "predict"):
        main([command, f"--config={config()}"])


def test_resumed_run_equals_an_uninterrupted_one(config: Callable[..., Path], tmp_path: Path) -> None:
    file = config(schedule={"shape": "constant", "warmup": 0.0})
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    settings = [f"--config={file}", "--trainer.max_steps=3", "--checkpoint.every_n_batches=1"]
    main(["fit", *settings, f"--trainer.default_root_dir={whole}"])
    shutil.copytree(whole, parts)
    middle = parts / "checkpoints/step-2.ckpt"
    main(["fit", *settings, f"--trainer.default_root_dir={parts}", f"--ckpt_path={middle}"])
    ends = [torch.load(f / "checkpoints/last.ckpt", weights_only=True)["state_dict"] for f in (whole, parts)]
    assert ends[0].keys() == ends[1].keys()
    assert all(torch.equal(ends[0][name], ends[1][name]) for name in ends[0])
    assert (whole / "traces.jsonl").read_text() == (parts / "traces.jsonl").read_text()


def test_preview_shows_both_rounds(config: Callable[..., Path], capsys: pytest.CaptureFixture[str]) -> None:
    main(["preview", f"--config={config()}", "--problems=1"])
    shown = capsys.readouterr().out
    for title in ("a, cold round", "a, rescue round", "b, cold round", "b, rescue round"):
        assert title in shown
    assert "What is" in shown


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--model.rounds.k=0"], "rounds.k"),
        (["--model.rounds.k_rescue=-1"], "rounds.k_rescue"),
        (["--model.peers.a.quantization=fp3"], "quantization"),
        (["--model.peers.a.model=/no/such/folder"], "no such folder"),
        (["--model.peers.a.model=embedded/gpt9"], "not embedded"),
        (["--trainer.precision=bf16-true"], "trainer.precision"),
    ],
)
def test_a_setting_that_cannot_work_is_one_line(
    config: Callable[..., Path], capsys: pytest.CaptureFixture[str], arguments: list[str], named: str
) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["fit", f"--config={config()}", *arguments])
    assert stop.value.code not in (0, None)
    assert named in capsys.readouterr().err


def test_one_peer_is_too_few(
    config: Callable[..., Path], capsys: pytest.CaptureFixture[str], llama_folder: Path
) -> None:
    file = config(peers={"a": {"model": str(llama_folder), "quantization": "none"}})
    assert "SoloReasoningModule" in refused(capsys, "fit", f"--config={file}")


def test_malformed_line_is_named(
    config: Callable[..., Path], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    file = config()
    (tmp_path / "problems.jsonl").write_text('{"id": "1", "question": "q", "answer": "1"}\n{"id": \n')
    assert "2" in refused(capsys, "fit", f"--config={file}")


@pytest.mark.parametrize("task", ["quickstart", "nano", "gsm8k", "math", "aime", "gpqa"])
def test_shipped_configs_parse(task: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["fit", f"--config=configs/{task}.yaml", "--print_config"])
    assert stop.value.code == 0
    assert "class_path" in capsys.readouterr().out


@pytest.mark.parametrize("pair", ["qwen", "reasoning", "trio"])
def test_pair_overlay_replaces_the_peers_and_keeps_the_rest(pair: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["fit", "--config=configs/aime.yaml", f"--config=configs/pairs/{pair}.yaml", "--print_config"])
    assert stop.value.code == 0
    merged = yaml.safe_load(capsys.readouterr().out)
    wanted = yaml.safe_load(Path(f"configs/pairs/{pair}.yaml").read_text())["model"]
    assert set(merged["model"]["init_args"]["peers"]) == set(wanted["init_args"]["peers"])
    assert merged["model"]["class_path"].endswith(wanted["class_path"])
    assert merged["model"]["init_args"]["objective"]["init_args"]["beta"] == 0.04
    assert merged["data"]["class_path"].endswith("AIME")


def test_help_as_a_process_loads_no_model_library() -> None:
    code = (
        "import sys; sys.argv = ['core_lightning', '--help']\n"
        "from core_lightning.main import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "print('LOADED', [m for m in ('transformers.models.llama', 'peft', 'bitsandbytes') if m in sys.modules])"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert "fit" in shown
    assert "LOADED []" in shown
