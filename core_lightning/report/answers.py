"""A prediction as text for a shell."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def told(prediction: Mapping[str, Any]) -> str:
    """Question, every peer's answers, and the majority with the share that gave it.

    >>> print(told({"question": "1 + 1?", "answers": {"a": ["2", None]}, "majority": "2", "agreement": 0.5, "gold": None}))
    1 + 1?
      a: 2, no answer
      majority: 2 (50 % of all samples)
    >>> tie = {"question": "1 + 1?", "answers": {"a": ["2", "3"]}, "majority": "2", "tied": ["2", "3"], "gold": None}
    >>> print(told(tie | {"agreement": 0.5}))
    1 + 1?
      a: 2, 3
      majority: 2 (50 % of all samples, as many as 3)
    """
    lines = [prediction["question"].strip()]
    for peer, answers in prediction["answers"].items():
        lines.append(f"  {peer}: {', '.join(answer or 'no answer' for answer in answers)}")
    if prediction["majority"] is None:
        lines.append("  no peer gave an answer")
    else:
        others = [answer for answer in prediction.get("tied", ()) if answer != prediction["majority"]]
        tie = f", as many as {' and '.join(others)}" if others else ""
        lines.append(
            f"  majority: {prediction['majority']} ({100 * prediction['agreement']:.0f} % of all samples{tie})"
        )
    if prediction["gold"] is not None:
        lines[-1] += f", gold {prediction['gold']}"
    return "\n".join(lines)


def told_rescues(prediction: Mapping[str, Any]) -> str:
    """Who tried again, with which hint, and what came of it.

    >>> rescue = {"peer": "b", "teacher": "a", "hint": "1 + 1", "text": "1 + 1 = 2", "answer": "2", "correct": True}
    >>> print(told_rescues({"rescues": [rescue | {"flaw": None}]}))
      b again, with a hint of a: 1 + 1
        1 + 1 = 2
        answer: 2, rescued
    """
    if not prediction.get("rescues"):
        return "  nobody was rescued: every peer has the answer, or none has a derivation of it to show"
    lines = []
    for rescue in prediction["rescues"]:
        outcome = "rescued" if rescue["correct"] else "not rescued"
        flaw = f", not faithfully: {rescue['flaw']}" if rescue["flaw"] else ""
        lines.append(
            f"  {rescue['peer']} again, with a hint of {rescue['teacher']}: {' '.join(rescue['hint'].split())}"
        )
        lines.append(f"    {' '.join(rescue['text'].split())}")
        lines.append(f"    answer: {rescue['answer'] or 'none'}, {outcome}{flaw}")
    return "\n".join(lines)
