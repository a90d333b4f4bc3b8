"""Questions to be answered: what is read of a file of any kind, and one line for what cannot be."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from core_lightning.data import DataError, Table
from core_lightning.data.questions import read_questions
from core_lightning.records import Problem


def test_lines_of_a_plain_text(tmp_path: Path) -> None:
    """A mark at the beginning and blank lines are no questions; a line separator within a line does not end it."""
    (tmp_path / "q.txt").write_bytes(b"\xef\xbb\xbfOne?\r\n\r\n \xe2\x80\x8b\nTwo\xe2\x80\xa8and more?\r\nThree?")
    read = read_questions(tmp_path / "q.txt")
    assert [(p.id, p.question, p.answer) for p in read] == [
        ("q:1", "One?", ""),
        ("q:4", "Two\u2028and more?", ""),
        ("q:5", "Three?", ""),
    ]


def test_rows_may_have_ids_and_answers(tmp_path: Path) -> None:
    (tmp_path / "q.jsonl").write_text('{"question": "One?"}\n{"question": "Two?", "id": 7, "answer": 2.0}\n')
    assert [(p.id, p.answer) for p in read_questions(tmp_path / "q.jsonl")] == [("q:1", ""), ("7", "2")]


OPTIONS = {"question": "Which is even?", "answer": "4", "choices": ["A) 3", "B) 4"]}


@pytest.mark.parametrize(
    ("row", "columns"),
    [
        (OPTIONS, {"choices": "choices"}),
        (OPTIONS | {"answer": "b"}, {"choices": "choices"}),
        ({"ask": "Even?", "gold": "B", "of": ["3", "4"]}, {"question": "ask", "answer": "gold", "choices": "of"}),
        ({"text": "A cow.", "ask": "Legs?", "x": 2, "y": 4, "answer": 4}, {"question": "{text} {ask}", "choices": ["x", "y"]}),
    ],
)
def test_a_question_is_asked_as_it_was_in_training(tmp_path: Path, row: dict[str, Any], columns: dict[str, Any]) -> None:
    file = tmp_path / "q.jsonl"
    file.write_text(json.dumps(row))
    data = Table(path=str(file), columns=columns, val_fraction=0.0, test_fraction=0.0, predict_path=str(file))
    assert data.questions == data.splits["train"]
    assert data.questions[0].kind == "choice"
    if columns == {"choices": "choices"}:  # the names that any other source reads
        assert read_questions(file) == data.questions
    without = {name: value for name, value in row.items() if name not in ("answer", "gold")}
    file.write_text(json.dumps(without))
    (asked,) = data.read_questions(file)
    assert asked == replace(data.questions[0], answer="")
    file.write_text(json.dumps({"question": "How many?", "choices": []}))  # another file has other columns
    assert data.read_questions(file) == [Problem("q:1", "How many?", "", "auto", source="q")]


def test_a_folder_is_said_to_be_one(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r" is a folder, not a file; correct data\.predict_path"):
        read_questions(tmp_path)


@pytest.mark.parametrize(
    ("name", "content", "line"),
    [
        ("q.txt", b"One?\nTw\xff?", r"q\.txt:2: not UTF-8 text"),
        ("q.txt", b"One?\nTwo\0?", r"q\.txt:2: 'question': the text holds a NUL byte"),
        ("q.txt", b"\n\n", r"q\.txt holds no questions"),
        ("q.jsonl", b'{"question": ["One?"]}', r"q\.jsonl:1: 'question': expected a text"),
        ("q.jsonl", b'{"question": "One?", "answer": NaN}', r"q\.jsonl:1: 'answer': .*NaN"),
        ("q.jsonl", b'{"ask": "One?"}', r"q\.jsonl:1: no 'question' among ask"),
        ("q.csv", b"question,id\nOne?,a\nTwo?,a\n", r"q\.csv:3: id 'a' stands twice"),
        ("q.csv", b"question,id\n ,a\n", r"q\.csv:2: 'question' is empty"),
        ("q.csv", b"question,choices\nEven?,3 or 4\n", r"q\.csv:2: 'choices' is no list of options; in CSV, write it as"),
        ("q.jsonl", b'{"question": "Even?", "choices": ["3", "4"], "answer": "5"}', r"q\.jsonl:1: the answer '5' is neither"),
    ],
)
def test_what_cannot_be_read_is_named(tmp_path: Path, name: str, content: bytes, line: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=line) as caught:
        read_questions(tmp_path / name)
    assert "\n" not in str(caught.value)
