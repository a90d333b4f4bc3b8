"""The table of model families in the docs, of those whose tests pass now.

python -m benchmarks.families [--out docs/models.md]
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
TESTS = "tests/peers/test_families.py"
#: The test of every family.
TEST = "test_family"
TEXT = f"""# Models

Written by `python -m benchmarks.families`, which runs the tests it names and lists the families that pass them.

A family is exact here if a tiny model of random weights, in float32 on a processor, agrees with a plain pass of the same
model in transformers (one row alone, no cache) within 4e-5: the log-probabilities of what is sampled and of what is scored
in nats, the gradient of the adapter beside its largest entry, with and without gradient checkpointing; for prompts of
unequal length in one batch, prompts that begin alike, several samples of a prompt, and rows that leave the batch early. The
test is `{TEST}` in `{TESTS}`, with the name of the family in brackets. Whether a model's weights and
chat template are read rightly is not asked here.

| family | models | layers | transformers | test |
| --- | --- | --- | --- | --- |
"""
BEHIND = """
On a GPU (one H200, torch 2.11 for CUDA 13) the same test passed for all of them but Kimi Linear: there the attention of
transformers 5.24 itself ends in an error about the number of heads, and the model is refused in one line.

Models of state spaces alone (Mamba, Falcon-Mamba) and models that take no key-value cache (RWKV) are refused in one line.
Layers of linear attention and state spaces run in the plain PyTorch code of transformers unless their kernels are installed.
"""


class _Passed:
    """Which tests passed, as pytest reports them."""

    def __init__(self) -> None:
        self.names: set[str] = set()

    def pytest_runtest_logreport(self, report: object) -> None:
        """Note a test that passed."""
        if getattr(report, "when", "") == "call" and getattr(report, "passed", False):
            self.names.add(report.nodeid.rsplit("::", 1)[-1])  # type: ignore[attr-defined]


def page(names: list[str]) -> str:
    """The page with the families of these names."""
    import transformers

    from families import FAMILIES

    families = [(name, FAMILIES[name]) for name in names]
    rows = [f"| `{n}` | {f.known_as} | {f.layers} | {transformers.__version__} | `{TEST}[{n}]` |" for n, f in families]
    return TEXT + "\n".join(rows) + "\n" + BEHIND


def main(args: list[str] | None = None) -> int:
    """Run the tests and write the table; 1 if a family does not pass."""
    import pytest

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "models.md", help="file to write")
    options = parser.parse_args(args)
    sys.path.insert(0, str(ROOT / "tests" / "support"))
    from families import FAMILIES

    passed = _Passed()
    pytest.main([str(ROOT / TESTS), "-q", "-k", TEST, "--rootdir", str(ROOT)], plugins=[passed])
    names = [name for name in FAMILIES if f"{TEST}[{name}]" in passed.names]
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(page(names), encoding="utf-8")
    print(f"{len(names)} of {len(FAMILIES)} families, in {options.out}")
    return int(len(names) < len(FAMILIES))


if __name__ == "__main__":
    sys.exit(main())
