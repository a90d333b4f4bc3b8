"""Texts nobody would write, through everything that reads completions: no crash, and no text that takes seconds.

    python -m benchmarks.fuzz --inputs 200000

A text is put together from marks, numbers, LaTeX, controls, pieces of other scripts and repetitions of all of them; some
are mutations of earlier ones. What is found is printed, one JSON line each, to be kept as a seed of
``tests/answers/test_fuzz.py``.
"""

from __future__ import annotations

import argparse
import json
import random
import signal
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from core_lightning.answers import Verifier, extract_answer, false_equations, leaks_answer, remove_answer

KINDS = ("auto", "number", "math", "choice", "text")
SLOW = 2.0
"""Seconds of the processor one call may take; texts are up to 30,000 characters."""
HANG = 20.0

PIECES = [
    *("0", "1", "7", "-3", "18", "3.5", ".5", "1e5", "10^9", "2^{3^{9}}", "1,000", "1.000,5", "1/2", "7/0", "½", "٣", "４"),
    *("²", r"0.\overline{3}", "99999999999999999999", "+", "-", "*", "/", "=", "×", "÷", "·", "≈", "≠", "<=", r"\le"),
    *(r"\cdot", "^", "!", "%", "$", "€", "(", ")", "[", "]", "{", "}", "|", ",", ";", ":", ".", "?", "&", "#", "~", "_"),
    *("\\", "'", '"', r"\boxed{", r"\boxed ", r"\frac{1}{2}", r"\frac12", r"\dfrac{", r"\sqrt{", r"\sqrt[3]{8}", r"\left("),
    *(r"\right)", r"\text{ cm}", r"\begin{pmatrix}1&2\\3&4\end{pmatrix}", r"\pi", r"\infty", r"\sin(", "x^2+1", r"e^{i\pi}"),
    *(r"\[", r"\]", r"\(", "$$", r"\!", "#### ", "Answer: ", "Final answer - ", "The answer is ", "**", "<answer>"),
    *("</answer>", "<think>", "</think>", "Therefore, ", "so ", " or ", " and ", "(A)", "B.", "Option C", "twelve"),
    *("one hundred and", "half a dozen", "dollars", "km/h", "°C", "5 apples", "\n", "\n\n", "\r\n", "\t", " ", "\x00"),
    *("\x1b[31m", "\u202e", "\u200b", "\ufeff", "\ud800", "\udfff", "\U0001f600", "e\u0301", "<|im_end|>", "[INST]"),
    *("{question}", "{hint}", "%s", "{0}", "=1+1", "<script>", "[bold]", "= ", "is", "equals", "nan", "inf"),
]
GOLDS = [
    *("18", "-3", "1/2", "3.5", "1,000", r"\frac{1}{2}", r"2\sqrt{3}", "B", "yes", "x^2+1", "0", "10^9", "(1,2)", "1e400"),
    *("½", "°"),
]
"""Gold answers; an empty one is refused where problems are read."""


@dataclass
class Finding:
    """A text that something could not bear."""

    reader: str
    what: str
    text: str
    gold: str
    kind: str


def texts(seed: int) -> Iterator[str]:
    """Endless texts; the same ones for a seed."""
    draw, kept = random.Random(seed), ["The answer is 18."]
    while True:
        text = _mutated(draw, draw.choice(kept)) if draw.random() < 0.3 else _composed(draw)
        if draw.random() < 0.05:
            kept = [*kept[-200:], text[:2000]]
        yield text


def _composed(draw: random.Random) -> str:
    parts = []
    for _ in range(draw.choice((1, 3, 8, 20, 60))):
        piece = draw.choice(PIECES) if draw.random() < 0.95 else chr(draw.randrange(0x110000))
        roll = draw.random()
        times = draw.randrange(200, 3000) if roll < 0.0005 else draw.randrange(2, 40) if roll < 0.03 else 1
        parts.append((piece + draw.choice(("", " "))) * times)
    return draw.choice(("", " ")).join(parts)[:30_000]


def _mutated(draw: random.Random, text: str) -> str:
    at = draw.randrange(len(text) + 1)
    match draw.randrange(4):
        case 0:
            return text[:at] + draw.choice(PIECES) + text[at:]
        case 1:
            return text[:at] + text[at + draw.randrange(1, 10) :]
        case 2:
            return (text[at : at + 20] * draw.choice((2, 3, 5, 10, 300)))[:30_000]
        case _:
            return text[at:] + text[:at]


def readers(verifier: Verifier) -> dict[str, Callable[[str, str, Any], Any]]:
    """Everything a completion goes through, as functions of text, gold and kind."""
    return {
        "extract_answer": lambda text, gold, kind: extract_answer(text, kind),
        "remove_answer": remove_answer,
        "leaks_answer": leaks_answer,
        "false_equations": lambda text, gold, kind: false_equations(text),
        "verifier": lambda text, gold, kind: verifier.check([text], [gold], kind),
    }


class Hang(BaseException):
    """A call that took too long; of no class that a reader could catch."""


def _expired(*_: Any) -> None:
    raise Hang


def probe(text: str, gold: str, kind: str, all_readers: dict[str, Callable[[str, str, Any], Any]]) -> Iterator[Finding]:
    """What is wrong with one text."""
    for name, read in all_readers.items():
        began = time.thread_time()
        signal.setitimer(signal.ITIMER_PROF, HANG)
        try:
            read(text, gold, kind)
            what = ""
        except Hang:
            what = f"hangs: more than {HANG:.0f} s"
        except Exception as error:  # whatever it is, it is a finding
            what = f"{type(error).__name__}: {str(error)[:200]}"
        finally:
            signal.setitimer(signal.ITIMER_PROF, 0)
        took = time.thread_time() - began
        if not what and took > SLOW:
            what = f"slow: {took:.1f} s for {len(text)} characters"
        if what:
            yield Finding(name, what, text, gold, kind)


def run(inputs: int, seed: int, found: Callable[[Finding], None]) -> dict[str, float]:
    """Read so many texts; returns counts and the seconds it took."""
    signal.signal(signal.SIGPROF, _expired)
    draw, began, findings = random.Random(seed + 1), time.monotonic(), 0
    with Verifier(timeout=0.5) as verifier:
        everything = readers(verifier)
        for _, text in zip(range(inputs), texts(seed), strict=False):
            gold = draw.choice(GOLDS) if draw.random() < 0.9 else text[:50].strip() or "7"
            for finding in probe(text, gold, draw.choice(KINDS), everything):
                findings += 1
                found(finding)
        return {
            "inputs": inputs, "seed": seed, "findings": findings, "symbolic_comparisons": verifier.comparisons,
            "time_outs": verifier.timeouts, "replaced_workers": verifier.replaced,
            "seconds": round(time.monotonic() - began),
        }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--inputs", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="file for the findings; standard output without it")
    options = parser.parse_args()
    out = options.out.open("w", encoding="ascii") if options.out else sys.stdout

    def write(finding: Finding) -> None:
        print(json.dumps(asdict(finding)), file=out, flush=True)

    print(json.dumps(run(options.inputs, options.seed, write)))


if __name__ == "__main__":
    main()
