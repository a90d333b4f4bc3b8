"""Every benchmark runs in its quick form, reports all of its rows and can be read back as a table."""

import json
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pytest_httpserver import HTTPServer

from benchmarks import ahead, decode, engines, gpu, products, scale, scoring, steady, step, verifier
from benchmarks.measure import PeakMemory, Row, in_turn, isolated, ratios
from benchmarks.table import MARK, README, cell, generated, markdown, tables
from core_lightning.answers import Verifier
from core_lightning.nano import nano_folder
from core_lightning.records import Problem
from served import ServedModel

NO_TRL = ["--trl-python", "nowhere"]


def through_pickle(work: Callable[..., Any], *args: Any) -> Any:
    """What a fresh process would be handed, without the seconds that its imports take."""
    work, args = pickle.loads(pickle.dumps((work, args)))
    return work(*args)


@pytest.mark.usefixtures("small_report")
@pytest.mark.parametrize(
    ("name", "main", "args", "measures"),
    [
        (
            "decode",
            decode.main,
            ["--batch", "2", "--peers", "a"],
            {"sampler / bare loop", "time with / without adapter"},
        ),
        ("scoring", scoring.main, [], {"chunked, extra memory", "time ours / naive", "micro-batches"}),
        ("step", step.main, [*NO_TRL, "--problems", "1"], {"times faster than one at a time", "verifier, embeddings and rewards"}),
        ("engines", engines.main, ["--peers", "a", "--problems", "2"], {"native", "native / generate"}),
        ("gpu", gpu.main, ["--weights", "bfloat16", "nf4-dense"], {"sampler / bare loop", "loss", "reference"}),
        ("products", products.main, [], {"BLAS", "BLAS / oneDNN, weight arranged once"}),
        ("verifier", verifier.main, [], {"comparisons", "longest"}),
        ("steady", steady.main, [], {"memory, end / then", "open files, more at the end"}),
        ("scale", scale.main, ["--problems", "1", "--peers", "2"], {"same traces (1: yes)", "peak memory"}),
    ],
)
def test_quick_form_reports_every_row(
    name: str,
    main: Callable[[list[str]], None],
    args: list[str],
    measures: set[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for module in (scale, scoring):
        monkeypatch.setattr(module, "isolated", through_pickle)
    small = [] if name in ("products", "scoring", "steady", "verifier") else ["--new-tokens", "4"]
    main(["--quick", "--threads", "1", "--out", str(tmp_path), *small, *args])
    file = tmp_path / f"{name}.quick.json"
    document = json.loads(file.read_text())
    assert measures <= {row["measure"] for row in document["rows"]}
    assert all(row["values"] for row in document["rows"])
    assert document["environment"].keys() >= {"torch", "processor", "threads", "commit"}
    table = markdown(file)
    assert all(cell(Row(**row)) in table and row["case"] in table and row["measure"] in table for row in document["rows"])
    assert all(row["values"] == [1.0] for row in document["rows"] if row["measure"] == "same traces (1: yes)")


@pytest.mark.usefixtures("small_report")
def test_a_step_ahead_is_timed_against_a_server(httpserver: HTTPServer, tmp_path: Path) -> None:
    served = ServedModel(httpserver, nano_folder("a"))
    url = httpserver.url_for("/").rstrip("/")
    sizes = ["--problems", "2", "--new-tokens", "4", "--steps", "1"]
    ahead.main(["--quick", "--threads", "1", "--out", str(tmp_path), "--url", url, *sizes])
    rows = {row["measure"]: row for row in json.loads((tmp_path / "ahead.quick.json").read_text())["rows"]}
    assert rows.keys() >= {"lag 0: a step", "lag 1: a step", "times faster with a lag", "at best"}
    assert all(value > 0 for row in rows.values() for value in row["values"])
    # Two runs of three steps, of two problems, for two peers, two samples each; a lag samples nothing in vain.
    assert sum(body["max_tokens"] == 4 for body in served.asked) == 2 * 3 * 2 * 2 * 2


def test_isolated_work_has_a_process_of_its_own() -> None:
    assert isolated(os.getppid) == os.getpid()


def test_variants_take_turns_and_the_first_call_does_not_count() -> None:
    calls: list[str] = []
    taken = in_turn({"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}, rounds=3)
    assert "".join(calls) == "ab" * 4
    assert {name: len(values) for name, values in taken.items()} == {"a": 3, "b": 3}


def test_target_is_judged_by_the_median() -> None:
    assert Row("", "", "", [0.1, 0.9, 2.0], at_least=0.85).met == "yes"
    assert Row("", "", "", [0.1, 0.8, 2.0], at_least=0.85).met == "no"
    assert Row("", "", "", [310.0, 200.0, 100.0], at_most=300).met == "yes"
    assert ratios([2.0, 9.0], [1.0, 3.0]) == [2.0, 3.0]


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="resident memory is read from /proc")
def test_peak_memory_sees_what_was_freed_again() -> None:
    memory = PeakMemory()
    block = bytearray(b"x") * (64 << 20)
    del block
    assert 60 < memory.extra < 80


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="processes are read from /proc")
def test_the_watched_run_has_the_processes_of_the_verifier() -> None:
    easy = steady.symbolic(1, Problem("a", "1+1", "2"))
    with Verifier() as judge:
        before = steady.held()["child processes"]
        assert judge.check(["#### 2", "#### 3"], [easy.answer] * 2, easy.kind)[0].correct
        assert judge.comparisons == 2
        assert steady.held()["child processes"] == before + 2  # the worker, and the server that it forks
    endless = {steady.symbolic(51 * i, Problem("a", "1+1", "2")).answer for i in range(5)}
    assert len(endless) == 5  # outcomes are remembered


def test_the_readme_holds_the_tables_of_the_results() -> None:
    """If not: python -m benchmarks.table --readme."""
    assert README.read_text(encoding="utf-8").split(MARK)[1] == "\n" + generated()


def test_every_figure_stands_in_a_table_once_and_a_missed_target_is_marked() -> None:
    rows = [
        Row("two", "time", "s", [1.0, 2.0, 4.0]),
        Row("four", "time", "s", [3.0], at_most=2.0),
        Row("four", "ratio", "", [0.5, 0.5], at_least=0.4),
        Row("alone", "memory", "MB", [7.0], at_most=8.0),
    ]
    assert tables(rows) == [
        "|  | time, s (≤ 2) | ratio (≥ 0.4) |", "| --- | --- | --- |", "| two | 2 (1 to 4) |  |", "| four | **3** | 0.5 |", "",
        "| alone | median (min to max) | target | met |", "| --- | --- | --- | --- |", "| memory, MB | 7 | ≤ 8 | yes |", "",
    ]  # fmt: skip
