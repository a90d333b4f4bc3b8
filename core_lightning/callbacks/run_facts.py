"""The facts of a running training that matter, gathered from its trainer, module and callbacks."""

from __future__ import annotations

from typing import Any

from lightning.pytorch import Trainer

from core_lightning.callbacks.run_summary import RunSummary
from core_lightning.callbacks.siblings import find_callback
from core_lightning.report.facts import facts
from core_lightning.report.machine import machine


def run_facts(trainer: Trainer, pl_module: Any) -> dict[str, str]:
    """Settings that decide the result, how long the run took, and on what machine, by name."""
    groups = trainer.optimizers[0].param_groups if trainer.optimizers else []
    summary = find_callback(trainer, RunSummary)
    problems = getattr(getattr(trainer, "datamodule", None), "batch_size", None)  # of each process
    found = facts(
        pl_module.settings() if hasattr(pl_module, "settings") else {},
        rates={group["name"]: group.get("initial_lr", group["lr"]) for group in groups if "name" in group},
        optimizer=type(trainer.optimizers[0]).__name__ if groups else "",
        steps=pl_module.batches_done,
        problems=problems and problems * trainer.world_size,
        seconds=summary.seconds if summary is not None else None,
        machine=machine(),
    )
    if trainer.state.fn == "fit" and trainer.ckpt_path is not None and "Took" in found:
        found["Took"] += " since the run was resumed"
    return found
