"""Whether sampled tokens have just completed a stop string."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


class StopStrings:
    """Looks for stop strings at the end of completions that grow token by token.

    Args:
        stop: The strings; none of them is empty.
        tokenizer: Of the model that samples.
    """

    def __init__(self, stop: Sequence[str], tokenizer: Any) -> None:
        self._stop = tuple(stop)
        self._tokenizer = tokenizer
        # A character takes at most four byte tokens, so the last few ids show whether a string has just been completed.
        self._window = 4 * max(map(len, self._stop), default=0) + 1
        # A string is completed by a token that writes its last character. Only a plain one is sure to show in a token that
        # is decoded alone: spaces may be stripped, and other characters may be spread over several tokens.
        last = {s[-1] for s in self._stop}
        self._last = last if all(c.isascii() and c.isprintable() and c != " " for c in last) else None
        self._writes_last: dict[int, bool] = {}

    def met(self, token_ids: Sequence[int]) -> bool:
        """Whether the last of these tokens completes a stop string."""
        if not self._stop or not self._may_complete(token_ids[-1]):
            return False
        tail = self._tokenizer.decode(token_ids[-self._window :], skip_special_tokens=False)
        return any(s in tail for s in self._stop)

    def _may_complete(self, token: int) -> bool:
        if self._last is None:
            return True
        if token not in self._writes_last:
            text = self._tokenizer.decode([token], skip_special_tokens=False)
            self._writes_last[token] = any(c in text for c in self._last)
        return self._writes_last[token]
