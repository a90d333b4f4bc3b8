"""What is left of a trace when its answer is taken out."""

import pytest

from core_lightning.answers import leaks_answer, remove_answer, strip_think

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
    ("Expand: $x^2 + 2x + 1$\n\\boxed{x^2+2x+1}", "x^2+2x+1", "math", "Expand: $$"),
]


@pytest.mark.parametrize(("text", "gold", "kind", "rest"), REMOVED)
def test_rest_of_a_trace(text, gold, kind, rest):
    assert remove_answer(text, gold, kind) == rest
    assert not leaks_answer(rest.rpartition("\n")[2], gold, kind)


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
        ("9-5 and 9 - 5", "5", "number", True),
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
