"""What can be known to be wrong with a command before anything is built."""

from __future__ import annotations

from functools import cache
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
        yaml.YAMLError: The text stands for more than anybody writes, by references to references.

    >>> load_yaml_once("peers: {a: 1, a: 2}")
    Traceback (most recent call last):
    core_lightning.cli.command_checks.RepeatedKeyError: key 'a' stands twice in peers, lines 1 and 1; rename or remove one
    """
    if ":" in text:  # values on the command line come here, too
        _check(text)
    return _YAML(text)


@cache
def _check(text: str) -> None:
    """Once for each text: the parser reads the same ones, the longest among them, several times for one command."""
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        _refuse_bombs(node, {})
        _refuse_repeated_keys(node, "the config")
    except RecursionError:
        raise yaml.YAMLError("it is nested too deeply to be read; write it with fewer levels") from None


_YAML = get_loader("yaml")
_MOST_VALUES = 1_000_000
"""Values of a config with every reference (``*name``) written out."""


def _refuse_bombs(node: yaml.Node | None, sizes: dict[int, int]) -> int:
    """Count the values that a node stands for; what is referred to many times is looked at once."""
    if node is None:
        return 0
    if id(node) in sizes:
        if sizes[id(node)] == 0:
            raise yaml.YAMLError("a value holds itself by a reference; write it out")
        return sizes[id(node)]
    sizes[id(node)], total = 0, 1
    if isinstance(node, yaml.MappingNode):
        total += sum(_refuse_bombs(part, sizes) for pair in node.value for part in pair)
    elif isinstance(node, yaml.SequenceNode):
        total += sum(_refuse_bombs(part, sizes) for part in node.value)
    if total > _MOST_VALUES:
        raise yaml.YAMLError(f"its references stand for more than {_MOST_VALUES:,} values; write out what is meant")
    sizes[id(node)] = total
    return total


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
    root = trainer.default_root_dir or "."
    if not (Path(root) / "report.html").exists():
        return
    states = checkpoint.get("callbacks", {}).values()
    if any(isinstance(state, dict) and state.get("ended") is False for state in states):
        also = f"; it was stopped in its last evaluation, which is done by: validate --run {root}"
    else:
        also = ""
    steps = int(checkpoint.get("global_step", 0))
    at = checkpoint.get("core_lightning", {}).get("batches_done", steps)
    if 0 < trainer.max_steps <= steps:
        raise ValueError(
            f"the run is complete at step {at}; raise trainer.max_steps, which is {trainer.max_steps}, to go on" + also
        )
    epochs = checkpoint.get("loops", {}).get("fit_loop", {}).get("epoch_progress", {}).get("current", {})
    if trainer.max_epochs is not None and 0 <= trainer.max_epochs <= epochs.get("completed", 0):
        raise ValueError(
            f"the run is complete at step {at}, the end of epoch {trainer.max_epochs}; raise trainer.max_epochs to go on"
            + also
        )
