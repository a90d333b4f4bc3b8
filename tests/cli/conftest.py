"""A config of two tiny models of different architecture and tokenizer."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from core_lightning.cli.main import main

ACCELERATOR = os.environ.get("TEST_ACCELERATOR", "cpu")  # make test-gpu


@pytest.fixture
def config(llama_folder: Path, neox_folder: Path, tmp_path: Path) -> Callable[..., Path]:
    """Writes a config; keyword arguments replace arguments of the module."""
    problems = [{"id": str(i), "question": f"What is {i} + 1?", "answer": str(i + 1)} for i in range(10)]
    (tmp_path / "problems.jsonl").write_text("\n".join(map(json.dumps, problems)))

    def write(**changes: object) -> Path:
        generation = {"max_new_tokens": 6, "temperature": 1.0, "max_prompt_tokens": 400}
        shared = {"quantization": "none", "self_test": False, "lora": {"r": 4, "targets": "all-linear"}, "generation": generation}
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
                "accelerator": ACCELERATOR,
                "deterministic": ACCELERATOR != "cpu",
                "max_steps": 2,
                "enable_progress_bar": False,
            },
        }
        file = tmp_path / "config.yaml"
        file.write_text(yaml.safe_dump(settings))
        return file

    return write


@pytest.fixture
def all_figures() -> None:
    """For a test that looks at the report of a command."""


@pytest.fixture(autouse=True)
def one_figure(request: pytest.FixtureRequest) -> None:
    """What most tests here need of a report."""
    if "all_figures" not in request.fixturenames:
        request.getfixturevalue("small_report")


@pytest.fixture(autouse=True)
def no_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    """The hub cannot be reached, and nobody waits to find out."""
    import huggingface_hub

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)


@pytest.fixture
def refused(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """Runs a command that cannot work; gives the one line it must end with, before any weights are read."""
    import transformers

    def run(*arguments: str) -> str:
        loaded: list[object] = []
        monkeypatch.setattr(transformers.PreTrainedModel, "from_pretrained", lambda *a, **_: loaded.append(a))
        with pytest.raises(SystemExit) as stop:
            main(list(arguments))
        assert stop.value.code not in (0, None)
        assert not loaded
        shown = capsys.readouterr().err.rstrip()
        assert shown.count("error: ") == 1
        line = shown[shown.index("error: ") :]
        assert "\n" not in line
        return line.removeprefix("error: ")

    return run
