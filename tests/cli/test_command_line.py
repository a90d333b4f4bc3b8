"""The real entry point over small YAMLs: two tiny models of different architecture and tokenizer, end to end."""

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from core_lightning.cli.help_texts import COMMANDS
from core_lightning.cli.main import CoreCLI, main


def test_fit_leaves_a_run_folder_and_refuses_to_overwrite_it(
    config: Callable[..., Path], tmp_path: Path, refused: Callable[..., str], all_figures: None
) -> None:
    file = config()
    main(["fit", f"--config={file}", "--model.peers.a.lora.r=8"])
    run = tmp_path / "run"
    drawn = {picture.stem for picture in (run / "figures").glob("*.png")}
    figures = {name for name in drawn if not name.endswith("-dark")}
    assert {f"{name}-dark" for name in figures} == drawn - figures  # each on light and on dark
    assert {"held_out", "before_after", "solved", "reward_terms", "rewards", "time"} <= figures
    for name in ("config.yaml", "manifest.json", "metrics.csv", "traces.jsonl", "report.html", "checkpoints/last.ckpt"):
        assert (run / name).is_file(), name
    assert json.loads((run / "adapters/a/adapter_config.json").read_text())["r"] == 8
    assert json.loads((run / "adapters/b/adapter_config.json").read_text())["r"] == 4
    kept = (run / "traces.jsonl").read_bytes()
    assert "already holds a run" in refused("fit", f"--config={file}")
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
    # A hint of 512 tokens would not fit: it will be cut to the room.
    assert re.search(r"--- a, rescue round: \d+ tokens, 400 with the longest hint", shown)


def test_help_as_a_process_loads_no_model_library() -> None:
    code = (
        "import sys; sys.argv = ['core_lightning', '--help']\n"
        "from core_lightning.cli.main import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "print('LOADED', [m for m in ('transformers.models.llama', 'peft', 'bitsandbytes') if m in sys.modules])"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert "fit" in shown
    assert "LOADED []" in shown


def test_help_says_how_a_command_is_called(capsys: pytest.CaptureFixture[str]) -> None:
    assert COMMANDS.keys() == CoreCLI.subcommands().keys()
    for command, called in (("ask", 'ask "QUESTION" --run RUN [--rescue]'), ("export", "export --run RUN [--merge]"), (None, "COMMAND")):
        with pytest.raises(SystemExit) as stop:
            main([command, "--help"] if command else ["--help"])
        assert stop.value.code == 0
        shown = capsys.readouterr().out
        assert shown.startswith(f"usage: python -m core_lightning {called}")
    listed = " ".join(shown.split())
    assert all(f"{name} {about}" in listed for name, (_, about) in COMMANDS.items())
