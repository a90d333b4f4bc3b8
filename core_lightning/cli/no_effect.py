"""Settings that a run would silently ignore."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

from core_lightning.protocol.credit import POLICY_RESCUE_MODES, RESCUE_MODES, TEACHER_MODES
from core_lightning.protocol.round_settings import RoundSettings
from core_lightning.rewards import RescueBonus, default_terms

#: Settings of who samples the rescue round, and of how; an evaluation with a rescue round reads these too.
_STUDENTS = ("students", "hint_probability")
_RESCUE = ("rescue_temperature", "rescue_top_p", "hint_form", "hint_fraction", "hint_think", "progressive")
_CLIPS = ("clip_low", "clip_high", "temperature_positive", "temperature_negative", "temperature_rescue")
_CHAT = ("system", "chat", "chat_hinted", "date")


def without_effect(module: Any) -> Iterator[str]:
    """One line for every setting that was changed and does nothing beside the others.

    Args:
        module: A :class:`~core_lightning.CollaborativeReasoningModule`; its peers need not be loaded.
    """
    yield from _of_rescues(module)
    yield from _of_credit(module)
    yield from _of_rescue_credit(module)
    yield from _of_updates(module)
    yield from _of_distances(module)
    yield from _of_prompts(module)


def _of_rescues(module: Any) -> Iterator[str]:
    rounds = module.rounds
    if not rounds.k_rescue:
        for name in _changed(rounds, _STUDENTS if module.eval_rescue else (*_STUDENTS, *_RESCUE)):
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
    if rounds.teacher != "quality":
        for name in _changed(rounds, ("teacher_ties",)):
            yield f"rounds.{name} has no effect: rounds.teacher is {rounds.teacher}, and only quality asks what breaks a tie"


def _of_credit(module: Any) -> Iterator[str]:
    """What only an imitated trace reads."""
    credit, mode = module.credit, module.credit.mode
    if mode != "adaptive":
        for name in _changed(credit, ("adaptive_below", "adaptive_pairs")):
            yield f"credit.{name} has no effect: credit.mode is {mode}, not adaptive"
    nothing = "credit.mode hinted imitates nothing" if mode == "hinted" else ""
    if len(module.peer_configs) == 1 and mode != "own_trace":
        nothing = "one peer has nobody to imitate"
    if nothing:
        for name in _changed(credit, ("imitation_weight", "probability_floor")):
            yield f"credit.{name} has no effect: {nothing}"
    elif mode in RESCUE_MODES - TEACHER_MODES and credit.rescue_imitation_weight is not None:
        for name in _changed(credit, ("imitation_weight",)):
            yield f"credit.{name} has no effect: credit.mode {mode} imitates rescues alone (credit.rescue_imitation_weight)"


def _of_rescue_credit(module: Any) -> Iterator[str]:
    """What only a rescue reads that is imitated, or that follows the policy gradient."""
    credit, rounds, mode = module.credit, module.rounds, module.credit.mode
    none = "" if rounds.k_rescue else "rounds.k_rescue is 0, so there is no rescue round"
    if len(module.peer_configs) == 1:
        none = "one peer has nobody to be rescued by"
    imitated = "" if mode in RESCUE_MODES - {"hinted"} else f"credit.mode {mode} imitates no rescue"
    if why := none or imitated:
        for name in _changed(credit, ("rescue_imitation_weight", "importance_bound")):
            yield f"credit.{name} has no effect: {why}"
        counted = "" if none else "; it only decides which rescues are counted as faithful"
        for name in _changed(credit.faithful, tuple(f.name for f in dataclasses.fields(credit.faithful))):
            yield f"credit.faithful.{name} has no effect: {why}{counted}"
    # A rescue without a hint follows the policy gradient in every mode.
    of_policy = mode in POLICY_RESCUE_MODES or (rounds.students == "all" and rounds.hint_probability < 1)
    if why := none or ("" if of_policy else f"credit.mode is {mode}, neither hinted nor both"):
        for name in _changed(credit, ("weight",)):
            yield f"credit.{name} has no effect: {why}"


def _of_updates(module: Any) -> Iterator[str]:
    objective = module.objective
    if module.advantage.normalize_std is False:
        for name in _changed(module.advantage, ("std_floor",)):
            yield f"advantage.{name} has no effect: nothing is divided while advantage.normalize_std is off"
    if module.updates_per_batch == 1:
        for name in _changed(objective, _CLIPS):
            yield (
                f"objective.{name} has no effect: with one update of each batch (model.updates_per_batch) the ratio it "
                "bounds is 1"
            )
    if not objective.needs_reference:
        for name in _changed(objective, ("kl_estimator",)):
            yield f"objective.{name} has no effect: objective.beta is 0, so there is no KL term"
    if not any(objective.corrects(config.generation.engine == "native") for config in module.peer_configs.values()):
        why = "is never" if objective.off_policy == "never" else "auto weighs samples of other engines alone"
        for name in _changed(objective, ("off_policy_bound",)):
            yield f"objective.{name} has no effect: objective.off_policy {why}"


def _of_distances(module: Any) -> Iterator[str]:
    if not module.rewards.needs_distance:
        why = "no reward term compares traces"
        for name in _changed(module.distance, tuple(f.name for f in dataclasses.fields(module.distance))):
            yield f"distance.{name} has no effect: {why}"
    else:
        why = "" if module.distance.embedding_weight else "distance.embedding_weight is 0"
    if why and module.embedder is not None:
        yield f"model.embedder has no effect: {why}"


def _of_prompts(module: Any) -> Iterator[str]:
    if all(config.prompt_style == "plain" for config in module.peer_configs.values()):
        # The day is filled in where nothing was set.
        for name in _changed(module.prompt, _CHAT if module.day_set else _CHAT[:-1]):
            yield f"prompt.{name} has no effect: every peer's prompt_style is plain"


def _changed(settings: Any, names: tuple[str, ...]) -> list[str]:
    """Those of the named fields of a dataclass that are not as its class has them."""
    if not dataclasses.is_dataclass(settings):
        return []
    defaults = {f.name: f.default for f in dataclasses.fields(settings)}
    return [name for name in names if name in defaults and getattr(settings, name) != defaults[name]]
