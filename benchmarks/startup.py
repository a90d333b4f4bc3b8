"""How long until something happens: import, ``--help``, a cached embedded model.

    python -m benchmarks.startup [--quick]

Every measurement is a process of its own, in turn. The interpreter alone and the import of Lightning stand beside, because
nothing built on them can be quicker. A model is cached once its GGUF file has been converted, which happens on first use.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import torch

from benchmarks.measure import Report, in_turn, isolated, parse, parser, ratios, seconds
from benchmarks.teams import load_peer, models, weights

ROOT = Path(__file__).parent.parent
COMMANDS = {
    "interpreter": ["-c", "pass"],
    "import core_lightning": ["-c", "import core_lightning"],
    "import core_lightning.answers": ["-c", "import core_lightning.answers"],
    "import lightning.pytorch": ["-c", "import lightning.pytorch"],
    "the module's class": ["-c", "from core_lightning import CollaborativeReasoningModule"],
    "--help": ["-m", "core_lightning", "--help"],
    "fit --help": ["-m", "core_lightning", "fit", "--help"],
}
#: Heavy libraries that asking for help has no use for; those that Lightning itself imports do not count.
UNNEEDED = ("transformers", "peft", "datasets", "bitsandbytes", "matplotlib", "sympy", "torch._dynamo")
HELP = (
    "import sys, contextlib, io, lightning.pytorch\n"
    "before = set(sys.modules)\n"
    "with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(SystemExit):\n"
    "    from core_lightning.cli.main import main; main(['fit', '--help'])\n"
    f"print(*(name for name in {UNNEEDED} if name in sys.modules.keys() - before))"
)


def python(arguments: Sequence[str]) -> str:
    """What a fresh interpreter prints."""
    return subprocess.run([sys.executable, *arguments], cwd=ROOT, capture_output=True, text=True, check=True).stdout


def load(model: str, kind: str, threads: int) -> float:
    """Seconds to load a model with its adapter and tokenizer; the libraries it needs are imported before."""
    import bitsandbytes  # noqa: F401
    import peft  # noqa: F401
    from transformers import AutoModelForCausalLM, AutoTokenizer  # noqa: F401

    torch.set_num_threads(threads)
    return seconds(lambda: load_peer(model, **weights(kind)))


def main(args: Sequence[str] | None = None) -> None:
    """Measure and print."""
    options = parse(parser(__doc__, rounds=5), args)
    report = Report("startup", options)
    names = ("import lightning.pytorch", "fit --help") if options.quick else tuple(COMMANDS)
    taken = in_turn({name: partial(python, COMMANDS[name]) for name in names}, options.rounds)
    for name, values in taken.items():
        report.add("process", name, values, "s")
    report.add(
        "process",
        "fit --help / import lightning.pytorch",
        ratios(taken["fit --help"], taken["import lightning.pytorch"]),
    )
    needless = python(["-c", HELP]).split()
    report.add(
        "process", f"needless libraries under fit --help ({', '.join(needless) or 'none'})", [len(needless)], at_most=0
    )
    for name, model in models(options.quick).items():
        for kind in ("float32",) if options.quick else ("nf4", "float32"):
            isolated(load, model, kind, options.threads)  # the first one may convert, and fills the file cache
            values = [isolated(load, model, kind, options.threads) for _ in range(options.rounds)]
            report.add("cached model", f"{name} {kind}", values, "s", at_most=5)
    report.finish()


if __name__ == "__main__":
    main()
