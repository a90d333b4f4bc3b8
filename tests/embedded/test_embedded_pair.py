"""The real embedded pair through the real entry point: two NF4 models, two steps, adapters that load elsewhere."""

import json
from pathlib import Path
from statistics import mean

import pytest
import torch

from core_lightning import CollaborativeReasoningModule
from core_lightning.cli.main import build_cli
from core_lightning.peers.peer import Scored
from core_lightning.peers.sources import resolve
from core_lightning.records import Problem

pytestmark = pytest.mark.embedded


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, CollaborativeReasoningModule]:
    folder = tmp_path_factory.mktemp("run")
    cli = build_cli(
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
    return folder, cli.model


@pytest.fixture(scope="module")
def run_folder(run: tuple[Path, CollaborativeReasoningModule]) -> Path:
    return run[0]


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


def test_what_was_right_is_likelier_than_before_beside_what_was_wrong(
    run: tuple[Path, CollaborativeReasoningModule],
) -> None:
    """The direction of learning; how far two steps go, and on which traces, is another matter on every machine."""
    folder, module = run
    traces = [json.loads(line) for line in (folder / "traces.jsonl").read_text().splitlines()]
    problems = {t["problem"]: Problem(t["problem"], t["question"], t["gold"]) for t in traces}
    texts = sorted({(t["problem"], t["text"], t["correct"]) for t in traces})
    for peer in module.peers.values():
        scored = [
            (Scored(peer.encode(module.prompt.render(problems[problem])), peer.encode_completion(text)), correct)
            for problem, text, correct in texts
            if text.strip()
        ]
        learned: dict[bool, list[float]] = {True: [], False: []}
        for batch in peer.micro_batches([s for s, _ in scored]):
            with torch.no_grad():
                examples = [scored[i][0] for i in batch]
                after, before = (peer.logprobs(examples, policy)[0].sum(1) for policy in ("own", "reference"))
            for i, gain in zip(batch, (after - before).tolist(), strict=True):
                learned[scored[i][1]].append(gain)
        assert mean(learned[True]) > mean(learned[False])


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
