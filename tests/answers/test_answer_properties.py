"""Properties that must hold for every number, not only for the table's."""

from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core_lightning.answers import Verifier, canonical_answer, extract_answer, is_correct, leaks_answer, remove_answer
from core_lightning.answers.quantities import parse_quantity, same_quantity

INTEGERS = st.integers(-(10**12), 10**12)
FRACTIONS = st.fractions(max_denominator=10**6)
FORMATS = [
    r"So we get \boxed{{{}}}.",
    "work\n#### {}",
    "<answer>{}</answer>",
    "The answer is {}.",
    "**Answer:** {}",
    "Therefore, the final answer is ${}$.",
    "It takes 3 * 4 + 1 = {}",
    "{}",
]


def renderings(value: Fraction) -> list[str]:
    """Ways to write one exact value."""
    sign, n, d = "-" * (value < 0), abs(value.numerator), value.denominator
    ways = [f"{sign}{n}/{d}", rf"{sign}\frac{{{n}}}{{{d}}}", rf"\dfrac{{{sign}{3 * n}}}{{{3 * d}}}"]
    if d == 1:
        ways += [
            f"{sign}{n}",
            f"{sign}{n:,}",
            f"{sign}{n}.0",
            f"{sign}{n:,}".replace(",", "{,}"),
            f"{sign}{n}".replace("-", "−"),
        ]
    return ways


@given(INTEGERS | FRACTIONS, st.sampled_from(FORMATS), st.data())
def test_what_is_formatted_is_extracted(value, form, data):
    value = Fraction(value)
    written = data.draw(st.sampled_from(renderings(value)))
    answer = extract_answer(form.format(written), "number")
    assert answer is not None
    assert parse_quantity(answer).value == value
    gold = data.draw(st.sampled_from(renderings(value)))
    assert is_correct(form.format(written), gold, "number")
    assert not is_correct(form.format(written), str(value + 1), "number")


@given(FRACTIONS, FRACTIONS, st.data())
def test_equality_is_symmetric_and_exact(a, b, data):
    first, second = (data.draw(st.sampled_from(renderings(value))) for value in (a, b))
    x, y = parse_quantity(first), parse_quantity(second)
    assert same_quantity(x, y) == same_quantity(y, x) == (a == b)
    assert (canonical_answer(first, "number") == canonical_answer(second, "number")) == (a == b)


@given(st.decimals(allow_nan=False, allow_infinity=False, places=12, min_value=-(10**9), max_value=10**9))
def test_decimals_are_exact(value):
    quantity = parse_quantity(format(value, "f"))
    assert quantity.value == Fraction(value)
    assert not same_quantity(quantity, parse_quantity(str(Fraction(value) + Fraction(1, 10**13))))


@given(st.sampled_from(FORMATS), INTEGERS, INTEGERS)
def test_two_different_numbers_are_ambiguous(form, a, b):
    answer = extract_answer(form.format(f"{a} or {b}"), "number")
    assert (answer is None) == (a != b)


@given(st.sampled_from(FORMATS), INTEGERS)
def test_removed_answer_does_not_leak(form, value):
    text = form.format(value)
    assert leaks_answer(text, str(value), "number")
    assert not leaks_answer(remove_answer(text, str(value), "number"), str(value), "number")


@given(st.integers(0, 10**6), st.integers(0, 10**6))
def test_a_leak_is_a_whole_token(value, other):
    assert leaks_answer(f"we have {other} and {value:,} eggs", str(value))
    assert leaks_answer(f"{other}0{value}.5", str(value)) is False
    assert leaks_answer(f"x{value} and 1.{value}", str(value)) is False


@given(st.text(max_size=200), st.sampled_from(["number", "math", "choice", "text", "auto"]))
@settings(max_examples=300)
def test_any_text_is_survived(text, kind):
    answer = extract_answer(text, kind)
    assert answer is None or answer.strip()
    assert remove_answer(text, "12", kind) is not None


@given(st.text(alphabet="\\boxed{}<answer>/ #is:or,A12$.\n", max_size=120))
@settings(max_examples=300)
def test_marker_soup_is_survived(text):
    for kind in ("number", "math", "choice", "text", "auto"):
        extract_answer(text, kind)
    assert isinstance(remove_answer(text, "12", "number"), str)


@given(st.text(min_size=1, max_size=40).filter(lambda s: s.strip(" .\"'`*$").isalnum()))
def test_words_are_compared_without_case(word):
    with Verifier() as verifier:
        assert verifier.check([f"<answer> {word} </answer>"], [word.strip()], "text")[0].correct


@pytest.mark.parametrize(
    "ramble", ["I counted 3, then 5, then 12", "12 eggs were left and then 12 more", "3 12", "so 12 it is, or is it"]
)
def test_last_number_of_a_ramble_is_no_answer(ramble):
    assert extract_answer(ramble, "number") is None
