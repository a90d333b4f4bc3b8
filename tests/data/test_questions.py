"""Questions to be answered: what is read of a file of any kind, and one line for what cannot be."""

from pathlib import Path

import pytest

from core_lightning.data import DataError
from core_lightning.data.questions import read_questions


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
    ],
)
def test_what_cannot_be_read_is_named(tmp_path: Path, name: str, content: bytes, line: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=line) as caught:
        read_questions(tmp_path / name)
    assert "\n" not in str(caught.value)
