"""``python -m core_lightning preview``: what will be asked, in both rounds, before any model is loaded."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from lightning.pytorch import LightningDataModule, LightningModule, Trainer

from core_lightning.peers.config import PeerConfig
from core_lightning.peers.encoding import encode_prompt, uses_chat
from core_lightning.peers.loading import load_tokenizer
from core_lightning.peers.sources import resolve
from core_lightning.protocol.prompts import PromptSettings
from core_lightning.protocol.records import Problem

#: Stands where the teacher's derivation will be.
HINT = "<the teacher's derivation, its final answer removed>"


class CoreTrainer(Trainer):
    """A Trainer that can also preview prompts."""

    def preview(self, model: LightningModule, datamodule: LightningDataModule, problems: int = 3) -> None:
        """Load the data and the tokenizers, and print the prompts of some training problems with their token counts.

        Args:
            model: The module; its peers are not loaded.
            datamodule: The problems.
            problems: How many to show.
        """
        module: Any = model
        data: Any = datamodule
        data.setup()
        for text in render(data.splits["train"][:problems], module.peer_configs, module.prompt):
            print(text)


def render(problems: list[Problem], peers: dict[str, PeerConfig], prompts: PromptSettings) -> Iterator[str]:
    """The prompts of both rounds as each peer will read them, special tokens included."""
    tokenizers = {name: load_tokenizer(resolve(c.model, c.revision)) for name, c in peers.items()}
    for problem in problems:
        yield f"=== problem {problem.id} ({problem.kind}, gold {problem.answer})"
        for name, config in peers.items():
            tokenizer = tokenizers[name]
            for title, hint in (("cold", None), ("rescue", HINT)):
                ids = encode_prompt(tokenizer, prompts.render(problem, hint), uses_chat(tokenizer, config, name))
                limit = config.generation.max_prompt_tokens
                note = "" if len(ids) <= limit else f", LONGER THAN max_prompt_tokens {limit}"
                yield f"--- {name}, {title} round: {len(ids)} tokens{note}\n{tokenizer.decode(ids)}"
