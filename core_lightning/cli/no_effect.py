"""Settings that a run would silently ignore."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

from core_lightning.protocol.round_settings import RoundSettings
from core_lightning.rewards import RescueBonus, default_terms

_RESCUE = ("students", "hint_probability", "hint_form", "hint_fraction", "hint_think", "progressive")
_CLIPS = ("clip_low", "clip_high", "temperature_positive", "temperature_negative", "temperature_rescue")


def without_effect(module: Any) -> Iterator[str]:
    """One line for every setting that was changed and does nothing beside the others.

    Args:
        module: A :class:`~core_lightning.CollaborativeReasoningModule`; its peers need not be loaded.
    """
    yield from _of_rescues(module)
    yield from _of_updates(module)


def _of_rescues(module: Any) -> Iterator[str]:
    rounds = module.rounds
    if not rounds.k_rescue:
        for name in _changed(rounds, _RESCUE):
            yield f"rounds.{name} has no effect: rounds.k_rescue is 0, so there is no rescue round"
        for name, term in module.rewards.terms.items():
            if isinstance(term.term, RescueBonus) and term != default_terms().get(name) and term.weight != 0:
                yield f"rewards.{name} has no effect: rounds.k_rescue is 0, so nobody is rescued"
    elif len(module.peer_configs) == 1:
        yield "rounds.k_rescue has no effect: one peer has nobody to be rescued by"
    if rounds.hint_fraction != RoundSettings().hint_fraction and not (
        rounds.hint_form == "first_fraction" or rounds.progressive
    ):
        yield f"rounds.hint_fraction has no effect: rounds.hint_form is {rounds.hint_form}; set it to first_fraction"


def _of_updates(module: Any) -> Iterator[str]:
    credit, objective = module.credit, module.objective
    if credit.mode != "adaptive":
        for name in _changed(credit, ("adaptive_below", "adaptive_pairs")):
            yield f"credit.{name} has no effect: credit.mode is {credit.mode}, not adaptive"
    if credit.mode == "hinted":
        for name in _changed(credit, ("imitation_weight",)):
            yield f"credit.{name} has no effect: credit.mode hinted imitates nothing"
    if module.advantage.normalize_std is False:
        for name in _changed(module.advantage, ("std_floor",)):
            yield f"advantage.{name} has no effect: nothing is divided while advantage.normalize_std is off"
    if module.updates_per_batch == 1:
        for name in _changed(objective, _CLIPS):
            yield (
                f"objective.{name} has no effect: with one update of each batch (model.updates_per_batch) the ratio it "
                "bounds is 1"
            )


def _changed(settings: Any, names: tuple[str, ...]) -> list[str]:
    """Those of the named fields of a dataclass that are not as its class has them."""
    if not dataclasses.is_dataclass(settings):
        return []
    defaults = {f.name: f.default for f in dataclasses.fields(settings)}
    return [name for name in names if name in defaults and getattr(settings, name) != defaults[name]]
