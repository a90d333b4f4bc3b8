"""The settings of a run that matter, in words: for the report, and for the card beside an adapter."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import PurePath
from typing import Any

Settings = Mapping[str, Any]

#: Of an objective these say nothing about the policy term, or only how it is computed.
_ASIDE = ("class", "kl_estimator", "off_policy", "off_policy_bound")


def facts(
    settings: Settings,
    rates: Mapping[str, float] | None = None,
    optimizer: str = "",
    steps: int = 0,
    problems: int | None = None,
    seconds: float | None = None,
    machine: Mapping[str, str] | None = None,
) -> dict[str, str]:
    """What decided how a run went, by name.

    Args:
        settings: Of the module, as plain data; a part that is missing is left out.
        rates: Learning rate of every peer before warm-up and decay.
        optimizer: Its class.
        steps: Training steps done.
        problems: Problems a step.
        seconds: Wall time of the run.
        machine: See :func:`core_lightning.report.machine.machine`.
    """
    found = {
        "Training": _training(steps, problems, settings.get("seed")),
        "Rounds": _rounds(settings["rounds"]) if "rounds" in settings else "",
        "Problems of a step": _rollout(settings.get("rollout", {})),
        "Credit": _credit(settings["credit"]) if "credit" in settings else "",
        "Objective": _objective(settings["objective"]) if "objective" in settings else "",
        "Advantage": _advantage(settings["advantage"]) if "advantage" in settings else "",
        "Rewards": ", ".join(f"{name} {_weight(term)}" for name, term in settings.get("rewards", {}).items()),
        "Learning rate": _rate(rates or {}, optimizer, settings.get("schedule")),
    }
    found |= {f"Peer {name}": _peer(peer) for name, peer in settings.get("peers", {}).items()}
    found["Took"] = "" if seconds is None else clock(seconds)
    found["Machine"] = ", ".join((machine or {}).values())
    return {name: text for name, text in found.items() if text}


def clock(seconds: float) -> str:
    """Seconds as minutes, or as hours and minutes.

    >>> clock(376), clock(7384)
    ('6 min 16 s', '2 h 03 min')
    """
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"


def _training(steps: int, problems: int | None, seed: Any) -> str:
    done = (
        f"{steps} step{'s' * (steps != 1)}" + (f" of {problems} problems" if problems else "") if steps else "no step"
    )
    return done if seed is None else f"{done}, seed {seed}"


def _rounds(rounds: Settings) -> str:
    cold = f"{rounds['k']} cold traces for each peer and problem"
    if not rounds["k_rescue"]:
        return f"{cold}, no rescue round"
    who = "a peer whose cold traces all failed" if rounds["students"] == "failed" else "every peer"
    return f"{cold}, {rounds['k_rescue']} with a hint for {who}; hints of at most {rounds['hint_tokens']} tokens"


def _rollout(rollout: Settings) -> str:
    if rollout.get("lag", 0):
        return "their cold round is sampled while the peers learn from the step before"
    most = rollout.get("max_draws", 1)
    return f"drawn until as many as it began with have a signal, at most {most} times as many" if most > 1 else ""


def _credit(credit: Settings) -> str:
    said = [credit["mode"]]
    if credit["mode"] not in ("hinted",):
        said.append(f"imitation weight {credit['imitation_weight']:g}")
    if credit["mode"] in ("hinted", "both"):
        said.append(f"weight of a rescue {credit['weight']:g}")
    if credit["mode"] not in ("hinted", "peer_trace", "own_trace"):
        said.append(f"faithful if every token has a probability of {credit['faithful']['min_probability']:g} or more")
    return ", ".join(said)


def _objective(objective: Settings) -> str:
    own = [f"{n} {_number(v)}" for n, v in objective.items() if n not in _ASIDE and (v or n == "beta")]
    return f"{objective['class']} ({', '.join(own)})" if own else str(objective["class"])


def _advantage(advantage: Settings) -> str:
    scaled = f"divided by the standard deviation, but by no less than {advantage['std_floor']:g}"
    scaled = scaled if advantage["normalize_std"] else "not divided by the standard deviation"
    return f"baseline per {advantage['group_by']}, {scaled}"


def _weight(term: Settings) -> str:
    weight = term.get("weight")
    if isinstance(weight, Mapping):
        steps = ", ".join(f"{n} {_number(v)}" for n, v in weight.items() if n != "class")
        return f"{weight.get('class', 'schedule')}({steps})"
    return _number(weight)


def _rate(rates: Mapping[str, float], optimizer: str, schedule: Settings | None) -> str:
    if not rates:
        return ""
    distinct = set(rates.values())
    said = f"{distinct.pop():g}" if len(distinct) == 1 else ", ".join(f"{n} {r:g}" for n, r in rates.items())
    shape = f", {schedule['shape']}, {100 * schedule['warmup']:g} % warm-up" if schedule else ""
    return f"{said} ({optimizer or 'optimizer'}{shape})"


def _peer(peer: Settings) -> str:
    lora, generation = peer["lora"], peer["generation"]
    weights = "as stored" if peer["quantization"] == "none" else peer["quantization"]
    targets = lora["targets"] if isinstance(lora["targets"], str) else f"{len(lora['targets'])} kinds of layers"
    commit = f" at {peer['revision']}" if peer["revision"] else ""
    model = peer["model"]
    if model.startswith((".", "/", "~")) or model.count("/") > 1:
        model = f"the folder {PurePath(model).name}"  # where it lies is nobody else's concern
    return (
        f"{model}{commit}, weights {weights}, computes in {peer['dtype']}; LoRA rank {lora['r']}, alpha "
        f"{lora['alpha']:g}, on {targets}; temperature {generation['temperature']:g}, top-p {generation['top_p']:g}, "
        f"at most {generation['max_new_tokens']} new tokens"
    )


def _number(value: Any) -> str:
    return f"{value:g}" if isinstance(value, int | float) and not isinstance(value, bool) else str(value)
