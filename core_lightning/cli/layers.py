"""One config out of several files and switches.

What a later one says holds, and nothing else moves with it: a class that takes another's place comes with its own
settings, a reward term stands beside the others, and a part of a group of settings leaves the rest of the group alone.
The parser by itself would keep settings of the same name when a class is switched, and would drop every other entry of a
mapping.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from lightning.pytorch.utilities import rank_zero_info
from yaml import YAMLError

from core_lightning.cli.command_checks import load_yaml_once
from core_lightning.cli.config_checks import check_values
from core_lightning.cli.logger_names import logger_config
from core_lightning.rewards import default_terms, published_terms

Keys = tuple[str, ...]

#: Their classes share most settings (the team, the splits), so these stay when the class is switched.
_KEPT = (("model",), ("data",))
_PEERS = ("model", "init_args", "peers")
_REWARDS = ("model", "init_args", "rewards")
_LOGGER = ("trainer", "logger")
_ROOT = ("trainer", "default_root_dir")
_OPTIMIZER = ("model", "init_args", "optimizer")


class LayerError(ValueError):
    """Switches and files that cannot be brought together."""


def one_config(arguments: Sequence[str], folder: Path, accepted: Callable[[str, str], set[str] | None]) -> list[str]:
    """The arguments of a subcommand with all of its config files in one.

    Args:
        arguments: What follows the subcommand.
        folder: Where the merged config is written.
        accepted: Names of the settings of a class, from ``model`` or ``data`` and the class's name; None where it is
            unknown.

    Returns:
        The arguments that say the same. Files that cannot be read stay as they are, so that the parser tells what is
        wrong with them.

    Raises:
        LayerError: One line with the mend.
        ValueError: A number in them is not finite.
    """
    files, rest = _split(arguments)
    switches = list(_switches(rest))
    folds = [_is_folded(keys, value) for keys, value, _ in switches]
    folded = [(keys, value) for (keys, value, _), fold in zip(switches, folds, strict=True) if fold and keys != _LOGGER]
    layers = [_load(file) for file in files]
    for file, layer in zip(files, layers, strict=True):
        _check_places(file, layer or {})
    named = any(keys == _LOGGER for keys, *_ in switches)
    if not (layers or folded or named) or any(layer is None for layer in layers):
        return list(arguments)
    config: Any = {}
    added: set[str] = set()
    for layer in layers:
        added |= _terms(config)
        config = merge(config, layer, (), accepted)
    check_values(config)
    for keys, value, _ in switches:
        check_values(_nested(keys, value))
    for keys, value in folded:
        if keys[:3] == _PEERS:
            config = _put(config, _nested(keys, value))
        else:
            added |= _terms(config)
            config = merge(config, _nested(_reward_keys(keys), value), (), accepted)
    _leave_out_removed(config, added)
    _complete_rewards(config)
    _check_whole(config, switches)
    for keys, value, _ in switches:
        if keys[:3] != _REWARDS and keys != _LOGGER and isinstance(value, str):
            _switch(config, keys, value, {k for k, _, _ in switches})
    _complete_loggers(config, {keys: value for keys, value, _ in switches})
    taken = {i for (_, _, places), fold in zip(switches, folds, strict=True) if fold for i in places}
    merged = folder / "config.yaml"
    merged.write_text(json.dumps(config, default=str), encoding="utf-8")  # JSON is YAML, and quotes every text
    return [f"--config={merged}", *(a for i, a in enumerate(rest) if i not in taken)]


def _is_folded(keys: Keys, value: Any) -> bool:
    """Whether a switch becomes a part of the config, because the parser would read it otherwise than is meant.

    The parser makes the text "None" of a null in a setting of a peer (jsonargparse 4.53).
    """
    if keys[:3] == _PEERS:
        return len(keys) > 3 and _holds_null(value)
    return keys == _LOGGER or (keys[:3] == _REWARDS and len(keys) > 3)


def _holds_null(value: Any) -> bool:
    return value is None or (isinstance(value, Mapping) and any(map(_holds_null, value.values())))


def _put(base: Any, part: Any) -> Any:
    """Plain data with a part of it replaced; unlike a config, a part never replaces a team."""
    if not isinstance(base, Mapping) or not isinstance(part, Mapping):
        return part
    return {**base, **{key: _put(base.get(key), value) for key, value in part.items()}}


def merge(
    base: Any, layer: Any, at: Keys = (), accepted: Callable[[str, str], set[str] | None] = lambda *_: None
) -> Any:
    """A config with another one on top.

    Args:
        base: Plain data.
        layer: Plain data; what it does not name stays.
        at: Keys that lead here.
        accepted: As in :func:`one_config`.

    >>> merge({"objective": {"class_path": "GRPO", "init_args": {"clip_low": 0.2}}}, {"objective": "GSPO"})
    {'objective': {'class_path': 'GSPO'}}
    >>> merge({"rounds": {"k": 3}}, {"rounds": {"hint_tokens": 64}})
    {'rounds': {'k': 3, 'hint_tokens': 64}}
    """
    if isinstance(layer, str) and _is_class(base):
        layer = {"class_path": layer}
    if isinstance(base, str) and isinstance(layer, Mapping) and "init_args" in layer and "class_path" not in layer:
        base = {"class_path": base}
    if not isinstance(base, Mapping) or not isinstance(layer, Mapping):
        return layer
    if _is_class(base) and _is_class(layer) and not same_class(base["class_path"], layer["class_path"]):
        if at not in _KEPT:
            return layer
        names = accepted(at[0], str(layer["class_path"]))
        if names is not None:
            kept = {n: v for n, v in (base.get("init_args") or {}).items() if n in names}
            base = {**base, "init_args": kept}
    if at == _PEERS and all(isinstance(peer, Mapping) and "model" in peer for peer in layer.values()):
        return layer  # a team of its own
    if at[:2] == ("data", "init_args") and len(at) > 2 and not _is_class(base):
        return layer  # a mapping that the user makes up (columns, tasks) is one value
    merged = dict(base)
    for key, value in layer.items():
        merged[key] = merge(base[key], value, (*at, key), accepted) if key in base else value
    return merged


def same_class(first: object, second: object) -> bool:
    """Whether two names mean one class, where one may be bare and the other the full path."""
    one, two = (str(name).rpartition(".") for name in (first, second))
    if one[2] != two[2]:
        return False
    return not one[0] or not two[0] or one[0].partition(".")[0] == two[0].partition(".")[0]


def term_as_config(value: Any) -> Any:
    """A reward term or a schedule of settings as a config writes it."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        settings = {f.name: term_as_config(getattr(value, f.name)) for f in dataclasses.fields(value)}
        kind = type(value)
        return {"class_path": f"{kind.__module__}.{kind.__qualname__}", **({"init_args": settings} if settings else {})}
    return value


def _split(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """Config files, and the other arguments."""
    files, rest, waiting = [], [], False
    for argument in arguments:
        if waiting:
            files.append(argument)
            waiting = False
        elif argument in ("--config", "-c"):
            waiting = True
        elif argument.startswith("--config="):
            files.append(argument.removeprefix("--config="))
        else:
            rest.append(argument)
    return files, [*rest, "--config"] if waiting else rest


def _load(file: str) -> dict[str, Any] | None:
    try:
        content = load_yaml_once(Path(file).read_text(encoding="utf-8"))
    except YAMLError as error:  # the parser would say the same, but not of which file
        raise LayerError(f"Problems parsing config: {error} (in {file})") from error
    except Exception:  # of the system; the parser says what is wrong
        return None
    return content if isinstance(content, dict) else None


def _switches(arguments: Sequence[str]) -> Iterator[tuple[Keys, Any, tuple[int, ...]]]:
    """Keys, value and places of every ``--a.b value``; settings of a module stand under its ``init_args``."""
    i = 0
    while i < len(arguments):
        name, equals, text = arguments[i].partition("=")
        places: tuple[int, ...] = (i,)
        if name.startswith("--"):
            if not equals and i + 1 < len(arguments) and not arguments[i + 1].startswith("--"):
                text, places = arguments[i + 1], (i, i + 1)
            keys = tuple(name.removeprefix("--").split("."))
            if keys[0] in ("model", "data") and len(keys) > 1 and keys[1] not in ("init_args", "class_path"):
                keys = (keys[0], "init_args", *keys[1:])
            yield keys, _value(text), places
        i += len(places)


def _value(text: str) -> Any:
    try:
        return load_yaml_once(text)
    except Exception:
        return text


def _nested(keys: Keys, value: Any) -> Any:
    for key in reversed(keys):
        value = {key: value}
    return value


def _reward_keys(keys: Keys) -> Keys:
    """``rewards.<name>.term.alpha`` with ``init_args`` in its place."""
    if len(keys) > 5 and keys[4] in ("term", "weight") and keys[5] not in ("init_args", "class_path"):
        return (*keys[:5], "init_args", *keys[5:])
    return keys


def _terms(config: Any) -> set[str]:
    """Names of the reward terms that a config holds, removed ones aside."""
    rewards = _at(config, _REWARDS)
    return {name for name, term in rewards.items() if term is not None} if isinstance(rewards, Mapping) else set()


def _check_places(file: str, layer: Mapping[str, Any]) -> None:
    """Refuse settings of the module or of the data that stand beside ``init_args``."""
    for part in ("model", "data"):
        node = layer.get(part)
        beside = set(node) - {"class_path", "init_args", "dict_kwargs"} if isinstance(node, Mapping) else set()
        if beside:
            name = sorted(map(str, beside))[0]
            raise LayerError(f"{part}.{name} in {file} stands in the wrong place; put it under {part}.init_args")


def _check_whole(config: Any, switches: Sequence[tuple[Keys, Any, tuple[int, ...]]]) -> None:
    """Refuse a peer without a model and a reward term without its class: most often the name is misspelt."""
    given: Any = {}
    for keys, value, _ in switches:
        if keys[:3] == _PEERS:
            given = _put(given, _nested(keys, value))
    for at, needed in ((_PEERS, "model"), (_REWARDS, "term")):
        parts = _put(_at(config, at) or {}, _at(given, at) or {})
        if not isinstance(parts, Mapping) or any(keys == at for keys, *_ in switches):
            continue
        for name, part in parts.items():
            if isinstance(part, Mapping) and not {needed, "class_path"} & {*part}:
                known = [*parts, *(published_terms() if at == _REWARDS else ())]
                close = get_close_matches(str(name), [other for other in known if other != name], 1)
                mend = f"did you mean {close[0]}? Otherwise give" if close else "give"
                where = f"model.{at[-1]}.{name}"
                raise LayerError(f"{where} has no {needed}; {mend} {where}.{needed}, or correct the name")


def _leave_out_removed(config: dict[str, Any], added: set[str]) -> None:
    """Leave a term out that one layer added and a later one removed; null for any other name stays, to be refused."""
    rewards = _at(config, _REWARDS)
    if isinstance(rewards, dict):
        for name in added - set(default_terms()):
            if name in rewards and rewards[name] is None:
                del rewards[name]


def _complete_rewards(config: dict[str, Any]) -> None:
    """Give a default term of which only a part is named its other part."""
    rewards = _at(config, _REWARDS)
    if not isinstance(rewards, dict):
        return
    for name, default in default_terms().items():
        given = rewards.get(name)
        if isinstance(given, Mapping):
            whole = {"term": term_as_config(default.term), "weight": term_as_config(default.weight)}
            rewards[name] = merge(whole, given)


def _complete_loggers(config: dict[str, Any], switches: Mapping[Keys, Any]) -> None:
    """Give loggers named by a short name or without a place the run folder as theirs."""
    trainer: Any = config.get("trainer") or {}
    before = trainer.get("default_root_dir")
    root = switches.get(_ROOT, before)
    value = switches.get(_LOGGER, trainer.get("logger"))
    if value is not None or _LOGGER in switches:
        config["trainer"] = {**trainer, "logger": logger_config(value, str(root or "."), before and str(before))}


def _switch(config: dict[str, Any], keys: Keys, value: str, given: set[Keys]) -> None:
    """Leave the settings of the class that a switch puts another one in the place of."""
    node = _at(config, keys)
    if keys in _KEPT or not _is_class(node) or same_class(node["class_path"], value) or not value.isprintable():
        return
    before = node.get("init_args") or {}
    if keys == _OPTIMIZER and not given & {(*keys, "lr"), (*keys, "init_args", "lr")}:
        raise LayerError(
            f"model.optimizer is now {value}, and the learning rate of the config ({before.get('lr')}) was one for "
            f"{node['class_path']}; give --model.optimizer.lr as well"
        )
    node.clear()
    node["class_path"] = value
    if before:
        left = ", ".join(f"{name} {setting}" for name, setting in before.items())
        rank_zero_info(
            f"{'.'.join(k for k in keys if k != 'init_args')} is now {value}; what the config set for the class before "
            f"it is left out: {left}"
        )


def _at(config: Any, keys: Keys) -> Any:
    for key in keys:
        config = config.get(key) if isinstance(config, Mapping) else None
    return config


def _is_class(value: Any) -> bool:
    return isinstance(value, Mapping) and "class_path" in value
