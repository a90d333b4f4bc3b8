"""The real embedded pair through the real entry point: two NF4 models, two steps, adapters that load elsewhere."""

import json
from pathlib import Path

import pytest
import torch

from core_lightning.cli.main import main
from core_lightning.peers.sources import resolve

pytestmark = pytest.mark.embedded


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    main(
        [
            "fit",
            "--config=configs/quickstart.yaml",
            f"--trainer.default_root_dir={folder}",
            "--trainer.max_steps=2",
            "--trainer.val_check_interval=2",
            "--data.train_size=8",
            "--data.val_size=4",
            "--data.batch_size=4",
            "--model.rounds.k_rescue=1",
        ]
    )
    return folder


def test_run_folder_is_complete(run_folder: Path) -> None:
    for name in ("config.yaml", "manifest.json", "metrics.csv", "traces.jsonl", "report.html", "checkpoints/last.ckpt"):
        assert (run_folder / name).is_file(), name
    traces = [json.loads(line) for line in (run_folder / "traces.jsonl").read_text().splitlines()]
    assert {t["peer"] for t in traces} == {"smollm2", "gemma3"}
    assert {t["step"] for t in traces} == {0, 1}
    assert any(t["correct"] for t in traces)


def test_checkpoint_holds_adapters_only(run_folder: Path) -> None:
    checkpoint = torch.load(run_folder / "checkpoints/last.ckpt", weights_only=True)
    assert all("lora_" in name for name in checkpoint["state_dict"])
    assert all(weight.dtype == torch.float32 for weight in checkpoint["state_dict"].values())


def test_adapter_loads_onto_the_plain_base_and_changes_its_output(run_folder: Path) -> None:
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    base = AutoModelForCausalLM.from_pretrained(
        resolve("embedded/smollm2-135m-instruct").name_or_path, dtype=torch.float32
    )
    ids = torch.arange(100, 120)[None]
    with torch.no_grad():
        before = base(ids).logits
        after = PeftModel.from_pretrained(base, run_folder / "adapters/smollm2")(ids).logits
    assert not torch.equal(before, after)
