"""What a peer is asked: the question, in the rescue round a hint, and the answer format the extractor reads."""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from string import Formatter
from typing import Literal

from core_lightning.records import AnswerKind, Problem

#: Every format asked for here is one that ``core_lightning.answers`` extracts.
INSTRUCTIONS: Mapping[str, str] = {
    "number": "Solve the problem step by step. Put the final number in \\boxed{}.",
    "math": "Solve the problem step by step. Put the final answer in \\boxed{}.",
    "choice": "Think step by step. Finish with the letter of the right option in \\boxed{}.",
    "text": "Think step by step. Finish with the final answer in <answer></answer>.",
}

MULTI_STRATEGY = (
    "Try several strategies. Write each one as <strategy>...</strategy> followed by its outcome as <outcome>...</outcome>. "
    "Then weigh them and give one final answer. {instruction}"
)


@dataclass(frozen=True)
class Shot:
    """A worked example put before the question."""

    question: str
    """The question of the example."""
    completion: str
    """The answer a peer should imitate in form."""
    hint: str | None = None
    """Shown in prompts that carry a hint, so that a base model sees how a hint is used."""


@dataclass(frozen=True)
class Filled:
    """A text with texts from outside in it: a question from the data, a hint from a peer.

    The settings' own words are read as they are, control tokens included. A text from outside must stay text whatever
    stands in it, so it is known where each one lies.
    """

    parts: tuple[str, ...]
    """The settings' words and texts from outside in turn; the first and the last are the settings'."""

    def __str__(self) -> str:
        return "".join(self.parts)

    @property
    def given(self) -> tuple[str, ...]:
        """The texts from outside, in order."""
        return self.parts[1::2]

    def around(self, given: Iterable[str]) -> str:
        """The settings' words with other texts in the places of those from outside."""
        others = iter(given)
        return "".join(next(others) if i % 2 else part for i, part in enumerate(self.parts))


@dataclass(frozen=True)
class Turn:
    """One message of a chat."""

    role: Literal["system", "user", "assistant"]
    content: Filled


@dataclass(frozen=True)
class Prompt:
    """One prompt in both forms; a peer with a chat template takes the turns, one without takes the plain text."""

    turns: tuple[Turn, ...]
    plain: Filled
    date: str | None = None
    """Today, for chat templates that write it."""

    @property
    def messages(self) -> list[dict[str, str]]:
        """The turns as a chat template reads them."""
        return [{"role": turn.role, "content": str(turn.content)} for turn in self.turns]

    @property
    def text(self) -> str:
        """The plain text."""
        return str(self.plain)


@dataclass(frozen=True)
class PromptSettings:
    """Templates of the prompts. They have the fields ``{question}``, ``{instruction}``, and with a hint ``{hint}``."""

    form: Literal["plain", "multi_strategy"] = "plain"
    """``multi_strategy`` asks for several tagged strategies with their outcomes and one final answer (published variant)."""
    system: str | None = None
    """System prompt of chat models."""
    instruction: str | None = None
    """Replaces the instruction that belongs to the problem's answer kind."""
    chat: str = "{question}\n\n{instruction}"
    """User turn of the cold round."""
    chat_hinted: str = (
        "{question}\n\n### Hint\nPart of a solution by someone else:\n{hint}\n\n"
        "### Task\nUse the hint if it helps. {instruction}"
    )
    """User turn of the rescue round."""
    text: str = "Question: {question}\n{instruction}\nAnswer:"
    """Prompt of the cold round for a peer without a chat template."""
    text_hinted: str = "Question: {question}\nHint: {hint}\n{instruction}\nAnswer:"
    """Prompt of the rescue round for a peer without a chat template."""
    shots: list[Shot] = field(default_factory=list)
    """Worked examples before every question."""
    stop_at_next: bool = True
    """With a plain prompt, a completion ends where the peer goes on with a question of its own: at a new line that begins
    with the word before the question in ``text``, which is "Question:" by default."""
    date: str | None = None
    """The day that chat templates with a date write, as "2026-01-31"; unset, the day the run began, also after a resume."""

    def __post_init__(self) -> None:
        if self.form not in ("plain", "multi_strategy"):
            raise ValueError(f"prompt.form is {self.form!r}; choose plain or multi_strategy")
        for name, needed in (("chat", False), ("chat_hinted", True), ("text", False), ("text_hinted", True)):
            template = getattr(self, name)
            try:
                places = [place[1:] for place in Formatter().parse(template) if place[1] is not None]
                fields = {f"{f}{'!' + how if how else ''}{':' + form if form else ''}" for f, form, how in places}
            except ValueError as error:
                raise ValueError(f"prompt.{name} is no template ({error}); write a literal brace twice") from None
            allowed = {"question", "instruction"} | ({"hint"} if needed else set())
            if fields - allowed:
                raise ValueError(
                    f"prompt.{name} has the unknown field {{{sorted(fields - allowed)[0]}}}; "
                    f"use {', '.join('{' + f + '}' for f in sorted(allowed))}, and write a literal brace twice"
                )
            required = {"question"} | ({"hint"} if needed else set())
            if required - fields:
                raise ValueError(f"prompt.{name} lacks {{{sorted(required - fields)[0]}}}; add it")
        if self.date is not None:
            try:
                datetime.date.fromisoformat(self.date)
            except (TypeError, ValueError):
                raise ValueError(f"prompt.date is {self.date!r}; write a day as 2026-01-31, or leave it out") from None

    @property
    def next_question(self) -> str | None:
        """How a plain prompt's next question would begin: a new line with the mark before a question, if there is one."""
        mark = self.text.partition("{question}")[0].replace("{{", "{").replace("}}", "}").strip().split("\n")[0].strip()
        return f"\n{mark}" if self.stop_at_next and mark and "{instruction}" not in mark else None

    def dated(self, day: str | None = None) -> PromptSettings:
        """These settings with a day in them, today if none is given; one that was set stays."""
        return self if self.date is not None else replace(self, date=day or datetime.date.today().isoformat())

    def render(self, problem: Problem, hint: str | None = None) -> Prompt:
        """The prompt of one problem, with the hint in it if there is one."""
        instruction = self._instruction(problem.kind)
        turns = [Turn("system", Filled((self.system,)))] if self.system else []
        before = ""
        for shot in self.shots:
            shown = shot.hint if hint is not None else None
            example = self._fill("chat", shot.question, instruction, shown)
            turns += [
                Turn("user", Filled((str(example),))),  # a worked example stands in the settings
                Turn("assistant", Filled((shot.completion.strip(),))),
            ]
            before += f"{self._fill('text', shot.question, instruction, shown)}{shot.completion}\n\n"
        turns.append(Turn("user", self._fill("chat", problem.question, instruction, hint)))
        first, *rest = self._fill("text", problem.question, instruction, hint).parts
        return Prompt(tuple(turns), Filled((before + first, *rest)), self.date)

    def _instruction(self, kind: AnswerKind) -> str:
        if self.instruction is not None:
            return self.instruction
        plain = INSTRUCTIONS["math" if kind == "auto" else kind]
        return MULTI_STRATEGY.format(instruction=plain) if self.form == "multi_strategy" else plain

    def _fill(self, name: str, question: str, instruction: str, hint: str | None) -> Filled:
        template = getattr(self, name if hint is None else f"{name}_hinted")
        parts = [""]
        for words, place, _, _ in Formatter().parse(template):
            parts[-1] += words + (instruction if place == "instruction" else "")
            if place in ("question", "hint"):
                parts += [question if place == "question" else hint or "", ""]
        return Filled(tuple(parts))
