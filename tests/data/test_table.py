"""Your own files: what is read, and one clear line with file and line number for what cannot be."""

import csv
import json
import math
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
    path = jsonl(tmp_path / "c.jsonl", [{"question": f"Even? ({i})\nA) 3\nB) 4", "answer": "A"} for i in range(9)])
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
        ('{"question": "1?", "answer": ["1"]}', r"t\.jsonl:1: 'answer': expected a text or a number"),
        ('{"id": "", "question": "1?", "answer": "1"}', r"t\.jsonl:1: 'id' is empty"),
        (
            '{"id": 7, "question": "1?", "answer": "1"}\n{"id": 7, "question": "2?", "answer": "2"}',
            r"t\.jsonl:2: id '7' stands in line 1 already",
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
        ("t.csv", b"\xff\xfe\x00", r"t\.csv:1: not UTF-8 text"),
        ("t.csv", b"\nid,question,answer\n1,a?,2\n", r"t\.csv:1: the line is blank"),
        ("t.jsonl", b"\xff\xfe\x00", r"t\.jsonl:1: not UTF-8 text"),
        ("t.parquet", b"PAR1", r"t\.parquet: cannot be read as Parquet"),
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


def write(folder: Path, suffix: str, rows: list[dict[str, Any]]) -> str:
    """The same rows in one of the three formats."""
    path = folder / f"w.{suffix}"
    if suffix == "jsonl":
        return jsonl(path, rows)
    if suffix == "parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    else:
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows({n: json.dumps(v) if isinstance(v, list) else v for n, v in r.items()} for r in rows)
    return str(path)


FORMATS = pytest.mark.parametrize("suffix", ["jsonl", "csv", "parquet"])


@FORMATS
def test_text_is_read_as_it_is(tmp_path: Path, suffix: str) -> None:
    """Long, with line ends of all kinds inside, formulas, markup, escapes: nothing of it is changed."""
    odd = [
        "x" * 5_000_000,
        "a\r\nb\u2028c",
        '=HYPERLINK("http://x")',
        "<script>1</script>",
        "\x1b[2J",
        "[red]7[/red]",
        "{question}",
    ]
    rows = [{"id": str(i), "question": f"q{text}?", "answer": text[:20] + "."} for i, text in enumerate(odd)]
    got = train(Table(path=write(tmp_path, suffix, rows), kind="text", **WHOLE))
    assert got == [(r["id"], r["question"], r["answer"]) for r in rows]


@FORMATS
def test_damaged_text_is_refused_with_its_line(tmp_path: Path, suffix: str) -> None:
    rows = [{"question": "1?", "answer": "1"}, {"question": "2\0?", "answer": "2"}]
    with pytest.raises(DataError, match=rf"w\.{suffix}:{3 if suffix == 'csv' else 2}: .*NUL"):
        Table(path=write(tmp_path, suffix, rows)).setup()


@FORMATS
def test_a_repeated_id_is_refused_with_both_lines(tmp_path: Path, suffix: str) -> None:
    rows = [{"id": "x", "question": f"{i}?", "answer": "1"} for i in range(2)]
    with pytest.raises(DataError, match=rf"w\.{suffix}:\d: id 'x' stands in line \d already"):
        Table(path=write(tmp_path, suffix, rows)).setup()


@FORMATS
@pytest.mark.parametrize("column", ["id", "question", "answer"])
@pytest.mark.parametrize("text", ["", " \t", "\u00a0", "\u200b", "\ufeff", "\x01"], ids=ascii)
def test_what_cannot_be_seen_is_empty(tmp_path: Path, suffix: str, column: str, text: str) -> None:
    rows = [dict(row) for row in ROWS[:3]]
    rows[1][column] = text
    with pytest.raises(DataError, match=rf"w\.{suffix}:{3 if suffix == 'csv' else 2}: '{column}' is empty"):
        Table(path=write(tmp_path, suffix, rows)).setup()


@FORMATS
@pytest.mark.parametrize(
    ("kind", "answer", "line"),
    [
        ("auto", "nan", "the answer is nan, which programs write where a number is missing"),
        ("auto", "-Inf", "the answer is -Inf"),
        ("number", "many", "the answer 'many' cannot be read as a number, so nothing would ever be right"),
        ("auto", "...", "the answer '...' cannot be read as an answer"),
    ],
)
def test_a_gold_answer_that_nothing_equals(tmp_path: Path, suffix: str, kind: Any, answer: str, line: str) -> None:
    path = write(tmp_path, suffix, [ROWS[0], ROWS[1] | {"answer": answer}])
    with pytest.raises(DataError, match=rf"w\.{suffix}:{3 if suffix == 'csv' else 2}: {line}"):
        Table(path=path, kind=kind).setup()


def test_a_letter_is_asked_for_where_the_question_shows_options(tmp_path: Path) -> None:
    path = jsonl(tmp_path / "c.jsonl", [{"question": "Even?\nA) 3\nB) 4", "answer": "4"}])
    with pytest.raises(DataError, match=r"c\.jsonl:1: the answer '4' cannot be read as a letter"):
        Table(path=path, kind="choice").setup()


def test_the_word_nan_may_be_an_answer(tmp_path: Path) -> None:
    path = jsonl(tmp_path / "n.jsonl", [{"id": "n", "question": "0/0 in JavaScript?", "answer": "NaN"}])
    assert train(Table(path=path, kind="text", **WHOLE)) == [("n", "0/0 in JavaScript?", "NaN")]


def test_files_put_together_have_marks_within(tmp_path: Path) -> None:
    mark = b"\xef\xbb\xbf"
    (tmp_path / "a.jsonl").write_bytes(b"".join(mark + mark + json.dumps(row).encode() + b"\n" for row in ROWS))
    head, *lines = ["id,question,answer", *(",".join(row) for row in EXPECTED)]
    (tmp_path / "a.csv").write_bytes(b"".join(mark + mark + line.encode() + b"\n" for line in (head, *lines)))
    for suffix in ("jsonl", "csv"):
        assert train(Table(path=str(tmp_path / f"a.{suffix}"), **WHOLE)) == EXPECTED


def test_parquet_rows_that_cannot_be_read(tmp_path: Path) -> None:
    texts = pa.array([b"1?", b"2?", b"\xff?"], pa.binary())
    columns = {"question": pa.StringArray.from_buffers(3, *texts.buffers()[1:]), "answer": ["1", "2", "3"]}
    pq.write_table(pa.table(columns), tmp_path / "u.parquet")
    with pytest.raises(DataError, match=r"u\.parquet:3: not UTF-8 text"):
        Table(path=str(tmp_path / "u.parquet")).setup()
    twice = pa.table([["1?"], ["2"], ["3"]], names=["question", "answer", "answer"])
    pq.write_table(twice, tmp_path / "t.parquet")
    with pytest.raises(DataError, match=r"t\.parquet: two columns are named 'answer'; rename one"):
        Table(path=str(tmp_path / "t.parquet")).setup()


@pytest.mark.parametrize("bits", [pa.float16(), pa.float32(), pa.float64()], ids=str)
def test_a_tenth_is_a_tenth_in_any_precision(tmp_path: Path, bits: Any) -> None:
    answers = pa.array([0.1, 145.0], pa.float64()).cast(bits)
    pq.write_table(pa.table({"question": ["1?", "2?"], "answer": answers}), tmp_path / "f.parquet")
    assert [answer for *_, answer in train(Table(path=str(tmp_path / "f.parquet"), **WHOLE))] == ["0.1", "145"]


@pytest.mark.parametrize("content", [b"\xef\xbb\xbf", b""], ids=["bom", "none"])
@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
def test_marks_at_the_beginning_and_line_ends_do_not_matter(tmp_path: Path, content: bytes, end: bytes) -> None:
    (tmp_path / "a.jsonl").write_bytes(content + b'{"id": "1", "question": "a?", "answer": 2}' + end)
    (tmp_path / "a.csv").write_bytes(content + b"id,question,answer" + end + b"1,a?,2" + end)
    for suffix in ("jsonl", "csv"):
        assert train(Table(path=str(tmp_path / f"a.{suffix}"), **WHOLE)) == [("1", "a?", "2")]


@pytest.mark.parametrize(
    ("line", "wrong"),
    [
        ('"answer": NaN', "got NaN"),
        ('"answer": Infinity', "got Infinity"),
        ('"answer": {"a": 1}', "expected a text or a number"),
        ('"answer": "1", "answer": "2"', "the name 'answer' stands twice"),
        ('"answer": "\\ud800"', r"half of a character \(\\ud800\)"),
        ('"answer": ' + "9" * 5_000, r"4300 digits.*; correct the line$"),
        ('"answer": ' + "[" * 100_000, "not read as JSON|not JSON"),
    ],
)
def test_answers_that_are_none(tmp_path: Path, line: str, wrong: str) -> None:
    (tmp_path / "t.jsonl").write_text('{"question": "1?", "answer": "1"}\n{"question": "2?", ' + line + "}\n")
    with pytest.raises(DataError, match=rf"t\.jsonl:2: .*({wrong})"):
        JsonLines(path=str(tmp_path / "t.jsonl")).setup()


def test_gaps_in_a_number_column_are_empty_or_not_numbers(tmp_path: Path) -> None:
    for gap in (None, math.nan):
        pq.write_table(pa.table({"question": ["1?", "2?"], "answer": [1.0, gap]}), tmp_path / "g.parquet")
        with pytest.raises(DataError, match=r"g\.parquet:2: ('answer' is empty|.*NaN)"):
            Table(path=str(tmp_path / "g.parquet")).setup()


def test_numbers_keep_their_digits(tmp_path: Path) -> None:
    written = ["0.1234567890123456789", "145.0", "1e3", "1e-7", "12345678901234567890", "1e400000"]
    lines = [f'{{"question": "{i}?", "answer": {number}}}' for i, number in enumerate(written)]
    (tmp_path / "n.jsonl").write_text("\n".join(lines))
    answers = [answer for _, _, answer in train(Table(path=str(tmp_path / "n.jsonl"), **WHOLE))]
    assert answers == ["0.1234567890123456789", "145", "1000", "0.0000001", "12345678901234567890", "1E+400000"]


def test_one_line_only(tmp_path: Path) -> None:
    path = jsonl(tmp_path / "one.jsonl", ROWS[:1])
    assert train(Table(path=path, **WHOLE)) == EXPECTED[:1]
    with pytest.raises(DataError, match=r"one\.jsonl leaves no problem to train on: all are held out"):
        Table(path=path).setup()


def test_files_of_one_name_and_ids_that_start_again(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        jsonl(tmp_path / folder / "d.jsonl", [{"question": f"{folder}?", "answer": "1"}])
        jsonl(tmp_path / folder / "i.jsonl", [{"id": 0, "question": f"{folder}?", "answer": "1"}])
    for name, ids in (("d.jsonl", ["train/d:1", "test/d:1"]), ("i.jsonl", ["train/0", "test/0"])):
        data = Table(path=str(tmp_path / "a" / name), test_path=str(tmp_path / "b" / name), val_fraction=0.0)
        assert [p.id for s in ("train", "test") for p in data.splits[s]] == ids


@FORMATS
def test_own_multiple_choice(tmp_path: Path, suffix: str) -> None:
    rows = [
        {"question": "Even?", "options": ["3", "4", "5"], "answer": "b"},
        {"question": "Odd?", "options": ["A)2", "B)7", "C)6"], "answer": "7"},
    ]
    data = Table(path=write(tmp_path, suffix, rows), columns={"choices": "options"}, **WHOLE)
    even, odd = data.splits["train"]
    assert (even.question, even.answer, even.answer_forms) == ("Even?\n\nA) 3\nB) 4\nC) 5", "B", ("4",))
    assert (odd.question, odd.answer, odd.answer_forms) == ("Odd?\n\nA) 2\nB) 7\nC) 6", "B", ("7",))
    assert {p.kind for p in (even, odd)} == {"choice"}
    assert data.chance == pytest.approx(1 / 3)


def test_options_in_columns_and_a_question_of_several(tmp_path: Path) -> None:
    (tmp_path / "m.csv").write_text("text,ask,x,y,answer\nA cow,Legs?,2,4,B\n")
    columns: dict[str, Any] = {"question": "{text}. {ask}", "choices": ["x", "y"]}
    (problem,) = Table(path=str(tmp_path / "m.csv"), columns=columns, **WHOLE).splits["train"]
    assert problem.question == "A cow. Legs?\n\nA) 2\nB) 4"
    with pytest.raises(DataError, match=r"m\.csv:2: no 'passage' among"):
        Table(path=str(tmp_path / "m.csv"), columns={"question": "{passage} {ask}"}).setup()


@pytest.mark.parametrize(
    ("row", "wrong"),
    [
        ({"options": ["3", "4"], "answer": "C"}, "is neither a letter up to B nor the text of one option"),
        ({"options": ["B", "A"], "answer": "A"}, "is neither a letter"),
        ({"options": ["3"], "answer": "A"}, "expected 2 to 10 different options"),
        ({"options": ["3", "3"], "answer": "A"}, "different options"),
        ({"options": ["3", ""], "answer": "A"}, "different options"),
        ({"options": 7, "answer": "A"}, "'options' is no list of options"),
        ({"answer": "A"}, "no 'options' among"),
    ],
)
def test_options_that_are_not_clear(tmp_path: Path, row: dict[str, Any], wrong: str) -> None:
    path = jsonl(tmp_path / "c.jsonl", [{"question": "Even?"} | row])
    with pytest.raises(DataError, match=rf"c\.jsonl:1: .*{wrong}"):
        Table(path=path, columns={"choices": "options"}).setup()


def test_a_choice_without_options_is_refused(tmp_path: Path) -> None:
    path = jsonl(tmp_path / "c.jsonl", [{"question": "Even?", "answer": "A"}])
    with pytest.raises(DataError, match=r"c\.jsonl:1: data\.kind is choice, but the question shows no options"):
        Table(path=path, kind="choice").setup()
    with pytest.raises(DataError, match=r"data\.kind is number, but data\.columns\.choices"):
        Table(path=path, kind="number", columns={"choices": "options"})
