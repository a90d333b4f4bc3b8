"""What is left of a trace when its answer is taken out."""

import sys

import pytest

from core_lightning.answers import leaks_answer, remove_answer, strip_think
from core_lightning.records import Problem

REMOVED = [
    ("7 + 5 = 12", "12", "number", "7 + 5 ="),
    ("12", "12", "number", ""),
    ("12 apples.", "12", "number", ""),
    ("x = 12", "12", "number", ""),
    ("So 12", "12", "number", ""),
    ("", "12", "number", ""),
    ("6 * 2 = 12\n12 + 1 = 13", "13", "number", "6 * 2 = 12\n12 + 1 ="),
    ("Add 7 and 5.\n#### 12", "12", "number", "Add 7 and 5."),
    ("Add 7 and 5 to get 12.\n#### 12", "12", "number", "Add 7 and 5 to get ."),
    ("#### Step 1\nAdd 7 and 5.\n\n#### 12", "12", "number", "#### Step 1\nAdd 7 and 5."),
    ("Add 7 and 5.\n\nSo the final answer is 12 apples.", "12", "number", "Add 7 and 5."),
    ("Add 7 and 5.\n\n**Answer:** 12", "12", "number", "Add 7 and 5."),
    ("Add 7 and 5.\n**Answer: 12**\n#### 12\n\\boxed{12}", "12", "number", "Add 7 and 5."),
    ("The answer is 5. Wait, no: the answer is 12.", "12", "number", ""),
    (r"Add 7 and 5. Therefore, the answer is $\boxed{12}$.", "12", "number", "Add 7 and 5."),
    (r"The sum is $\boxed{12}$ eggs.", "12", "number", "The sum is eggs."),
    ("The sum:\n\\[\n\\boxed{12}\n\\]", "12", "number", "The sum:"),
    ("The sum is 1,200.", "1200", "number", "The sum is ."),
    ("We pay <answer>12</answer> now, for 7 and 5.", "12", "number", "We pay now, for 7 and 5."),
    ("B fits since A is odd.\nAnswer: B", "B", "choice", "fits since A is odd."),
    ("It fits, so (B).", "B", "choice", "It fits, so ."),
    ("It lies in France. <answer>Paris</answer>", "Paris", "text", "It lies in France."),
    ("So there are nineteen.", "19", "number", "So there are ."),
    ("That makes six hundred thousand.", "600000", "number", "That makes ."),
    ("It is one half of it.", "0.5", "number", "It is of it."),
    # operands stay, results go
    ("6 - 3 = 3", "3", "number", "6 - 3 ="),
    ("9 / 3 = 3 each, and 3 * 4 = 12.\n\\boxed{3}", "3", "number", "9 / 3 = each, and 3 * 4 = 12."),
    ("Factor $x^2 - 5x + 6$.\n#### 5", "5", "number", "Factor $x^2 - 5x + 6$."),
    (r"$\frac{3}{6} = \frac{1}{2}$", "1/2", "number", r"$\frac{3}{6} = $"),
    ("4 boxes of 4 give 16, so each has 4.\n#### 4", "4", "number", "4 boxes of 4 give 16, so each has ."),
    ("4 boxes of 4 give 16.\n#### 4", "4", "number", "4 boxes of 4 give 16."),
    ("3. Multiply: 3 x 4 = 12.\n#### 3", "3", "number", "3. Multiply: 3 x 4 = 12."),
    ("x = 12 + 1 = 13, y = 12", "12", "number", "x = 12 + 1 = 13, y ="),
    ("12 = 3 * 4", "12", "number", "= 3 * 4"),
    # every closing line, in every form
    ("9 * 2 = 18 now.\nTherefore, the total comes to 18.\n\\boxed{18}", "18", "number", "9 * 2 = now.\nTherefore, the total comes to ."),
    ("Add 9 and 9. So she has $18.00 a day. That is eighteen dollars.", "18", "number", "Add 9 and 9. So she has $ a day. That is dollars."),
    ("Half of them, so it is 50%.", "0.5", "number", "Half of them, so it is ."),
    ("She keeps 7 - 2 = 5. Finally five remain.\n#### 5", "5", "number", "She keeps 7 - 2 = . Finally remain."),
    (r"By Pythagoras, $c = 2 \sqrt 3$.", r"2\sqrt{3}", "math", "By Pythagoras, $c = $."),
    ("Nothing is left, so it is zero.", "0", "number", "Nothing is left, so it is ."),
    ("It is one hundred.", "100", "number", "It is ."),
    ("So it is one hundred and twenty.", "120", "number", "So it is ."),
    (r"$\boxed{12}$ eggs.", "12", "number", "eggs."),
    ("We need 2,000,000. In all that is 2 million.", "2000000", "number", "We need . In all that is ."),
    ("Expand: $x^2 + 2x + 1$\n\\boxed{x^2+2x+1}", "x^2+2x+1", "math", "Expand: $$"),
]


@pytest.mark.parametrize(("text", "gold", "kind", "rest"), REMOVED)
def test_rest_of_a_trace(text, gold, kind, rest):
    assert remove_answer(text, gold, kind) == rest
    assert not leaks_answer(rest.rpartition("\n")[2], gold, kind, question=GIVES.get((text, gold), ""))


# 4 boxes of 4: given, so no leak.
GIVES = {(text, gold): "4 boxes of 4" for text, gold, *_ in REMOVED if text.startswith("4 boxes of 4")}


def test_the_text_of_the_gold_option_is_gold():
    problem = Problem(
        "1", "A quarter of 72 cm?\n\nA) 17 cm\nB) 18 cm", "B", kind="choice", choices=("17 cm", "18 cm")
    )
    text = "Divide 72 by 4. It is 18 cm long, so B fits.\nAnswer: (B)"
    hint = remove_answer(text, problem.answer, problem.kind, problem.answer_forms, problem.stem)
    assert hint == "Divide 72 by 4. It is cm long, so fits."
    assert leaks_answer("It is 18 cm long.", problem.answer, problem.kind, problem.answer_forms, problem.stem)
    assert not leaks_answer("It is 17 cm long.", problem.answer, problem.kind, problem.answer_forms, problem.stem)
    words = Problem("2", "Where?\n\nA) In the nucleus\nB) outside", "A", kind="choice", choices=("In the nucleus", "outside"))
    assert "nucleus" not in remove_answer("It is in the nucleus.", words.answer, words.kind, words.answer_forms)
    assert leaks_answer("Look in the nucleus", words.answer, words.kind, words.answer_forms, words.stem)


def test_a_value_that_the_question_does_not_give_is_a_result_wherever_it_stands():
    text = "He eats 48 pieces at first. Then 48 - 8 = 40, 40 + 8 = 48. Done, and done."
    gone = "He eats pieces at first. Then 48 - 8 = 40, 40 + 8 = . Done, and done."
    assert remove_answer(text, "48", "number", question="He eats some.") == gone
    assert remove_answer(text, "48", "number", question="He eats 48.").startswith("He eats 48 pieces")
    assert leaks_answer("He eats 48 pieces", "48", question="He eats some.")
    assert not leaks_answer("He eats 48 pieces", "48", question="He eats 48.")


@pytest.mark.parametrize(
    ("hint", "gold", "kind", "leaks"),
    [
        ("it is 12", "12", "number", True),
        ("it is 12.", "12", "number", True),
        ("it is $12 or 12cm", "12", "number", True),
        ("it is 12.0", "12", "number", True),
        ("123, 112, 1.2, 12.5, 0.12, 12,000, x12", "12", "number", False),
        ("it is １２", "12", "number", True),
        ("it is −5", "-5", "number", True),
        ("it is -5", "5", "number", False),
        ("9-5 and 9 - 5 and 5 * 2", "5", "number", False),
        ("about 1/2", "0.5", "number", True),
        ("about 11/2", "1/2", "number", False),
        (r"about \frac{1}{2}", "0.5", "number", True),
        ("half is 50%", "50%", "number", True),
        ("(b) fits", "B", "choice", True),
        ("option b fits", "B", "choice", True),
        ("B", "B", "choice", True),
        ("Both Bob and AB", "B", "choice", False),
        ("A train leaves, I think", "A", "choice", False),
        ("it is A.", "A", "choice", True),
        ("In PARIS there", "Paris", "text", True),
        ("a comparison", "Paris", "text", False),
        ("so x ^2+ 1 holds", "x^2 + 1", "math", True),
        ("", "12", "number", False),
    ],
)
def test_leak(hint, gold, kind, leaks):
    assert leaks_answer(hint, gold, kind) is leaks


@pytest.mark.parametrize(
    ("text", "rest"),
    [
        ("no block", "no block"),
        ("<think>a</think>\nb", "b"),
        ("<think>a</think>b<think>c</think> d", "d"),
        ("a</think>b", "b"),
        ("<think>a", ""),
        ("a<think>b", ""),
        ("[THINK]a[/THINK]b", "b"),
    ],
)
def test_strip_think(text, rest):
    assert strip_think(text) == rest


PARTS = [
    ("So x = 2 or x = 3. \\boxed{2,3}", "2,3", "So x = or x = ."),
    ("Factor: (x-2)(x-3). So x = 2 or x = 3.", "2,3", "Factor: (x-2)(x-3). So x = or x = ."),
    ("the roots are 3 and 2", "2,3", "the roots are and"),
    ("x=2, x=3", r"\{2,3\}", "x=, x="),
    ("Then x = 4 and y = -1.", "(4,-1)", "Then x = and y = ."),
    ("x = 4. Then we get y = 3 - 4 = -1.", "(4,-1)", "x = . Then we get y = 3 - 4 = ."),
    (r"Hence 2 \le x < 5.", "[2,5)", r"Hence \le x < ."),
    ("Hence 2 ≤ x < 5", "[2,5)", "Hence ≤ x <"),
    ("So x >= 2 and x < 5.", "[2,5)", "So x >= and x < ."),
    ("so it is [2,5)", r"2 \le x < 5", "so it is [,)"),
    (r"so x \le 3.", r"(-\infty,3]", r"so x \le ."),
    ("so x < 2 or x > 3", r"(-\infty,2)\cup(3,\infty)", "so x < or x >"),
    ("x = 1, y = 2 or x = 3, y = 4", "(1,2),(3,4)", "x = , y = or x = , y ="),
    (r"so x = \pm 2 here", "2,-2", r"so x = \pm here"),
    ("so x = 2 or x = -2", r"\pm 2", "so x = or x ="),
    ("a = 1, b = 1", "(1,1)", "a = , b ="),
    ("a = 1 here", "(1,1)", "a = 1 here"),
    ("x = 2 here.", "2,3", "x = 2 here."),
    ("The sum is 2 + 3 = 5", "2,3", "The sum is 2 + 3 = 5"),
    ("We have 2 * 3 = 6 and 3 - 2 = 1", "2,3", "We have 2 * 3 = 6 and 3 - 2 = 1"),
    ("so x = 3 is the border", r"(-\infty,3]", "so x = 3 is the border"),
    ("x = 2. " + "Much later comes the other one. " * 5 + "x = 3.", "2,3", "x = 2. " + "Much later comes the other one. " * 5 + "x = 3."),
    ("it is 2*sqrt(3) long", r"2\sqrt{3}", "it is long"),
    ("it is √12 long", r"2\sqrt{3}", "it is long"),
    (r"it is \sqrt{13} long", r"2\sqrt{3}", r"it is \sqrt{13} long"),
    ("so y = 1 + x here", "x+1", "so y = here"),
    ("so y = 1 + 2x + x² here", "x^2+2x+1", "so y = here"),
    ("so y = -1 + x here", "x-1", "so y = here"),
    ("so y = 1 - x here", "x-1", "so y = 1 - x here"),
    ("so x⁴ it is", "x^4", "so it is"),
]


@pytest.mark.parametrize(("text", "gold", "rest"), PARTS)
def test_the_parts_of_a_list_and_equal_forms_are_gold_where_they_stand_together(text, gold, rest):
    assert remove_answer(text, gold, "math", question="Solve it.") == rest
    assert leaks_answer(text, gold, "math") is (rest != text)
    assert not leaks_answer(rest, gold, "math", question="Solve it.")


def test_a_point_that_the_question_gives_stays():
    question = "Does (4,-1) lie on it?"
    assert remove_answer("Here x = 4 and y = -1 fit it. Go on, and on.", "(4,-1)", "math", question=question).startswith("Here x = 4")
    assert not leaks_answer("Here x = 4 and y = -1", "(4,-1)", "math", question=question)


def test_a_sentence_that_checks_the_answer_goes_as_a_whole():
    text = "Half of it is 9, so 9 + 9 = 18.\nTo check: 18 / 2 = 9 and 9 + 3 + 4 = 16.\nSo it fits, really."
    gone = "Half of it is 9, so 9 + 9 = .\nSo it fits, really."
    assert remove_answer(text, "18", "number", question="She has 3 and 4.") == gone
    assert leaks_answer("Let's verify that 18 / 2 = 9.", "18", "number", question="She has 3 and 4.")
    assert leaks_answer("Check:\n18 / 2 = 9", "18", "number", question="She has 3 and 4.")
    assert not leaks_answer("To check: 18 / 2 = 9.", "18", "number", question="She has 18.")
    assert not leaks_answer("Then 18 / 2 = 9.", "18", "number", question="She has 3 and 4.")
    assert not leaks_answer("To check: 9 + 3 + 4 = 16.", "18", "number", question="She has 3 and 4.")


@pytest.mark.parametrize("gold", ["caf\u00e9", "cafe\u0301"])
def test_an_accent_is_found_in_either_form(gold):
    assert remove_answer("It is a cafe\u0301 or a caf\u00e9 there.", gold, "text") == "It is a or a there."


@pytest.mark.parametrize(
    ("text", "gold", "kind"),
    [("(" * 3_000_000, "(x+1)", "math"), ("18" + "\x0b" * 3_000_000, "18", "number"), ("x = 2, " * 20_000, "2,3", "math")],
)
def test_a_long_row_of_anything_ends(text, gold, kind):
    """With work in the square of the length the first two would take days."""
    assert not leaks_answer(text, gold, kind, question="18, (x+1), 2")


def steps(call) -> int:
    """How many lines and calls of Python a call takes."""
    count = 0

    def trace(*_):
        nonlocal count
        count += 1
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        call()
    finally:
        sys.settrace(before)
    return count


@pytest.mark.parametrize("unit", ["18 ", "1/2 ", "= 18. ", "so 18 ", "18 because ", "18\n"])
@pytest.mark.parametrize("gold", ["18", "1/2"])
@pytest.mark.parametrize("question", ["", "What?", "18 or 1/2"])
@pytest.mark.parametrize("reads", [remove_answer, leaks_answer])
def test_twice_the_places_of_gold_take_twice_the_work(unit, gold, question, reads):
    few, many = (steps(lambda n=n: reads(unit * n + "= 18", gold, "number", (), question)) for n in (150, 300))
    assert many < 2.3 * few
