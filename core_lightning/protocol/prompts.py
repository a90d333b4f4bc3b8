"""What a peer is asked: the question, in the rescue round a hint, and the answer format the extractor reads."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
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
    completion: str
    hint: str | None = None
    """Shown in prompts that carry a hint, so that a base model sees how a hint is used."""


@dataclass(frozen=True)
class Prompt:
    """One prompt in both forms; a peer with a chat template takes the messages, one without takes the text."""

    messages: tuple[Mapping[str, str], ...]
    text: str


@dataclass(frozen=True)
class PromptSettings:
    """Templates. Fields: ``{question}``, ``{instruction}``, and in the hinted ones ``{hint}``."""

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
    """Cold prompt of a peer without a chat template."""
    text_hinted: str = "Question: {question}\nHint: {hint}\n{instruction}\nAnswer:"
    """Rescue prompt of a peer without a chat template."""
    shots: list[Shot] = field(default_factory=list)
    """Worked examples before every question."""

    def __post_init__(self) -> None:
        if self.form not in ("plain", "multi_strategy"):
            raise ValueError(f"prompt.form is {self.form!r}; choose plain or multi_strategy")
        for name, needed in (("chat", False), ("chat_hinted", True), ("text", False), ("text_hinted", True)):
            template = getattr(self, name)
            try:
                fields = {f for _, f, _, _ in Formatter().parse(template) if f is not None}
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

    def render(self, problem: Problem, hint: str | None = None) -> Prompt:
        """The prompt of one problem, with the hint in it if there is one."""
        instruction = self._instruction(problem.kind)
        messages: list[Mapping[str, str]] = [{"role": "system", "content": self.system}] if self.system else []
        text = ""
        for shot in self.shots:
            shown = shot.hint if hint is not None else None
            messages += [
                {"role": "user", "content": self._fill("chat", shot.question, instruction, shown)},
                {"role": "assistant", "content": shot.completion.strip()},
            ]
            text += self._fill("text", shot.question, instruction, shown) + shot.completion + "\n\n"
        messages.append({"role": "user", "content": self._fill("chat", problem.question, instruction, hint)})
        return Prompt(tuple(messages), text + self._fill("text", problem.question, instruction, hint))

    def _instruction(self, kind: AnswerKind) -> str:
        if self.instruction is not None:
            return self.instruction
        plain = INSTRUCTIONS["math" if kind == "auto" else kind]
        return MULTI_STRATEGY.format(instruction=plain) if self.form == "multi_strategy" else plain

    def _fill(self, name: str, question: str, instruction: str, hint: str | None) -> str:
        if hint is None:
            return getattr(self, name).format(question=question, instruction=instruction)
        return getattr(self, f"{name}_hinted").format(question=question, instruction=instruction, hint=hint)
