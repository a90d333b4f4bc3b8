"""What a checkpoint of a team holds beside the optimizer: adapters, random states, and the settings it was made with."""

from __future__ import annotations

import dataclasses
import json
import random
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor


@torch.no_grad()
def load_adapters(own: Mapping[str, Tensor], saved: Mapping[str, Tensor]) -> None:
    """Copy saved adapter weights into a team's own.

    Args:
        own: The team's weights, ``<peer>.<weight>``, changed in place.
        saved: Those of a checkpoint.

    Raises:
        ValueError: The checkpoint lacks a trainable weight, holds one this team does not have, or one of another shape.
    """
    for names, complaint in (
        (own.keys() - saved.keys(), "lacks"),
        (saved.keys() - own.keys(), "holds the unknown"),
        ({n for n in own.keys() & saved.keys() if own[n].shape != saved[n].shape}, "has another shape of"),
    ):
        if names:
            raise ValueError(
                f"the checkpoint {complaint} adapter weight {min(names)} ({len(names)} in all); "
                "resume with the peers and lora settings it was made with"
            )
    for name, value in own.items():
        value.copy_(saved[name])


def random_states() -> dict[str, Any]:
    """States of the global generators, as plain containers and tensors: checkpoints are read weights-only."""
    version, internal, gauss = random.getstate()
    return {
        "python_rng": [version, list(internal), gauss],
        "torch_rng": torch.get_rng_state(),
        "cuda_rng": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
    }


def restore_random_states(states: Mapping[str, Any]) -> None:
    """Put the global generators back to where :func:`random_states` found them."""
    version, internal, gauss = states["python_rng"]
    random.setstate((version, tuple(internal), gauss))
    torch.set_rng_state(states["torch_rng"].cpu())
    if states["cuda_rng"] and torch.cuda.is_available():
        torch.cuda.set_rng_state_all([s.cpu() for s in states["cuda_rng"]])


def run_state(module: Any) -> dict[str, Any]:
    """Counters, random states and settings of a module in training, for its checkpoint."""
    return {
        "batches_done": module.batches_done,
        "nonfinite_steps": module.nonfinite.steps,
        "rescue_rates": {name: dataclasses.asdict(rate) for name, rate in module.rescue_rates.items()},
        **({"ahead": module.ahead.state()} if module.rollout.lag else {}),
        "settings": json.dumps(module.settings(), sort_keys=True),
        "optimizer": next((type(o).__name__ for o in module.trainer.optimizers), None),
        **random_states(),
    }


def plain(value: Any) -> Any:
    """A settings object as plain data, with the class names of the objects in it."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {f.name: plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
        return {"class": type(value).__name__, **fields}
    return value if isinstance(value, int | float | str | bool | None) else str(value)


def differences(before: Any, now: Any, name: str = "model") -> Iterator[tuple[str, Any, Any]]:
    """(name, earlier value, value now) of every setting that changed, from nested plain data."""
    if isinstance(before, dict) and isinstance(now, dict):
        for key in sorted(before.keys() | now.keys()):
            yield from differences(before.get(key), now.get(key), f"{name}.{key}")
    elif before != now:
        yield name, before, now
