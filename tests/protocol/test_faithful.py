"""A correct rescue is faithful if it ended, none of its tokens was an accident and all its equations hold."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from core_lightning.protocol.faithful import FaithfulSettings, find_flaw, likeliest, mark_flaws
from core_lightning.records import Group, Hint, Trace
from scripted import problem

HINT = Hint("3 + 4 =", "b", 0, False)
PROBLEM = problem()  # its answer is 7


def rescue(text: str = "3 + 4 = 7", probabilities: tuple[float, ...] = (0.9, 0.2), index: int = 0, **more: object) -> Trace:
    logprobs = [math.log(p) for p in probabilities]
    fields: dict = {"correct": True, "hint": HINT, "sampled_logprobs": logprobs} | more
    return Trace("a", "rescue", index, [1], [2] * len(logprobs), text, False, **fields)


@pytest.mark.parametrize(
    ("trace", "settings", "flaw"),
    [
        (rescue(), FaithfulSettings(), None),
        (replace(rescue(), truncated=True), FaithfulSettings(), "cut off"),
        (replace(rescue(), truncated=True), FaithfulSettings(finished=False), None),
        (rescue(), FaithfulSettings(min_probability=0.2), None),  # at least: the bound itself passes
        (rescue(), FaithfulSettings(min_probability=0.3), "unlikely token (0.2)"),
        (rescue("9+9+0=15, so 15-8=7"), FaithfulSettings(), "false equation: 9+9+0=15"),
        (rescue("9+9+0=15, so 15-8=7"), FaithfulSettings(equations=False), None),
        (rescue(probabilities=(1e-6,)), FaithfulSettings(min_probability=0.0), None),
        (rescue("seven, no sums"), FaithfulSettings(), None),
        (rescue(" 7"), FaithfulSettings(), "no derivation"),
        (rescue("#### 7"), FaithfulSettings(), "no derivation"),
        (rescue(r"\boxed{7}"), FaithfulSettings(), "no derivation"),
        (rescue("<think>\n\n</think> 7"), FaithfulSettings(), "no derivation"),
        (rescue("<think> 15 less 8 </think> 7"), FaithfulSettings(), None),
        (rescue(" 7"), FaithfulSettings(derivation=False), None),
        (rescue("15 - 8 = 7"), FaithfulSettings(), None),
    ],
)
def test_flaws(trace: Trace, settings: FaithfulSettings, flaw: str | None) -> None:
    assert find_flaw(trace, settings, PROBLEM) == flaw


def test_a_threshold_needs_recorded_probabilities() -> None:
    unknown = rescue(sampled_logprobs=None)
    with pytest.raises(ValueError, match=r"set credit\.faithful\.min_probability to 0"):
        find_flaw(unknown, FaithfulSettings(), PROBLEM)
    assert find_flaw(unknown, FaithfulSettings(min_probability=0.0), PROBLEM) is None


@pytest.mark.parametrize("value", [-0.1, 1.0, math.nan])
def test_a_threshold_is_a_probability(value: float) -> None:
    with pytest.raises(ValueError, match=r"credit\.faithful\.min_probability is"):
        FaithfulSettings(min_probability=value)


def test_only_rescues_are_marked() -> None:
    failed = Trace("a", "cold", 0, [1], [2], "8", False)
    odd = (0.001,)
    right, wrong = rescue(probabilities=odd), rescue(probabilities=odd, correct=False)
    group = Group(problem(), [failed, right, wrong])
    mark_flaws([group], FaithfulSettings())
    assert (right.flaw, wrong.flaw) == ("unlikely token (0.001)", None)
    assert group.rescues("a") == [right]
    assert group.rescues("a", faithful=True) == []
    solved = Group(problem(), [Trace("a", "cold", 0, [1], [2], "7", False, correct=True), rescue(probabilities=odd)])
    mark_flaws([solved], FaithfulSettings())
    assert solved.rescues("a") == []  # a peer that had solved the problem is not rescued
    assert solved.traces[1].flaw is None


def test_the_likeliest_is_taken_by_the_mean_over_its_tokens() -> None:
    sure, long, early = rescue(probabilities=(0.6,)), rescue(probabilities=(0.7,) * 9), rescue(probabilities=(0.6,), index=2)
    assert likeliest([sure, long, early]) is long
    assert likeliest([sure, early]) is sure
    unknown, also = rescue(sampled_logprobs=None), rescue(sampled_logprobs=None, index=1)
    assert likeliest([unknown, also, sure]) is sure  # what was not recorded comes last
    assert likeliest([unknown, also]) is unknown
    assert likeliest([]) is None
