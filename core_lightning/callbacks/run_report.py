"""``report.html``: one page about a run that can be read anywhere, with its figures as PNG beside it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from lightning.pytorch import Trainer
from lightning.pytorch.utilities import rank_zero_info

from core_lightning.callbacks.evaluation_folder import write
from core_lightning.callbacks.rescue_rate import RescueRateCallback
from core_lightning.callbacks.run_facts import run_facts
from core_lightning.callbacks.run_folder import leaves_files
from core_lightning.callbacks.run_summary import run_tables
from core_lightning.callbacks.siblings import find_callback
from core_lightning.callbacks.step_history import StepHistory
from core_lightning.callbacks.team_pass_at_k import TeamPassAtKCallback
from core_lightning.report.explore import MISSING, can_explore, render_explore, some_traces
from core_lightning.report.figures import draw_figures
from core_lightning.report.page import render_report
from core_lightning.report.plotting import RunData


class RunReport(StepHistory):
    """Writes ``report.html``, ``figures/*.png`` and, with plotly installed, ``explore.html`` into the run folder.

    It does so when the run ends or is stopped with Ctrl-C.

    The page needs nothing from the network and follows the reader's light or dark setting.

    Args:
        rescues: How many rescues to print in full, and how many hints that did not help; :class:`RescueRateCallback` must
            keep as many.
    """

    prefixes = ("time/", "train/", "reward/")

    def __init__(self, rescues: int = 20) -> None:
        super().__init__()
        if rescues < 0:
            raise ValueError(f"report.rescues is {rescues}; set it to 0 or more")
        self.rescues = rescues

    def on_fit_end(self, trainer: Trainer, pl_module: Any) -> None:
        """Draw and write."""
        if not trainer.is_global_zero or not leaves_files(trainer):
            return
        folder = Path(trainer.default_root_dir)
        evaluations = find_callback(trainer, TeamPassAtKCallback)
        history = [e for e in evaluations.history if e["stage"] == "val"] if evaluations is not None else []
        counts = find_callback(trainer, RescueRateCallback)
        run = RunData(list(pl_module.peer_configs), self.columns, history)
        explored = can_explore()
        if explored:
            traces, count = some_traces(folder / "traces.jsonl")
            write(folder / "explore.html", render_explore(folder.resolve().name, run, traces, count))
        panels = [(panel, folder / "figures" / f"{panel.name}.png") for panel in draw_figures(run, folder / "figures")]
        page = render_report(
            title=folder.resolve().name,
            run=run,
            tables=list(run_tables(trainer, self, list(run.peers), rescues=0)),
            panels=panels,
            rescues=counts.rescues[: self.rescues] if counts is not None else [],
            failed=counts.failed[: self.rescues] if counts is not None else [],
            counts=counts.totals() if counts is not None else None,
            manifest=_manifest(folder),
            facts=run_facts(trainer, pl_module),
            explore="explore.html" if explored else None,
            explore_hint=MISSING,
        )
        write(folder / "report.html", page)
        rank_zero_info(f"report: {folder / 'report.html'}")

    def on_exception(self, trainer: Trainer, pl_module: Any, exception: BaseException) -> None:
        """Write about the steps there were when the user stops the run."""
        if isinstance(exception, KeyboardInterrupt) and trainer.state.fn == "fit" and self.columns["step"]:
            self.on_fit_end(trainer, pl_module)


def _manifest(folder: Path) -> dict[str, Any]:
    path = folder / "manifest.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
