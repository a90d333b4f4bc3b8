"""``--trainer.enable_checkpointing false``: a trial run that keeps its log and no weights."""

from collections.abc import Callable
from pathlib import Path

from core_lightning.cli.main import main


def test_nothing_is_saved(config: Callable[..., Path], tmp_path: Path) -> None:
    main(["fit", f"--config={config()}", "--trainer.enable_checkpointing=false", "--trainer.max_steps=1"])
    run = tmp_path / "run"
    assert (run / "traces.jsonl").stat().st_size > 0
    assert not list(tmp_path.rglob("*.ckpt"))
    assert not (run / "adapters").exists()
