"""A peer that says what a script tells it, with words as tokens; the rounds take it like a language model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from core_lightning.answers import Verifier
from core_lightning.protocol.prompts import Prompt
from core_lightning.protocol.rounds import Completion
from core_lightning.records import Problem

#: ``(question, hinted, seed) -> completion``
Script = Callable[[str, bool, int], str]


@dataclass
class ScriptedPeer:
    name: str
    script: Script
    longest: int = 1000
    device: str = "cpu"
    calls: list[list[str]] = field(default_factory=list)
    """Prompt texts of every ``sample`` call."""
    words: list[str] = field(default_factory=list)

    def encode(self, prompt: Prompt) -> list[int]:
        return self.ids(prompt.text)

    def ids(self, text: str) -> list[int]:
        for word in text.split(" "):
            if word not in self.words:
                self.words.append(word)
        return [self.words.index(word) for word in text.split(" ")]

    def decode(self, ids: Sequence[int]) -> str:
        return " ".join(self.words[i] for i in ids)

    def room(self) -> int:
        return self.longest

    def cut(self, text: str, tokens: int) -> str:
        return " ".join(text.split(" ")[: max(tokens, 0)])

    def sample(self, prompts: Sequence[list[int]], seeds: Sequence[Sequence[int]]) -> list[list[Completion]]:
        texts = [self.decode(p) for p in prompts]
        self.calls.append(texts)
        return [
            [self._completion(self.script(text, "Hint:" in text, seed)) for seed in group]
            for text, group in zip(texts, seeds, strict=True)
        ]

    def _completion(self, text: str) -> Completion:
        return Completion(self.ids(text), text, text.endswith("..."), [-0.5] * len(text.split(" ")))


VERIFIER = Verifier()


def verify(texts: Sequence[str], problems: Sequence[Problem]) -> list[tuple[str | None, bool]]:
    verdicts = VERIFIER.check(texts, [p.answer for p in problems], [p.kind for p in problems])
    return [(v.answer, v.correct) for v in verdicts]


def always(text: str) -> Script:
    return lambda question, hinted, seed: text


def problem(i: int = 0, answer: str = "7") -> Problem:
    return Problem(f"p{i}", f"What is number {i} ?", answer)
