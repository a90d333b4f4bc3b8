"""Your own files: what is read, and one clear line with file and line number for what cannot be."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from core_lightning.data import DataError, JsonLines, Table

WHOLE = {"val_fraction": 0.0, "test_fraction": 0.0}
ROWS = [{"id": f"r{i}", "question": f"{i} + 1?", "answer": str(i + 1)} for i in range(6)]


def jsonl(path: Path, rows: list[Any]) -> str:
    path.write_text("\n".join(json.dumps(row) for row in rows) + "\n\n")
    return str(path)


def train(data: Table) -> list[tuple[str, str, str]]:
    return [(p.id, p.question, p.answer) for p in data.splits["train"]]


EXPECTED = [(r["id"], r["question"], r["answer"]) for r in ROWS]


def test_three_formats_hold_the_same_problems(tmp_path: Path) -> None:
    jsonl(tmp_path / "a.jsonl", ROWS)
    (tmp_path / "a.csv").write_text("id,question,answer\n" + "".join(f"{a},{b},{c}\n" for a, b, c in EXPECTED))
    pq.write_table(pa.Table.from_pylist(ROWS), tmp_path / "a.parquet")
    for suffix in ("jsonl", "csv", "parquet"):
        assert train(Table(path=str(tmp_path / f"a.{suffix}"), **WHOLE)) == EXPECTED, suffix
    (tmp_path / "a.jsonl").rename(tmp_path / "a.txt")
    assert train(JsonLines(path=str(tmp_path / "a.txt"), **WHOLE)) == EXPECTED
    with pytest.raises(DataError, match=r"unknown format '\.txt'"):
        Table(path=str(tmp_path / "a.txt")).setup()


def test_columns_by_other_names_and_ids_made_of_lines(tmp_path: Path) -> None:
    path = jsonl(tmp_path / "svamp.jsonl", [{"Body": "How many?", "Answer": 145.0}, {"Body": "And?", "Answer": 2.5}])
    data = Table(path=path, columns={"question": "Body", "answer": "Answer"}, kind="number", **WHOLE)
    assert train(data) == [("svamp:1", "How many?", "145"), ("svamp:2", "And?", "2.5")]
    assert {p.kind for p in data.splits["train"]} == {"number"}


def test_a_file_for_each_split(tmp_path: Path) -> None:
    paths = {n: jsonl(tmp_path / f"{n}.jsonl", ROWS[i : i + 2]) for n, i in {"a": 0, "b": 2, "c": 4}.items()}
    data = JsonLines(path=paths["a"], val_path=paths["b"], test_path=paths["c"])
    assert {n: [p.id for p in ps] for n, ps in data.splits.items()} == {
        "train": ["r0", "r1"],
        "val": ["r2", "r3"],
        "test": ["r4", "r5"],
    }


def test_csv_cells_stay_text_and_may_hold_commas_and_line_ends(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text('id,question,answer\n1,"a, b\nand c?",007\n2,d?,NA\n')
    data = Table(path=str(tmp_path / "t.csv"), kind="text", **WHOLE)
    assert train(data) == [("1", "a, b\nand c?", "007"), ("2", "d?", "NA")]


def test_chance_of_a_multiple_choice_file(tmp_path: Path) -> None:
    path = jsonl(tmp_path / "c.jsonl", [{"question": f"A or B? ({i})", "answer": "A"} for i in range(9)])
    data = JsonLines(path=path, kind="choice", chance=0.5, val_fraction=0.3)
    assert data.chance == 0.5


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("", r"t\.jsonl is empty"),
        ("\n\n", r"t\.jsonl is empty"),
        ('{"question": "1?", "answer": "1"}\n{"question": "2?"', r"t\.jsonl:2: not JSON \("),
        ('{"question": "1?", "answer": "1"}\n\n[1, 2]', r"t\.jsonl:3: expected a JSON object, got \[1, 2\]"),
        ('{"question": "1?"}', r"t\.jsonl:1: no 'answer' among question; map it with data\.columns\.answer"),
        ('{"question": "1?", "answer": " "}', r"t\.jsonl:1: 'answer' is empty"),
        ('{"question": null, "answer": "1"}', r"t\.jsonl:1: 'question' is empty"),
        ('{"question": "1?", "answer": ["1"]}', r"t\.jsonl:1: expected a text or a number"),
        ('{"id": "", "question": "1?", "answer": "1"}', r"t\.jsonl:1: 'id' is empty"),
        (
            '{"id": 7, "question": "1?", "answer": "1"}\n{"id": 7, "question": "2?", "answer": "2"}',
            r"id '7' stands 2 times",
        ),
    ],
)
def test_json_lines_that_cannot_be_read(tmp_path: Path, text: str, line: str) -> None:
    (tmp_path / "t.jsonl").write_text(text)
    with pytest.raises(DataError, match=line) as caught:
        JsonLines(path=str(tmp_path / "t.jsonl")).prepare_data()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "content", "line"),
    [
        ("t.csv", b"id,question,answer\n1,a, b?,2\n", r"t\.csv:2: more or fewer fields than the header"),
        ("t.csv", b"id,question,answer\n1,a\n", r"t\.csv:2: more or fewer fields"),
        ("t.csv", b"\xff\xfe\x00", r"t\.csv cannot be read as CSV in UTF-8"),
        ("t.jsonl", b"\xff\xfe\x00", r"t\.jsonl is not UTF-8 text"),
        ("t.parquet", b"PAR1", r"t\.parquet cannot be read as Parquet"),
    ],
)
def test_damaged_files(tmp_path: Path, name: str, content: bytes, line: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=line) as caught:
        Table(path=str(tmp_path / name)).setup()
    assert "\n" not in str(caught.value)


def test_settings_are_refused_at_once(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"nowhere\.jsonl is not there; correct data\.path"):
        JsonLines(path="nowhere.jsonl")
    path = jsonl(tmp_path / "a.jsonl", ROWS)
    with pytest.raises(DataError, match="knows no 'gold'"):
        JsonLines(path=path, columns={"gold": "answer"})
