"""A peer's completions between token ids and text: what is read of its own, and how it would write somebody else's."""

from __future__ import annotations

import re
from collections.abc import Sequence, Set
from dataclasses import replace
from typing import Any

from core_lightning.answers import strip_think
from core_lightning.peers.config import GenerationSettings
from core_lightning.peers.encoding import PromptEncoder
from core_lightning.peers.loading import turn_end_id

#: The marks of a model that writes in channels (gpt-oss): ``analysis`` is thought, ``final`` is said.
_CHANNEL_MARKS = frozenset({"<|start|>", "<|channel|>", "<|message|>", "<|end|>"})
_CHANNEL = re.compile(
    r"<\|channel\|>\s*(\w*)[^<]*<\|message\|>(.*?)(<\|end\|>|<\|start\|>|(?=<\|channel\|>)|\Z)", re.DOTALL
)


def thought_in_blocks(text: str) -> str:
    """A text in channels with its thoughts in think blocks; a block that broke off stays open, so it holds no answer.

    >>> thought_in_blocks("<|channel|>analysis<|message|>3 + 4?<|end|><|start|>assistant<|channel|>final<|message|>It is 7.")
    '<think>3 + 4?</think>It is 7.'
    >>> thought_in_blocks("<|channel|>analysis<|message|>perhaps 8")
    '<think>perhaps 8'
    """
    said = []
    for channel in _CHANNEL.finditer(text):
        name, content, end = channel.groups()
        closed = bool(end) or channel.end() < len(text)
        said.append(content if name == "final" else f"<think>{content}{'</think>' if closed else ''}")
    return "".join(said) or text


class CompletionTexts:
    """Reads and writes the completions of one peer.

    Args:
        tokenizer: Of its model.
        encoder: How it reads prompts.
        stop_ids: Tokens that end a completion.
    """

    def __init__(self, tokenizer: Any, encoder: PromptEncoder, stop_ids: Set[int]) -> None:
        self._tokenizer, self._encoder, self._stop_ids = tokenizer, encoder, stop_ids
        special = {i: token.content for i, token in tokenizer.added_tokens_decoder.items() if token.special}
        # Some models mark their think blocks with special tokens; without these a block would read as the answer.
        self._in_channels = set(special.values()) >= _CHANNEL_MARKS
        written = _CHANNEL_MARKS if self._in_channels else frozenset()
        self._unwritten = stop_ids | {
            i for i, mark in special.items() if strip_think(mark) == mark and mark not in written
        }
        self._next_question: str | None = None

    def end_at(self, mark: str | None) -> None:
        """End plain completions at this string, too: where a base model goes on with a question of its own."""
        self._next_question = None if self._encoder.chats else mark

    def ended(self, settings: GenerationSettings) -> GenerationSettings:
        """The peer's settings with every string that ends its completions."""
        mark = self._next_question
        if mark is None or any(stop in mark for stop in settings.stop):  # then its own stop is met first
            return settings
        return replace(settings, stop=[*settings.stop, mark])

    def decode(self, token_ids: Sequence[int], settings: GenerationSettings) -> str:
        """The text of a completion of its own, up to its stop, think blocks included."""
        text = self._tokenizer.decode(
            [t for t in token_ids if t not in self._unwritten],
            skip_special_tokens=False,
            clean_up_tokenization_spaces=False,
        )
        return self._to_stop(thought_in_blocks(text) if self._in_channels else text, settings)

    def in_own_words(self, text: str, prompt_ids: Sequence[int], settings: GenerationSettings) -> str:
        """Somebody else's completion as this peer would have written it behind a prompt.

        It ends where this peer's would have been stopped, and its think block is marked in this peer's way.
        """
        return self._to_stop(self._encoder.in_own_words(text, prompt_ids), settings)

    def encode(self, text: str, settings: GenerationSettings) -> list[int]:
        """Token ids of somebody else's completion as this peer would write it, its end included.

        The text is cut at this peer's own stop, and an end mark that is written out in it stays text. A model that writes in
        channels says it in the final one, without somebody else's thoughts.

        Returns:
            The ids; none where nothing stands before the stop.
        """
        text = self._to_stop(text, settings)
        if self._in_channels:
            text = strip_think(text)
        if not text.strip():
            return []
        head = []
        if self._in_channels:
            begin, message = self._tokenizer.convert_tokens_to_ids(["<|channel|>", "<|message|>"])
            head = [begin, *self._encoder.completion("final"), message]
        if settings.stop:
            return [*head, *self._encoder.completion(text + settings.stop[0])]
        return [*head, *self._encoder.completion(text), self._end_id()]

    def _end_id(self) -> int:
        if self._encoder.chats and (end := turn_end_id(self._tokenizer)) is not None:
            return end
        eos: int = self._tokenizer.eos_token_id
        return eos if eos in self._stop_ids else min(self._stop_ids)

    def _to_stop(self, text: str, settings: GenerationSettings) -> str:
        cuts = [i for s in self.ended(settings).stop if (i := text.find(s)) >= 0]
        return text[: min(cuts)] if cuts else text
