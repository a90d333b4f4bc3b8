"""Every source by its bare class name on the command line, with its settings and their help."""

import json
from pathlib import Path

import pytest
from lightning.pytorch import LightningModule
from lightning.pytorch.cli import LightningCLI

from core_lightning.data import GSM8K, JsonLines, ReasoningGym, RescueDataModule, Task

# pytest's own arguments, and what Lightning still calls in jsonargparse
pytestmark = [
    pytest.mark.filterwarnings("ignore:LightningCLI's args parameter"),
    pytest.mark.filterwarnings("ignore::jsonargparse._deprecated.JsonargparseDeprecationWarning"),
]


class Nothing(LightningModule):
    """A model that needs no settings."""


def cli(*args: str) -> LightningCLI:
    return LightningCLI(
        Nothing,
        RescueDataModule,
        subclass_mode_data=True,
        save_config_callback=None,
        seed_everything_default=False,
        run=False,
        args=list(args),
    )


def test_reasoning_gym_tasks_on_the_command_line(tmp_path: Path) -> None:
    data = cli(
        "--data", "ReasoningGym", "--data.tasks", '["products", "chain_sum"]', "--data.train_size", "12"
    ).datamodule
    assert isinstance(data, ReasoningGym)
    assert (data.tasks, data.sizes["train"]) == ({"products": Task(), "chain_sum": Task()}, 12)


def test_reasoning_gym_mix_in_a_config_file(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text(
        """
data:
  class_path: ReasoningGym
  init_args:
    tasks:
      products: {weight: 2, config: {min_digits: 1, max_digits: 1}}
      chain_sum: {}
    batch_size: 3
    train_size: 20
    val_size: 5
    test_size: 5
"""
    )
    data = cli("--config", str(tmp_path / "c.yaml"), "--data.seed", "7").datamodule
    assert data.tasks == {"products": Task(2.0, {"min_digits": 1, "max_digits": 1}), "chain_sum": Task()}
    assert (data.batch_size, data.seed) == (3, 7)
    arguments = data.manifest()["arguments"]
    assert arguments["tasks"]["products"] == {"weight": 2.0, "config": {"min_digits": 1, "max_digits": 1}}
    assert arguments["seed"] == 7
    json.dumps(dict(data.hparams))  # plain containers: they go into checkpoints that are read weights-only


def test_files_and_columns_on_the_command_line(tmp_path: Path) -> None:
    (tmp_path / "p.jsonl").write_text(json.dumps({"problem": "1 + 1?", "answer": 2}) + "\n")
    path = str(tmp_path / "p.jsonl")
    data = cli(
        "--data", "JsonLines", "--data.path", path, "--data.columns", '{"question": "problem"}', "--data.kind", "number"
    )
    assert isinstance(data.datamodule, JsonLines)
    assert data.datamodule.columns["question"] == "problem"
    assert isinstance(cli("--data", "GSM8K", "--data.path", path, "--data.limit_train", "5").datamodule, GSM8K)


@pytest.mark.parametrize("name", ["GSM8K", "MATH", "AIME", "GPQA", "ReasoningGym", "JsonLines", "Table"])
def test_every_setting_has_its_help(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        cli(f"--data.help={name}")
    text = capsys.readouterr().out
    for setting in ("batch_size", "seed", "limit_train", "val_fraction"):
        assert f"--data.{setting}" in text
    options = [block for block in text.split("  --data.")[1:] if "help  " not in block.split("\n")[0]]
    assert len(options) >= 9
    for block in options:
        described = block.split("\n", 1)[1] if "\n" in block else ""
        assert described.strip(), block
        assert not described.strip().startswith("("), block
