"""The command line: one LightningCLI, built the same way for ``python -m core_lightning`` and for tests."""

from __future__ import annotations

import os
import sys
from argparse import ArgumentError
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from jsonargparse import set_loader
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import Trainer
from lightning.pytorch.cli import ArgsType, LightningArgumentParser, LightningCLI, SaveConfigCallback
from yaml import YAMLError

# Bare class names in configs resolve only for classes that are imported here.
import core_lightning.callbacks
import core_lightning.data
import core_lightning.objectives
import core_lightning.rewards  # noqa: F401
from core_lightning.callbacks import (
    AdapterCheckpoint,
    MetricsCsv,
    RescueProgressBar,
    RescueRateCallback,
    RunFolder,
    RunReport,
    RunSummary,
    TeamPassAtKCallback,
    TraceLog,
    check_run_folder,
)
from core_lightning.cli.command_checks import check_checkpoint, check_trainer, load_yaml_once
from core_lightning.cli.error_lines import accepted_settings, one_line
from core_lightning.cli.layers import one_config
from core_lightning.cli.preview import CoreTrainer
from core_lightning.cli.prompt_check import check_room
from core_lightning.cli.quiet import quiet_others
from core_lightning.data import RescueDataModule
from core_lightning.data.splits import Split
from core_lightning.module import CollaborativeReasoningModule, SoloReasoningModule, TrioReasoningModule  # noqa: F401
from core_lightning.report.visible import visible

#: Errors of parsing are raised, so that main() can put them in one line.
_PARSER = {
    "exit_on_error": False,
    **{c: {"exit_on_error": False} for c in ("fit", "validate", "test", "predict", "preview")},
}


class CoreCLI(LightningCLI):
    """LightningCLI with the run folder's callbacks; each has its own section in the config."""

    @staticmethod
    def subcommands() -> dict[str, set[str]]:
        """The four of Lightning, and ``preview``: prompts of both rounds without loading a model."""
        return {**LightningCLI.subcommands(), "preview": {"model", "datamodule"}}

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Give every callback of the run folder a section of its own."""
        parser.add_lightning_class_args(RunFolder, "run_folder")
        parser.add_lightning_class_args(TeamPassAtKCallback, "pass_at_k")
        parser.add_lightning_class_args(RescueRateCallback, "rescue_rate")
        parser.add_lightning_class_args(TraceLog, "trace_log")
        parser.add_lightning_class_args(AdapterCheckpoint, "checkpoint")
        parser.add_lightning_class_args(RunSummary, "summary")
        parser.add_lightning_class_args(RunReport, "report")

    def parse_arguments(self, parser: LightningArgumentParser, args: ArgsType) -> None:
        """Bring config files and switches together; refuse a checkpoint that cannot be read."""
        with TemporaryDirectory() as folder:
            if args is None or isinstance(args, list):
                args = self._merged(sys.argv[1:] if args is None else args, Path(folder))
            super().parse_arguments(parser, args)
        subcommand = self.config.get("subcommand")
        if subcommand and (checkpoint := self.config[subcommand].get("ckpt_path")):
            check_checkpoint(str(checkpoint))

    def _merged(self, args: Sequence[str], folder: Path) -> list[str]:
        at = next((i for i, argument in enumerate(args) if argument in self.subcommands()), None)
        if at is None:
            return list(args)
        return [*args[: at + 1], *one_config(args[at + 1 :], folder, accepted_settings)]

    def before_instantiate_classes(self) -> None:
        """Refuse a folder that holds another run, before anything is built."""
        config = self.config.get(self.subcommand) if self.subcommand else None
        if self.subcommand == "fit" and config is not None:
            check_trainer(config.trainer)
            if not config.trainer.fast_dev_run:
                check_run_folder(config.trainer.default_root_dir or os.getcwd(), resuming=bool(config.get("ckpt_path")))

    def before_fit(self) -> None:
        """Load the data and look for problems that are too long, before any model."""
        self._check_room("train", "val")

    def before_validate(self) -> None:
        """As before training, for the problems that will be asked."""
        self._check_room("val")

    def before_test(self) -> None:
        """As before training, for the problems that will be asked."""
        self._check_room("test")

    before_predict = before_test

    def _check_room(self, *splits: Split) -> None:
        check_room({s: self.datamodule.splits[s] for s in splits}, self.model.peer_configs, self.model.prompt)

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        """Add the progress bar unless it is switched off, and leave checkpoints out if they are."""
        config = self.config_init[self.subcommand] if self.subcommand else self.config_init
        if config.trainer.get("enable_progress_bar") is not False:
            kwargs["callbacks"] = [*(config.trainer.get("callbacks") or []), RescueProgressBar()]
        if config.trainer.get("logger") is None:
            kwargs.setdefault("logger", MetricsCsv(config.trainer.get("default_root_dir") or os.getcwd()))
        # Lightning refuses a checkpoint callback without this setting, and ours is always configured.
        trainer: Any = super().instantiate_trainer(**kwargs | {"enable_checkpointing": True})
        if config.trainer.get("enable_checkpointing") is False:
            trainer.callbacks = [c for c in trainer.callbacks if not isinstance(c, AdapterCheckpoint)]
        # The bar comes last: it shows what the others have counted in the same step.
        trainer.callbacks.sort(key=lambda callback: isinstance(callback, RescueProgressBar))
        return trainer


def build_cli(args: ArgsType = None, run: bool = True) -> CoreCLI:
    """The one place where the command line is put together.

    Args:
        args: Arguments instead of ``sys.argv``.
        run: Run the subcommand; off, only build trainer, module and data module.
    """
    set_loader("yaml", load_yaml_once, exceptions=(YAMLError,))
    return CoreCLI(
        CollaborativeReasoningModule,
        RescueDataModule,
        trainer_class=CoreTrainer,
        subclass_mode_model=True,
        subclass_mode_data=True,
        auto_configure_optimizers=False,
        seed_everything_default=42,
        save_config_callback=SaveConfigCallback if run else None,
        save_config_kwargs={"overwrite": True},
        trainer_defaults={
            "precision": "32-true",  # peers have their own compute types; adapters stay float32
            "enable_checkpointing": True,
            "enable_model_summary": False,
            "log_every_n_steps": 1,
            "num_sanity_val_steps": -1,  # a full evaluation before step one: the "before" of the final table
        },
        args=args,
        run=run,
        parser_kwargs=_PARSER,
    )


def main(args: ArgsType = None) -> None:
    """Run a command; a setting that cannot work ends with one line and exit code 2."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    quiet_others()
    try:
        build_cli(args)
    except (ValueError, ModuleNotFoundError, ArgumentError, MisconfigurationException) as error:
        if os.environ.get("CORE_LIGHTNING_TRACEBACK"):
            raise
        print(f"error: {visible(one_line(error))}", file=sys.stderr)
        raise SystemExit(2) from None
