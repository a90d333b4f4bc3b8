"""Five synthetic tasks whose solutions are chains of looked-up facts, written step by step.

======  ================  =========================================  ============================
task    question          gold trace                                 facts
======  ================  =========================================  ============================
add     ``347+285``       ``7+5+0=12 4+8+1=13 3+2+1=6 #### 632``     digit sums with the carry
mul     ``347*5``         ``7*5+0=35 4*5+3=23 3*5+2=17 #### 1735``   digit products with the carry
at      ``3@7@2@5``       ``3@7=5 5@2=1 1@5=1 #### 511``             a random 9 x 9 table
amp     ``3&7&2&5``       the same with ``&``                        a second random 9 x 9 table
mix     ``3@7&2&5@1``     the same with both                         both tables
======  ================  =========================================  ============================

A fact is what has to be *known* (``3@7=5``); everything else is procedure. A peer that misses the ``&`` table solves
few ``amp`` problems, and few ``mix`` problems too, so a pair that knows one table each has problems that *neither*
solves at first. The answer is never a number of its own in the steps: a hint (the steps alone) has to be read, not
searched.
"""

from __future__ import annotations

import hashlib
import random
import re
from collections.abc import Callable, Sequence
from typing import Literal

from core_lightning.records import Problem

Split = Literal["train", "val", "test"]
Recall = Callable[[str, int, int, int], int]
"""``(operation, x, y, carry) -> value``: where a solver gets its facts from."""

TASKS = ("add", "mul", "at", "amp", "mix")
_DIGITS = range(1, 10)  # tables have no 0, so an answer read off the steps has no leading zero
_FACTORS = range(2, 6)
TABLES = {
    operation: {(x, y): random.Random(f"{operation}{x}{y}").choice(_DIGITS) for x in _DIGITS for y in _DIGITS}
    for operation in "@&"
}


def facts(operation: str) -> list[tuple[int, int]]:
    """Operand pairs an operation (``+ * @ &``) needs a fact for."""
    first, second = {"+": (range(10), range(10)), "*": (range(10), _FACTORS)}.get(operation, (_DIGITS, _DIGITS))
    return [(x, y) for x in first for y in second]


def exact(operation: str, x: int, y: int, carry: int) -> int:
    """The true value of a fact."""
    if operation in TABLES:
        return TABLES[operation][x, y]
    return (x + y if operation == "+" else x * y) + carry


def solve(question: str, recall: Recall = exact) -> tuple[list[str], str]:
    """Work a question out with the facts that ``recall`` gives.

    Returns:
        The steps and the answer. A wrong fact is carried on consistently, as a solver who believed it would.
    """
    if operation := next((sign for sign in "+*" if sign in question), None):
        return _solve_columns(question, operation, recall)
    state, steps, values = int(question[0]), [], []
    for sign, operand in re.findall(r"([@&])(\d)", question):
        value = recall(sign, state, int(operand), 0)
        steps.append(f"{state}{sign}{operand}={value}")
        values.append(str(value))
        state = value
    return steps, "".join(values)


def _solve_columns(question: str, operation: str, recall: Recall) -> tuple[list[str], str]:
    """Schoolbook addition or multiplication by one digit, from the last column to the first."""
    top, bottom = question.split(operation)
    columns = zip(reversed(top), reversed(bottom) if operation == "+" else bottom * len(top), strict=True)
    steps, answer, value = [], "", 0
    for x, y in columns:
        carry = value // 10
        value = recall(operation, int(x), int(y), carry)
        steps.append(f"{x}{operation}{y}+{carry}={value}")
        answer = str(value % 10) + answer
    return steps, str(value // 10).strip("0") + answer


def write_trace(steps: Sequence[str], answer: str) -> str:
    """The completion: all steps on one line, then the answer."""
    return f"{' '.join(steps)} #### {answer}"


def prompt(question: str, hint: str | None = None) -> str:
    r"""The prompt the nano peers are made for: ``Q:{question}\nA:``, with a hint ``Q:{question}\nH:{hint}\nA:``."""
    return f"Q:{question}\nA:" if hint is None else f"Q:{question}\nH:{hint}\nA:"


def draw_question(task: str, rng: random.Random, length: int | None = None) -> str:
    """A random question of ``length`` columns or links; None: 2 or 3 columns, 3 or 4 links, 4 links for ``mix``."""
    if task in {"add", "mul"}:
        low = 10 ** ((length or rng.choice((2, 3))) - 1)
        sign, other = ("+", rng.randrange(low, 10 * low)) if task == "add" else ("*", rng.choice(_FACTORS))
        return f"{rng.randrange(low, 10 * low)}{sign}{other}"
    links = length or (4 if task == "mix" else rng.choice((3, 4)))
    # Three of each: four links drawn from them are never all of one table.
    signs = rng.sample("@&" * 3, links) if task == "mix" else ("@" if task == "at" else "&") * links
    return str(rng.choice(_DIGITS)) + "".join(f"{sign}{rng.choice(_DIGITS)}" for sign in signs)


def split_of(question: str) -> Split:
    """The side a question is on for ever, by its hash: 1/8 test, 1/8 val, the rest train (and pretraining)."""
    bucket = hashlib.sha256(question.encode()).digest()[0] % 8
    return "test" if bucket == 0 else "val" if bucket == 1 else "train"


def make_problems(split: Split, size: int, tasks: Sequence[str] = TASKS, seed: int = 0) -> list[Problem]:
    """Distinct problems of one side, the tasks in turn.

    Raises:
        ValueError: A task is unknown, or has too few distinct questions.
    """
    if unknown := set(tasks) - set(TASKS):
        raise ValueError(f"tasks: unknown {sorted(unknown)}, choose from {', '.join(TASKS)}")
    rng = random.Random(f"{split}/{seed}")
    problems: dict[str, Problem] = {}
    for _ in range(100 * size):
        if len(problems) == size:
            break
        task = tasks[len(problems) % len(tasks)]
        question = draw_question(task, rng)
        if split_of(question) == split and question not in problems:
            problems[question] = Problem(f"{task}:{question}", question, solve(question)[1], "number", source=task)
    if len(problems) < size:
        raise ValueError(f"{size} {split} problems of {', '.join(tasks)}: there are not that many, ask for fewer")
    return list(problems.values())
