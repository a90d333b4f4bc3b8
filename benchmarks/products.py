"""From which size on a product with a frozen weight is left to oneDNN instead of the BLAS behind nn.functional.linear.

    python -m benchmarks.products [--quick] [--rounds 5] [--threads 2]

Rows of float32 times weights from the smallest adapter to a large layer, on both kernels in turn. A ratio above 1 means
that oneDNN is faster; `products.py` of the peers draws its line by the number of elements.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from benchmarks.measure import Report, in_turn, parse, parser, ratios
from core_lightning.peers.compute.products import arranged

#: (out, in): adapters and layers of the nano pair, of SmolLM2-135M and of Gemma 3 270M.
SHAPES = ((64, 64), (16, 576), (192, 576), (576, 576), (1536, 576), (2048, 640))
ROWS = (1, 32, 512)
_PRODUCTS = 1_000_000_000
"""Multiplications of a variant in one turn, so that the smallest take long enough to be timed."""


def main(args: Sequence[str] | None = None) -> None:
    """Measure and report."""
    options = parse(parser(__doc__), args)
    report = Report("products", options)
    for out, inputs in SHAPES[:1] if options.quick else SHAPES:
        for rows in ROWS[:1] if options.quick else ROWS:
            _measure(report, torch.randn(out, inputs), torch.randn(rows, inputs), options.rounds, options.quick)
    report.finish()


@torch.inference_mode()
def _measure(report: Report, weight: torch.Tensor, x: torch.Tensor, rounds: int, quick: bool) -> None:
    calls = 2 if quick else max(10, min(5_000, _PRODUCTS // (weight.numel() * len(x))))
    kept = arranged(weight)

    def blas() -> None:
        for _ in range(calls):
            nn.functional.linear(x, weight)

    def anew() -> None:
        for _ in range(calls):
            torch.ops.mkldnn._linear_pointwise(x, weight, None, "none", [], "")

    def once() -> None:
        for _ in range(calls):
            kept(x)

    taken = in_turn({"blas": blas, "anew": anew, "once": once}, rounds)
    case = f"{len(x)} rows, {weight.shape[0]} x {weight.shape[1]} = {weight.numel():,}"
    report.add(case, "BLAS", [1e6 * t / calls for t in taken["blas"]], "µs")
    report.add(case, "BLAS / oneDNN, weight as it is", ratios(taken["blas"], taken["anew"]))
    report.add(case, "BLAS / oneDNN, weight arranged once", ratios(taken["blas"], taken["once"]))


if __name__ == "__main__":
    main()
