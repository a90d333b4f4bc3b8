"""One clear line out of an error: the parser's reports say everything they tried, a user needs the one thing to mend."""

from __future__ import annotations

import inspect
import re
from dataclasses import is_dataclass
from difflib import get_close_matches
from importlib import import_module
from typing import Any, get_args, get_type_hints

#: Lines about the attempts of a union of types, and echoes of whole configs.
_NOISE = re.compile(
    r"(- )?(Does not validate against any|Subtypes:|Errors:|Expected a <class 'NoneType'>|Expected a <class 'str'>$|"
    r"Given value|Problem with given class_path)"
)
_KEY = re.compile(r'(?:- )?Parser key "(?P<key>.+)":(?P<message>.*)')
_SETTING = re.compile(r"Option '(?P<name>.+)' is not accepted")
_IN_GROUP = re.compile(r"(?:Group '(?P<group>.+)'|Subcommand '.+') does not accept option '(?P<name>.+)'")
_CLASS = re.compile(r"Expected a path but (?P<name>\S+) either not accessible or invalid")
_IMPORT = re.compile(r"Expected a dot import path string: (?P<name>\S+)")
_CALLABLE = re.compile(r"Type typing\.Callable\[.*\] expects a function or a callable class: (?P<reason>.*)")
_GOT = re.compile(r"\. Got value: Namespace\(class_path='(?P<path>[\w.]+)'.*")
_BARE_TYPE = re.compile(r"Expected an? (?P<type><class '(?:[\w.]+)'>)")
_VALUE = re.compile(r"Given value: (?P<value>.{1,60}?)(\. Got value: .*)?$", re.MULTILINE)
_TYPE = re.compile(r"Expected an? (?P<type>.+)\. Got value: (?P<value>.*)")
_IN_YAML = re.compile(r'in "<unicode string>",?')


def one_line(error: BaseException) -> str:
    """The setting an error is about, and what is wrong with it.

    >>> one_line(ValueError("rounds.k is 0; a cold round needs 1 or more traces"))
    'rounds.k is 0; a cold round needs 1 or more traces'
    >>> one_line(ValueError('Parser key "data":\\n  Parser key "seed":\\n    Expected a <class \\'int\\'>. Got value: x'))
    'data.seed: expected int, got x'
    """
    text = str(error)
    if text.startswith("Problems parsing config"):
        return " ".join(_IN_YAML.sub("", text).split())
    keys, messages = [], []
    for raw in text.splitlines():
        line = raw.strip()
        if made := _CALLABLE.fullmatch(line):
            line = made["reason"]
        if key := _KEY.fullmatch(line):
            keys.append(key["key"])
            line = key["message"].strip()
        if line and not _NOISE.match(line):
            messages.append(line.removeprefix("- "))
    message = _plain(messages[0], text, keys[-1] if keys else "") if messages else type(error).__name__
    return f"{'.'.join(keys)}: {message}" if keys else message


def _plain(message: str, report: str, key: str) -> str:
    """A parser's message about a setting in a user's words, with what could stand there instead."""
    before, _, after = report.partition(message)
    named = re.findall(r"class_path '([\w.]+)'", before)
    if made := _GOT.search(message):  # settings of what a callable makes, of an optimizer say
        message, named = message[: made.start()], [made["path"]]
    if found := _SETTING.fullmatch(message):
        known = _settings(named)
        return f"there is no setting {found['name']!r}{_instead(found['name'], known)}"
    if found := _IN_GROUP.fullmatch(message):
        return f"there is no setting '{'.'.join(filter(None, found.groups()))}'; --help lists them"
    if found := _CLASS.fullmatch(message) or _IMPORT.fullmatch(message):
        kinds = re.findall(r"Subtypes: \[<class '([\w.]+)'", after)
        if kinds and "." not in kinds[0]:
            return f"expected {kinds[0]}, got {found['name']}"
        known = _subclasses(_asked(named, key) or [_imported(kind) for kind in kinds[:1]])
        return f"there is no class {found['name']!r}{_instead(found['name'], known)}"
    if (found := _BARE_TYPE.fullmatch(message)) and (value := _VALUE.search(after)):
        message = f"Expected a {found['type']}. Got value: {value['value']}"
    if found := _TYPE.fullmatch(message):
        wanted = re.sub(r"<class '(?:[\w.]*\.)?(\w+)'>", r"\1", found["type"])
        wanted = re.sub(r"(?:typing\.)?Literal\[(.*?)\]", lambda m: f"one of {m[1]}".replace("'", ""), wanted)
        return f"expected {wanted}, got {found['value']}"
    return message


def _instead(name: str, known: list[str]) -> str:
    folded = {other.casefold(): other for other in reversed(known)}
    close = get_close_matches(name, known, 1) or get_close_matches(name.casefold(), folded, 1)
    if close:
        return f"; did you mean {folded.get(close[0].casefold(), close[0])}?"
    return f"; choose among {', '.join(known)}" if known else ""


def accepted_settings(part: str, name: str) -> set[str] | None:
    """Names of the settings of a module or of a data module.

    Args:
        part: ``model`` or ``data``.
        name: The class, bare or as a full path.

    Returns:
        None where there is no such class.
    """
    bases = {
        "model": "core_lightning.module.CollaborativeReasoningModule",
        "data": "core_lightning.data.RescueDataModule",
    }
    paths = {path.rpartition(".")[2]: path for path in _subclass_paths(_imported(bases[part]))}
    try:
        return set(_settings([paths.get(name, name)]))
    except (ImportError, AttributeError, ValueError):
        return None


def _settings(classes: list[str]) -> list[str]:
    """Settings of the innermost class; what it hands on as keyword arguments is its parents'."""
    if not classes:
        return []
    inits: list[Any] = [vars(c).get("__init__") for c in _imported(classes[-1]).__mro__[:-1]]
    parameters = (inspect.signature(init).parameters.values() for init in inits if init)
    named = (p.name for own in parameters for p in own if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY))
    return sorted(set(named) - {"self"})


def _asked(classes: list[str], key: str) -> list[type]:
    """The class that a setting of the innermost class asks for."""
    if not classes:
        return []
    made: Any = _imported(classes[-1])
    try:
        hint = get_type_hints(made if is_dataclass(made) else made.__init__).get(key)
    except Exception:  # whatever a class of a user's own has for hints
        return []
    return [kind for kind in (hint, *get_args(hint)) if isinstance(kind, type) and kind is not type(None)][:1]


def _subclasses(classes: list[type]) -> list[str]:
    """Names that could stand where the first class is asked for.

    Of this package and of the class's own; a class of the user's is known by its full path, and offered to nobody else.
    """
    if not classes:
        return []
    asked = classes[0]
    packages = {__package__.partition(".")[0], asked.__module__.partition(".")[0]}
    offered = (
        c for c in _family(asked) if c.__module__.partition(".")[0] in packages and not c.__name__.startswith("_")
    )
    return sorted(c.__name__ for c in offered if not any(_abstract(m) for _, m in inspect.getmembers_static(c)))


def _family(asked: type) -> set[type]:
    """A class and all that are derived from it."""
    found: set[type] = set()
    new: list[type] = [asked]
    while new:
        found |= set(new)
        children: list[list[type]] = [parent.__subclasses__() for parent in new]
        new = [child for siblings in children for child in siblings]
    return found


def _subclass_paths(asked: type) -> list[str]:
    return [f"{c.__module__}.{c.__qualname__}" for c in _family(asked)]


def _abstract(member: object) -> bool:
    # Lightning's classes are no ABCs, so isabstract() misses them.
    return getattr(member, "__isabstractmethod__", False)


def _imported(path: str) -> type:
    module, _, name = path.rpartition(".")
    return getattr(import_module(module), name)
