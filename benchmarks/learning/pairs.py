"""The pairs of models the arms are tried on, and what is the same for all arms of a pair."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from benchmarks.learning.qwen import FILE
from benchmarks.learning.statistics import Unit
from benchmarks.learning.templates import Templates, solved_in_part
from core_lightning import PeerConfig, RescueDataModule
from core_lightning.answers.hints import remove_answer
from core_lightning.data import NanoTasks, ReasoningGym
from core_lightning.data.reasoning_gym import Task
from core_lightning.nano import nano_folder
from core_lightning.nano.pretrain import RECIPES, pretrain
from core_lightning.peers import GenerationSettings, LoraSettings
from core_lightning.protocol.prompts import PromptSettings, Shot
from core_lightning.rewards import Embedder, HashingEmbedder, MiniLMEmbedder

CACHE = Path(__file__).parent / ".cache"
#: How often the model solves each template of the word problems: ``python -m benchmarks.learning templates``.
TEMPLATES = Path(__file__).parent / "results" / "qwen_templates.json"


@dataclass(frozen=True)
class Pair:
    """Models, data and training scale."""

    peers: Callable[[int], dict[str, PeerConfig]]
    """The team of a pretraining seed."""
    data: Callable[[], RescueDataModule]
    prompt: PromptSettings
    embedder: Callable[[], Embedder]
    pretraining_seeds: Sequence[int]
    steps: int
    """Optimizer steps."""
    completions: int
    """Sampled completions a step and peer."""
    lr: float
    eval_samples: int = 8
    hint_tokens: int = 64
    alpha: float = 0.0
    """Part of the correctness reward for a partly right answer."""
    lr_factors: Mapping[str, float] = field(default_factory=dict)
    """Of peers whose rate is not the pair's."""
    share_base: bool = False
    """One model under both peers, each with an adapter of its own."""

    @property
    def unit(self) -> Unit:
        """What its intervals resample: models that come finished have RL seeds only."""
        return "pretraining_seed" if len(self.pretraining_seeds) > 1 else "seed"


def _nano_peers(pretraining_seed: int) -> dict[str, PeerConfig]:
    """Seed 0 is the shipped pair; others are pretrained when first asked for."""
    configs = {}
    for name, recipe in RECIPES.items():
        folder = CACHE / "nano" / str(pretraining_seed) / name if pretraining_seed else nano_folder(name)
        if not (folder / "tokenizer.json").is_file():  # saved last
            pretrain(recipe, folder, pretraining_seed)
        configs[name] = PeerConfig(
            str(folder),
            quantization="none",
            dtype="float32",
            prompt_style="plain",
            lora=LoraSettings(r=16, alpha=32, targets="all-linear"),
            generation=GenerationSettings(temperature=1.0, max_new_tokens=48, max_prompt_tokens=96),
        )
    return configs


def _quickstart() -> Pair:
    """The embedded pair as the quickstart has it: models, rates, prompts and tasks."""
    import yaml

    config = yaml.safe_load((Path(__file__).parents[2] / "configs" / "quickstart.yaml").read_text())
    model, data = config["model"]["init_args"], config["data"]["init_args"]
    peers = {name: _peer(settings) for name, settings in model["peers"].items()}
    prompt = {**model["prompt"], "shots": [Shot(**shot) for shot in model["prompt"].get("shots", [])]}
    tasks = {name: Task(**task) for name, task in data["tasks"].items()}
    lr = model["optimizer"]["init_args"]["lr"]
    return Pair(
        peers=lambda pretraining_seed: {name: replace(peer, lr=None) for name, peer in peers.items()},
        data=lambda: ReasoningGym(tasks, train_size=176, val_size=0, test_size=96),
        prompt=PromptSettings(**prompt),
        embedder=MiniLMEmbedder,
        pretraining_seeds=(0,),
        steps=15,
        completions=64,
        lr=lr,
        lr_factors={name: peer.lr / lr for name, peer in peers.items() if peer.lr},
        hint_tokens=model["rounds"]["hint_tokens"],
    )


def _words() -> Pair:
    """The same models on word problems they can just touch: how many legs so many animals of a kind have together.

    A solution recalls the legs of the animal and multiplies. reasoning-gym's ``gsm_symbolic`` would be nearer to GSM8K, but
    models of this size solve next to none of it, and reinforcement needs some successes to start from.
    """
    base = _quickstart()
    question = (
        "Your task is to count how many legs there are in total when given a list of animals.\n\n"
        "Now, how many legs are there in total if you have {}?\n"
    )
    worked = {"dogs": (3, 4), "ants": (4, 6), "chickens": (2, 2), "spiders": (5, 8), "snakes": (3, 0)}
    shots = [
        Shot(question.format(f"{count} {animals}"), f" {count} * {legs} = {count * legs}", hint=f"{count} * {legs} =")
        for animals, (count, legs) in worked.items()
    ]
    task = Task(config={"min_animals": 1, "max_animals": 1, "min_instances": 1, "max_instances": 9})

    def peers(pretraining_seed: int) -> dict[str, PeerConfig]:
        return {
            name: replace(peer, generation=replace(peer.generation, temperature=0.7, max_new_tokens=12))
            for name, peer in base.peers(pretraining_seed).items()
        }

    return replace(
        base,
        peers=peers,
        data=lambda: ReasoningGym({"leg_counting": task}, train_size=220, val_size=0, test_size=100),
        prompt=replace(base.prompt, shots=shots),
    )


def _qwen(partner: str | None = None) -> Pair:
    """Word problems of several steps in the manner of GSM8K, and a model that solves a part of them.

    Args:
        partner: Another model as the second peer; None for a second adapter on the same model.
    """
    question = "Question: {question}\nSolution:"
    after = " Give the result as your final answer. Do not include units."  # every question of the task ends so
    worked = [
        (
            "Mia has 24 stickers and buys 3 packs of 8 stickers each. How many stickers does she have now?",
            "3 * 8 = 24 stickers in the packs. 24 + 24 = 48.",
        ),
        (
            "A shop sold 40 pens on Monday and 25% fewer on Tuesday. How many pens did it sell on both days?",
            "40 * 25 / 100 = 10 fewer. 40 - 10 = 30 on Tuesday. 40 + 30 = 70.",
        ),
        (
            "Tom has $15 and saves $6 every week. After how many weeks does he have $63?",
            "63 - 15 = 48 to save. 48 / 6 = 8.",
        ),
        (
            "Ana has a book of 120 pages. She read 1/3 of it on Friday and 25 pages on Saturday. How many are left?",
            "120 / 3 = 40 on Friday. 40 + 25 = 65 pages read. 120 - 65 = 55.",
        ),
    ]
    shots = []
    for asked, solution in worked:
        answer = solution.rstrip(".").rsplit(" ", 1)[1]
        completion = f" {solution} The answer is {answer}."
        hint = remove_answer(completion, answer, "number", question=asked)  # as a peer's trace becomes a hint
        shots.append(Shot(asked + after, completion, hint=hint))

    def peers(pretraining_seed: int) -> dict[str, PeerConfig]:
        config = PeerConfig(
            str(FILE),
            quantization="none",
            sampling_weights="half",
            score_batch_tokens=4096,
            prompt_style="plain",
            lora=LoraSettings(r=16, alpha=32),
            generation=GenerationSettings(temperature=0.7, max_new_tokens=96, max_batch_tokens=131_072, stop=["\n"]),
        )
        return {"a": config, "b": config if partner is None else replace(config, model=partner)}

    return Pair(
        peers=peers,
        data=lambda: Templates(solved_in_part(TEMPLATES), train_size=120, test_size=20),
        prompt=PromptSettings(text=question, text_hinted="Question: {question}\nHint: {hint}\nSolution:", shots=shots),
        embedder=HashingEmbedder,
        pretraining_seeds=(0,),
        steps=30,
        completions=64,
        lr=1e-4,
        eval_samples=4,
        hint_tokens=64,
        share_base=partner is None,
    )


def _peer(settings: Mapping[str, Any]) -> PeerConfig:
    parts = {"lora": LoraSettings, "generation": GenerationSettings}
    return PeerConfig(**{k: parts[k](**v) if k in parts else v for k, v in settings.items()})


PAIRS: Mapping[str, Pair] = {
    "nano": Pair(
        peers=_nano_peers,
        data=lambda: NanoTasks(train_size=4000, val_size=0, test_size=400),
        prompt=PromptSettings(text="Q:{question}\nA:", text_hinted="Q:{question}\nH:{hint}\nA:"),
        embedder=HashingEmbedder,
        pretraining_seeds=(0, 1, 2, 3),
        steps=30,
        completions=160,
        lr=3e-3,
    ),
    "embedded": _quickstart(),
    "words": _words(),
    "qwen": _qwen(),
    "qwen_smollm2": _qwen("embedded/smollm2-135m-instruct"),
}
