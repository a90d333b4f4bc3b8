"""What counts as the same votes alike: percent signs as numbers and as factors, forms of one value, units."""

from __future__ import annotations

import random
from itertools import groupby

import pytest

from answers_table import AUTOMATIC, CHOICES, MATHEMATICS, NUMBERS, WORDS
from answers_table_more import MORE_AUTOMATIC, MORE_CHOICES, MORE_MATHEMATICS, MORE_NUMBERS, MORE_WORDS
from answers_table_notations import NOTATIONS
from core_lightning.answers import ballots, extract_answer, infer_kind, is_correct
from core_lightning.answers.equality import bare_gold, decide

ROWS = [
    *NUMBERS, *CHOICES, *MATHEMATICS, *WORDS, *AUTOMATIC, *MORE_NUMBERS, *MORE_CHOICES, *MORE_MATHEMATICS, *MORE_WORDS,
    *MORE_AUTOMATIC, *NOTATIONS,
]  # fmt: skip


@pytest.mark.parametrize("kind", ["number", "math", "auto"])
@pytest.mark.parametrize("gold", ["50", "50%", "0.5"])
@pytest.mark.parametrize(
    ("answers", "alike"),
    [
        (["50%", "50", "50"], True),
        ([r"50\%", "50 percent", "50", "50.0"], True),
        (["50%", "0.5", "1/2"], True),
        (["0.5", "50%"], True),
        (["50%", "50%"], True),
        (["50", "0.5"], False),
    ],
)
def test_a_percentage_votes_with_the_plain_number_beside_it(answers, alike, gold, kind):
    votes = ballots(answers, kind)
    assert (len(set(votes)) == 1) is alike
    right = [is_correct(f"#### {a}", gold, kind) for a in answers]
    if alike and all(right):
        assert len(set(votes)) == 1
    if not alike:
        assert gold == "50%" or len({v for v, r in zip(votes, right, strict=True) if r}) == 1


def test_a_percentage_goes_where_more_are():
    assert ballots(["50%", "50", "0.5", "0.5"], "number") == ["1/2", "50", "1/2", "1/2"]
    assert ballots(["50%", "50", "50", "0.5"], "number") == ["50", "50", "50", "1/2"]
    assert ballots(["50%", "50", "0.5"], "number") == ["50", "50", "1/2"]  # as it is written
    assert ballots(["2 dozen", "24", None], "number") == ["24", "24", None]
    assert ballots(["2 dozen", "two"], "number") == ["2", "two"]


def test_the_order_of_answers_changes_nothing():
    answers = ["50%", "50", "0.5", "0.5", None, "many", r"\frac12", "x", "7%"]
    expected = dict(zip(answers, ballots(answers, "auto"), strict=True))
    for seed in range(10):
        shuffled = random.Random(seed).sample(answers, len(answers))
        assert ballots(shuffled, "auto") == [expected[a] for a in shuffled]


def test_no_two_right_answers_of_the_table_vote_apart_that_are_decided_without_algebra():
    """Every pair of right answers to one gold, each of which is the other's equal too."""
    pairs = 0
    for (gold, asked), rows in groupby(sorted((r[1], r[2], r[0]) for r in ROWS if r[3]), key=lambda row: row[:2]):
        kind = infer_kind(bare_gold(gold)) if asked == "auto" else asked
        found = {a for *_, text in rows if (a := extract_answer(text, kind)) is not None}
        for one in found:
            for other in found - {one}:
                if decide(one, other, kind) and decide(other, one, kind):
                    first, second = ballots([one, other], kind)
                    assert first == second, (gold, one, other)
                    pairs += 1
    assert pairs > 50


def test_a_gold_answer_is_what_its_last_mark_says():
    assert bare_gold(r"\boxed{3}, so #### 4") == "4"
    assert bare_gold("#### 4\nso \\boxed{3}") == "3"
