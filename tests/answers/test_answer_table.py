"""The adversarial table, and how often each row's rule is needed."""

import pytest

from answers_table import AUTOMATIC, CASES, CHOICES, MATHEMATICS, NUMBERS, WORDS
from answers_table_more import (
    MATHEMATICS_AS_WRITTEN,
    MORE_AUTOMATIC,
    MORE_CHOICES,
    MORE_MATHEMATICS,
    MORE_NUMBERS,
    MORE_WORDS,
)
from answers_table_notations import NOTATIONS
from core_lightning.answers import Verifier, canonical_answer, extract_answer, infer_kind, is_correct


@pytest.fixture(scope="module")
def verifier():
    with Verifier(timeout=10.0) as verifier:
        yield verifier


MORE = [MORE_NUMBERS, MORE_CHOICES, MORE_MATHEMATICS, MORE_WORDS, MORE_AUTOMATIC, MATHEMATICS_AS_WRITTEN, NOTATIONS]


@pytest.mark.parametrize("rows", [NUMBERS, CHOICES, MATHEMATICS, WORDS, AUTOMATIC, *MORE])
def test_every_row(rows, verifier):
    completions, golds, kinds, expected = zip(*rows, strict=True)
    verdicts = verifier.check(completions, golds, kinds)
    wrong = [
        (row, verdict)
        for row, verdict, right in zip(rows, verdicts, expected, strict=True)
        if verdict.correct is not right
    ]
    assert not wrong
    assert not any(verdict.timed_out for verdict in verdicts)


def test_table_is_large_and_balanced():
    cases = [*CASES, *(row for rows in MORE for row in rows)]
    rights = [right for *_, right in cases]
    assert len(cases) == len({case[:3] for case in cases}) >= 450
    assert 0.3 < sum(rights) / len(rights) < 0.7


def test_numbers_letters_and_words_need_no_worker():
    with Verifier() as verifier:
        for rows in (NUMBERS, CHOICES, WORDS, MORE_NUMBERS, MORE_CHOICES, MORE_WORDS):
            completions, golds, kinds, _ = zip(*rows, strict=True)
            verifier.check(completions, golds, kinds)
        assert verifier.comparisons == 0


@pytest.mark.parametrize(
    ("completion", "kind", "answer"),
    [
        (r"so \boxed{\left\{1, \frac{1}{2}\right\}} it is", "math", r"\left\{1, \frac{1}{2}\right\}"),
        (r"\boxed{x=3 or 3}", "number", "3"),
        (r"\boxed{3 or 4}", "auto", None),
        (r"\boxed{1, 2}", "auto", "1, 2"),
        ("The answer is A or B", "auto", None),
        ("The answer is x.", "auto", "x"),
        ("Answer: 18 dollars", "auto", "18 dollars"),
        ("The answer is Paris.", "auto", "Paris"),
        ("18", "auto", "18"),
        ("B", "auto", "B"),
        ("nothing here", "auto", None),
        ("<answer>Paris</answer>", "text", "Paris"),
        (r"\boxed{\text{(c)}}", "choice", "C"),
        ("Therefore, the correct option is C.\nC", "choice", "C"),
        ("2 + 2\nOption D", "choice", "D"),
        ("The answer is <<4+4=8>>8.", "math", "8"),
        ("Answer:\n$$\n\\frac{1}{2}\n$$", "math", r"\frac{1}{2}"),
        (r"\boxed{no solution}", "number", "no solution"),
        (r"\boxed{" + "1" * 3000 + "}", "number", None),
    ],
)
def test_extracted_answer(completion, kind, answer):
    assert extract_answer(completion, kind) == answer


def test_think_block_left_open_by_the_prompt():
    assert extract_answer("hm \\boxed{3}</think>\\boxed{4}") == "4"
    assert extract_answer("\\boxed{4}<think>or \\boxed{3}") is None


@pytest.mark.parametrize(
    ("gold", "kind"), [("18", "number"), ("$18", "number"), ("A", "choice"), ("x+1", "math"), ("yes", "text")]
)
def test_inferred_kind(gold, kind):
    assert infer_kind(gold) == kind


def test_a_block_that_the_prompt_opened_has_to_be_closed():
    assert extract_answer("so \\boxed{4}", "number", opened=True) is None
    assert extract_answer("so \\boxed{3}</think>\\boxed{4}", "number", opened=True) == "4"
    with Verifier() as verifier:
        assert not verifier.check(["#### 4"], ["4"], "number", opened=True)[0].correct
        assert verifier.check(["#### 4"], ["4"], "number")[0].correct


def test_what_counts_as_the_same_votes_alike():
    assert canonical_answer("50%", "number") == canonical_answer("50", "number") == "50"


def test_numbers_in_a_row_do_not_vote_with_the_number_of_their_digits():
    assert [canonical_answer(text, "math") for text in ("1 0 1", "101", "1, 234", "1,234")] == ["1 0 1", "101", "1,234", "1234"]


def test_is_correct_takes_a_whole_gold_solution():
    gold = "She sells 9 eggs.\nShe makes 9 * 2 = $<<9*2=18>>18 every day.\n#### 18"
    assert is_correct(gold, gold)
    assert is_correct("The answer is $18.", gold)
    assert not is_correct("The answer is 9.", gold)
