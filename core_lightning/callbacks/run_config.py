"""``config.yaml``: in the run folder of a training, whatever its logger; in an evaluation's own folder otherwise."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from jsonargparse import Namespace
from lightning.pytorch import Trainer
from lightning.pytorch.cli import LightningArgumentParser, SaveConfigCallback

from core_lightning.callbacks.evaluation_folder import EvaluationFolder
from core_lightning.callbacks.run_folder import leaves_files
from core_lightning.callbacks.siblings import find_callback


class RunConfig(SaveConfigCallback):
    """Saves the settings of a command beside what it leaves behind.

    The checkpoint a command began with is not among them: a run that is made again from its config begins anew.

    Args:
        parser: Of the command.
        config: Its settings.
    """

    def __init__(self, parser: LightningArgumentParser, config: Namespace) -> None:
        super().__init__(parser, config, save_to_log_dir=False, overwrite=True)

    def setup(self, trainer: Trainer, pl_module: Any, stage: str) -> None:
        """Nothing yet: a command that is refused while its models load leaves no file."""

    def on_fit_start(self, trainer: Trainer, pl_module: Any) -> None:
        """Save into the run folder."""
        if trainer.is_global_zero and leaves_files(trainer):
            self.write(Path(trainer.default_root_dir))

    def on_validation_end(self, trainer: Trainer, pl_module: Any) -> None:
        """Save into the evaluation's folder."""
        folder = find_callback(trainer, EvaluationFolder)
        if trainer.is_global_zero and folder is not None and folder.path is not None:
            self.write(folder.path)

    on_test_end = on_validation_end
    on_predict_end = on_validation_end

    def save_config(self, trainer: Trainer, pl_module: Any, stage: str) -> None:
        """Nothing more: :meth:`on_fit_start` knows where to."""

    def write(self, folder: Path) -> None:
        """Write ``config.yaml`` whole or not at all."""
        folder.mkdir(parents=True, exist_ok=True)
        config = self.config.clone()
        if config.get("ckpt_path") is not None:
            config["ckpt_path"] = None
        path = folder / self.config_filename
        fresh = path.with_name(f"{path.name}.new")
        # What was parsed was checked then; once more would take as long as parsing.
        self.parser.save(config, str(fresh), skip_unset=False, skip_validation=True, overwrite=True, multifile=False)
        fresh.replace(path)
