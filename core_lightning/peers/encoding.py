"""From a prompt to a peer's token ids, through its chat template if it has one; no text can leave its place."""

from __future__ import annotations

import datetime
import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

from core_lightning.peers.config import PeerConfig
from core_lightning.peers.inert import InertText, between_all
from core_lightning.peers.sources import PeerSourceError
from core_lightning.protocol.prompts import Filled, Prompt

#: Marks of think blocks and what closes them.
THINK = {"<think>": "</think>", "<thinking>": "</thinking>", "[THINK]": "[/THINK]"}
_OPEN = re.compile(rf"({'|'.join(map(re.escape, THINK))})\s*\Z")
_DATE = re.compile(r"""strftime_now\(\s*(["'])((?:(?!\1).)*)\1\s*\)""")
_STAND_IN = re.compile(r"corePlace(\d+)Ends")
_TAIL = 32  # tokens in which the mark at a prompt's end is looked for
_REMEMBERED = 256  # prompts: a step asks whether one fits, and then samples from it


class PromptEncoder:
    """How one peer reads prompts and other texts.

    The template is rendered around stand-ins, and the texts from outside are put in their places afterwards, so what
    they hold changes nothing of what the template writes. They are tokenized without control tokens
    (:mod:`core_lightning.peers.inert`), and that is checked: a prompt has exactly the control tokens of its frame.

    Args:
        tokenizer: The peer's.
        config: Its settings.
        name: Its name, for messages.
        rows: Tokens the model has an embedding of, if that is known.

    Attributes:
        chats: The peer reads chat messages, not plain text.

    Raises:
        PeerSourceError: Chat is asked for and the tokenizer has no template, or a template argument is not one of its.
    """

    def __init__(self, tokenizer: Any, config: PeerConfig, name: str, rows: int | None = None) -> None:
        self.rows = rows
        if rows is not None and tokenizer.vocab_size > rows:
            raise PeerSourceError(
                f"peer {name!r}: the tokenizer of {config.model} has {tokenizer.vocab_size} tokens and the model {rows} "
                "embeddings; give the tokenizer that belongs to it"
            )
        self.tokenizer = tokenizer
        self.config = config
        self.name = name
        template = tokenizer.chat_template
        if isinstance(template, Mapping):  # several by name
            template = template.get("default")
        if config.prompt_style == "chat" and not template:
            raise PeerSourceError(
                f"peer {name!r}: prompt_style is chat, but {config.model} has no chat template; use plain"
            )
        self.chats = config.prompt_style != "plain" and bool(template)
        self.template: str = template or ""
        self.text = InertText(tokenizer, self.template if self.chats else "")
        self._frames: dict[object, tuple[str, list[int]]] = {}
        self._remembered = lru_cache(_REMEMBERED)(self._encoded)
        if unknown := [a for a in config.chat_template_kwargs if not re.search(rf"\b{re.escape(a)}\b", self.template)]:
            raise PeerSourceError(
                f"peers.{name}.chat_template_kwargs has {unknown[0]!r}, which the chat template of {config.model} does "
                "not read; correct the name or leave it out"
            )
        if config.chat_template_kwargs and not self.chats:
            raise PeerSourceError(
                f"peers.{name}.chat_template_kwargs has no effect: the prompt_style is plain; leave it out"
            )

    def encode(self, prompt: Prompt) -> list[int]:
        """Token ids of a prompt.

        Raises:
            PeerSourceError: The chat template leaves out a message, or a text from outside cannot be kept in its place.
        """
        return list(self._remembered(prompt))

    def _encoded(self, prompt: Prompt) -> list[int]:
        texts = [turn.content for turn in prompt.turns] if self.chats else [prompt.plain]
        given = [g for text in texts for g in text.given]
        frame, control = self._frame(prompt, texts)
        for guard in (self.text.broken, between_all):
            safe = [guard(g.strip()) for g in given]
            filled = _STAND_IN.sub(lambda place: safe[int(place[1])], frame)  # noqa: B023
            ids = self.text.ids(filled, add_special_tokens=not self.chats)
            if self.text.control(ids) == control:
                return self._known(ids)
        raise PeerSourceError(
            f"peer {self.name!r}: the tokenizer of {self.config.model} makes control tokens out of the plain text "
            f"{' '.join(given)[:60]!r}; leave the problem out"
        )

    def completion(self, text: str) -> list[int]:
        """Token ids of a completion by somebody else: marks of think blocks are alive in it, all other marks are text."""
        return self._known(self.text.ids(self.text.broken(text, alive=self._think)))

    def opened(self, prompt_ids: Sequence[int]) -> str:
        """The mark of the think block that a prompt ends in, "" where it ends in none: the completion goes on inside."""
        tail = self.tokenizer.decode(list(prompt_ids[-_TAIL:]), skip_special_tokens=False)
        found = _OPEN.search(tail)
        return found[1] if found else ""

    def in_own_words(self, text: str, prompt_ids: Sequence[int]) -> str:
        """Somebody else's completion with its think block as this peer marks one, to stand behind a prompt of this peer.

        Where the prompt has opened the block, it is not opened again, and a text without one closes it first: what stands
        in a block that never ends is no answer.
        """
        opening = self.opened(prompt_ids)
        own = opening or next(iter(self._think & THINK.keys()), "")
        if own:
            for mark, end in THINK.items():
                text = text.replace(mark, own).replace(end, THINK[own])
        if opening and text.lstrip().startswith(opening):
            return text.lstrip()[len(opening) :]
        return f"{THINK[opening]}\n\n{text}" if opening and THINK[opening] not in text else text

    @property
    def _think(self) -> set[str]:
        """Marks of think blocks that the tokenizer or the template knows."""
        known = set(self.text.marks) | set(self.tokenizer.get_added_vocab())
        return {mark for pair in THINK.items() for mark in pair if mark in known or mark in self.template}

    def _known(self, ids: list[int]) -> list[int]:
        """The ids, all of which the model has an embedding of."""
        if self.rows is not None and ids and max(ids) >= self.rows:
            token = self.tokenizer.convert_ids_to_tokens(max(ids))
            raise PeerSourceError(
                f"peer {self.name!r}: the tokenizer of {self.config.model} uses the token {token!r}, which the model has no "
                "embedding of; give the tokenizer that belongs to it"
            )
        return ids

    def _frame(self, prompt: Prompt, texts: Sequence[Filled]) -> tuple[str, list[int]]:
        """The rendered prompt with stand-ins for texts from outside, and the control tokens it has."""
        numbers = iter(range(10**9))
        # White space stays around a stand-in, so that a template that trims a message trims it as always.
        shown = [text.around(_surrounded(g, next(numbers)) for g in text.given) for text in texts]
        key = (prompt.date, *shown)
        if key not in self._frames:
            if len(self._frames) >= 256:
                self._frames.clear()
            roles = [turn.role for turn in prompt.turns]
            frame = self._rendered(roles, shown, prompt.date) if self.chats else shown[0]
            ids = self.text.ids(_STAND_IN.sub("x", frame), add_special_tokens=not self.chats)
            self._frames[key] = (frame, self.text.control(ids))
        return self._frames[key]

    def _rendered(self, roles: Sequence[str], contents: Sequence[str], day: str | None) -> str:
        """The chat through the template, which gets texts or, where it leaves these out, lists of parts."""
        today = datetime.date.fromisoformat(day) if day else datetime.date.today()
        template = _DATE.sub(lambda call: repr(today.strftime(call[2])), self.template)
        if "strftime_now(" in template:
            raise PeerSourceError(
                f"peer {self.name!r}: the chat template of {self.config.model} asks for today's date in a way that cannot "
                "be fixed for the run; set prompt_style to plain"
            )
        refusal = ""
        for content_of in (str, _as_parts):
            chat = [{"role": role, "content": content_of(text)} for role, text in zip(roles, contents, strict=True)]
            try:
                rendered = self.tokenizer.apply_chat_template(
                    chat,
                    chat_template=template,
                    tokenize=False,
                    add_generation_prompt=True,
                    **self.config.chat_template_kwargs,
                )
            except Exception as error:  # a template raises what it likes
                reason = " ".join(str(error).split())[:120]
                refusal = f"it refuses the messages: {reason}"
                continue
            # A template may cut the thinking out of an earlier answer, but no question and no instruction.
            lost = [
                r for r, text in zip(roles, contents, strict=True) if r != "assistant" and text.strip() not in rendered
            ]
            if not lost:
                return rendered
            refusal = f"it leaves the {lost[0]} message out"
        mend = "move prompt.system into prompt.chat, or " if "system" in roles else ""
        raise PeerSourceError(
            f"peer {self.name!r}: the chat template of {self.config.model} cannot show this prompt ({refusal}); "
            f"{mend}set prompt_style to plain"
        )


def _surrounded(text: str, number: int) -> str:
    """A stand-in with the white space around the text that it stands for."""
    core = text.strip()
    before, _, after = text.partition(core) if core else (text, "", "")
    return f"{before}corePlace{number}Ends{after}"


def _as_parts(text: str) -> list[dict[str, str]]:
    return [{"type": "text", "text": text}]
