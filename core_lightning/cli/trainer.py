"""The trainer of the command line: what Lightning's can do, a preview of prompts, and one question to a trained team."""

from __future__ import annotations

from typing import Any

from lightning.pytorch import LightningDataModule, LightningModule

from core_lightning.cli.preview import CoreTrainer
from core_lightning.data import ProblemLoader
from core_lightning.records import AnswerKind, Problem
from core_lightning.report.answers import told


class OneQuestion(LightningDataModule):
    """A single problem."""

    def __init__(self, problem: Problem) -> None:
        super().__init__()
        self.problem = problem

    def predict_dataloader(self) -> ProblemLoader:
        """The problem, once."""
        return ProblemLoader([self.problem], batch_size=1)

    def transfer_batch_to_device(self, batch: Any, device: Any, dataloader_idx: int) -> Any:
        """Problems are text and stay where they are."""
        return batch


class CommandTrainer(CoreTrainer):
    """A Trainer that can also be asked."""

    def ask(
        self,
        model: LightningModule,
        datamodule: LightningDataModule,
        question: str,
        answer: str | None = None,
        kind: AnswerKind = "auto",
        texts: bool = False,
        ckpt_path: str | None = None,
        weights_only: bool | None = None,
    ) -> None:
        """Ask a trained team one question, and print every peer's answers and the majority.

        Args:
            model: The team.
            datamodule: Not read.
            question: The question.
            answer: Its gold answer, if it is known.
            kind: How the answers are read.
            texts: Print whole completions as well.
            ckpt_path: A checkpoint of the team; without one the peers answer as they are before training.
            weights_only: As in ``predict``: a run's config names it.
        """
        data = OneQuestion(Problem("question", question, answer or "", kind))
        batches: Any = self.predict(model, datamodule=data, ckpt_path=ckpt_path, weights_only=weights_only)
        (found,) = batches[0] or [None]
        if found is None:
            raise ValueError(
                "the question is longer than a peer's room; raise peers.<name>.generation.max_prompt_tokens"
            )
        if texts:
            for peer, completions in found["texts"].items():
                for text in completions:
                    print(f"--- {peer}\n{text.strip()}")
        print(told(found))
