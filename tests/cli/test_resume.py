"""A checkpoint that a run cannot go on from: one line, before a model is loaded, and no file is changed."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from core_lightning.cli.main import main
from core_lightning.training.resume import read_checkpoint

Config = Callable[..., Path]
Refused = Callable[..., str]


@pytest.fixture(scope="module")
def trained(llama_folder: Path, neox_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of the nano pair, two steps of four."""
    run = tmp_path_factory.mktemp("trained") / "run"
    with pytest.MonkeyPatch.context() as patch:
        for name, value in SECRETS.items():
            patch.setenv(name, value)
        main(["fit", *nano(run)])
    return run


SECRETS = {
    "HF_TOKEN": "hf_aTokenOfSomebody",
    "VLLM_API_KEY": "aTokenOfSomebody",
    "HTTPS_PROXY": "http://me:aPasswordOfSomebody@127.0.0.1:9",
    "https_proxy": "http://me:aPasswordOfSomebody@127.0.0.1:9",
}


def test_no_token_and_no_password_is_in_a_file_of_the_run(trained: Path) -> None:
    files = [f for f in trained.rglob("*") if f.is_file()]
    assert {"config.yaml", "manifest.json", "report.html", "README.md", "last.ckpt"} <= {f.name for f in files}
    assert [f.name for f in files if b"OfSomebody" in f.read_bytes()] == []


def test_no_token_and_no_password_is_in_a_line(refused: Refused, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in SECRETS.items():
        monkeypatch.setenv(name, value)
    for wrong in ("--model.peers.a.model=Qwen/Qwen2.5-3B", "--data=GSM8K"):
        line = refused("fit", "--config=configs/nano.yaml", f"--trainer.default_root_dir={tmp_path}/run", wrong)
        assert "the hub cannot be reached" in line
        assert "OfSomebody" not in line


def nano(run: Path) -> list[str]:
    return [
        "--config=configs/nano.yaml", f"--trainer.default_root_dir={run}", "--data.train_size=20", "--data.val_size=4",
        "--model.eval_samples=2", "--trainer.max_steps=2", "--trainer.val_check_interval=2",
        "--model.peers.a.generation.max_new_tokens=6", "--model.peers.b.generation.max_new_tokens=6",
        "--trainer.enable_progress_bar=false", "--checkpoint.every_n_batches=1",
        "--model.peers.a.self_test=false", "--model.peers.b.self_test=false",
    ]  # fmt: skip


def contents(folder: Path) -> dict[str, str]:
    return {str(f): hashlib.sha256(f.read_bytes()).hexdigest() for f in folder.rglob("*") if f.is_file()}


@pytest.fixture
def resume(trained: Path, refused: Refused) -> Callable[..., str]:
    """Tries to go on, from a changed checkpoint if there is one; gives the line it is refused with."""

    def run(*switches: str, change: Callable[[Any], Any] | None = None, command: str = "fit") -> str:
        path = trained / "checkpoints/last.ckpt"
        if change is not None:
            changed = change(torch.load(path, weights_only=True))
            path = trained.parent / "changed.ckpt"
            torch.save(changed, path)
        before = contents(trained)
        line = refused(command, *nano(trained), "--trainer.max_steps=4", f"--ckpt_path={path}", *switches)
        assert contents(trained) == before
        return line

    return run


def without(name: str) -> Callable[[Any], Any]:
    return lambda found: {k: v for k, v in found.items() if k != name}


def with_nan(found: Any) -> Any:
    next(iter(found["state_dict"].values())).view(-1)[0] = float("nan")
    return found


def less(found: Any) -> Any:
    del found["core_lightning"]["settings"]
    return found


@pytest.mark.parametrize(
    ("change", "line"),
    [
        (lambda _: torch.zeros(3), "holds a Tensor, no checkpoint; give one from a run's checkpoints folder"),
        (lambda _: [1, 2], "holds a list, no checkpoint; give one from a run's checkpoints folder"),
        (lambda _: {"epoch": 1}, "was not made by core_lightning (no state_dict in it); give one from"),
        (without("core_lightning"), "was not made by core_lightning (no core_lightning in it); give one from"),
        (without("optimizer_states"), "was not made by core_lightning (no optimizer_states in it); give one from"),
        (lambda c: c | {"state_dict": {}}, "holds no adapter weights; give one from"),
        (lambda c: c | {"state_dict": {"a": 1}}, "a is no tensor; give one from"),
        (with_nan, "has weights that are not finite (a."),
        (less, "is not whole: its state lacks settings; give one from"),
    ],
)
def test_what_is_no_checkpoint(trained: Path, tmp_path: Path, change: Any, line: str) -> None:
    file = tmp_path / "changed.ckpt"
    torch.save(change(torch.load(trained / "checkpoints/last.ckpt", weights_only=True)), file)
    with pytest.raises(ValueError, match=r"^ckpt_path") as caught:
        read_checkpoint(file)
    assert line in str(caught.value)


@pytest.mark.parametrize("command", ["fit", "validate"])
def test_a_command_refuses_it_and_changes_no_file(resume: Callable[..., str], command: str) -> None:
    assert "has weights that are not finite (a." in resume(change=with_nan, command=command)


def test_a_file_of_weights(trained: Path, refused: Refused, tmp_path: Path) -> None:
    save_file({"a": torch.zeros(2)}, tmp_path / "model.safetensors")
    line = refused("fit", *nano(trained), f"--ckpt_path={tmp_path}/model.safetensors")
    assert "is a file of weights; a run goes on from a .ckpt file" in line


@pytest.mark.parametrize(
    ("switches", "line"),
    [
        (
            ["--model.peers.a.model=nano/b", "--model.peers.b.model=nano/a"],
            "peers.a.model is nano/b, which was the model of peer b in the checkpoint, where a was nano/a; adapters belong",
        ),
        (["--model.peers.a.lora.r=5"], "peers.a.lora.r is 5 and was "),
        (
            ["--model.optimizer=torch.optim.SGD", "--model.optimizer.lr=0.1"],
            "model.optimizer is SGD and was AdamW in the checkpoint",
        ),
        (["--data.seed=5"], "problems of NanoTasks are not those this run began with"),
    ],
)
def test_what_does_not_belong_to_it(resume: Callable[..., str], switches: list[str], line: str) -> None:
    assert line in resume(*switches)


def test_last_and_best_are_this_runs(trained: Path, caplog: pytest.LogCaptureFixture, refused: Refused) -> None:
    before = contents(trained)
    for name in ("last", "best"):
        main(["validate", *nano(trained), f"--ckpt_path={name}"])
    files = sorted((trained / "evaluations").glob("*/manifest.json"))
    used = {json.loads(f.read_text())["checkpoint"] for f in files}
    assert used == {str(trained / f"checkpoints/{name}.ckpt") for name in ("last", "best")}
    assert before.items() <= contents(trained).items()
    line = refused("validate", *nano(trained.parent / "none"), "--ckpt_path=best")
    assert line.startswith(f"ckpt_path {trained.parent}/none/checkpoints/best.ckpt: no such file")


def test_other_settings_are_named_and_hold(trained: Path, caplog: pytest.LogCaptureFixture) -> None:
    """In a run of its own folder: it goes on."""
    last = trained / "checkpoints/last.ckpt"
    switches = ["--model.seed=8", "--model.objective=DrGRPO", "--model.optimizer.weight_decay=0.5"]
    main(["fit", *nano(trained.parent / "other"), "--trainer.max_steps=3", f"--ckpt_path={last}", *switches])
    for start in (
        "resume: model.seed was 42 in the checkpoint and is now 8; the new value holds",
        "resume: model.objective.class was GRPO in the checkpoint and is now DrGRPO; the new value holds",
        "resume: weight_decay of peer a's optimizer was ",
    ):
        assert start in caplog.text


def test_a_run_killed_before_its_report_writes_it(trained: Path, tmp_path: Path) -> None:

    run = tmp_path / "run"
    shutil.copytree(trained, run)
    (run / "report.html").unlink()
    main(["fit", *nano(run), "--ckpt_path=last"])
    assert "Team Pass@" in (run / "report.html").read_text()


def test_a_checkpoint_is_adapters_and_optimizer(trained: Path) -> None:
    found = torch.load(trained / "checkpoints/last.ckpt", weights_only=True)
    adapters = 4 * sum(v.numel() for v in found["state_dict"].values())
    for file in (trained / "checkpoints").glob("*.ckpt"):
        assert file.stat().st_size <= 4 * adapters + 1e6
