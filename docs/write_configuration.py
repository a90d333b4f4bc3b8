"""``python -m docs.write_configuration`` writes configuration.md: every key of a config, from the code's own docstrings."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import re
import sys
import types
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import docstring_parser
import torch

from core_lightning import callbacks, data, objectives, rewards
from core_lightning.module import CollaborativeReasoningModule
from core_lightning.peers.config import GenerationSettings, LoraSettings, PeerConfig
from core_lightning.peers.sampling.settings import ServerSettings, VllmSettings
from core_lightning.protocol.credit import CreditSettings
from core_lightning.protocol.faithful import FaithfulSettings
from core_lightning.protocol.prompts import PromptSettings, Shot
from core_lightning.protocol.rounds import RoundSettings
from core_lightning.training.settings import AdvantageSettings, RolloutSettings, ScheduleSettings

PAGE = Path(__file__).parent / "configuration.md"
PACKAGE = Path(__file__).parent.parent / "core_lightning"

TERMS = (
    rewards.Correctness,
    rewards.LogDetDiversity,
    rewards.GreedyMarginDiversity,
    rewards.RescueBonus,
    rewards.Rarity,
    rewards.CrossDistance,
)
OBJECTIVES = (
    objectives.GRPO,
    objectives.DrGRPO,
    objectives.DAPO,
    objectives.GSPO,
    objectives.SAPO,
    objectives.CISPO,
)
SOURCES = (data.GSM8K, data.MATH, data.AIME, data.GPQA, data.ReasoningGym, data.NanoTasks, data.Table, data.JsonLines)

#: (heading, key, class); the name of a class is given where a config chooses among several.
SECTIONS: tuple[tuple[str, str, type], ...] = (
    ("The module", "model", CollaborativeReasoningModule),
    ("A peer", "model.peers.<name>", PeerConfig),
    ("Its adapter", "model.peers.<name>.lora", LoraSettings),
    ("How it samples", "model.peers.<name>.generation", GenerationSettings),
    ("A server that samples", "model.peers.<name>.generation.server", ServerSettings),
    ("vLLM in this process", "model.peers.<name>.generation.vllm", VllmSettings),
    ("The two rounds", "model.rounds", RoundSettings),
    ("Problems of a step", "model.rollout", RolloutSettings),
    ("Prompts", "model.prompt", PromptSettings),
    ("A worked example in the prompt", "model.prompt.shots[]", Shot),
    ("Credit: what a failed peer is taught", "model.credit", CreditSettings),
    ("Which rescues are imitated", "model.credit.faithful", FaithfulSettings),
    ("Advantages", "model.advantage", AdvantageSettings),
    ("Learning rate over training", "model.schedule", ScheduleSettings),
    ("A reward term and its weight", "model.rewards.<name>", rewards.WeightedTerm),
    *(("Reward term", "model.rewards.<name>.term", term) for term in TERMS),
    ("Distance of two traces", "model.distance", rewards.HybridDistance),
    ("Embedder", "model.embedder", rewards.MiniLMEmbedder),
    ("Embedder", "model.embedder", rewards.HashingEmbedder),
    ("Settings of every objective", "model.objective", objectives.Objective),
    *(("Objective", "model.objective", objective) for objective in OBJECTIVES),
    *(
        ("Schedule of a weight", "model.rewards.<name>.weight", s)
        for s in (rewards.Constant, rewards.Linear, rewards.Step)
    ),
    ("Data: settings of every source", "data", data.RescueDataModule),
    ("Data from a hub: settings of GSM8K, MATH, AIME and GPQA", "data", data.hub.HubDataModule),
    *(("Data source", "data", source) for source in SOURCES),
    ("A task of reasoning-gym", "data.tasks.<name>", data.Task),
    ("Evaluation", "pass_at_k", callbacks.TeamPassAtKCallback),
    ("Rescue rate", "rescue_rate", callbacks.RescueRateCallback),
    ("Trace log", "trace_log", callbacks.TraceLog),
    ("Checkpoints", "checkpoint", callbacks.AdapterCheckpoint),
    ("Tables at the end", "summary", callbacks.RunSummary),
    ("Report", "report", callbacks.RunReport),
    ("Warning when nothing is learned", "learning_watch", callbacks.LearningWatch),
    ("Figures and traces in a tracker", "tracker", callbacks.TrackerMedia),
    ("Run folder", "run_folder", callbacks.RunFolder),
)
CHOSEN = {"Reward term", "Embedder", "Objective", "Schedule of a weight", "Data source"}

HEAD = """# Configuration

Written by `python -m docs.write_configuration` from the docstrings of the settings. Do not edit it by hand.

Every key works in a config file and as a flag: `--model.rounds.k 4`. A second `--config` changes single keys of the
first. Three things it replaces as a whole: the team, if each of its peers names a model; a class, if it names another one;
and `data.columns` and `data.tasks`. A class is chosen by `class_path` and its settings stand under
`init_args`, or shorter: `--model.objective GSPO --model.objective.beta 0.01`. `python -m core_lightning fit --config FILE
--print_config` prints what a run would use. A value that cannot work is refused before a model is loaded, in one line
that names the key.

"unset" means that the key is left out: what happens then is in its meaning.
"""

ENVIRONMENT = """
## Environment variables

| variable | meaning |
| --- | --- |
| `CORE_LIGHTNING_CACHE` | folder of converted models; unset, `~/.cache/core_lightning` |
| `CORE_LIGHTNING_BFLOAT16` | `native` or `emulated`: how this processor multiplies bfloat16, in place of asking it |
| `CORE_LIGHTNING_LARGE` | `1` tries settings that would fill the memory or never end, which are refused otherwise |
| `CORE_LIGHTNING_TRACEBACK` | any value: an error shows its whole traceback, not one line |
| `VLLM_API_KEY` | key of a server that samples (`generation.server.api_key_env` names another variable) |
| `HF_TOKEN` | token for `export --push` |
"""


def page() -> str:
    """The whole page."""
    parts = [HEAD]
    for heading, key, cls in SECTIONS:
        parts.append(section(heading, key, cls))
    return "\n".join([*parts, _trainer(), ENVIRONMENT.strip(), ""])


def section(heading: str, key: str, cls: type) -> str:
    """One class: what it is, and a table of its settings."""
    text = docstring_parser.parse(inspect.getdoc(cls) or "")
    title = f"{heading}: {cls.__name__}" if heading in CHOSEN else heading
    lines = [f"## {title}", "", f"`{key}`" + (f", `class_path: {cls.__name__}`" if heading in CHOSEN else ""), ""]
    lines += [f"{plain(text.short_description or '')}", ""]
    rows = settings(cls)
    if cls in SOURCES and "__init__" not in vars(cls):
        lines += [f"It has the settings of `{cls.__mro__[1].__name__}`."]
    elif rows:
        lines += ["| key | default | values | meaning |", "| --- | --- | --- | --- |"]
        lines += [f"| {' | '.join(row)} |" for row in rows]
    else:
        lines += ["It has no settings."]
    return "\n".join([*lines, ""])


def settings(cls: type) -> list[tuple[str, str, str, str]]:
    """(key, default, values, meaning) of every setting of a class; of an objective those that are not as for every one."""
    meanings = meanings_of(cls)
    if dataclasses.is_dataclass(cls):
        hints = get_type_hints(cls)
        fields = [(f.name, _field_default(f), hints[f.name]) for f in dataclasses.fields(cls)]
    else:
        hints = get_type_hints(cls.__init__)
        parameters = list(inspect.signature(cls.__init__).parameters.values())[1:]
        named = [p for p in parameters if p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)]
        fields = [(p.name, p.default, hints.get(p.name, Any)) for p in named]
    missing = [name for name, _, _ in fields if not meanings.get(name)]
    if missing:
        raise ValueError(f"{cls.__name__}: {missing} have no docstring")
    if cls in OBJECTIVES:
        common = {f.name: f.default for f in dataclasses.fields(objectives.Objective)}
        fields = [(n, d, h) for n, d, h in fields if n not in common or common[n] != d]
    return [(f"`{n}`", *_default_and_values(n, default, hint), plain(meanings[n])) for n, default, hint in fields]


def meanings_of(cls: type) -> dict[str, str]:
    """Docstring of every setting, inherited ones included: under the attribute, or under ``Args:``."""
    found: dict[str, str] = {}
    for base in reversed(cls.__mro__[:-1]):
        if not base.__module__.startswith("core_lightning"):
            continue
        if dataclasses.is_dataclass(base):
            for param in docstring_parser.parse_from_object(base).params:
                if param.description:
                    found[param.arg_name] = param.description
        for param in docstring_parser.parse(base.__doc__ or "").params:
            if param.description:
                found[param.arg_name] = param.description
    return found


def plain(text: str) -> str:
    """Docstring markup as Markdown in one table cell."""
    text = re.sub(r":\w+:`~?\.?([^`]+)`", lambda m: f"`{m[1].rsplit('.', 1)[-1]}`", text)
    text = " ".join(text.replace("``", "`").split())
    return text.replace("|", "\\|")


def _field_default(field: dataclasses.Field) -> Any:
    if field.default_factory is not dataclasses.MISSING:
        return field.default_factory()
    return inspect.Parameter.empty if field.default is dataclasses.MISSING else field.default


def _default_and_values(name: str, default: Any, hint: Any) -> tuple[str, str]:
    """For a group of settings that has a section of its own, the way there; otherwise default and possible values."""
    inner = get_args(hint) if get_origin(hint) in (Union, types.UnionType) else (hint,)
    for heading, _, cls in SECTIONS:
        if heading not in CHOSEN and cls in inner and dataclasses.is_dataclass(cls) and not inspect.isabstract(cls):
            return "", f"see [{heading}](#{_anchor(heading)})"
    return _default(name, default), _values(hint)


def _anchor(heading: str) -> str:
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def _default(name: str, value: Any) -> str:  # noqa: PLR0911 (one kind of value a line)
    if value is inspect.Parameter.empty:
        return "required"
    if name == "optimizer":
        made = value([torch.nn.Parameter(torch.zeros(1))])  # the default is a function
        return f"{type(made).__name__}, " + ", ".join(f"{n} `{made.defaults[n]}`" for n in ("lr", "weight_decay"))
    if value is None:
        return "unset"
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if isinstance(value, str):
        return "`" + value.replace("\n", "\\n").replace("|", "\\|") + "`"
    if isinstance(value, list | tuple):
        return f"`[{', '.join(map(str, value))}]`"
    return "none" if value == {} else f"`{value}`"


def _values(hint: Any) -> str:  # noqa: PLR0911 (one kind of type a line)
    """Choices of a setting, or its type in a word."""
    if get_origin(hint) is Literal:
        return ", ".join(f"`{choice}`" for choice in get_args(hint))
    if get_origin(hint) in (Union, types.UnionType):
        return " or ".join(dict.fromkeys(_values(part) for part in get_args(hint) if part is not type(None)))
    words = {bool: "true, false", int: "integer", float: "number", str: "text", Any: "any"}
    if hint in words:
        return words[hint]
    origin = get_origin(hint)
    if origin in (list, tuple, Sequence):
        return f"list: {_values(get_args(hint)[0])}"
    if origin in (dict, Mapping):
        return f"by name: {_values(get_args(hint)[1])}"
    if isinstance(hint, type) and inspect.isabstract(hint):
        return f"a class: {', '.join(c.__name__ for _, _, c in SECTIONS if issubclass(c, hint) and c is not hint)}"
    for heading, _, cls in SECTIONS:
        if hint is cls:
            return f"[{cls.__name__}](#{_anchor(heading)})"
    if "Callable" in str(hint):
        return "a class of `torch.optim`"
    return getattr(hint, "__name__", str(hint))


def _trainer() -> str:
    """What the command line sets in Lightning's Trainer, read from the code that does."""
    tree = ast.parse((PACKAGE / "cli/main.py").read_text(encoding="utf-8"))
    calls = (k for node in ast.walk(tree) if isinstance(node, ast.Call) for k in node.keywords)
    (own,) = (ast.literal_eval(k.value) for k in calls if k.arg == "trainer_defaults")
    rows = [f"| `{name}` | {_default(name, value)} |" for name, value in own.items()]
    return "\n".join(
        [
            "## The trainer",
            "",
            "`trainer`",
            "",
            "All settings of Lightning's `Trainer`. `gradient_clip_val` and `accumulate_grad_batches` are refused: use",
            "`model.max_grad_norm` and `data.batch_size`. The command line sets these defaults:",
            "",
            "| key | default |",
            "| --- | --- |",
            *rows,
            "",
        ]
    )


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
    print(f"wrote {PAGE}", file=sys.stderr)
