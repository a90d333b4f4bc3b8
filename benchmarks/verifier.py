r"""How fast the verifier is on ordinary answers, and how long a hostile one can hold it.

    python benchmarks/verifier.py [--json out.json] [--ordinary 20000] [--hostile 1000] [--repetitions 5]

Ordinary: generated word-problem solutions with one of seven answer formats, half of them wrong. Hostile: distinct
answers made to exhaust time, memory or the stack of a verifier; the first ones include the start of the worker process.
"""

from __future__ import annotations

import argparse
import json
import platform
import random
import time
from itertools import cycle
from pathlib import Path

from core_lightning.answers import Verifier

FORMATS = (
    "#### {}",
    r"Therefore, the total is $\boxed{{{}}}$.",
    "The answer is {} dollars.",
    "**Answer:** {}",
    "<answer>{}</answer>",
    r"\boxed{{\${}}}",
    "8 * 7 + 5 = {}",
)
HOSTILE = (
    r"\boxed{{9^9^9^9^{}}}",
    r"\boxed{{{}!!^{{99999!}}}}",
    r"\boxed{{\int_0^{} e^{{\sin(x^x)}} \sqrt{{\tan(x)}} dx}}",
    r"\boxed{{\sum_{{k=1}}^{{10^{{{}}}}} \frac{{1}}{{k^k}}}}",
    r"\boxed{{(x+y+z+w+1)^{{{}00}}}}",
    r"\boxed{{\sqrt{{2+\sqrt{{3+\sqrt{{5+\sqrt{{7+\sqrt{{11+\sqrt{{{}}}}}}}}}}}}}}}",
)


def ordinary(count: int, seed: int) -> tuple[list[str], list[str]]:
    """Completions and golds."""
    rng = random.Random(seed)
    steps = "Janet sells {} - 3 - 4 = {} eggs a day.\nShe makes {} * 2 = ${} every day at the market.\n"
    completions, golds = [], []
    for _ in range(count):
        gold = rng.randrange(100_000)
        answer = gold if rng.random() < 0.5 else rng.randrange(100_000)
        body = steps.format(*(rng.randrange(100) for _ in range(4))) * rng.randrange(1, 4)
        completions.append(body + rng.choice(FORMATS).format(rng.choice((str, "{:,}".format, "{}.00".format))(answer)))
        golds.append(str(gold))
    return completions, golds


def hostile(count: int) -> list[str]:
    """Distinct completions; one in eight is huge."""
    huge = (
        lambda i: "\\boxed{" * (20_000 + i),
        lambda i: "\\boxed{" + "{" * (20_000 + i) + "}" * (20_001 + i),
        lambda i: "\\boxed{" + "9" * (1_000_000 + i) + "}",
        lambda i: "The answer is " + "((" * (500_000 + i) + "1",
    )
    small = cycle(HOSTILE)
    return [huge[i // 8 % 4](i) if i % 8 == 7 else next(small).format(i + 2) for i in range(count)]


def spread(values: list[float], form: str) -> str:
    """Minimum, median and maximum."""
    ordered = sorted(values)
    return " ".join(format(ordered[i], form).rjust(10) for i in (0, len(ordered) // 2, -1))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ordinary", type=int, default=20_000, help="completions a repetition")
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--hostile", type=int, default=1_000, help="hostile completions; about 0.5 s each")
    parser.add_argument("--json", type=Path, help="write the measurements here")
    args = parser.parse_args()

    rates: list[float] = []
    with Verifier() as verifier:
        for seed in range(args.repetitions):
            completions, golds = ordinary(args.ordinary, seed)
            start = time.perf_counter()
            verifier.check(completions, golds, "number")
            rates.append(args.ordinary / (time.perf_counter() - start))
    seconds: list[float] = []
    with Verifier() as verifier:
        for completion in hostile(args.hostile):
            start = time.perf_counter()
            verifier.check([completion], [r"\sqrt{2}"], "math")
            seconds.append(time.perf_counter() - start)
        timeouts = verifier.timeouts

    print(f"{'':28}{'min':>10} {'median':>10} {'max':>10}")
    print(f"{'ordinary, comparisons/s':28}{spread(rates, '.0f')}")
    if seconds:
        print(f"{'hostile, seconds each':28}{spread(seconds, '.3f')}")
        print(f"{len(seconds)} hostile answers in {sum(seconds):.0f} s, {timeouts} cut off")
    if args.json:
        report = {"python": platform.python_version(), "machine": platform.machine(), "ordinary_per_second": rates}
        args.json.write_text(json.dumps({**report, "hostile_seconds": seconds, "hostile_timeouts": timeouts}, indent=1))


if __name__ == "__main__":
    main()
