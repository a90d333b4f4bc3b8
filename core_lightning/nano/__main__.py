"""``python -m core_lightning.nano --out DIR [--seed N]`` pretrains a pair, ``--evaluate [--out DIR]`` measures one."""

from __future__ import annotations

import argparse
import dataclasses
import time
from collections.abc import Sequence
from pathlib import Path

import torch

from core_lightning.nano import nano_folder
from core_lightning.nano.evaluate import report
from core_lightning.nano.pretrain import RECIPES, pretrain


def main(arguments: Sequence[str] | None = None) -> None:
    """Pretrain a nano pair, or measure one."""
    parser = argparse.ArgumentParser(prog="python -m core_lightning.nano", description="Make or measure a nano pair.")
    parser.add_argument("--out", type=Path, help="folder of the pair, with one folder per peer in it")
    parser.add_argument("--seed", type=int, default=0, help="of weights, missing facts, examples and samples")
    parser.add_argument("--peers", nargs="+", choices=RECIPES, default=list(RECIPES), help="make only these")
    parser.add_argument("--steps", type=int, help="optimizer steps of the pretraining, instead of the recipe's")
    parser.add_argument("--evaluate", action="store_true", help="measure the pair in --out (default: the shipped one)")
    options = parser.parse_args(arguments)
    if options.evaluate:
        torch.manual_seed(options.seed)
        print(report({name: options.out / name if options.out else nano_folder(name) for name in options.peers}))
        return
    if options.out is None:
        parser.error("--out is missing: name the folder the pair is written to")
    for name in options.peers:
        recipe = RECIPES[name] if options.steps is None else dataclasses.replace(RECIPES[name], steps=options.steps)
        start = time.perf_counter()
        loss = pretrain(recipe, options.out / name, options.seed)
        print(f"{options.out / name}: loss {loss:.3f}, {time.perf_counter() - start:.0f} s", flush=True)


if __name__ == "__main__":
    main()
