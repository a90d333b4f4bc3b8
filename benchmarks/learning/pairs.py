"""The pairs of models the arms are tried on, and what is the same for all arms of a pair."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from core_lightning import PeerConfig, RescueDataModule
from core_lightning.data import NanoTasks, ReasoningGym
from core_lightning.data.reasoning_gym import Task
from core_lightning.nano import nano_folder
from core_lightning.nano.pretrain import RECIPES, pretrain
from core_lightning.peers import GenerationSettings, LoraSettings
from core_lightning.protocol.prompts import PromptSettings, Shot
from core_lightning.rewards import Embedder, HashingEmbedder, MiniLMEmbedder

CACHE = Path(__file__).parent / ".cache"


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


def _embedded_peers(pretraining_seed: int) -> dict[str, PeerConfig]:
    models = {"smollm2": "embedded/smollm2-135m-instruct", "gemma3": "embedded/gemma3-270m"}
    generation = GenerationSettings(temperature=0.8, max_new_tokens=10, stop=["\n"])
    return {name: PeerConfig(model, prompt_style="plain", generation=generation) for name, model in models.items()}


PAIRS: Mapping[str, Pair] = {
    "nano": Pair(
        peers=_nano_peers,
        data=lambda: NanoTasks(train_size=4000, val_size=0, test_size=400),
        prompt=PromptSettings(text="Q:{question}\nA:", text_hinted="Q:{question}\nH:{hint}\nA:"),
        embedder=HashingEmbedder,
        pretraining_seeds=(0, 1, 2, 3),
        steps=30,
        completions=160,
        lr=1e-3,
    ),
    "embedded": Pair(
        peers=_embedded_peers,
        data=lambda: ReasoningGym(
            {
                "chain_sum": Task(2, {"min_terms": 2, "max_terms": 2, "min_digits": 1, "max_digits": 1}),
                "products": Task(1, {"min_terms": 2, "max_terms": 2, "min_digits": 1, "max_digits": 1}),
            },
            train_size=96,
            val_size=0,
            test_size=32,
        ),
        prompt=PromptSettings(
            text="Question: {question}\nAnswer:",
            text_hinted="Question: {question}\nHint: {hint}\nAnswer:",
            shots=[
                Shot(
                    question="State the final answer to the following arithmetic problem: 2 + 4 =",
                    hint="2 + 4 =",
                    completion=" 2 + 4 = 6",
                ),
                Shot(
                    question="Solve the following multiplication: 3 * 4. Give only the result as your final answer.",
                    hint="3 * 4 =",
                    completion=" 3 * 4 = 12",
                ),
            ],
        ),
        embedder=MiniLMEmbedder,
        pretraining_seeds=(0,),
        steps=12,
        completions=30,
        lr=1e-4,
        alpha=0.3,
        lr_factors={"smollm2": 3.0},
    ),
}
