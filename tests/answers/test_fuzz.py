"""Texts that once took forever or broke a reader, and a few new ones: ``python -m benchmarks.fuzz`` makes as many as asked."""

from __future__ import annotations

import itertools

import pytest

from benchmarks import fuzz
from core_lightning.answers import Verifier

#: (text, gold). Found by the fuzz; each read within its time now.
SEEDS = {
    "a gold answer of nothing": ("3.5", ""),
    "marks in a row, each within the one before": ("The answer is 18 " + "#### " * 31 + " x 1", "18"),
    "phrases in a row": ("answer: " * 60 + "7", "7"),
    "marks and phrases in turn": ("#### the answer is " * 30 + "7", "7"),
    "what may be left out, over and over": ("#" + r"\cdot" * 40 + " so", "#" + r"\cdot" * 9 + "y"),
    "a number of 30,000 digits": ("9" * 30_000, "½"),
    "opening marks of nothing": (r"\left" * 40 + " so x", r"\left" * 10 + "y"),
}


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("kind", fuzz.KINDS)
def test_seed(seed: str, kind: str) -> None:
    text, gold = SEEDS[seed]
    with Verifier(timeout=0.5) as verifier:
        assert list(fuzz.probe(text, gold, kind, fuzz.readers(verifier))) == []


def test_new_texts() -> None:
    found: list[fuzz.Finding] = []
    counts = fuzz.run(150, seed=1, found=found.append)
    assert found == []
    assert counts["inputs"] == 150


def test_texts_are_the_same_for_a_seed_and_of_every_kind() -> None:
    one, other = (list(itertools.islice(fuzz.texts(3), 400)) for _ in range(2))
    assert one == other
    assert one != list(itertools.islice(fuzz.texts(4), 400))
    together = "".join(one)
    for mark in ("\x1b", "\ud800", "\\boxed{", "####", "<think>", "<|im_end|>", "\x00"):
        assert mark in together
    assert max(map(len, one)) > 1000


def test_a_hang_and_a_crash_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    import signal

    monkeypatch.setattr(fuzz, "HANG", 0.2)
    monkeypatch.setattr(fuzz, "SLOW", 0.05)

    def spin(text: str, gold: str, kind: str) -> None:
        while True:
            pass

    def fail(text: str, gold: str, kind: str) -> None:
        raise KeyError("x")

    before = signal.signal(signal.SIGPROF, fuzz._expired)
    try:
        found = list(fuzz.probe("t", "1", "auto", {"spin": spin, "fail": fail, "fine": lambda *_: None}))
    finally:
        signal.signal(signal.SIGPROF, before)
    assert [(f.reader, f.what) for f in found] == [("spin", "hangs: more than 0 s"), ("fail", "KeyError: 'x'")]
