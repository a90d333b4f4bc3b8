"""Pretraining of one nano peer: what it knows, what it is shown, its tokenizer, its network and the training loop.

A peer *misses* a share of the facts of every operation, few of its strong and many of its weak ones. A missing fact is
shown with a fresh random value each time it is needed, so the peer learns the procedure and a guess, but not the fact.
Following a hint is learned on content-free copies: the facts of a hint are noise, and tell nothing about the true ones.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from core_lightning.nano.tasks import (
    TABLES,
    TASKS,
    Split,
    draw_question,
    exact,
    facts,
    prompt,
    solve,
    split_of,
    write_trace,
)

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerFast


@dataclass(frozen=True)
class Recipe:
    """How one nano peer is made."""

    architecture: Literal["llama", "stablelm"]
    strong: str
    """Operations (of ``+ * @ &``) the peer is good at."""
    missing_strong: float = 0.05
    """Share of the facts of a strong operation that the peer does not know."""
    missing_weak: float = 0.45
    """Share of the facts of a weak operation that the peer does not know."""
    hinted: float = 0.35
    """Share of training examples that have a hint in the prompt."""
    partial: float = 0.3
    """Share of the hints that stop early, so that the peer has to go on by itself."""
    drills: float = 0.3
    """Share of the questions that have a single step: facts are learned faster from them."""
    width: int = 96
    layers: int = 2
    steps: int = 1600
    batch: int = 32
    """Sequences per step."""
    lr: float = 3e-3

    def __post_init__(self) -> None:
        for name in ("missing_strong", "missing_weak", "hinted", "partial", "drills"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name}: {getattr(self, name)} is not a share, choose a number from 0 to 1")
        if unknown := set(self.strong) - set("+*@&"):
            raise ValueError(f"strong: unknown operation {''.join(sorted(unknown))}, choose from + * @ &")


RECIPES = {"a": Recipe("llama", strong="+@"), "b": Recipe("stablelm", strong="*&")}


class Knowledge:
    """The facts a peer has, true where it knows them and noise where it misses them (a :data:`~.tasks.Recall`)."""

    def __init__(self, recipe: Recipe, rng: random.Random) -> None:
        self._rng = rng
        self.missing: set[tuple[str, int, int]] = set()
        for operation in "+*@&":
            share = recipe.missing_strong if operation in recipe.strong else recipe.missing_weak
            pairs = facts(operation)
            self.missing |= {(operation, *pair) for pair in rng.sample(pairs, round(share * len(pairs)))}

    def __call__(self, operation: str, x: int, y: int, carry: int) -> int:
        """Recall a fact."""
        if (operation, x, y) in self.missing:
            return self.noise(operation, x, y, carry)
        return exact(operation, x, y, carry)

    def noise(self, operation: str, x: int, y: int, carry: int) -> int:
        """One of nine values, the true one among them: a guess is right one time in nine, in every task."""
        if operation in TABLES:
            return self._rng.randint(1, 9)
        low = max(0, exact(operation, x, y, carry) - 4)
        return self._rng.randint(low, low + 8)


def examples(recipe: Recipe, rng: random.Random, split: Split = "train") -> Iterator[tuple[str, str]]:
    """Endless ``(prompt, completion)`` pairs over questions of one side, written by a peer with such knowledge."""
    knowledge = Knowledge(recipe, rng)
    while True:
        # Arithmetic twice as often: a digit fact has to be learned with every carry.
        task = rng.choice([*TASKS, "add", "mul"])
        question = draw_question(task, rng, 1 if rng.random() < recipe.drills else None)
        if split_of(question) != split:
            continue
        if rng.random() >= recipe.hinted:
            yield prompt(question), write_trace(*solve(question, knowledge))
            continue
        length = len(solve(question)[0])
        shown = rng.randrange(1, length) if length > 1 and rng.random() < recipe.partial else length
        sources = iter([knowledge.noise] * shown + [knowledge] * (length - shown))
        steps, answer = solve(question, lambda *fact, sources=sources: next(sources)(*fact))
        yield prompt(question, " ".join(steps[:shown])), write_trace(steps, answer)


def build_tokenizer(recipe: Recipe) -> PreTrainedTokenizerFast:
    """One token per printable ASCII character, in each architecture's own order; only Llama's puts BOS in front."""
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    characters = ["\n", *map(chr, range(32, 127))]
    random.Random(recipe.architecture).shuffle(characters)
    vocabulary = {token: i for i, token in enumerate(["<pad>", "<bos>", "<eos>", "<unk>", *characters])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), "isolated")
    tokenizer.decoder = decoders.Fuse()
    if recipe.architecture == "llama":
        tokenizer.post_processor = processors.TemplateProcessing(
            "<bos> $A", special_tokens=[("<bos>", vocabulary["<bos>"])]
        )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        bos_token="<bos>",
        eos_token="<eos>",
        unk_token="<unk>",
        padding_side="left",
        model_max_length=1024,
        clean_up_tokenization_spaces=False,
    )


def build_model(recipe: Recipe, tokenizer: PreTrainedTokenizerFast) -> PreTrainedModel:
    """An untrained network of the recipe's architecture and size, initialized from torch's global generator."""
    from transformers import AutoConfig, AutoModelForCausalLM

    config = AutoConfig.for_model(
        recipe.architecture,
        vocab_size=len(tokenizer),
        hidden_size=recipe.width,
        intermediate_size=8 * recipe.width // 3,
        num_hidden_layers=recipe.layers,
        num_attention_heads=4,
        num_key_value_heads=4,
        max_position_embeddings=1024,
        initializer_range=recipe.width**-0.5,  # the usual 0.02 is for wide networks and starts a narrow one slowly
        # A small base resolves single positions, which is what copying digits needs.
        rope_parameters={"rope_type": "default", "rope_theta": 50.0, "partial_rotary_factor": 1.0},
        tie_word_embeddings=True,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
    return AutoModelForCausalLM.from_config(config)


def pretrain(recipe: Recipe, folder: Path, seed: int = 0) -> float:
    """Train one peer from scratch and save it as a plain transformers folder (weights in float16, loaded as float32).

    Returns:
        Mean loss of the last tenth of the steps, in nats per completion token.
    """
    rng = random.Random(f"{recipe.architecture}/{seed}")
    torch.manual_seed(seed)
    tokenizer = build_tokenizer(recipe)
    model = build_model(recipe, tokenizer).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=recipe.lr, betas=(0.9, 0.98), weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, recipe.lr, total_steps=recipe.steps, pct_start=0.1)
    stream = _batches(examples(recipe, rng), recipe.batch, tokenizer, rng)
    losses = []
    for inputs, labels in itertools.islice(stream, recipe.steps):
        # Right padding under a causal mask needs no attention mask: no real token looks at a padded one.
        loss = model(input_ids=inputs, labels=labels, use_cache=False).loss
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        losses.append(loss.item())
    model.eval().half().save_pretrained(folder)
    model.config.dtype = torch.float32
    model.config.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    last = losses[-(len(losses) // 10 + 1) :]
    return sum(last) / len(last)


def _batches(
    stream: Iterator[tuple[str, str]], size: int, tokenizer: PreTrainedTokenizerFast, rng: random.Random
) -> Iterator[tuple[Tensor, Tensor]]:
    """Right-padded ``input_ids`` and ``labels``, ``int64 Tensor[size, tokens]``; only the completion is learned."""
    while True:
        # Eight batches at a time are sorted by length, so that rows of one batch need little padding.
        prompts, completions = zip(*itertools.islice(stream, 8 * size), strict=True)
        before = tokenizer(list(prompts)).input_ids
        after = tokenizer([text + tokenizer.eos_token for text in completions], add_special_tokens=False).input_ids
        rows = sorted(zip(before, after, strict=True), key=lambda row: len(row[0]) + len(row[1]))
        for start in rng.sample(range(0, 8 * size, size), 8):
            chunk = rows[start : start + size]
            inputs = [torch.tensor(b + a) for b, a in chunk]
            labels = [torch.tensor([-100] * len(b) + a) for b, a in chunk]
            yield (
                pad_sequence(inputs, batch_first=True, padding_value=tokenizer.pad_token_id),
                pad_sequence(labels, batch_first=True, padding_value=-100),
            )
