"""The command line: one LightningCLI, built the same way for ``python -m core_lightning`` and for tests."""

from __future__ import annotations

import os
import signal
import sys
from argparse import ArgumentError
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from jsonargparse import set_loader
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import ProgressBar
from lightning.pytorch.cli import ArgsType, LightningArgumentParser, LightningCLI
from lightning.pytorch.utilities import rank_zero_info, rank_zero_only
from lightning.pytorch.utilities.exceptions import SIGTERMException
from yaml import YAMLError

# Bare class names in configs resolve only for classes that are imported here.
import core_lightning.callbacks
import core_lightning.data
import core_lightning.objectives
import core_lightning.rewards  # noqa: F401
from core_lightning.callbacks import (
    AdapterCheckpoint,
    EvaluationFolder,
    LearningWatch,
    MetricsCsv,
    RescueProgressBar,
    RescueRateCallback,
    RunConfig,
    RunFolder,
    RunReport,
    RunSummary,
    TeamPassAtKCallback,
    TraceLog,
    TrackerMedia,
    check_run_folder,
    claim,
)
from core_lightning.callbacks.evaluation_folder import STAGES
from core_lightning.callbacks.run_folder import release_all
from core_lightning.callbacks.team_pass_at_k import check_k
from core_lightning.cli.command_checks import check_unfinished, checkpoint_path, load_yaml_once
from core_lightning.cli.compare import compare
from core_lightning.cli.config_checks import (
    check_monitors,
    check_peers,
    check_place,
    check_trainer,
    check_values,
    several_processes,
    trial_optimizer,
)
from core_lightning.cli.endings import ending, until_nobody_reads
from core_lightning.cli.error_lines import accepted_settings
from core_lightning.cli.help_texts import parser_texts
from core_lightning.cli.layers import one_config
from core_lightning.cli.no_effect import without_effect
from core_lightning.cli.prompt_check import check_room
from core_lightning.cli.quiet import quiet_others
from core_lightning.cli.signals import EndTogether, SecondInterrupt, end_on_hang_up
from core_lightning.cli.size_checks import check_step
from core_lightning.cli.tracker_check import begin_trackers
from core_lightning.cli.trainer import CommandTrainer
from core_lightning.data import RescueDataModule
from core_lightning.data.splits import Split
from core_lightning.module import CollaborativeReasoningModule, SoloReasoningModule, TrioReasoningModule  # noqa: F401
from core_lightning.records import Problem
from core_lightning.report.evaluation import figure_names
from core_lightning.report.visible import visible
from core_lightning.training.resume import check_data, check_resume, earlier_evaluations, read_checkpoint
from core_lightning.training.strategies import DDP_NAMES, TeamStrategy
from core_lightning.training.strategy_checks import check_strategy


class CommandParser(LightningArgumentParser):
    """A parser that checks what it parses once, and whose list of commands is ours."""

    def dump(self, *args: Any, **kwargs: Any) -> str:
        """As of any parser, without checking again what it has just parsed, which takes as long as parsing."""
        return super().dump(*args, **{"skip_validation": True, **kwargs})

    def add_subcommands(self, *args: Any, **kwargs: Any) -> Any:
        """As of any parser, but the list of commands says what their own help says, not what Lightning's trainer does."""
        commands: Any = super().add_subcommands(*args, **kwargs)
        add = commands.add_subcommand
        commands.add_subcommand = lambda name, parser, **own: add(name, parser, **own | {"help": parser.description})
        return commands


class CoreCLI(LightningCLI):
    """LightningCLI with the run folder's callbacks; each has its own section in the config."""

    @staticmethod
    def subcommands() -> dict[str, set[str]]:
        """The four of Lightning; ``preview``: prompts, no model is loaded; ``ask``: one question; ``export``: adapters."""
        skipped = {name: {*own, "verbose", "return_predictions"} for name, own in LightningCLI.subcommands().items()}
        return {**skipped, **{name: {"model", "datamodule"} for name in ("preview", "ask", "export")}}

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Give every callback of the run folder a section of its own."""
        parser.add_lightning_class_args(RunFolder, "run_folder")
        parser.add_lightning_class_args(TeamPassAtKCallback, "pass_at_k")
        parser.add_lightning_class_args(RescueRateCallback, "rescue_rate")
        parser.add_lightning_class_args(TraceLog, "trace_log")
        parser.add_lightning_class_args(AdapterCheckpoint, "checkpoint")
        parser.add_lightning_class_args(RunSummary, "summary")
        parser.add_lightning_class_args(RunReport, "report")
        parser.add_lightning_class_args(LearningWatch, "learning_watch")
        parser.add_lightning_class_args(TrackerMedia, "tracker")

    def parse_arguments(self, parser: LightningArgumentParser, args: ArgsType) -> None:
        """Bring config files and switches together; refuse a checkpoint that cannot be read."""
        with TemporaryDirectory() as folder:
            if args is None or isinstance(args, list):
                args = self._merged(sys.argv[1:] if args is None else args, Path(folder))
            super().parse_arguments(parser, args)
        subcommand = self.config.get("subcommand")
        self.checkpoint: dict[str, Any] | None = None
        if subcommand and (checkpoint := self.config[subcommand].get("ckpt_path")):
            config = self.config[subcommand]
            config.ckpt_path = checkpoint_path(str(checkpoint), config.trainer.default_root_dir or os.getcwd())
            self.checkpoint = read_checkpoint(config.ckpt_path)
            if subcommand == "fit":
                check_unfinished(self.checkpoint, config.trainer)

    def _merged(self, args: Sequence[str], folder: Path) -> list[str]:
        at = next((i for i, argument in enumerate(args) if argument in CoreCLI.subcommands()), None)
        if at is None:
            return list(args)
        return [*args[: at + 1], *one_config(args[at + 1 :], folder, accepted_settings)]

    def before_instantiate_classes(self) -> None:
        """Refuse a folder that holds another run, before anything is built."""
        config = self.config.get(self.subcommand) if self.subcommand else None
        if config is None:
            return
        check_values(config)
        check_peers(config.get("model.init_args.peers") or {})
        check_place(config.trainer.default_root_dir)
        check_trainer(config.trainer, fit=self.subcommand == "fit", command=self.subcommand)
        if self.subcommand == "fit" and not config.trainer.fast_dev_run:
            folder = config.trainer.default_root_dir or os.getcwd()
            if getattr(rank_zero_only, "rank", 0) == 0:
                claim(folder)
            check_run_folder(folder, config.get("ckpt_path"))

    def instantiate_classes(self) -> None:
        """Build everything; an error of whatever kind is one line here, since nothing has begun."""
        try:
            super().instantiate_classes()
            team = self.model
            check_strategy(self.trainer, team.peer_configs, team.share_base, team.parallel_peers)
        except (ValueError, ModuleNotFoundError, ArgumentError, MisconfigurationException):
            raise
        except Exception as error:
            raise ValueError(f"{type(error).__name__}: {' '.join(str(error).split())[:300]}") from error

    def before_fit(self) -> None:
        """Load the data and look for problems that are too long, before any model; say which settings do nothing."""
        callbacks: list[Any] = vars(self.trainer)["callbacks"]
        k = next(c.k for c in callbacks if isinstance(c, TeamPassAtKCallback))
        check_monitors(callbacks, figure_names(list(self.model.peer_configs), k))
        check_step(self.model, self.datamodule.batch_size)
        optimizer = trial_optimizer(self.model.make_optimizer)
        self._check_checkpoint(type(optimizer).__name__)
        if self.checkpoint is not None:
            check_data(self.checkpoint, self.datamodule, self.trainer.world_size)
            check_k(earlier_evaluations(self.checkpoint), k)
        for line in without_effect(self.model):
            rank_zero_info(line)
        self._check_room("train", "val")
        begin_trackers(logger for logger in self.trainer.loggers if not isinstance(logger, MetricsCsv))

    def before_validate(self) -> None:
        """As before training, for the problems that will be asked."""
        self._check_checkpoint()
        if not self.datamodule.splits["val"]:
            setting = "val_size" if hasattr(self.datamodule, "sizes") else "val_fraction"
            raise ValueError(f"{self.datamodule.source} has no validation problems; set data.{setting} above 0")
        self._check_room("val")

    def before_test(self) -> None:
        """As before training, for the problems that will be asked."""
        self._check_checkpoint()
        if not self.datamodule.splits["test"]:
            raise ValueError(
                f"{self.datamodule.source} has no test problems; set data.test_fraction or data.test_size above 0"
            )
        self._check_room("test")

    def before_predict(self) -> None:
        """As before training, for the questions of the file or the test problems."""
        self._check_checkpoint()
        self._check_problems(test=self.datamodule.questions)

    def predict(self, **kwargs: Any) -> None:
        """Write every answer down; nothing is kept in memory for a caller."""
        self.trainer.predict(**kwargs, return_predictions=False)

    def validate(self, **kwargs: Any) -> None:
        """Evaluate the validation problems; the tables take the place of Lightning's."""
        self.trainer.validate(**kwargs, verbose=False)

    def test(self, **kwargs: Any) -> None:
        """Evaluate the test problems."""
        self.trainer.test(**kwargs, verbose=False)

    def before_ask(self) -> None:
        """As before training, for the checkpoint."""
        self._check_checkpoint()

    def _check_checkpoint(self, optimizer: str | None = None) -> None:
        if self.checkpoint is not None:
            check_resume(self.checkpoint, self.model.peer_configs, optimizer)

    def _check_room(self, *splits: Split) -> None:
        self._check_problems(**{split: self.datamodule.splits[split] for split in splits})

    def _check_problems(self, **problems: Sequence[Problem]) -> None:
        check_room(problems, self.model.peer_configs, self.model.prompt)

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        """Add the progress bar unless it is switched off or another is given, and leave checkpoints out if they are."""
        config = self.config_init[self.subcommand] if self.subcommand else self.config_init
        own = _listed(config.trainer.get("callbacks"))
        if config.trainer.get("enable_progress_bar") is not False and not any(isinstance(c, ProgressBar) for c in own):
            kwargs["callbacks"] = [*own, RescueProgressBar()]
        if self.subcommand not in (None, "fit"):
            kwargs["logger"] = False  # an evaluation has a folder of its own; only a training is logged
            if self.subcommand in STAGES:
                own = kwargs.get("callbacks") or _listed(config.trainer.get("callbacks"))
                kwargs["callbacks"] = [*own, EvaluationFolder()]
        elif config.trainer.get("logger") is not False:
            # metrics.csv is in the run folder whatever else logs.
            own = config.trainer.get("logger")
            others = own if isinstance(own, list) else [own] if own not in (None, True) else []
            kwargs["logger"] = [MetricsCsv(config.trainer.get("default_root_dir") or os.getcwd()), *others]
        given = config.trainer.get("strategy", "auto")
        if given in DDP_NAMES or (given == "auto" and several_processes(config.trainer)):
            kwargs["strategy"] = TeamStrategy()
        # Lightning refuses a checkpoint callback without this setting, and ours is always configured.
        trainer: Any = super().instantiate_trainer(**kwargs | {"enable_checkpointing": True})
        if config.trainer.get("enable_checkpointing") is False:
            trainer.callbacks = [c for c in trainer.callbacks if not isinstance(c, AdapterCheckpoint)]
        trainer.callbacks[:0] = [SecondInterrupt(), EndTogether()]  # before those that save
        # The bar comes last: it shows what the others have counted in the same step.
        trainer.callbacks.sort(key=lambda callback: isinstance(callback, RescueProgressBar))
        return trainer


def _listed(callbacks: Any) -> list[Any]:
    """The trainer's callbacks, of which a config may name a single one without a list."""
    return callbacks if isinstance(callbacks, list) else [] if callbacks is None else [callbacks]


def build_cli(args: ArgsType = None, run: bool = True) -> CoreCLI:
    """The one place where the command line is put together.

    Args:
        args: Arguments instead of ``sys.argv``.
        run: Run the subcommand; off, only build trainer, module and data module.
    """
    args = spelled_out(args)
    set_loader("yaml", load_yaml_once, exceptions=(YAMLError,))
    cli = _for_command(args)
    return cli(
        CollaborativeReasoningModule,
        RescueDataModule,
        trainer_class=CommandTrainer,
        parser_class=CommandParser,
        subclass_mode_model=True,
        subclass_mode_data=True,
        auto_configure_optimizers=False,
        seed_everything_default=42,
        save_config_callback=RunConfig if run else None,
        trainer_defaults={
            "precision": "32-true",  # peers have their own compute types; adapters stay float32
            "enable_checkpointing": True,
            "enable_model_summary": False,
            "log_every_n_steps": 1,
            "num_sanity_val_steps": -1,  # a full evaluation before step one: the "before" of the final table
        },
        args=args,
        run=run,
        # Errors of parsing are raised, so that main() can put them in one line.
        parser_kwargs=_parser_settings(list(cli.subcommands())),
    )


def _parser_settings(commands: list[str]) -> dict[str, Any]:
    texts = parser_texts(commands)
    return {"exit_on_error": False, **texts, **{c: {"exit_on_error": False, **texts[c]} for c in commands}}


def _for_command(args: ArgsType) -> type[CoreCLI]:
    """A command line that knows the command it begins with alone: to describe all of them takes longer than to parse one."""
    given = sys.argv[1:] if args is None else args
    commands = CoreCLI.subcommands()
    if not isinstance(given, list) or not given or given[0] not in commands:
        return CoreCLI
    return type("CoreCLI", (CoreCLI,), {"subcommands": staticmethod(lambda: {given[0]: commands[given[0]]})})


_YES_OR_NO = (["true"], ["false"])
#: Switches that may stand without a value.
_FLAGS = {"ask": ("--rescue", "--texts"), "export": ("--merge", "--private")}


def spelled_out(args: ArgsType) -> ArgsType:
    """Arguments with ``ask "..."``, ``--run FOLDER`` and the switches of ``export`` in their long form.

    ``--run`` stands for the config, the last checkpoint and the folder of a run, which may have been copied or moved since
    its config was written; ``preview`` and ``export`` read no checkpoint, and ``export`` works on a processor wherever the
    run was trained.

    Raises:
        ValueError: ``--run`` stands without a folder.

    >>> spelled_out(["ask", "1 + 1 =", "--run", "runs/x"])  # doctest: +NORMALIZE_WHITESPACE
    ['ask', '--config=runs/x/config.yaml', '--trainer.default_root_dir=runs/x',
     '--ckpt_path=runs/x/checkpoints/last.ckpt', '--question=1 + 1 =']
    """
    given = list(sys.argv[1:] if args is None else args) if args is None or isinstance(args, list) else []
    if not given:
        return args
    rest, run, i = [], None, 0
    while i < len(given):
        if given[i] == "--run":
            if i + 1 == len(given) or given[i + 1].startswith("--"):
                raise ValueError(f"--run names no run; give the folder of one, as {given[0]} --run runs/first")
            run, i = given[i + 1], i + 1
        elif given[i].startswith("--run="):
            run = given[i].removeprefix("--run=")
        elif given[0] == "ask" and i == 1 and not given[i].startswith("-"):
            rest.append(f"--question={given[i]}")
        elif given[i] in _FLAGS.get(given[0], ()) and given[i + 1 : i + 2] not in _YES_OR_NO:
            rest.append(f"{given[i]}=true")
        else:
            rest.append(given[i])
        i += 1
    if run is not None:
        folder = Path(run)
        own = [f"--config={folder / 'config.yaml'}", f"--trainer.default_root_dir={folder}"]
        if given[0] == "export":
            anywhere = ("accelerator=cpu", "devices=1", "strategy=auto", "num_nodes=1")
            rest[1:1] = [*own, f"--run={run}", *(f"--trainer.{s}" for s in anywhere)]
            return rest
        loaded = [] if given[0] == "preview" else [f"--ckpt_path={folder / 'checkpoints' / 'last.ckpt'}"]
        rest[1:1] = [*own, *loaded]
    return rest


@until_nobody_reads()
def main(args: ArgsType = None) -> None:
    """Run a command; a setting that cannot work ends with one line and exit code 2, a run that has to stop with 1."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    quiet_others()
    end_on_hang_up()
    given = sys.argv[1:] if args is None else args
    try:
        if isinstance(given, list) and given[:1] == ["compare"]:
            compare(given[1:])  # needs no model and no config
        else:
            build_cli(args)
    except SIGTERMException:
        # What a shell says of a process that was told to end; other ranks leave it to the first one to say so.
        first = getattr(rank_zero_only, "rank", 0) == 0
        raise SystemExit(128 + signal.SIGTERM if first else 0) from None
    except Exception as error:
        end = ending(error)
        if end is None or os.environ.get("CORE_LIGHTNING_TRACEBACK"):
            raise
        line, code = end
        print(f"error: {visible(line)}", file=sys.stderr)
        raise SystemExit(code) from None
    finally:
        release_all()
