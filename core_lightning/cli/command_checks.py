"""What can be known to be wrong with a command before anything is built."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml
from jsonargparse import get_loader


class RepeatedKeyError(yaml.YAMLError):
    """A mapping of a config names a key twice, where YAML would silently keep the last one: two peers of one name."""


def load_yaml_once(text: str) -> Any:
    """YAML as the parser reads it, with every key of a mapping once.

    Raises:
        RepeatedKeyError: Names the key and both lines.

    >>> load_yaml_once("peers: {a: 1, a: 2}")
    Traceback (most recent call last):
    core_lightning.cli.command_checks.RepeatedKeyError: key 'a' stands twice in peers, lines 1 and 1; rename or remove one
    """
    if ":" in text:  # values on the command line come here, too
        _refuse_repeated_keys(yaml.compose(text, Loader=yaml.SafeLoader), "the config")
    return _YAML(text)


_YAML = get_loader("yaml")


def _refuse_repeated_keys(node: yaml.Node | None, name: str) -> None:
    children: list[tuple[str, yaml.Node]] = []
    if isinstance(node, yaml.MappingNode):
        lines: dict[str, int] = {}
        for key, value in node.value:
            line = key.start_mark.line + 1
            if key.value in lines:
                raise RepeatedKeyError(
                    f"key {key.value!r} stands twice in {name}, lines {lines[key.value]} and {line}; rename or remove one"
                )
            lines[str(key.value)] = line
            children.append((str(key.value), value))
    elif isinstance(node, yaml.SequenceNode):
        children = [(name, value) for value in node.value]
    for child, value in children:
        _refuse_repeated_keys(value, child)


def checkpoint_path(given: str, root: str | Path) -> str:
    """The file that ``--ckpt_path`` means: ``last`` and ``best`` are those of the run folder.

    >>> checkpoint_path("best", "runs/x")
    'runs/x/checkpoints/best.ckpt'
    """
    return str(Path(root) / "checkpoints" / f"{given}.ckpt") if given in ("last", "best") else given


def check_unfinished(checkpoint: dict[str, Any], trainer: Any) -> None:
    """Refuse to resume a run that has nothing left to do; one without its report was killed before it, and writes it.

    Args:
        checkpoint: What the checkpoint holds.
        trainer: The trainer's part of the config.

    Raises:
        ValueError: Names the step it ended at and the setting to raise.
    """
    if not (Path(trainer.default_root_dir or ".") / "report.html").exists():
        return
    steps = int(checkpoint.get("global_step", 0))
    at = checkpoint.get("core_lightning", {}).get("batches_done", steps)
    if 0 < trainer.max_steps <= steps:
        raise ValueError(
            f"the run is complete at step {at}; raise trainer.max_steps, which is {trainer.max_steps}, to go on"
        )
    epochs = checkpoint.get("loops", {}).get("fit_loop", {}).get("epoch_progress", {}).get("current", {})
    if trainer.max_epochs is not None and 0 <= trainer.max_epochs <= epochs.get("completed", 0):
        raise ValueError(
            f"the run is complete at step {at}, the end of epoch {trainer.max_epochs}; raise trainer.max_epochs to go on"
        )


def check_trainer(trainer: Any) -> None:
    """Refuse trainer settings whose place is elsewhere, because several adapters are optimized by hand.

    Args:
        trainer: The trainer's part of the config.

    Raises:
        ValueError: Names the setting and the one that takes its place.
    """
    if trainer.gradient_clip_val is not None or trainer.gradient_clip_algorithm is not None:
        raise ValueError(
            "trainer.gradient_clip_val clips all peers together; set model.max_grad_norm, which clips each"
        )
    if trainer.accumulate_grad_batches != 1:
        raise ValueError(
            f"trainer.accumulate_grad_batches is {trainer.accumulate_grad_batches}; leave it at 1 and raise "
            "data.batch_size: the loss is taken in micro-batches of peers.<name>.score_batch_tokens in any case"
        )
