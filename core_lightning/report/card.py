"""``README.md`` beside an adapter: what it is, what it can do, how to load it. Made from plain data that lies beside it."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import PurePath
from typing import Any

import yaml

from core_lightning.report.markdown import code, fenced, inline, table
from core_lightning.report.tables import Table

_HUB_ID = re.compile(r"[\w.-]+(/[\w.-]+)?")
#: Ranks that vLLM makes room for.
_VLLM_RANKS = (8, 16, 32, 64, 128, 256, 320, 512)


@dataclass(frozen=True)
class Base:
    """What an adapter belongs to."""

    hub: str | None = None
    """Hub id, wherever it is known."""
    commit: str | None = None
    name: str | None = None
    """``embedded/<name>`` or ``nano/<name>``."""
    origin: str | None = None
    """Hub id of the model an embedded one is a packed copy of."""
    folder: str | None = None
    """Name of a local folder, without its path."""
    weights: str = "as stored"
    """How they were packed in training."""


@dataclass(frozen=True)
class Merge:
    """An adapter that became a part of the weights, and the check of it."""

    dtype: str
    tokens: int
    difference: float
    """Mean difference of log-probabilities from those of base and adapter, in nats per token."""
    effect: float
    """The same between base and adapter, and the base alone."""
    tolerance: float


@dataclass(frozen=True)
class Card:
    """What is known of one trained peer, as plain data."""

    peer: str
    run: str
    """Name of the run's folder."""
    others: list[str]
    base: Base
    rank: int
    steps: int
    chats: bool
    prompt: str
    """The plain prompt, special tokens included, with ``{question}`` in its place."""
    sampling: dict[str, Any]
    facts: dict[str, str]
    data: dict[str, str]
    results: Table | None = None
    """Held-out figures before and after with their intervals; None without an evaluation."""

    def to_json(self) -> str:
        """All of it as text that :meth:`from_json` reads."""
        return json.dumps(asdict(self), indent=1) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Card:
        """The card that :meth:`to_json` wrote.

        Raises:
            ValueError: It is no such text.
        """
        try:
            plain = json.loads(text)
            results = None if plain["results"] is None else Table(**plain["results"])
            return cls(**plain | {"base": Base(**plain["base"]), "results": results})
        except (TypeError, KeyError) as error:
            raise ValueError(f"card.json is not one of this release ({error})") from error


def render_card(card: Card, merge: Merge | None = None) -> str:
    """The card as Markdown with a head for the model hub.

    Args:
        card: What is known.
        merge: Set for the card of a merged model.
    """
    from jinja2 import Environment, PackageLoader, StrictUndefined

    # Markdown has no escaping of its own: every text from outside goes through one of these filters.
    environment = Environment(
        loader=PackageLoader("core_lightning.report"),
        undefined=StrictUndefined,
        keep_trailing_newline=True,
        trim_blocks=False,
    )
    environment.filters |= {
        "inline": inline,
        "code": code,
        "fenced": fenced,
        "quoted": json.dumps,
        "table": lambda t: table(t.columns, t.rows),
        "pairs": lambda pairs: table(["", ""], list(pairs.items())),
    }
    base = card.base
    where = base.hub or ("BASE" if base.folder else base.name or "")
    return environment.get_template("card.md.j2").render(
        front=_front(card, merge),
        title=f"{card.run}, peer {card.peer}",
        merged=merge,
        python=_python(where, base),
        shell=_shell(where, card),
        python_merged=_PYTHON_MERGED,
        shell_merged=_SHELL_MERGED + (" --apply_chat_template" if card.chats else ""),
        **{name: getattr(card, name) for name in ("peer", "others", "base", "steps", "chats", "prompt", "sampling")},
        **{name: getattr(card, name) for name in ("facts", "data", "results")},
    )


def data_facts(manifest: Mapping[str, Any] | None) -> dict[str, str]:
    """What a data manifest says of the problems: where they are from, how many, and their hashes. No ids, no paths."""
    if not manifest:
        return {"Source": "unknown"}
    arguments = manifest.get("arguments", {})
    found = {"Source": str(manifest.get("source", ""))}
    if repo := arguments.get("repo"):
        found["Hub id"] = str(repo)
    for name, value in (
        ("File", arguments.get("path")),
        ("Commit", manifest.get("commit") or manifest.get("revision")),
    ):
        if value:
            found[name] = PurePath(str(value)).name
    for split, about in manifest.get("splits", {}).items():
        found[f"{split} problems"] = f"{about['size']}, sha256 {about['sha256']}"
    if chance := manifest.get("chance"):
        found["A blind guess is right in"] = f"{100 * chance:.1f} %"
    return found


def _front(card: Card, merge: Merge | None) -> str:
    head: dict[str, Any] = {}
    if (base := card.base.hub or card.base.origin) and _HUB_ID.fullmatch(base):
        head["base_model"] = base
        head["base_model_relation"] = "finetune" if merge else "adapter"
    head["library_name"] = "transformers" if merge else "peft"
    head["pipeline_tag"] = "text-generation"
    head["tags"] = ["core-lightning", "reinforcement-learning", "reasoning", *([] if merge else ["lora"])]
    if _HUB_ID.fullmatch(card.data.get("Hub id", "")):
        head["datasets"] = [card.data["Hub id"]]
    return yaml.safe_dump(head, sort_keys=False, allow_unicode=False).strip()


def _python(where: str, base: Base) -> str:
    commit = f", revision={json.dumps(base.commit)}" if base.commit else ""
    found = (
        f"from core_lightning.peers.sources import resolve\n\nbase = resolve({json.dumps(where)}).name_or_path"
        if base.name and not base.hub
        else f"base = {json.dumps(where)}"
    )
    return (
        "from peft import PeftModel\n"
        "from transformers import AutoModelForCausalLM, AutoTokenizer\n"
        f"{found}\n"
        'here = "."  # the folder of this adapter, or its id on the hub\n'
        f'model = AutoModelForCausalLM.from_pretrained(base{commit}, dtype="bfloat16")\n'
        "model = PeftModel.from_pretrained(model, here)\n"
        "tokenizer = AutoTokenizer.from_pretrained(here)"
    )


def _shell(where: str, card: Card) -> str:
    if card.base.name and not card.base.hub:
        return f"python -m core_lightning export --run {shlex.quote(card.run)} --peer {shlex.quote(card.peer)} --merge"
    commit = card.base.commit
    rank = next((r for r in _VLLM_RANKS if r >= card.rank), card.rank)
    model = f"pretrained={where}" + (f",revision={commit}" if commit else "") + ",peft=.,dtype=bfloat16"
    chat = " --apply_chat_template" if card.chats else ""
    served = f"{_SERVE} {shlex.quote(where)}" + (f" --revision {shlex.quote(commit)}" if commit else "")
    return (
        f"{served} --enable-lora --max-lora-rank {rank} \\\n  --lora-modules {shlex.quote(card.peer)}=.\n"
        f"lm_eval --model hf --model_args {shlex.quote(model)} \\\n  --tasks gsm8k{chat}"
    )


#: As a module: the command ``vllm serve`` fails where the package has another name, as builds for processors have.
_SERVE = "python -m vllm.entrypoints.openai.api_server --model"
_PYTHON_MERGED = """from transformers import AutoModelForCausalLM, AutoTokenizer

here = "."  # this folder, or its id on the hub
model = AutoModelForCausalLM.from_pretrained(here, dtype="auto")
tokenizer = AutoTokenizer.from_pretrained(here)"""
_SHELL_MERGED = f"""{_SERVE} .
lm_eval --model hf --model_args pretrained=.,dtype=auto --tasks gsm8k"""
