"""``python -m core_lightning preview``: what will be asked, in both rounds, before any model is loaded."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from lightning.pytorch import LightningDataModule, LightningModule, Trainer

from core_lightning.cli.prompt_check import Reader, check_room
from core_lightning.peers.config import PeerConfig
from core_lightning.protocol.prompts import PromptSettings
from core_lightning.protocol.round_settings import RoundSettings
from core_lightning.records import Problem
from core_lightning.report.visible import visible

#: Stands where the teacher's derivation will be.
HINT = "<the teacher's derivation, its final answer removed>"


class CoreTrainer(Trainer):
    """A Trainer that can also preview prompts."""

    def preview(
        self,
        model: LightningModule,
        datamodule: LightningDataModule,
        problems: int = 3,
        ckpt_path: str | None = None,
        weights_only: bool | None = None,
    ) -> None:
        """Load the data and the tokenizers, and print the prompts of some training problems with their token counts.

        Args:
            model: The module; its peers are not loaded.
            datamodule: The problems.
            problems: How many to show.
            ckpt_path: Not read; a run's config names it.
            weights_only: Not read; a run's config names it.
        """
        module: Any = model
        data: Any = datamodule
        data.setup()
        check_room(data.splits, module.peer_configs, module.prompt)
        for text in render(data.splits["train"][:problems], module.peer_configs, module.prompt, module.rounds):
            print(visible(text))


def render(
    problems: Sequence[Problem], peers: dict[str, PeerConfig], prompts: PromptSettings, rounds: RoundSettings
) -> Iterator[str]:
    """The prompts of both rounds as each peer will read them, special tokens included."""
    readers = [Reader(name, config) for name, config in peers.items()]
    for problem in problems:
        yield f"=== problem {problem.id} ({problem.kind}, gold {problem.answer})"
        for reader in readers:
            cold = reader.encode(problem, prompts)
            hinted = reader.encode(problem, prompts, HINT)
            # The longest hint takes the place of the one that stands for it, and is cut to the room there is.
            frame = len(hinted) - len(reader.tokenizer(HINT, add_special_tokens=False)["input_ids"])
            longest = min(frame + rounds.hint_tokens, reader.room)
            note = "" if len(cold) <= reader.room else f", LEFT OUT: longer than the room of {reader.room}"
            yield f"--- {reader.name}, cold round: {len(cold)} tokens{note}\n{reader.tokenizer.decode(cold)}"
            yield (
                f"--- {reader.name}, rescue round: {len(hinted)} tokens, {longest} with the longest hint\n"
                f"{reader.tokenizer.decode(hinted)}"
            )
