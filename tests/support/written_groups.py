"""Hand-written groups for the reward tests: traces from a short notation, distances from a given matrix."""

from __future__ import annotations

import torch
from hypothesis import strategies as st
from torch import Tensor

from core_lightning.protocol import Group, Hint, Problem, Trace
from core_lightning.rewards import RewardContext


def trace(
    peer: str = "a",
    correct: bool = False,
    round: str = "cold",
    answer: str | None = None,
    hinted: bool = False,
    text: str = "",
    index: int = 0,
) -> Trace:
    hint = Hint(text="add them", teacher="b", teacher_index=0, leaks=False) if hinted else None
    return Trace(
        peer=peer,
        round=round,
        index=index,
        prompt_ids=[1],
        token_ids=[2],
        text=text,
        truncated=False,
        answer=answer,
        correct=correct,
        hint=hint,
    )


def group(*traces: Trace, answer: str = "7") -> Group:
    return Group(Problem(id="p", question="3 + 4?", answer=answer), list(traces))


def given_distance(matrix: Tensor) -> RewardContext:
    return RewardContext(0.0, lambda: matrix)


@st.composite
def distances(draw: st.DrawFn, size: int) -> Tensor:
    """A symmetric matrix in [0, 1] with a zero diagonal; nothing else holds (no triangle inequality, no kernel)."""
    upper = draw(st.lists(st.floats(0, 1), min_size=size * size, max_size=size * size))
    matrix = torch.tensor(upper, dtype=torch.float64).reshape(size, size).triu(1)
    return matrix + matrix.T


@st.composite
def groups(draw: st.DrawFn, min_size: int = 1, max_size: int = 8) -> Group:
    """Any mixture of three peers and both rounds, right, wrong, half right and unanswered."""
    traces = st.builds(
        trace,
        peer=st.sampled_from("abc"),
        correct=st.booleans(),
        round=st.sampled_from(["cold", "rescue"]),
        answer=st.sampled_from([None, "7", "7 apples", "8"]),
        hinted=st.booleans(),
        text=st.sampled_from(["3 + 4 = 7", "half of 14", "guess", ""]),
    )
    return group(*draw(st.lists(traces, min_size=min_size, max_size=max_size)))
