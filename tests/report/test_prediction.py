"""What a team answers: the majority, and which answers were given as often."""

import pytest

from core_lightning.records import Group, Problem, Trace
from core_lightning.report.answers import told
from core_lightning.training.prediction import prediction


@pytest.mark.parametrize(
    ("answers", "majority", "tied", "said"),
    [
        (["6", "6", "7"], "6", [], "majority: 6 (67 % of all samples)"),
        (["7", "6", None], "7", ["7", "6"], "majority: 7 (33 % of all samples, as many as 6)"),
        (["7", "6.0", "6", "7", "8", "8"], "7", ["7", "6", "8"], "majority: 7 (33 % of all samples, as many as 6 and 8)"),
        ([None], None, [], "no peer gave an answer"),
    ],
)
def test_a_tie_is_told(answers: list[str | None], majority: str | None, tied: list[str], said: str) -> None:
    traces = [Trace("a", "cold", i, [1], [2], "", False, answer=answer) for i, answer in enumerate(answers)]
    found = prediction(Group(Problem("1", "How many?", "", kind="number"), traces))
    assert (found["majority"], found["tied"]) == (majority, tied)
    assert told(found).splitlines()[-1].strip() == said
