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
    """
    lines = [prediction["question"].strip()]
    for peer, answers in prediction["answers"].items():
        lines.append(f"  {peer}: {', '.join(answer or 'no answer' for answer in answers)}")
    if prediction["majority"] is None:
        lines.append("  no peer gave an answer")
    else:
        lines.append(f"  majority: {prediction['majority']} ({100 * prediction['agreement']:.0f} % of all samples)")
    if prediction["gold"] is not None:
        lines[-1] += f", gold {prediction['gold']}"
    return "\n".join(lines)
