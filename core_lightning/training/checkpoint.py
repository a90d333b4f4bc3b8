"""What a checkpoint of a team holds beside the optimizer: adapters, random states, and the settings it was made with."""

from __future__ import annotations

import dataclasses
import json
import random
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from lightning.pytorch.utilities import rank_zero_info
from torch import Tensor

from core_lightning.protocol.credit import RunningRate

#: Settings that what was sampled a step ahead does not hang on.
_NOT_OF_SAMPLES = ("eval_samples", "eval_greedy", "eval_rescue", "parallel_peers", "max_nonfinite")


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
    """Counters, random states and settings of a module in training, for its checkpoint; all processes must call this."""
    timeouts, replaced = module.over_ranks(module.verifier.timeouts, module.verifier.replaced)
    return {
        "batches_done": module.batches_done,
        "nonfinite_steps": module.nonfinite.steps,
        "answers": {"timeouts": round(timeouts), "workers_lost": round(replaced)},
        "rescue_rates": {name: dataclasses.asdict(rate) for name, rate in module.rescue_rates.items()},
        **({"ahead": module.ahead.state()} if module.rollout.lag else {}),
        "settings": json.dumps(module.settings(), sort_keys=True),
        "optimizer": next((type(o).__name__ for o in module.trainer.optimizers), None),
        **random_states(),
    }


def restore_run(module: Any, state: Mapping[str, Any]) -> None:
    """Put a module back to where :func:`run_state` found it, and say which of its settings differ from those of then.

    Settings of now win, the day that prompts say excepted, unless it was set. What was sampled a step ahead is of use only
    under the same settings.
    """
    module.batches_done = state["batches_done"]
    module.nonfinite.steps = state["nonfinite_steps"]
    # What is logged is the sum over all processes, so the first one takes it over.
    answers = state.get("answers", {}) if module.trainer.is_global_zero else {}
    module.verifier.timeouts, module.verifier.replaced = answers.get("timeouts", 0), answers.get("workers_lost", 0)
    module.rescue_rates |= {name: RunningRate(**rate) for name, rate in state["rescue_rates"].items()}
    saved = json.loads(state["settings"])
    if not module.day_set:  # prompts go on saying the day the run began
        module.prompt = dataclasses.replace(module.prompt, date=saved["prompt"].get("date") or module.prompt.date)
        if len(module.peers):
            module.team.prompts = module.prompt
    now = module.settings()
    changed = list(differences({**now, **saved}, now))  # a checkpoint of an earlier release may lack a setting
    for name, before, value in changed:
        rank_zero_info(f"resume: {name} was {before} in the checkpoint and is now {value}; the new value holds")
    if "ahead" in state and any(name.removeprefix("model.") not in _NOT_OF_SAMPLES for name, *_ in changed):
        rank_zero_info("resume: what was sampled a step ahead is thrown away, because settings have changed since")
    elif "ahead" in state:
        module.ahead.restore(state["ahead"], module.trainer.global_rank, module.trainer.world_size)
    restore_random_states(state)


def run_settings(module: Any) -> dict[str, Any]:
    """The settings of a module as plain data."""
    values = {
        "peers": {n: dataclasses.asdict(c) for n, c in module.peer_configs.items()},
        "rewards": {n: plain(t) for n, t in module.rewards.terms.items()},
        "objective": plain(module.objective),
    }
    for name in ("rounds", "prompt", "distance", "advantage", "credit", "rollout", "schedule"):
        values[name] = dataclasses.asdict(getattr(module, name))
    for name in ("max_grad_norm", "updates_per_batch", "share_base", "seed", *_NOT_OF_SAMPLES):
        values[name] = getattr(module, name)
    values["embedder"] = None if module.embedder is None else plain(module.embedder)
    values["answer_timeout"] = module.verifier.timeout
    return json.loads(json.dumps(values))


def plain(value: Any) -> Any:
    """A settings object as plain data, with the class names of the objects in it."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {f.name: plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
        return {"class": type(value).__name__, **fields}
    if isinstance(value, int | float | str | bool | None):
        return value
    said = str(value)
    # An object that only says where it lies in memory says something else in every process.
    return {"class": type(value).__name__} if said.endswith(f" at {hex(id(value))}>") else said


def differences(before: Any, now: Any, name: str = "model") -> Iterator[tuple[str, Any, Any]]:
    """(name, earlier value, value now) of every setting that changed, from nested plain data."""
    if isinstance(before, dict) and isinstance(now, dict):
        for key in sorted(before.keys() | now.keys()):
            yield from differences(before.get(key), now.get(key), f"{name}.{key}")
    elif before != now:
        yield name, before, now
