"""What is wrong with a module's settings, or with the trainer's for it, said in one line before any model is loaded."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lightning.pytorch.utilities import rank_zero_info

from core_lightning.objectives import Objective
from core_lightning.peers.config import PeerConfig
from core_lightning.protocol.credit import POLICY_RESCUE_MODES, RESCUE_MODES, CreditSettings
from core_lightning.protocol.round_settings import RoundSettings
from core_lightning.rewards import WeightedTerm
from core_lightning.training.inert_terms import inert_terms
from core_lightning.training.peer_checks import check_peers
from core_lightning.training.settings import AdvantageSettings, RolloutSettings


def check_team(peers: Mapping[str, PeerConfig], least: int, most: int | None, kind: str) -> None:
    """Refuse a team of the wrong size, peers whose names cannot be used, and models known not to be there.

    Args:
        peers: The team.
        least: Smallest number of peers of the module's class.
        most: Largest number, if there is one.
        kind: Name of the module's class.

    Raises:
        ValueError: Names the setting and the mend.
        PeerSourceError: A peer's model is known not to be there.
    """
    count = len(peers)
    if count < least:
        raise ValueError(
            f"model.peers has {count} peer(s), {kind} needs {least} or more; "
            "add a peer, or use SoloReasoningModule for one"
        )
    if most is not None and count > most:
        raise ValueError(f"model.peers has {count} peers, {kind} takes at most {most}")
    check_peers(peers)


def check_counts(**counts: int) -> None:
    """Refuse a setting of the module below 1.

    Args:
        counts: Settings by name.

    Raises:
        ValueError: Names the setting.
    """
    for name, value in counts.items():
        if value < 1:
            raise ValueError(f"model.{name} is {value}; set it to 1 or more")


def check_together(
    peers: Mapping[str, PeerConfig],
    rounds: RoundSettings,
    terms: Mapping[str, WeightedTerm],
    advantage: AdvantageSettings,
    credit: CreditSettings,
    objective: Objective,
    rollout: RolloutSettings,
) -> None:
    """Refuse settings that do not go together, and say which change nothing beside the others.

    Raises:
        ValueError: Names the settings and the mend.
    """
    check_rewards(terms)
    check_credit(credit, rounds, len(peers))
    check_compared(credit, rounds, advantage, len(peers))
    say_what_is_inert(terms, rounds, advantage, credit, len(peers))
    check_off_policy(peers, objective)
    check_lag(peers, rollout, objective)


def check_rewards(terms: Mapping[str, WeightedTerm]) -> None:
    """Refuse rewards that leave nothing to learn from: no term, or only such as shade what another one rewards.

    Raises:
        ValueError: Names the terms and the mend.
    """
    counted = [name for name, term in terms.items() if term.weight != 0]
    if all(terms[name].term.shaping for name in counted):
        what = (
            f"only {', '.join(counted)}, which shades what another term rewards" if counted else "no term that counts"
        )
        raise ValueError(
            f"model.rewards has {what}, so there is nothing to learn from; keep correctness with a weight above 0, or add a "
            "term of your own"
        )


def check_credit(credit: CreditSettings, rounds: RoundSettings, peers: int) -> None:
    """Refuse credit for rescues that are never sampled, and say when sampled rescues teach nothing.

    Raises:
        ValueError: Names the setting and the mend.
    """
    if peers == 1:  # nobody teaches it, whatever the settings
        return
    mode, rescues = credit.mode, rounds.k_rescue
    if mode in RESCUE_MODES - {"hinted"} and not rescues:
        raise ValueError(
            f"credit.mode is {mode}, which learns from rescues, but rounds.k_rescue is 0; set it to 1 or "
            "more, or credit.mode to peer_trace"
        )
    if mode not in RESCUE_MODES and rescues:
        rank_zero_info(f"credit.mode {mode} trains no rescues: they are sampled to be measured only")


def check_compared(credit: CreditSettings, rounds: RoundSettings, advantage: AdvantageSettings, peers: int) -> None:
    """Refuse traces that follow the policy gradient and have nothing to be compared with: their advantage is always 0.

    Raises:
        ValueError: Names the settings and the mend.
    """
    by, rescues = advantage.group_by, rounds.k_rescue if peers > 1 else 0
    several = rescues > 1 or (rescues > 0 and rounds.progressive)  # a second attempt is compared with the first
    if credit.mode in POLICY_RESCUE_MODES and by == "round" and rescues and not several:
        also = ", or credit.mode to cold, which imitates the rescue alone" if credit.mode == "both" else ""
        raise ValueError(
            f"credit.mode {credit.mode} trains rescues by their advantage, and with rounds.k_rescue {rescues} and "
            "advantage.group_by round each has none to be compared with, so that it is always 0; set advantage.group_by to "
            f"peer or problem, or rounds.k_rescue to 2 or more{also}"
        )
    # A rescue without a hint follows the policy gradient whatever the mode.
    of_policy = credit.mode in POLICY_RESCUE_MODES or (rounds.students == "all" and rounds.hint_probability < 1)
    beside = {"problem": peers > 1, "peer": rescues > 0, "round": several and of_policy}[by]
    if rounds.k == 1 and not beside:
        other = " or advantage.group_by to problem" if peers > 1 else ""
        raise ValueError(
            f"rounds.k is 1, and with advantage.group_by {by} a trace has no other to be compared with, so that its "
            f"advantage is always 0; set rounds.k to 2 or more{other}"
        )


def check_off_policy(peers: Mapping[str, PeerConfig], objective: Objective) -> None:
    """Refuse samples that are known to be of another distribution, where nothing corrects for it.

    Raises:
        ValueError: Names the settings and the mend.
    """
    for name, config in peers.items():
        generation = config.generation
        if generation.engine not in ("vllm", "server") or objective.off_policy != "never":
            continue
        if config.quantization != "none":
            raise ValueError(
                f"peers.{name}.quantization is {config.quantization} and generation.engine {generation.engine} has plain "
                "weights; set objective.off_policy to auto, or quantization to none"
            )
        if generation.top_p < 1:
            raise ValueError(
                f"peers.{name}.generation.top_p is {generation.top_p} and nothing corrects for what it leaves out; set "
                "objective.off_policy to auto, or top_p to 1"
            )


def check_lag(peers: Mapping[str, PeerConfig], rollout: RolloutSettings, objective: Objective) -> None:
    """Refuse to sample a step ahead where nothing would go on at the same time, or nothing corrects for it.

    Raises:
        ValueError: Names the settings and the mend.
    """
    if not rollout.lag:
        return
    for name, config in peers.items():
        engine = config.generation.engine
        if engine != "server":
            raise ValueError(
                f"rollout.lag is {rollout.lag} and peers.{name}.generation.engine is {engine}, which does not sample while "
                "its peer learns; set the engine to server, or lag to 0"
            )
    if objective.off_policy == "never":
        raise ValueError(
            f"rollout.lag is {rollout.lag}, and nothing corrects for samples of an earlier adapter; set "
            "objective.off_policy to auto, or lag to 0"
        )


def say_what_is_inert(
    terms: Mapping[str, WeightedTerm],
    rounds: RoundSettings,
    advantage: AdvantageSettings,
    credit: CreditSettings,
    peers: int,
) -> None:
    """Say in one line which reward terms change nothing under the other settings."""
    if inert := inert_terms(terms, rounds, advantage, credit, peers):
        rank_zero_info(
            f"model.rewards: {', '.join(inert)} cannot change an advantage with these rounds, credit.mode {credit.mode}, "
            f"advantage.group_by {advantage.group_by} and advantage.shaping {advantage.shaping}; remove "
            f"{'it' if len(inert) == 1 else 'them'}, or change one of these"
        )


def check_trainer(trainer: Any, updates_per_batch: int) -> None:
    """Refuse trainer settings that cannot work with manual optimization of several adapters.

    Raises:
        ValueError: One of them, with the mend.
    """
    if trainer.max_steps > 0 and trainer.max_steps % updates_per_batch:
        raise ValueError(
            f"trainer.max_steps is {trainer.max_steps} and counts optimizer steps, of which every batch takes "
            f"{updates_per_batch} (model.updates_per_batch); set it to a multiple"
        )
    if trainer.precision not in ("32-true", "32"):
        raise ValueError(
            f"trainer.precision is {trainer.precision}; leave it at 32-true and set peers.<name>.dtype instead: "
            "adapters must stay float32"
        )
