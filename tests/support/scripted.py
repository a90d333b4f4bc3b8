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
    longest_completion: int = 1000
    stop: str | None = None
    """Where it stops a completion of its own."""
    device: str = "cpu"
    calls: list[list[str]] = field(default_factory=list)
    """Prompt texts of every ``sample`` call."""
    words: list[str] = field(default_factory=list)
    logprob: float = -0.5
    """Of every token of a completion."""
    likes: Callable[[str], float] = field(default=lambda text: 0.0)
    """Mean log-probability per token of somebody else's completion."""
    heat: list[tuple[float | None, float | None]] = field(default_factory=list)
    """Temperature and nucleus of every ``sample`` call."""

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

    def encode_completion(self, text: str) -> list[int]:
        return self.ids(text)

    def in_own_words(self, text: str, prompt_ids: Sequence[int]) -> str:
        return text if self.stop is None else text.split(self.stop, maxsplit=1)[0]

    def completion_room(self) -> int:
        return self.longest_completion

    def likelihoods(self, prompts: Sequence[list[int]], completions: Sequence[list[int]]) -> list[float]:
        return [self.likes(self.decode(ids)) for ids in completions]

    def begin(
        self,
        prompts: Sequence[list[int]],
        seeds: Sequence[Sequence[int]],
        *,
        temperature: float | None = None,
        top_p: float | None = None,
    ) -> Callable[[], list[list[Completion]]]:
        self.heat.append((temperature, top_p))
        texts = [self.decode(p) for p in prompts]
        self.calls.append(texts)
        return lambda: [
            [self._completion(self.script(text, "Hint:" in text, seed)) for seed in group]
            for text, group in zip(texts, seeds, strict=True)
        ]

    def _completion(self, text: str) -> Completion:
        return Completion(self.ids(text), text, text.endswith("..."), [self.logprob] * len(text.split(" ")))


VERIFIER = Verifier()


def verify(texts: Sequence[str], problems: Sequence[Problem]) -> list[tuple[str | None, bool]]:
    verdicts = VERIFIER.check(texts, [p.answer for p in problems], [p.kind for p in problems])
    return [(v.answer, v.correct) for v in verdicts]


def always(text: str) -> Script:
    return lambda question, hinted, seed: text


def problem(i: int = 0, answer: str = "7") -> Problem:
    return Problem(f"p{i}", f"What is number {i} ?", answer)
