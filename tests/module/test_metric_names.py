"""The dictionary of metric names is that of a run."""

from __future__ import annotations

import re
from pathlib import Path

from core_lightning.callbacks import MetricsCsv, RescueRateCallback
from core_lightning.callbacks.metrics_csv import read_metrics
from runs import build, data, peer, trainer

DOCUMENT = Path(__file__).parents[2] / "docs/metrics.md"


def general(name: str) -> str:
    """A name without what is of this run alone."""
    name = re.sub(r"^reward/\w+/", "reward/<term>/", name)
    name = re.sub(r"/(first|second)(?=/|$)", "/<peer>", name)
    return re.sub(r"pass_at_\d+", "pass_at_<k>", name)


def test_every_name_is_explained_and_no_other(llama_folder: Path, neox_folder: Path, tmp_path: Path) -> None:
    module = build({"first": peer(llama_folder), "second": peer(neox_folder)})
    run = trainer(tmp_path, RescueRateCallback(), limit_train_batches=1, log_every_n_steps=1)
    run.loggers = [MetricsCsv(tmp_path)]
    run.fit(module, datamodule=data(tmp_path, val_fraction=0.25))
    written = {n for row in read_metrics(tmp_path / "metrics.csv") for n in row} - {"step", "epoch"}
    bounds = {n.rpartition("/")[0] for n in written if n.endswith(("/low", "/high"))}
    named = {general(n) for n in written if not n.endswith(("/low", "/high"))}
    explained = re.findall(r"^\| `(.+?)` \| (.*) \|$", DOCUMENT.read_text(encoding="utf-8"), re.MULTILINE)
    assert named == {name for name, _ in explained}
    assert len(explained) == len(named)
    assert bounds == {n for n in written if n.startswith("val/") and "chance" not in n and not n.endswith(("/low", "/high"))}
