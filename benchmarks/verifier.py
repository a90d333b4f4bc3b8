r"""How fast the verifier is on ordinary answers, and how long a hostile one can hold it.

    python -m benchmarks.verifier [--quick] [--ordinary 20000] [--hostile 1000]

Ordinary: generated word-problem solutions with one of seven answer formats, half of them wrong. Hostile: distinct
answers made to exhaust time, memory or the stack of a verifier; the first ones include the start of the worker process.
The hostile ones take about half a second each.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from functools import partial
from itertools import cycle

from benchmarks.measure import Report, parse, parser, seconds
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


def main(args: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser_ = parser(__doc__)
    parser_.add_argument("--ordinary", type=int, default=20_000, help="completions a round")
    parser_.add_argument("--hostile", type=int, default=1_000, help="hostile completions; 0 leaves them out")
    options = parse(parser_, args)
    if options.quick:
        options.ordinary, options.hostile = 500, 2
    report = Report("verifier", options)
    with Verifier() as verifier:
        rates = []
        for round_ in range(options.rounds):
            completions, golds = ordinary(options.ordinary, round_)
            rates.append(options.ordinary / seconds(partial(verifier.check, completions, golds, "number")))
    report.add("ordinary answers", "comparisons", rates, "1/s", at_least=5_000)
    if options.hostile:
        with Verifier() as verifier:
            took = [
                seconds(partial(verifier.check, [completion], [r"\sqrt{2}"], "math"))
                for completion in hostile(options.hostile)
            ]
            cut_off = verifier.timeouts
        report.add("hostile answers", "each", took, "s")
        report.add("hostile answers", "longest", [max(took)], "s", at_most=2)
        report.add("hostile answers", f"cut off, of {len(took)}", [cut_off])
    report.finish()


if __name__ == "__main__":
    main()
