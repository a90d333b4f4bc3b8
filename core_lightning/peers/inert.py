"""Text that stays text: what comes from the data or from a peer is tokenized without becoming control tokens.

A tokenizer turns ``<|im_end|>`` into the token that ends a turn wherever it stands, so a question or a hint that holds it
would open a turn of its own. Here such marks are broken apart: a separator of our own stands inside them while the text
is tokenized, and its token is taken out again. All other text gets the very tokens it would have had.
"""

from __future__ import annotations

import copy
from collections.abc import Collection, Sequence
from itertools import pairwise
from typing import Any

#: Letters only, so that no template or normalizer changes it; only ever a token of a copy of the tokenizer.
BREAK = "coreLightningBreaksHere"


class InertText:
    """Tokenizes text from outside with one tokenizer.

    Args:
        tokenizer: Any tokenizer of transformers; it is not changed.
        template: Its chat template. Added tokens that are not marked as special count as control tokens if they stand
            there, as ``<think>`` does in some.

    Attributes:
        marks: Control tokens by their text.
    """

    def __init__(self, tokenizer: Any, template: str = "") -> None:
        self.tokenizer = tokenizer
        self.marks: dict[str, int] = {
            token.content: i
            for i, token in tokenizer.added_tokens_decoder.items()
            if token.special or (token.content in template and not token.content.isspace())
        }
        self._control = set(self.marks.values()) - {tokenizer.unk_token_id}  # an unknown character is no mark
        self._breaking: Any = None

    def breaks(self, text: str, alive: Collection[str] = ()) -> list[int]:
        """Places inside the text where it has to be broken, so that no mark is left whole.

        Args:
            text: A text from outside.
            alive: Marks that stay tokens.
        """
        marks = sorted({*self.marks, BREAK} - set(alive), key=len, reverse=True)
        found = set()
        # Marks may overlap, so each is looked for at every place.
        for mark in marks:
            start = text.find(mark)
            while start >= 0:
                # A mark of one character cannot be broken; it is put between two separators.
                found |= {start + 1} if len(mark) > 1 else {start, start + 1}
                start = text.find(mark, start + 1)
        return sorted(found)

    def broken(self, text: str, alive: Collection[str] = ()) -> str:
        """The text with separators in its marks."""
        return _insert(text, self.breaks(text, alive))

    def ids(self, text: str, add_special_tokens: bool = False) -> list[int]:
        """Token ids of a text in which marks from outside are :meth:`broken`; the other marks become their tokens."""
        if BREAK not in text:
            return list(self.tokenizer(text, add_special_tokens=add_special_tokens)["input_ids"])
        tokenizer = self._copy()
        separator = tokenizer.convert_tokens_to_ids(BREAK)
        ids = tokenizer(text, add_special_tokens=add_special_tokens)["input_ids"]
        return [i for i in ids if i != separator]

    def control(self, ids: Sequence[int]) -> list[int]:
        """The control tokens among the ids, in order."""
        return [i for i in ids if i in self._control]

    def cut(self, text: str, tokens: int) -> str:
        """The text's longest beginning of at most so many tokens."""
        breaks = self.breaks(text)
        broken = _insert(text, breaks)
        tokenizer = self._copy() if breaks else self.tokenizer
        encoded = tokenizer(broken, add_special_tokens=False, return_offsets_mapping=True)
        separator = tokenizer.convert_tokens_to_ids(BREAK) if breaks else None
        pairs = zip(encoded["input_ids"], encoded["offset_mapping"], strict=True)
        ends = [end for i, (_, end) in pairs if i != separator]
        if len(ends) <= tokens:
            return text
        if tokens < 1:
            return ""
        end = ends[tokens - 1]
        # A separator lies wholly before an end or wholly behind it.
        return text[: end - len(BREAK) * sum(place + n * len(BREAK) < end for n, place in enumerate(breaks))]

    def _copy(self) -> Any:
        """A copy of the tokenizer that knows the separator, made when a mark is met for the first time."""
        if self._breaking is None:
            from transformers import AddedToken

            self._breaking = copy.deepcopy(self.tokenizer)
            separator = AddedToken(BREAK, special=True, normalized=False)
            self._breaking.add_tokens([separator], special_tokens=True)
        return self._breaking


def between_all(text: str) -> str:
    """The text with a separator around every character: the last resort where marks arise in some other way."""
    return _insert(text, list(range(len(text) + 1)))


def _insert(text: str, places: Sequence[int]) -> str:
    bounds = [0, *places, len(text)]
    return BREAK.join(text[a:b] for a, b in pairwise(bounds))
