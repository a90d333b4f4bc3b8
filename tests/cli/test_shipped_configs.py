"""Every shipped task and every published pair really trains, with tiny models of the same kind in their place."""

import dataclasses
import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file

from core_lightning import PeerConfig, SoloReasoningModule, schedule
from core_lightning.answers import Verdict, Verifier
from core_lightning.callbacks.metrics_csv import read_metrics
from core_lightning.cli.error_lines import accepted_settings
from core_lightning.cli.layers import one_config
from core_lightning.cli.main import build_cli, main
from core_lightning.rewards import published_terms
from core_lightning.schedule import Schedule
from core_lightning.training.inert_terms import inert_terms
from printed_config import settings_of
from scripted_engine import saying

TASKS = ("quickstart", "nano", "gsm8k", "math", "aime", "gpqa")
ROWS: dict[str, dict[str, Any]] = {
    "gsm8k": {"question": "What is {i} + 1?", "answer": "It is one more.\n#### {j}"},
    "math": {"problem": "What is {i} + 1?", "solution": r"So \boxed{{{j}}}", "level": "Level 1", "type": "Algebra"},
    "aime": {"problem": "What is {i} + 1?", "answer": "{j}"},
    "gpqa": {
        "Question": "What is {i} + 1?", "Correct Answer": "{j}", "Incorrect Answer 1": "{i}",
        "Incorrect Answer 2": "none", "Incorrect Answer 3": "all", "Subdomain": "sums",
    },
}  # fmt: skip
#: Task, pair, and the architecture that stands for each peer. Phi-4-mini is a Phi-3, Ministral 3 a Mistral 3.
RUNS = [
    ("gsm8k", None, {"qwen25": "llama", "qwen3": "gemma2"}),
    ("math", "qwen", {"qwen25": "llama", "qwen3": "gemma2"}),
    ("gpqa", "reasoning", {"phi4": "phi3", "ministral3": "mistral3"}),
    ("aime", "trio", {"phi4": "phi3", "ministral3": "mistral3", "ministral8": "mistral3"}),
]
PROJECTIONS = {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"}
FUSED = {"qkv_proj", "o_proj", "gate_up_proj", "down_proj"}


def rows(task: str, file: Path, n: int = 24) -> Path:
    lines = [{k: v.format(i=i, j=i + 1) for k, v in ROWS[task].items()} for i in range(n)]
    file.write_text("\n".join(map(json.dumps, lines)))
    return file


def configs(task: str, pair: str | None, published: bool) -> list[str]:
    overlays = ([f"pairs/{pair}"] if pair else []) + (["published"] if published else [])
    return [f"--config=configs/{name}.yaml" for name in (task, *overlays)]


def a_letter(prompt: str, seed: int) -> str:
    return random.Random(seed).choice("abcdefgh")


def right_by_the_first_letter(self: Verifier, texts: Sequence[str], *golds_and_kinds: object) -> list[Verdict]:
    return [Verdict(text, correct=bool(text) and ord(text[0]) % 2 == 0) for text in texts]


@pytest.mark.parametrize("task", TASKS)
def test_it_parses(task: str) -> None:
    assert "class_path" in settings_of(*configs(task, None, published=False))["model"]


@pytest.mark.parametrize("pair", ["qwen", "reasoning", "trio"])
def test_pair_overlay_replaces_the_peers_and_keeps_the_rest(pair: str) -> None:
    merged = settings_of(*configs("aime", pair, published=False))
    wanted = yaml.safe_load(Path(f"configs/pairs/{pair}.yaml").read_text())["model"]
    assert set(merged["model"]["init_args"]["peers"]) == set(wanted["init_args"]["peers"])
    assert merged["model"]["class_path"].endswith(wanted["class_path"])
    assert merged["model"]["init_args"]["objective"]["init_args"]["beta"] == 0.04
    assert merged["data"]["class_path"].endswith("AIME")


@pytest.mark.parametrize(("task", "pair", "models"), RUNS, ids=lambda value: value if isinstance(value, str) else "")
def test_two_steps(
    task: str,
    pair: str | None,
    models: dict[str, str],
    tiny_folder: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # A reward that is always 0 moves nothing.
    monkeypatch.setattr(Verifier, "check", right_by_the_first_letter)
    run = tmp_path / "run"
    arguments = [
        *configs(task, pair, published=task in ("math", "gpqa")),
        f"--data.path={rows(task, tmp_path / 'problems.jsonl')}",
        "--data.limit_train=null", "--data.limit_val=null", "--data.limit_test=null",
        "--model.embedder=HashingEmbedder",
        "--trainer.accelerator=cpu", "--trainer.max_steps=2", "--trainer.enable_progress_bar=false",
        "--trainer.limit_val_batches=0", f"--trainer.default_root_dir={run}",
    ]  # fmt: skip
    for peer, architecture in models.items():
        prefix = f"--model.peers.{peer}"
        arguments += [
            f"{prefix}.model={tiny_folder(architecture)}", f"{prefix}.quantization=none",
            f"{prefix}.generation.max_new_tokens=4", f"{prefix}.generation.max_prompt_tokens=400",
        ]  # fmt: skip
    with saying(a_letter):
        main(["fit", *arguments])

    trained = [row for row in read_metrics(run / "metrics.csv") if row["train/traces"]]
    assert len(trained) == 2
    assert float(trained[0]["train/traces"]) >= 4 * 2 * len(models)  # four problems, two cold traces of every peer
    for peer, architecture in models.items():
        # Two cold traces are alike every second time, so one of the steps may be without signal for a peer.
        assert any(float(row[f"train/{peer}/no_signal"]) < 1 for row in trained)
        shape = json.loads((run / "adapters" / peer / "adapter_config.json").read_text())
        assert (shape["r"], shape["lora_alpha"], shape["lora_dropout"]) == (16, 32, 0.0)
        weights = load_file(run / "adapters" / peer / "adapter_model.safetensors")
        adapted = {name.split(".lora_")[0] for name in weights}
        # Every projection of every layer that text passes through, and nothing else.
        assert {name.rsplit(".", 1)[1] for name in adapted} == (FUSED if architecture == "phi3" else PROJECTIONS)
        assert len(adapted) == 2 * len(FUSED if architecture == "phi3" else PROJECTIONS)
        assert not any("vision" in name for name in adapted)
        assert any(w.abs().max() > 0 for n, w in weights.items() if "lora_B" in n)
        assert all(torch.isfinite(w).all() for w in weights.values())


def value_of(term: dict[str, Any]) -> tuple[str, float | Schedule]:
    """The name of a reward term's class, and its weight as the object that the configuration describes."""
    weight = term["weight"]
    if isinstance(weight, dict):
        weight = getattr(schedule, weight["class_path"].rsplit(".", 1)[-1])(**weight["init_args"])
    return term["term"]["class_path"].rsplit(".", 1)[-1], weight


#: Shaping terms that change neither an advantage nor the choice of a teacher, by config; every other one does.
INERT = {("published",): ["diversity"]}


LOOKED_AT: dict[str, list[str]] = {}


def inert_terms_of(method: str, files: list[str]) -> list[str]:
    if method not in LOOKED_AT:
        model = build_cli(files, run=False).model
        LOOKED_AT[method] = inert_terms(model.rewards.terms, model.rounds, model.advantage, model.credit)
    return LOOKED_AT[method]


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("overlay", [(), ("lean",), ("published",)])
def test_which_reward_terms_act(
    task: str, overlay: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(PeerConfig, "__post_init__", lambda self: None)
    files = [f"--config=configs/{name}.yaml" for name in (task, *overlay)]
    merged, *_ = one_config(files, tmp_path, accepted_settings)
    said = json.loads(Path(merged.removeprefix("--config=")).read_text())["model"]["init_args"]
    # Tasks that say the same of all that is looked at are looked at once.
    method = json.dumps([said.get(name) for name in ("rewards", "rounds", "advantage", "credit", "objective")])
    assert inert_terms_of(method, files) == INERT.get(overlay, [])


@pytest.mark.parametrize("task", TASKS)
def test_every_shipped_config_runs_both_rounds(task: str) -> None:
    settings = settings_of(*configs(task, None, published=False))["model"]["init_args"]
    assert (settings["rounds"]["k"], settings["rounds"]["k_rescue"]) == (2, 1)
    assert settings["credit"]["mode"] == "teacher_and_rescue"


@pytest.mark.parametrize("task", ["gsm8k", "math", "aime", "gpqa"])
def test_a_task_has_the_projects_default_method(task: str) -> None:
    settings = settings_of(*configs(task, None, published=False))["model"]["init_args"]
    default = SoloReasoningModule({"a": PeerConfig("nano/a")})
    for name in ("rounds", "credit", "advantage"):
        held = dataclasses.asdict(getattr(default, name))  # what is unset there, the objective has set
        assert settings[name] == {n: None if settings[name][n] is None else v for n, v in held.items()}
    assert settings["rewards"] is None


@pytest.mark.parametrize(("task", "pair", "models"), RUNS, ids=lambda value: value if isinstance(value, str) else "")
def test_the_overlay_makes_the_recipe_the_published_one(task: str, pair: str | None, models: dict[str, str]) -> None:
    config = settings_of(*configs(task, pair, published=True))
    settings, data = config["model"]["init_args"], config["data"]["init_args"]
    assert config["model"]["class_path"].endswith(
        "TrioReasoningModule" if len(models) == 3 else "CollaborativeReasoningModule"
    )
    assert set(settings["peers"]) == set(models)
    for name, peer in settings["peers"].items():
        lora, generation = peer["lora"], peer["generation"]
        assert (lora["r"], lora["alpha"], lora["dropout"]) == (16, 32, 0.0)
        assert set(lora["targets"]) == (FUSED if name == "phi4" else PROJECTIONS)
        assert (generation["temperature"], generation["top_p"], generation["max_prompt_tokens"]) == (0.7, 0.9, 1536)
        assert generation["max_new_tokens"] == 3072 or pair is None
        assert peer["gradient_checkpointing"]
    assert (settings["rounds"]["k"], settings["rounds"]["k_rescue"]) == (2, 1)
    assert settings["optimizer"]["class_path"] == "torch.optim.AdamW"
    optimizer = settings["optimizer"]["init_args"]
    assert (optimizer["lr"], optimizer["weight_decay"]) == (1e-5, 0.01)
    assert (settings["schedule"]["shape"], settings["schedule"]["warmup"]) == ("cosine", 0.1)
    assert settings["max_grad_norm"] == 1.0
    assert settings["credit"] | {"mode": "hinted", "weight": 0.8} == settings["credit"]
    advantage = settings["advantage"]
    assert (advantage["group_by"], advantage["std_floor"], advantage["shaping"]) == ("problem", 1e-4, "normalized")
    assert (settings["rounds"]["teacher"], settings["rounds"]["teacher_equations"]) == ("total_reward", False)
    terms = {name: value_of(term) for name, term in settings["rewards"].items()}
    assert terms == {name: (type(t.term).__name__, t.weight) for name, t in published_terms().items()}
    objective = settings["objective"]["init_args"]
    assert (objective["clip_low"], objective["clip_high"], objective["beta"]) == (0.2, 0.2, 0.04)
    assert (data["batch_size"], config["trainer"]["max_epochs"], config["seed_everything"]) == (4, 2, 42)
    assert data["limit_train"] is None or data["limit_train"] <= 1000
