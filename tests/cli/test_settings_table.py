"""Settings that cannot work, by the kind of what is wrong with them: each is one line, exit code 2, and no model is loaded."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable
from inspect import signature
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import yaml
from lightning.pytorch import Trainer

from core_lightning.cli import size_checks
from core_lightning.cli.command_checks import load_yaml_once
from core_lightning.cli.config_checks import check_place, check_trainer, trial_optimizer
from core_lightning.cli.layers import one_config
from core_lightning.peers import PeerConfig
from core_lightning.training.peer_checks import check_peers

Config = Callable[..., Path]
Refused = Callable[..., str]

on_a_processor = pytest.mark.skipif(torch.cuda.is_available(), reason="is about machines without a GPU")

TRAINER = [
    ("devices", -1, "trainer.devices is -1; on a processor it is the number of processes, 1 or more, or auto"),
    ("devices", 0, "trainer.devices is 0; on a processor it is the number of processes, 1 or more, or auto"),
    ("devices", [0, 1], "trainer.devices is [0, 1]; on a processor it is the number of processes, 1 or more, or auto"),
    ("accelerator", "gpu", "trainer.accelerator is gpu, and torch finds no GPU here; set it to cpu or auto"),
    ("num_nodes", 2, "trainer.num_nodes is 2, and nothing tells where the others are (MASTER_ADDR is not set); start this command"),
    ("num_nodes", 0, "trainer.num_nodes is 0; set it to 1 or more"),
    ("val_check_interval", 0, "trainer.val_check_interval is 0; give steps between evaluations, 1 or more"),
    ("val_check_interval", -3, "trainer.val_check_interval is -3; give steps between evaluations, 1 or more"),
    ("val_check_interval", 1.5, "trainer.val_check_interval is 1.5; give steps between evaluations, 1 or more"),
    ("check_val_every_n_epoch", 0, "trainer.check_val_every_n_epoch is 0; set it to 1 or more, or null"),
    ("log_every_n_steps", 0, "trainer.log_every_n_steps is 0; set it to 1 or more"),
]
PLAIN = {name: parameter.default for name, parameter in signature(Trainer).parameters.items()}


@on_a_processor
@pytest.mark.parametrize(("name", "value", "line"), TRAINER)
def test_trainer_setting(name: str, value: object, line: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MASTER_ADDR", raising=False)
    with pytest.raises(ValueError, match=r"^trainer\.") as caught:
        check_trainer(SimpleNamespace(**PLAIN | {"accelerator": "cpu", name: value}), fit=True)
    assert str(caught.value).startswith(line)


@pytest.mark.parametrize("command", ["fit", "validate", "test", "predict", "ask"])
@pytest.mark.parametrize("none", [0, 0.0])
def test_a_command_without_a_batch(command: str, none: float) -> None:
    limit = {"fit": "train", "validate": "val", "ask": "predict"}.get(command, command)
    given = PLAIN | {"accelerator": "cpu", "devices": 1, "fast_dev_run": False}
    with pytest.raises(ValueError, match=rf"^trainer\.limit_{limit}_batches is 0, which leaves {command} nothing to do; give"):
        check_trainer(SimpleNamespace(**given | {f"limit_{limit}_batches": none}), command=command)
    others = {f"limit_{name}_batches": none for name in ("train", "val", "test", "predict") if name != limit}
    for fine in (others, {f"limit_{limit}_batches": none, "fast_dev_run": True}, {f"limit_{limit}_batches": None}):
        check_trainer(SimpleNamespace(**given | fine), command=command)


PLACES = {
    "": "trainer.default_root_dir is empty; give another --trainer.default_root_dir, such as",
    "s3://bucket/run": "trainer.default_root_dir 's3://bucket/run' is no folder of this machine;",
    "/dev/null/run": "run folder /dev/null/run: /dev/null is a file; give another",
    "/proc/run": "run folder /proc/run",
    "x" * 300: f"run folder {'x' * 80} cannot be made (File name too long); give",
}


@pytest.mark.parametrize("place", PLACES)
def test_place(place: str) -> None:
    with pytest.raises(ValueError, match=r"run folder|default_root_dir") as caught:
        check_place(place)
    assert str(caught.value).startswith(PLACES[place])


#: One of every kind through the whole command line, which takes two seconds.
SWITCHES = {
    # devices
    "--model.peers.a.device=cuda": "peers.a.device is 'cuda', and torch finds no GPUs here; set it to auto or cpu",
    "--model.peers.a.device=gpu9": "peers.a.device is 'gpu9', which torch does not know; give auto, own, cpu or cuda:<number>",
    "--trainer.devices=abc": "trainer.devices is abc; on a processor it is the number of processes, 1 or more, or auto",
    "--trainer.val_check_interval=0": "trainer.val_check_interval is 0; give steps between evaluations, 1 or more",
    # more than there is room for
    "--model.peers.a.lora.r=100000": "peers.a.lora.r is 100000, more than the width of ",
    "--model.eval_samples=1000000000": "model.eval_samples asks for up to 2,000,000,000 traces a problem and ",
    "--data.batch_size=1000000000": "rounds.k asks for up to ",
    # sources
    "--model.peers.a.revision=main": "peers.a.revision is 'main', but ",
    "--model.peers.a.adapter=/no/such": "peers.a.adapter '/no/such' holds no adapter_config.json; give a folder in PEFT format",
    # the optimizer
    "--model.optimizer=torch.optim.AdamW --model.optimizer.lr=-1": "model.optimizer cannot be made: Invalid learning rate",
    # where to
    "--trainer.default_root_dir=s3://bucket/run": "trainer.default_root_dir 's3://bucket/run' is no folder of this machine;",
}


@on_a_processor
@pytest.mark.parametrize("switches", SWITCHES)
def test_switch(config: Config, refused: Refused, switches: str) -> None:
    assert refused("fit", f"--config={config()}", *switches.split(" ")).startswith(SWITCHES[switches])


@on_a_processor
@pytest.mark.parametrize(
    ("device", "line"),
    [
        ("cuda:7", "peers.a.device is 'cuda:7', and torch finds no GPUs here; set it to auto or cpu"),
        ("meta", "peers.a.device is 'meta', on which nothing can be computed; give auto, own, cpu or"),
    ],
)
def test_device(device: str, line: str) -> None:
    with pytest.raises(ValueError, match=r"peers\.a\.device") as caught:
        check_peers({name: PeerConfig("nano/a", device=device if name == "a" else "auto") for name in "ab"})
    assert str(caught.value).startswith(line)


@pytest.mark.parametrize("wrong", [{"lr": 0.1, "momentum": -2}, {"lr": 0.1, "nesterov": True}])
def test_optimizer(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"^model\.optimizer cannot be made: "):
        trial_optimizer(lambda parameters: torch.optim.SGD(parameters, **wrong))


PEER_NAMES = {
    "type": "peer name 'type' is taken: torch modules have something of that name; choose another",
    "train": "peer name 'train' is taken: torch modules have something of that name; choose another",
    "CON": "peer name 'CON' is reserved (files, tables and adapters use it); choose another",
    "team": "peer name 'team' is reserved (files, tables and adapters use it); choose another",
    "B": "peer names 'B' and 'b' are one folder where case does not count; rename one",
    "b__reference": "peer name 'b__reference' is reserved (files, tables and adapters use it); choose another",
    "x" * 65: "peer name xxxxxxxxxxxxxxxxxxxx... has 65 characters; it names files: take 64 at most",
    "a/b": "peer name 'a/b' must be made of letters, digits, _ and -: it names a folder",
}


@pytest.mark.parametrize("name", PEER_NAMES)
def test_peer_name(llama_folder: Path, name: str) -> None:
    peer = PeerConfig(str(llama_folder), quantization="none")
    with pytest.raises(ValueError, match=r"^peer name") as caught:
        check_peers({name: peer, "b": peer})
    assert str(caught.value) == PEER_NAMES[name]


def test_a_peer_name_in_a_config(config: Config, refused: Refused, llama_folder: Path) -> None:
    peer = {"model": str(llama_folder), "quantization": "none"}
    assert refused("fit", f"--config={config(peers={'b': peer, 'type': peer})}") == PEER_NAMES["type"]


FLOATS = {
    "model.max_grad_norm": "model.max_grad_norm",
    "model.answer_timeout": "model.answer_timeout",
    "model.credit.imitation_weight": "model.credit.imitation_weight",
    "model.advantage.std_floor": "model.advantage.std_floor",
    "model.objective.init_args.beta": "model.objective.beta",
    "model.objective.init_args.off_policy_bound": "model.objective.off_policy_bound",
    "model.optimizer.init_args.lr": "model.optimizer.lr",
    "model.peers.a.lr": "model.peers.a.lr",
    "model.peers.a.lora.alpha": "model.peers.a.lora.alpha",
    "model.peers.a.generation.temperature": "model.peers.a.generation.temperature",
    "model.peers.a.generation.top_p": "model.peers.a.generation.top_p",
    "model.rewards.diversity.weight": "model.rewards.diversity.weight",
    "data.val_fraction": "data.val_fraction",
    "trainer.limit_train_batches": "trainer.limit_train_batches",
}


@pytest.mark.parametrize(("setting", "value"), [(s, (math.nan, math.inf, -math.inf)[i % 3]) for i, s in enumerate(FLOATS)])
def test_a_number_that_is_none(config: Config, tmp_path: Path, setting: str, value: float) -> None:
    file = config(
        objective={"class_path": "GRPO", "init_args": {}},
        optimizer={"class_path": "torch.optim.AdamW", "init_args": {"lr": 1e-4}},
        rewards={"diversity": {"term": "LogDetDiversity", "weight": 1.0}},
        credit={},
        advantage={},
    )
    settings = yaml.safe_load(file.read_text())
    part, *keys, last = setting.split(".")
    node = settings[part]["init_args"] if part in ("model", "data") else settings[part]
    for key in keys:
        node = node[key]
    node[last] = value
    file.write_text(yaml.safe_dump(settings))
    with pytest.raises(ValueError, match="give a finite number") as caught:
        one_config([f"--config={file}"], tmp_path, lambda *_: None)
    assert str(caught.value) == f"{FLOATS[setting]} is {value}; give a finite number"


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["ask", "\udcff 1+1="], r"question holds half of a character (\udcff); give text that is UTF-8"),  # a byte 0xff
        (["fit", "--model.prompt.text=\udcff {question}"], r"model.prompt.text holds half of a character (\udcff); give text"),
    ],
)
def test_text_that_no_file_takes(config: Config, refused: Refused, arguments: list[str], line: str) -> None:
    command, *rest = arguments
    assert refused(command, *(rest if command == "ask" else ()), f"--config={config()}", *rest[command == "ask" :]).startswith(line)


@pytest.mark.parametrize("value", [".nan", "-.inf", "NaN", "1e999"])
def test_a_switch_that_is_no_number(config: Config, refused: Refused, value: str) -> None:
    line = refused("fit", f"--config={config()}", f"--model.peers.a.lora.alpha={value}")
    assert line.startswith("model.peers.a.lora.alpha")


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("", "peers.a.adapter '{0}': its adapter_config.json is no JSON (Expecting value: "),
        ("[]", "peers.a.adapter '{0}': its adapter_config.json names no peft_type; save the adapter again"),
        ("{}", "peers.a.adapter '{0}': its adapter_config.json names no peft_type; save the adapter again"),
        ('{"peft_type": "MAGIC"}', "peer 'a': adapter '{0}' is of kind MAGIC; only LORA can be started from"),
        ('{"peft_type": "LORA"}', "peer 'a': adapter '{0}' cannot be loaded ("),
    ],
)
def test_adapter_folder(config: Config, refused: Refused, tmp_path: Path, text: str, line: str) -> None:
    folder = tmp_path / "adapter"
    folder.mkdir()
    (folder / "adapter_config.json").write_text(text)
    (folder / "adapter_model.safetensors").write_bytes(b"cut off")
    assert refused("fit", f"--config={config()}", f"--model.peers.a.adapter={folder}").startswith(line.format(folder))


def test_adapter_of_the_other_model(config: Config, refused: Refused, neox_folder: Path, tmp_path: Path) -> None:
    from safetensors.torch import save_file

    settings = {"peft_type": "LORA", "base_model_name_or_path": str(neox_folder)}
    (tmp_path / "adapter_config.json").write_text(json.dumps(settings))
    save_file({"x.lora_A.weight": torch.zeros(1)}, tmp_path / "adapter_model.safetensors")
    line = refused("fit", f"--config={config()}", f"--model.peers.a.adapter={tmp_path}")
    assert line.endswith(f"was made for {neox_folder}, the model of peer b; give each peer its own adapter")


def test_early_stopping_on_nothing(config: Config, refused: Refused) -> None:
    file = config()
    text = yaml.safe_load(file.read_text())
    early = {"class_path": "lightning.pytorch.callbacks.EarlyStopping", "init_args": {"monitor": "val/team_pass_at_9"}}
    for callbacks in ([early], early):  # a single one needs no list
        text["trainer"]["callbacks"] = callbacks
        file.write_text(yaml.safe_dump(text))
        assert refused("fit", f"--config={file}") == (
            "EarlyStopping monitors 'val/team_pass_at_9', which is not logged; did you mean val/team_pass_at_1?"
        )


def test_a_wide_rank_of_distances(config: Config, refused: Refused, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(size_checks, "memory", lambda: 24 * 10**9)
    line = refused("fit", f"--config={config()}", "--model.rounds.k=100000")
    assert line.startswith("rounds.k asks for up to 200,0")
    assert line.endswith("lower it or data.batch_size (CORE_LIGHTNING_LARGE=1 tries anyway)")


def test_ten_million_problems(refused: Refused, tmp_path: Path) -> None:
    settings = ["--config=configs/nano.yaml", f"--trainer.default_root_dir={tmp_path}/run"]
    assert refused("fit", *settings, "--data.val_size=10000000") == (
        "data.val_size is 10,000,000; problems are made before training, so set it to 1,000,000 or less "
        "(CORE_LIGHTNING_LARGE=1 tries anyway)"
    )


def test_nothing_to_validate(config: Config, refused: Refused) -> None:
    file = config()
    assert refused("validate", f"--config={file}", "--data.val_fraction=0").endswith(
        "has no validation problems; set data.val_fraction above 0"
    )
    assert "has no test problems" in refused("test", f"--config={file}", "--data.test_fraction=0")
    assert refused("validate", f"--config={file}", "--trainer.limit_val_batches=0").startswith("trainer.limit_val_batches is 0")


BOMB = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 40)
)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (BOMB, "its references stand for more than 1,000,000 values; write out what is meant"),
        ("a: &a [*a]\n", "a value holds itself by a reference; write it out"),
        ("a: " + "[" * 5000 + "\n", "it is nested too deeply to be read; write it with fewer levels"),
    ],
)
def test_yaml_that_is_no_config(refused: Refused, tmp_path: Path, text: str, line: str) -> None:
    file = tmp_path / "bomb.yaml"
    file.write_text(text)
    assert line in refused("fit", f"--config={file}")  # written out, the first one would not end


def test_references_may_be_used(tmp_path: Path) -> None:
    assert load_yaml_once("a: &x {k: 1}\nb: *x\nc: {<<: *x, l: 2}") == {"a": {"k": 1}, "b": {"k": 1}, "c": {"k": 1, "l": 2}}


def test_a_read_only_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda *_: False)  # the tests may run as one who may write everywhere
    with pytest.raises(ValueError, match=r"run folder .*/run: .* cannot be written to; give another"):
        check_place(tmp_path / "run")


def test_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage: Any = type("usage", (), {"free": 1000})
    monkeypatch.setattr("shutil.disk_usage", lambda _: usage)
    with pytest.raises(ValueError, match=r"run folder .*: its disk is full \(0\.0 MB are free\); free some, or give"):
        check_place(tmp_path / "new/run")
    assert not (tmp_path / "new").exists()
