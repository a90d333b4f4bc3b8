from __future__ import annotations

import datetime
from typing import Any

import pytest

from core_lightning.answers import extract_answer, is_correct
from core_lightning.protocol.prompts import INSTRUCTIONS, PromptSettings, Shot
from core_lightning.records import Problem

PROBLEM = Problem("p", "What is {x} + 4 ?", "7")


def test_the_cold_prompt_in_both_forms() -> None:
    prompt = PromptSettings(text="Q: {question}\n{instruction}\nA:").render(PROBLEM)
    assert [m["role"] for m in prompt.messages] == ["user"]
    assert prompt.messages[0]["content"] == "What is {x} + 4 ?\n\n" + INSTRUCTIONS["number"]
    assert prompt.text == f"Q: What is {{x}} + 4 ?\n{INSTRUCTIONS['number']}\nA:"


def test_the_hinted_prompt_holds_question_hint_and_task_in_this_order() -> None:
    cold, hinted = PromptSettings().render(PROBLEM), PromptSettings().render(PROBLEM, "add {them} up")
    for text in (hinted.messages[-1]["content"], hinted.text):
        places = [text.index(part) for part in ("What is {x} + 4 ?", "add {them} up", INSTRUCTIONS["number"])]
        assert places == sorted(places)
    assert "int" not in cold.text.replace("Hint", "")
    assert "Hint" not in cold.messages[-1]["content"]


def test_a_system_prompt_comes_first() -> None:
    prompt = PromptSettings(system="Be brief.").render(PROBLEM)
    assert [m["role"] for m in prompt.messages] == ["system", "user"]
    assert prompt.messages[0]["content"] == "Be brief."


def test_shots_stand_before_the_question_and_show_hints_where_there_is_one() -> None:
    settings = PromptSettings(
        text="Q: {question}\nA:",
        text_hinted="Q: {question}\nH: {hint}\nA:",
        chat="{question}",
        chat_hinted="{question} ({hint})",
        shots=[Shot("1 + 1", " 2", hint="one and one"), Shot("2 + 2", " 4")],
    )
    cold, hinted = settings.render(PROBLEM), settings.render(PROBLEM, "count")
    assert cold.text == "Q: 1 + 1\nA: 2\n\nQ: 2 + 2\nA: 4\n\nQ: What is {x} + 4 ?\nA:"
    assert hinted.text == ("Q: 1 + 1\nH: one and one\nA: 2\n\nQ: 2 + 2\nA: 4\n\nQ: What is {x} + 4 ?\nH: count\nA:")
    assert [m["content"] for m in cold.messages] == ["1 + 1", "2", "2 + 2", "4", "What is {x} + 4 ?"]
    assert [m["role"] for m in cold.messages] == ["user", "assistant", "user", "assistant", "user"]
    assert hinted.messages[0]["content"] == "1 + 1 (one and one)"
    assert hinted.messages[-1]["content"] == "What is {x} + 4 ? (count)"


#: What a model that follows the instruction of each kind writes last.
OBEDIENT = {
    "number": ("Thus \\boxed{7}", "7", "8"),
    "math": ("So it is \\boxed{\\frac{1}{2}}.", "\\frac{1}{2}", "2"),
    "choice": ("Therefore \\boxed{C}", "C", "B"),
    "text": ("It must be <answer>red apple</answer>", "red apple", "green apple"),
}


@pytest.mark.parametrize("form", ["plain", "multi_strategy"])
@pytest.mark.parametrize("kind", ["number", "math", "choice", "text", "auto"])
def test_the_format_asked_for_is_one_that_is_read(kind: str, form: str) -> None:
    settings = PromptSettings(form=form)  # type: ignore[arg-type]
    asked = settings.render(Problem("p", "?", "7", kind=kind)).text  # type: ignore[arg-type]
    completion, gold, wrong = OBEDIENT["math" if kind == "auto" else kind]
    # The mark in the instruction is the mark the obedient model uses.
    for mark in ("\\boxed{", "<answer>"):
        assert (mark in asked) == (mark in completion)
    if form == "multi_strategy":
        assert "<strategy>" in asked
        completion = "<strategy>one</strategy><outcome>maybe</outcome>\n" + completion
    assert extract_answer(completion, kind) is not None  # type: ignore[arg-type]
    assert is_correct(completion, gold, kind)  # type: ignore[arg-type]
    assert not is_correct(completion, wrong, kind)  # type: ignore[arg-type]


def test_the_instruction_can_be_replaced() -> None:
    assert (
        PromptSettings(instruction="Just do {it}.", form="multi_strategy").render(PROBLEM).text.count("Just do {it}.")
    )


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"form": "haiku"}, "prompt.form is 'haiku'"),
        ({"text": "Q: {question} {answer}"}, "prompt.text has the unknown field {answer}"),
        ({"text": "Q: {question} {hint}"}, "prompt.text has the unknown field {hint}"),
        ({"chat": "Solve."}, "prompt.chat lacks {question}"),
        ({"chat_hinted": "{question}"}, "prompt.chat_hinted lacks {hint}"),
        ({"text_hinted": "{hint}"}, "prompt.text_hinted lacks {question}"),
        ({"text": "{question} \\boxed{}"}, "write a literal brace twice"),
        ({"text": "{question} {"}, "prompt.text is no template"),
        ({"text": "{question.id}"}, "prompt.text has the unknown field {question.id}"),
        ({"text": "{question!r}"}, "prompt.text has the unknown field {question!r}"),
    ],
)
def test_wrong_templates_are_refused_with_one_line(change: dict[str, str], named: str) -> None:
    with pytest.raises(ValueError, match=r".") as error:
        PromptSettings(**change)  # type: ignore[arg-type]
    assert named in str(error.value)
    assert "\n" not in str(error.value)


def test_a_literal_brace_is_written_twice() -> None:
    assert PromptSettings(text="{question} \\boxed{{}}").render(PROBLEM).text == "What is {x} + 4 ? \\boxed{}"


@pytest.mark.parametrize(
    ("settings", "mark"),
    [
        ({}, "\nQuestion:"),
        ({"text": "Q:{question}\nA:"}, "\nQ:"),
        ({"text": "# Task\n\nProblem: {question}"}, "\n# Task"),
        ({"text": "{question}\nA:"}, None),
        ({"text": "{instruction} Q: {question}\nA:"}, None),
        ({"stop_at_next": False}, None),
    ],
)
def test_the_mark_of_the_next_question(settings: dict[str, Any], mark: str | None) -> None:
    assert PromptSettings(**settings).next_question == mark


def test_texts_from_outside_are_known_by_their_places() -> None:
    prompt = PromptSettings(shots=[Shot("1 + 1", " 2")], system="Be brief.").render(PROBLEM, "add")
    assert [turn.content.given for turn in prompt.turns] == [(), (), (), ("What is {x} + 4 ?", "add")]
    assert prompt.plain.given == ("What is {x} + 4 ?", "add")
    assert prompt.plain.around(["", ""]) == prompt.text.replace("What is {x} + 4 ?", "").replace("add", "")


def test_a_day_that_was_set_stays() -> None:
    assert PromptSettings(date="2026-01-31").dated("2027-01-01").date == "2026-01-31"
    assert PromptSettings().dated("2027-01-01").date == "2027-01-01"
    assert PromptSettings().dated().date == datetime.date.today().isoformat()
    with pytest.raises(ValueError, match=r"prompt\.date is 'yesterday'"):
        PromptSettings(date="yesterday")
