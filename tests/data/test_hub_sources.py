"""GSM8K, MATH, AIME and GPQA through ``datasets``, on small files with exactly the hub's columns and file names."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from core_lightning.data import AIME, GPQA, GSM8K, MATH, DataError
from core_lightning.data.math import SUBJECTS, last_boxed
from hub_server import Hub


def parquet(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows), path)
    return path


def jsonl(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def gsm8k_row(i: int, gold: str = "") -> dict[str, str]:
    return {"question": f"Tom has {i} apples. How many?", "answer": f"He has <<{i}={i}>>{i}.\n#### {gold or i}"}


def math_row(i: int, solution: str = "") -> dict[str, str]:
    solution = solution or rf"It is $\boxed{{\frac{{{i}}}{{7}}}}$."
    return {"problem": f"What is {i} over 7?", "level": "Level 1", "type": "Algebra", "solution": solution}


def gpqa_row(i: int) -> dict[str, str]:
    wrong = {f"Incorrect Answer {k}": f"wrong {k} of {i}" for k in (1, 2, 3)}
    return {"Question": f"Question {i}?", "Correct Answer": f"right of {i}\n", **wrong, "Subdomain": "Genetics"}


def test_gsm8k_from_the_hub_layout(tmp_path: Path) -> None:
    parquet(tmp_path / "main/train-00000-of-00001.parquet", [gsm8k_row(i) for i in range(40)])
    parquet(tmp_path / "main/test-00000-of-00001.parquet", [gsm8k_row(i, "1,234") for i in range(38, 48)])
    parquet(tmp_path / "socratic/train-00000-of-00001.parquet", [gsm8k_row(i) for i in range(90, 99)])
    data = GSM8K(path=str(tmp_path), val_fraction=0.1)
    sizes = {name: len(problems) for name, problems in data.splits.items()}
    assert sizes == {"train": 34, "val": 4, "test": 10}  # two training questions stand in test
    assert data.repeats_dropped == 2
    assert {p.answer for p in data.splits["test"]} == {"1234"}
    assert all(p.answer in p.question and p.kind == "number" for p in data.splits["train"])
    assert data.chance == 0


def test_gsm8k_from_the_original_folder_and_from_one_file(tmp_path: Path) -> None:
    train = jsonl(tmp_path / "train.jsonl", [gsm8k_row(i) for i in range(20)])
    jsonl(tmp_path / "train_socratic.jsonl", [gsm8k_row(i) for i in range(100, 120)])
    jsonl(tmp_path / "test.jsonl", [gsm8k_row(i) for i in range(20, 30)])
    folder = GSM8K(path=str(tmp_path), val_fraction=0.0)
    assert {n: len(p) for n, p in folder.splits.items()} == {"train": 20, "val": 0, "test": 10}
    pool = GSM8K(path=str(train), val_fraction=0.25, test_fraction=0.25)
    assert {n: len(p) for n, p in pool.splits.items()} == {"train": 10, "val": 5, "test": 5}


def test_math_as_one_table(tmp_path: Path) -> None:
    parquet(tmp_path / "data/train-00000-of-00001-7320a6f3aba8ebd2.parquet", [math_row(i) for i in range(20)])
    data = MATH(path=str(tmp_path), val_fraction=0.2, test_fraction=0.2)
    assert {n: len(p) for n, p in data.splits.items()} == {"train": 12, "val": 4, "test": 4}
    first = data.splits["train"][0]
    number = first.id.split("/")[1]
    assert first.answer == rf"\frac{{{number}}}{{7}}"
    assert (first.kind, dict(first.metadata)) == ("math", {"subject": "Algebra", "level": "Level 1"})


def test_math_by_subject_keeps_the_official_splits(tmp_path: Path) -> None:
    for s, subject in enumerate(SUBJECTS):
        for k, name in enumerate(("train", "test")):
            rows = [math_row(100 * s + 10 * k + i) for i in range(3)]
            parquet(tmp_path / subject / f"{name}-00000-of-00001.parquet", rows)
    data = MATH(layout="hendrycks_math", path=str(tmp_path), val_fraction=0.0)
    assert {n: len(p) for n, p in data.splits.items()} == {"train": 21, "val": 0, "test": 21}
    one = MATH(layout="hendrycks_math", subjects=["geometry"], path=str(tmp_path), val_fraction=0.0)
    assert [p.id for p in one.splits["test"]] == [f"math/geometry/test/{i}" for i in range(3)]
    with pytest.raises(DataError, match="no folder 'algebra'"):
        MATH(layout="hendrycks_math", path=str(tmp_path / "geometry"))
    with pytest.raises(DataError, match="'logic' is none of algebra"):
        MATH(layout="hendrycks_math", subjects=["logic"])
    with pytest.raises(DataError, match="layout=hendrycks_math"):
        MATH(subjects=["algebra"])


@pytest.mark.parametrize(
    ("solution", "gold"),
    [
        (r"$\boxed{1}$ or rather $\boxed{\frac{1}{\sqrt{2}}}$", r"\frac{1}{\sqrt{2}}"),
        (r"$\boxed{\left\{1,2\right\}}$", r"\left\{1,2\right\}"),
        (r"\boxed{\}}", r"\}"),
        (r"$\boxed 5$.", "5"),
        (r"$\fbox{C}$", "C"),
        (r"$\boxed{ (3, \infty) }$", r"(3, \infty)"),
        (r"$\boxed{\frac{1}{2}$", None),
        (r"$\boxed{}$", None),
        ("no box", None),
    ],
)
def test_last_balanced_box(solution: str, gold: str | None) -> None:
    assert last_boxed(solution) == gold


def test_aime_is_one_pool_of_integers(tmp_path: Path) -> None:
    rows = [{"problem": f"Find {i}.", "answer": f"{i:03d}"} for i in range(10)]
    parquet(tmp_path / "data/test-00000-of-00001.parquet", rows)
    data = AIME(path=str(tmp_path), val_fraction=0.1, test_fraction=0.1)
    assert {n: len(p) for n, p in data.splits.items()} == {"train": 8, "val": 1, "test": 1}
    assert all(p.question == f"Find {p.answer}." for problems in data.splits.values() for p in problems)


@pytest.mark.parametrize("answer", ["1000", "-1", "1.5", "about 7", None, "nan"])
def test_aime_row_with_another_answer_is_named(tmp_path: Path, answer: str | None) -> None:
    rows = [{"problem": "One?", "answer": "1"}, {"problem": "Two?", "answer": answer}]
    with pytest.raises(DataError, match=r"test\.parquet:2: .*( not an integer from 0 to 999|'answer' is empty)"):
        AIME(path=str(parquet(tmp_path / "test.parquet", rows))).setup()


def test_gpqa_from_the_hub_file(tmp_path: Path) -> None:
    for subset, count in {"main": 448, "diamond": 198}.items():
        rows = [gpqa_row(i) for i in range(count)]
        columns = list(rows[0])
        lines = ["\t".join(columns), *("\t".join(r[c].strip() for c in columns) for r in rows)]
        text = "\n".join(",".join(f'"{cell}"' for cell in line.split("\t")) for line in lines)
        (tmp_path / f"gpqa_{subset}.csv").write_text(text + "\n")
    main = GPQA(path=str(tmp_path), val_fraction=0.1, test_fraction=0.1)
    assert sum(len(p) for p in main.splits.values()) == 448
    assert sum(len(p) for p in GPQA(subset="diamond", path=str(tmp_path)).splits.values()) == 198
    assert main.chance == 0.25
    assert main.manifest()["chance"] == 0.25
    assert main.manifest()["arguments"]["option_seed"] == 0


def test_gpqa_gold_is_the_letter_of_the_right_option_and_letters_are_uniform(tmp_path: Path) -> None:
    path = str(parquet(tmp_path / "gpqa_main.parquet", [gpqa_row(i) for i in range(1000)]))
    problems = GPQA(path=path, val_fraction=0.0, test_fraction=0.0).splits["train"]
    for p in problems:
        lines = p.question.splitlines()
        assert lines[0].startswith("Question")
        assert [line[:3] for line in lines[2:]] == ["A) ", "B) ", "C) ", "D) "]
        assert [line[0] for line in lines[2:] if "right" in line] == [p.answer]
        assert len(set(lines[2:])) == 4
        assert (p.kind, p.chance) == ("choice", 0.25)
    counts = Counter(p.answer for p in problems)
    assert sum((counts[letter] - 250) ** 2 / 250 for letter in "ABCD") < 16.27  # chi-square, 3 degrees, p = 0.001
    orders = Counter(p.metadata["option_order"] for p in problems)
    assert sum((n - 1000 / 24) ** 2 / (1000 / 24) for n in orders.values()) < 49.73  # 23 degrees, p = 0.001
    assert len(orders) == 24


def test_gpqa_option_order_follows_its_seed(tmp_path: Path) -> None:
    path = str(parquet(tmp_path / "gpqa_main.parquet", [gpqa_row(i) for i in range(30)]))
    letters = [[p.answer for p in GPQA(path=path, option_seed=s).splits["train"]] for s in (0, 0, 1)]
    assert letters[0] == letters[1] != letters[2]


def test_rows_that_cannot_be_used_are_named(tmp_path: Path) -> None:
    bad_number = [gsm8k_row(0), {"question": "Who?", "answer": "nobody knows"}]
    with pytest.raises(DataError, match=r"g\.parquet:2: no number after '####'"):
        GSM8K(path=str(parquet(tmp_path / "g.parquet", bad_number))).setup()
    bad_box = [math_row(0), math_row(1), math_row(2, r"so $\boxed{\frac{1}{2}$")]
    with pytest.raises(DataError, match=r"m\.parquet:3: no balanced \\boxed\{\}"):
        MATH(path=str(parquet(tmp_path / "m.parquet", bad_box))).setup()
    bad_options = [gpqa_row(0), gpqa_row(1) | {"Incorrect Answer 2": None}]
    with pytest.raises(DataError, match=r"q\.parquet:2: 'Incorrect Answer 2' is empty"):
        GPQA(path=str(parquet(tmp_path / "q.parquet", bad_options))).setup()
    with pytest.raises(DataError, match=r"e\.parquet:2: 'question' is empty"):
        GSM8K(path=str(parquet(tmp_path / "e.parquet", [gsm8k_row(0), gsm8k_row(1) | {"question": None}]))).setup()


@pytest.mark.parametrize(
    ("name", "content", "line"),
    [
        ("nul.jsonl", b'{"question": "a\\u0000", "answer": "#### 1"}', r"nul\.jsonl:2: 'question': .*NUL"),
        ("nested.jsonl", b'{"question": "a?", "answer": ["#### 1"]}', r"nested\.jsonl:2: 'answer': expected a text"),
        ("nan.jsonl", b'{"question": "a?", "answer": NaN}', r"nan\.jsonl:2: 'answer': .*NaN"),
        ("latin.jsonl", b'{"question": "\xe9?", "answer": "#### 1"}', r"latin\.jsonl:2: not UTF-8"),
        ("cut.jsonl", b'{"question": "a?", "ans', r"cut\.jsonl:2: not JSON"),
        ("other.jsonl", b'{"question": "a?", "solution": "#### 1"}', r"other\.jsonl:2: no column 'answer' among"),
        ("latin.csv", b'"\xe9?",#### 1', r"latin\.csv:2: not UTF-8"),
        ("short.csv", b'"a?"', r"short\.csv:2: more or fewer fields"),
        ("blank.json", b'\n[{"question": "a?",\n "answer": }]', r"blank\.json:3: not JSON"),
        ("list.json", b'[{"question": "a?", "answer": "#### 1"}, 7]', r"list\.json:2: expected a JSON object, got 7"),
    ],
)
def test_a_local_copy_is_refused_with_file_and_line(tmp_path: Path, name: str, content: bytes, line: str) -> None:
    first = {".csv": b"question,answer\n", ".json": b""}.get(Path(name).suffix, json.dumps(gsm8k_row(1)).encode() + b"\n")
    (tmp_path / name).write_bytes(first + content)
    with pytest.raises(DataError, match=line) as caught:
        GSM8K(path=str(tmp_path / name)).setup()
    assert "\n" not in str(caught.value)


def test_a_local_copy_is_read_as_it_is(tmp_path: Path) -> None:
    """As a table of one's own: a mark at the beginning, other ends of lines, texts that look like something else."""
    rows = [{"question": text, "answer": f"#### {i}"} for i, text in enumerate(("NA", "007", "y" * 100_000))]
    (tmp_path / "c.csv").write_bytes(
        b"\xef\xbb\xbfquestion,answer\r\n" + b"".join(f"{r['question']},{r['answer']}\r\n".encode() for r in rows)
    )
    (tmp_path / "j.json").write_text(json.dumps(rows, indent=1))
    parquet(tmp_path / "p.parquet", rows)
    for name in ("c.csv", "j.json", "p.parquet"):
        data = GSM8K(path=str(tmp_path / name), val_fraction=0.0, test_fraction=0.0)
        assert [(p.question, p.answer) for p in data.splits["train"]] == [
            (r["question"], r["answer"][-1]) for r in rows
        ], name


def test_wrong_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"data.path=.*nowhere does not exist"):
        GSM8K(path=str(tmp_path / "nowhere"))
    parquet(tmp_path / "train.parquet", [math_row(i) for i in range(3)])
    with pytest.raises(DataError, match=r"no column 'question' among problem, level, type, solution"):
        GSM8K(path=str(tmp_path)).setup()
    parquet(tmp_path / "train.parquet", [gsm8k_row(i) for i in range(3)])
    with pytest.raises(DataError, match=r"has no test split: expected test\.parquet"):
        GSM8K(path=str(tmp_path)).setup()
    jsonl(tmp_path / "train.jsonl", [gsm8k_row(1)])
    with pytest.raises(DataError, match="train split in several formats"):
        GSM8K(path=str(tmp_path)).setup()
    (tmp_path / "damaged.parquet").write_bytes(b"PAR1 not really")
    with pytest.raises(DataError, match=r"damaged\.parquet: cannot be read as Parquet"):
        GSM8K(path=str(tmp_path / "damaged.parquet")).setup()
    with pytest.raises(DataError, match=r"data.subset must be main, diamond or extended, got 'big'"):
        GPQA(subset="big")  # type: ignore[arg-type]


def test_unreachable_hub_is_one_line_with_the_mend() -> None:
    with pytest.raises(DataError, match=r"^openai/gsm8k .* hub cannot be reached; .*data\.path$"):
        GSM8K().setup()


@pytest.mark.parametrize(
    ("status", "code", "line"),
    [
        (
            401,
            "GatedRepo",
            r"^Idavidrein/gpqa \(gpqa_main\).* is gated: accept its terms .* HF_TOKEN, or .* data\.path$",
        ),
        (403, "GatedRepo", r" is gated: accept its terms"),
        (404, "RepoNotFound", r" is not on the hub, or is private: correct data\.repo"),
        (404, "RevisionNotFound", r"no such revision .*'v9'.*; correct data\.revision"),
    ],
)
def test_what_the_hub_refuses_is_one_line_with_the_mend(hub: Hub, status: int, code: str, line: str) -> None:
    hub.refusal = status, code
    with pytest.raises(DataError, match=line) as caught:
        GPQA(revision="v9" if code == "RevisionNotFound" else None).setup()
    assert "\n" not in str(caught.value)


def test_rows_from_the_hub_with_the_commit_in_the_manifest(hub: Hub, tmp_path: Path) -> None:
    parquet(tmp_path / "up/main/train-00000-of-00001.parquet", [gsm8k_row(i) for i in range(20)])
    parquet(tmp_path / "up/main/test-00000-of-00001.parquet", [gsm8k_row(i) for i in range(20, 30)])
    parquet(tmp_path / "up/socratic/train-00000-of-00001.parquet", [gsm8k_row(i) for i in range(50, 60)])
    splits = {"main": ("train", "test"), "socratic": ("train",)}
    files = {config: [{"split": s, "path": f"{config}/{s}-*"} for s in named] for config, named in splits.items()}
    card = json.dumps({"configs": [{"config_name": name, "data_files": listed} for name, listed in files.items()]})
    (tmp_path / "up/README.md").write_text(f"---\n{card}\n---\n")
    hub.serve(tmp_path / "up")
    data = GSM8K(revision="v1", val_fraction=0.1)
    manifest = data.manifest()
    assert (manifest["revision"], manifest["commit"]) == ("v1", hub.commit)
    assert {n: s["size"] for n, s in manifest["splits"].items()} == {"train": 18, "val": 2, "test": 10}
    assert hub.revisions_asked == {"v1", hub.commit}
    local = GSM8K(path=str(tmp_path / "up"), val_fraction=0.1)
    assert local.manifest()["splits"] == manifest["splits"]
    assert local.manifest()["commit"] is None


def test_a_hub_set_with_another_split_is_one_line(hub: Hub, tmp_path: Path) -> None:
    rows = [{"problem": f"Find {i}.", "answer": i} for i in range(10)]
    parquet(tmp_path / "up/data/train-00000-of-00001.parquet", rows)
    hub.serve(tmp_path / "up")
    with pytest.raises(DataError) as caught:
        AIME().setup()
    assert str(caught.value) == (
        "TianHongZXY/aime-1983-2025, split 'test': no such split, only 'train'; name the one that holds the problems as "
        "data.hub_split"
    )
    assert len(AIME(hub_split="train", val_fraction=0, test_fraction=0).splits["train"]) == 10


def test_without_the_hub_a_pinned_revision_is_that_revision_or_refused(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import datasets
    import huggingface_hub

    def answers(revision: str | None) -> set[str]:
        data = AIME(hub_split="train", revision=revision)
        found = {p.answer for split in data.splits.values() for p in split}
        assert data.commit in (revision, new)
        return found

    old, new = "1" * 40, "2" * 40
    for commit, answer in ((old, 11), (new, 22)):
        hub.commit = commit
        parquet(
            tmp_path / "up/data/train-00000-of-00001.parquet",
            [{"problem": f"Find {i}.", "answer": answer} for i in range(20)],
        )
        hub.serve(tmp_path / "up")
        assert answers(commit) == {str(answer)}
    for offline in (datasets.config, huggingface_hub.constants):
        monkeypatch.setattr(offline, "HF_HUB_OFFLINE", True)
    assert answers(None) == answers(new) == {"22"}
    assert answers(old) == {"11"}
    for revision, line in (
        ("v1", "cannot be known; pin that commit"),
        ("3" * 40, f"holds commit {new}, not data.revision"),
    ):
        with pytest.raises(DataError, match=line):
            answers(revision)
