"""The trainer of the command line: what Lightning's can do, a preview of prompts, one question, and export."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lightning.pytorch import LightningDataModule, LightningModule

from core_lightning.cli.export import export_run
from core_lightning.cli.preview import CoreTrainer
from core_lightning.data import ProblemLoader
from core_lightning.peers.merging import MergedType
from core_lightning.records import AnswerKind, Problem
from core_lightning.report.answers import told, told_rescues


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
    """A Trainer that can also be asked, and that hands trained adapters on."""

    def ask(
        self,
        model: LightningModule,
        datamodule: LightningDataModule,
        question: str,
        answer: str | None = None,
        kind: AnswerKind = "auto",
        texts: bool = False,
        rescue: bool = False,
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
            rescue: Peers that all failed try again with a hint of a peer that did not. Without a gold answer the
                majority's takes its place: who never gave it is shown a derivation that led to it.
            ckpt_path: A checkpoint of the team; without one the peers answer as they are before training.
            weights_only: As in ``predict``: a run's config names it.
        """
        data = OneQuestion(Problem("question", question, answer or "", kind))
        module: Any = model
        module.predict_rescue = rescue
        batches: Any = self.predict(model, datamodule=data, ckpt_path=ckpt_path, weights_only=weights_only)
        (found,) = batches[0] or [None]
        if found is None:
            raise ValueError(
                "the question is longer than a peer's room; raise peers.<name>.generation.max_prompt_tokens"
            )
        if not self.is_global_zero:
            return  # every process has asked the same
        if texts:
            for peer, completions in found["texts"].items():
                for text in completions:
                    print(f"--- {peer}\n{text.strip()}")
        print(told(found))
        if rescue:
            print(told_rescues(found))

    def export(
        self,
        model: LightningModule,
        datamodule: LightningDataModule,
        run: str,
        peer: str | None = None,
        merge: bool = False,
        push: str | None = None,
        private: bool = False,
        output: str | None = None,
        dtype: MergedType = "auto",
        tolerance: float = 0.05,
        ckpt_path: str | None = None,
        weights_only: bool | None = None,
    ) -> None:
        """Merge the adapters of a run into their bases, or push them to the model hub.

        Args:
            model: The team; its peers are not loaded.
            datamodule: The problems; merged models are checked with some that were held out.
            run: Folder of the run, whose ``adapters/<peer>`` are meant.
            peer: Of one peer only.
            merge: Write models that need no adapter, each merged into a fresh 16-bit base, not into the packed copy it
                was trained on. Needs memory for the base in float32.
            push: Upload each folder, merged or not, as ``<push>-<peer>``; the token is read from HF_TOKEN.
            private: Create the repositories as private ones.
            output: Where merged models are written; unset, ``<run>/merged``.
            dtype: Of merged weights; ``auto`` is the base's own if that has 16 bits, else bfloat16.
            tolerance: Largest mean difference of log-probabilities between a merged model, and base and adapter, in nats
                per token. A merged model that differs by more is not kept.
            ckpt_path: Not read; a run's config names it.
            weights_only: Not read; a run's config names it.
        """
        where = None if output is None else Path(output)
        export_run(
            model,
            datamodule,
            Path(run),
            peer=peer,
            merge=merge,
            push=push,
            private=private,
            output=where,
            dtype=dtype,
            tolerance=tolerance,
        )
