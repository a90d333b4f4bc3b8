"""What a failed peer is shown: a teacher's derivation without its answer, cut until the prompt with it fits the peer."""

from __future__ import annotations

import re
from dataclasses import replace

from core_lightning.answers import leaks_answer, remove_answer, strip_think
from core_lightning.protocol.prompts import PromptSettings
from core_lightning.protocol.rollout_peer import RolloutPeer
from core_lightning.protocol.round_settings import RoundSettings
from core_lightning.records import Hint, Problem, Trace


def derives(text: str, problem: Problem) -> bool:
    """Whether something is left of a text without the answer; tags of think blocks alone are nothing."""
    left = remove_answer(text, problem.answer, problem.kind, problem.answer_forms, problem.stem)
    return any(c.isalnum() for c in re.sub(r"</?\w+>", "", left))


def make_hint(
    teacher: Trace, problem: Problem, student: RolloutPeer, settings: RoundSettings, fraction: float | None = None
) -> Hint | None:
    """The teacher's derivation without its final answer, in the student's token budget; None when nothing is left."""
    text = teacher.text if settings.hint_think else strip_think(teacher.text)
    text = remove_answer(text, problem.answer, problem.kind, problem.answer_forms, problem.stem).strip()
    if settings.hint_form == "key_lines":
        text = "\n".join(line for line in text.splitlines() if any(c.isdigit() or c in "=<>\\" for c in line))
    if fraction is None and settings.hint_form == "first_fraction":
        fraction = settings.hint_fraction
    if fraction is not None:
        text = _first_part(text, fraction)
    text = student.cut(text, settings.hint_tokens).strip()
    if not text:
        return None
    return Hint(text, teacher.peer, teacher.index, _leaks(text, problem))


def fitting_hint(hint: Hint, problem: Problem, student: RolloutPeer, prompts: PromptSettings) -> Hint | None:
    """The hint, cut until the prompt with it fits the student's room; None when nothing of it fits."""

    def excess(text: str) -> int:
        return len(student.encode(prompts.render(problem, text))) - student.room()

    if excess(hint.text) <= 0:
        return hint
    # One token may stand for the empty place itself, and a cut text may be encoded longer than as a part of the whole.
    for tokens in range(1 - excess(""), 0, -1):
        text = student.cut(hint.text, tokens).strip()
        if text and excess(text) <= 0:
            return replace(hint, text=text, leaks=_leaks(text, problem))
    return None


def _leaks(text: str, problem: Problem) -> bool:
    return leaks_answer(text, problem.answer, problem.kind, problem.answer_forms, problem.stem)


def _first_part(text: str, fraction: float) -> str:
    """The first part of a text, ending between words."""
    if fraction >= 1:
        return text
    words = re.findall(r"\S+\s*", text)
    return "".join(words[: max(1, round(len(words) * fraction))])
