"""Arms x seeds, one after the other; what is done is kept, and a killed sweep goes on where it stopped."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.learning.arms import ARMS
from benchmarks.learning.pairs import PAIRS
from benchmarks.learning.training import run
from benchmarks.measure import environment
from core_lightning import PeerConfig
from core_lightning.peers.sources import resolve

Key = tuple[str, str, int, int, float]


def sweep(
    pair: str,
    arms: Sequence[str],
    pretraining_seeds: Sequence[int] | None,
    seeds: Sequence[int],
    lr: float | None,
    out: Path,
    accelerator: str = "cpu",
    check: Path | None = None,
) -> None:
    """Run what has no line in ``out`` yet: all arms of one seed, then of the next, so that a sweep cut short is fair."""
    settings = PAIRS[pair]
    lr = lr or settings.lr
    done = {key(line) for line in read(out)}
    for seed in seeds:
        for pretraining_seed in pretraining_seeds or settings.pretraining_seeds:
            models: dict[str, str] = {}
            for arm in arms:
                # Models as they are need no second look with other rates.
                rate = settings.lr if not ARMS[arm].trained else lr
                identity = {"pair": pair, "arm": arm, "pretraining_seed": pretraining_seed, "seed": seed, "lr": rate}
                if key(identity) in done:
                    continue
                models = models or fingerprints(settings.peers(pretraining_seed))
                check_models(out, pair, pretraining_seed, models)
                start = time.perf_counter()
                result = run(settings, ARMS[arm], pretraining_seed, seed, rate, accelerator, check)
                append(out, identity | {"models": models, "settings": plain(arm), "environment": environment()} | result)
                print(f"{arm} {pretraining_seed}/{seed} lr {rate:g}: {time.perf_counter() - start:.0f} s", flush=True)


def fingerprints(peers: Mapping[str, PeerConfig]) -> dict[str, str]:
    """SHA-256 over the weights of each peer's model."""
    found = {}
    for name, config in peers.items():
        source = Path(resolve(config.model).name_or_path)
        files = sorted(source.glob("*.safetensors")) if source.is_dir() else [source]
        digest = hashlib.sha256()
        for file in files:
            digest.update(file.read_bytes())
        found[name] = digest.hexdigest()
    return found


def check_models(out: Path, pair: str, pretraining_seed: int, models: Mapping[str, str]) -> None:
    """Refuse to compare runs of different models: pretrained on another processor, the same seed gives other weights.

    Raises:
        SystemExit: ``out`` holds runs of this pretraining seed with other models, or with models made elsewhere before
            their weights were noted.
    """
    for line in read(out):
        if (line["pair"], line["pretraining_seed"]) == (pair, pretraining_seed):
            theirs = line.get("models", {} if pretraining_seed else models)  # those of seed 0 are shipped
            if theirs != models:
                raise SystemExit(
                    f"{out} holds runs of pretraining seed {pretraining_seed} whose models are not, or not known to be, "
                    "those of this machine; give another --out, and run all arms of that seed here"
                )


def key(line: dict[str, Any]) -> Key:
    """What makes a run the same run."""
    return line["pair"], line["arm"], line["pretraining_seed"], line["seed"], line["lr"]


def read(file: Path) -> Iterator[dict[str, Any]]:
    """Finished runs; a line cut off by a crash does not count."""
    if not file.exists():
        return
    for text in file.read_text().splitlines():
        try:
            yield json.loads(text)
        except json.JSONDecodeError:
            continue


def append(file: Path, line: dict[str, Any]) -> None:
    """Add one line in a single write, so that two sweeps may share a file."""
    file.parent.mkdir(parents=True, exist_ok=True)
    torn = file.exists() and not file.read_bytes().endswith(b"\n") and file.stat().st_size > 0
    text = ("\n" if torn else "") + json.dumps(line, separators=(",", ":")) + "\n"
    handle = os.open(file, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        os.write(handle, text.encode())
    finally:
        os.close(handle)


def plain(arm: str) -> dict[str, Any]:
    """An arm's settings as plain data."""
    settings = dataclasses.asdict(dataclasses.replace(ARMS[arm], rewards={}))
    settings["rewards"] = {name: [type(t.term).__name__, str(t.weight)] for name, t in ARMS[arm].rewards.items()}
    return settings
