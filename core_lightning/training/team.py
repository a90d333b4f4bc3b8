"""The peers of one run, on their devices, and what they do together: both rounds, judged and scored, and learning."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import torch
from lightning.pytorch.utilities import rank_zero_info
from torch import nn

from core_lightning.answers import Verifier, extract_answer
from core_lightning.objectives import Objective
from core_lightning.peers.config import PeerConfig
from core_lightning.peers.peer import Peer
from core_lightning.peers.sampling.choice import check_engine
from core_lightning.peers.self_test import load_peer
from core_lightning.peers.sources import PeerSourceError
from core_lightning.protocol.credit import TEACHER_MODES, CreditSettings
from core_lightning.protocol.prompts import PromptSettings
from core_lightning.protocol.round_settings import RoundSettings
from core_lightning.protocol.rounds import begin_cold_round, cold_round, greedy_round, plan_rescues, rescue_round
from core_lightning.protocol.teachers import rank_teachers
from core_lightning.records import Group, Problem
from core_lightning.rewards import HybridDistance, RewardModel, StepDistances
from core_lightning.rewards.embedder import Embedder
from core_lightning.training.lanes import Parallel, Result, lanes, on_their_devices, return_free_memory
from core_lightning.training.out_of_memory import accumulate_within_memory
from core_lightning.training.stopwatch import Stopwatch
from core_lightning.training.update import PeerBatch


def load_peers(
    configs: Mapping[str, PeerConfig],
    device: torch.device,
    share_base: bool,
    take: Callable[[Peer], None] | None = None,
) -> nn.ModuleDict:
    """Load every peer; with ``share_base`` peers of the same model, quantization, device and compute use one copy of it.

    Args:
        configs: The team.
        device: Of peers whose settings name none.
        share_base: Whether bases are shared.
        take: Called with each peer as soon as it is loaded.

    Raises:
        PeerSourceError: A model cannot be loaded or used, or its device is Apple's MPS.
    """
    for name, config in configs.items():
        place = device.type if config.device == "auto" else config.device
        if place.startswith("mps"):
            raise PeerSourceError(
                f"peer {name!r} would run on Apple's MPS, which has no float64, and the sampler draws in float64; set "
                "trainer.accelerator (or the peer's device) to cpu"
            )
    peers = nn.ModuleDict()
    bases: dict[tuple[str, ...], Peer] = {}
    for name, config in configs.items():
        check_engine(name, config)
    for name, config in configs.items():
        key = (config.model, str(config.revision), config.quantization, config.dtype, config.device, config.compute)
        peer = load_peer(name, config, device, base=bases.get(key) if share_base else None)
        bases.setdefault(key, peer)
        peers[name] = peer
        if take is not None:
            take(peer)
        for line in peer.notes:
            rank_zero_info(line)
    return peers


class Team:
    """Runs the rounds of a step, and the losses of all peers.

    Args:
        peers: Peers by name.
        prompts: Templates of both rounds.
        rounds: How the rounds run.
        rewards: Scores the traces.
        embedder: Turns traces into vectors, for the terms that compare traces.
        distance: How embeddings and operations are weighed.
        verifier: Extracts and checks answers.
        parallel: Peers work at the same time: when they are on different devices (``auto``), always, or never.
        credit: What is taught, and how: whether a teacher is needed, which rescues count as faithful, how they are imitated.
    """

    def __init__(
        self,
        peers: Mapping[str, Peer],
        prompts: PromptSettings,
        rounds: RoundSettings,
        rewards: RewardModel,
        embedder: Embedder | None,
        distance: HybridDistance,
        verifier: Verifier,
        parallel: Parallel = "auto",
        credit: CreditSettings | None = None,
    ) -> None:
        self.peers = peers
        self.prompts = prompts
        self.rounds = rounds
        self.rewards = rewards
        self.embedder = embedder
        self.distance = distance
        self.verifier = verifier
        self.parallel = parallel
        self.credit = credit or CreditSettings()
        self.watch = Stopwatch()

    def rollout(
        self,
        problems: Sequence[Problem],
        seed: Sequence[object],
        progress: float,
        cold: list[Group] | None = None,
    ) -> list[Group]:
        """Both rounds of every problem, with rewards.

        Args:
            problems: The problems of this step.
            seed: Key of this step's randomness; each trace adds problem, peer, round and index.
            progress: Share of training done, for reward schedules.
            cold: The cold round, where it was sampled before.
        """
        groups = self.cold(problems, self.rounds.k, seed) if cold is None else cold
        distances = self._distances(groups)
        if self.rounds.k_rescue or self.credit.mode in TEACHER_MODES:
            if self.rounds.teacher in ("total_reward", "correctness"):
                self._score(groups, progress, distances)
            rank_teachers(groups, self.peers, self.rounds, seed=seed, for_each=self._for_each("rescue"))
        if self.rounds.k_rescue:
            self._rescue(groups, seed)
        self._score(groups, progress, distances)
        return groups

    def cold(self, problems: Sequence[Problem], k: int, seed: Sequence[object]) -> list[Group]:
        """Only the cold round: what is evaluated."""
        return cold_round(
            problems, self.peers, self.prompts, self.verify, k=k, seed=seed, for_each=self._for_each("sample")
        )

    def begin_cold(self, problems: Sequence[Problem], seed: Sequence[object]) -> Callable[[], list[Group]]:
        """Begin the cold round of a later step; what is returned waits for it."""
        finish = begin_cold_round(problems, self.peers, self.prompts, k=self.rounds.k, seed=seed)
        return lambda: finish(self.verify, self._for_each("sample"))

    def give_up(self) -> None:
        """Leave off samples that were begun and that nobody will wait for."""
        for peer in self.peers.values():
            peer.engine.give_up()

    def learn(
        self, batches: Mapping[str, PeerBatch], objective: Objective, backward: Callable[[torch.Tensor], None]
    ) -> dict[str, dict[str, float]]:
        """Add the gradients of each peer's losses to its adapter.

        Args:
            batches: What each peer is trained on, with frozen log-probabilities.
            objective: The policy loss at this point of training.
            backward: Takes a loss, where the peers learn one after the other. It may be Lightning's own call, which runs a
                profiler and hooks that know one thread only.

        Returns:
            For each peer what :func:`~core_lightning.training.update.accumulate` reports, nothing for one without examples.
        """
        peers = list(self.peers.values())
        taken = backward if len(lanes(peers, self.parallel)) == 1 else torch.Tensor.backward

        def learn(peer: Peer) -> dict[str, float]:
            batch = batches[peer.name]
            return accumulate_within_memory(peer, batch, objective, self.credit, taken) if batch else {}

        reports = self._for_each("backward")(learn, peers)
        return_free_memory()
        return dict(zip(self.peers, reports, strict=True))

    def greedy(self, groups: Sequence[Group], seed: Sequence[object]) -> None:
        """Add every peer's likeliest trace, for an evaluation."""
        greedy_round(groups, self.peers, self.prompts, self.verify, seed=seed, for_each=self._for_each("sample"))

    def judge_again(self, group: Group) -> None:
        """Judge the traces of a group by the gold answer that its problem has now."""
        verdicts = self.verify([t.text for t in group], [group.problem] * len(group))
        for trace, (answer, correct) in zip(group, verdicts, strict=True):
            trace.answer, trace.correct = answer, correct

    def rescue_failed(self, groups: Sequence[Group], k: int, seed: Sequence[object]) -> None:
        """Add a rescue round to an evaluation: for peers whose first ``k`` cold traces failed while another's did not.

        Args:
            groups: After the cold round.
            k: Traces of each peer that count.
            seed: Key of its randomness.
        """
        settings = replace(self.rounds, k_rescue=max(1, self.rounds.k_rescue), students="failed", hint_probability=1.0)
        first = [Group(g.problem, [t for t in g.of(round="cold") if t.index < k]) for g in groups]
        rank_teachers(first, self.peers, settings, seed=seed, for_each=self._for_each("rescue"))
        self._rescue(first, seed, settings)
        for group, part in zip(groups, first, strict=True):
            group.add(part.of(round="rescue"))

    def verify(self, texts: Sequence[str], problems: Sequence[Problem]) -> list[tuple[str | None, bool]]:
        """Answer and correctness of each completion; of a question without a gold answer nothing is correct."""
        with self.watch("verify"):
            known = [i for i, p in enumerate(problems) if p.answer]
            verdicts = self.verifier.check(
                [texts[i] for i in known], [problems[i].answer for i in known], [problems[i].kind for i in known]
            )
            judged = {i: (v.answer, v.correct) for i, v in zip(known, verdicts, strict=True)}
            return [
                judged[i] if i in judged else (extract_answer(text, problem.kind), False)
                for i, (text, problem) in enumerate(zip(texts, problems, strict=True))
            ]

    def _rescue(self, groups: Sequence[Group], seed: Sequence[object], settings: RoundSettings | None = None) -> None:
        settings = settings or self.rounds
        first = settings.hint_fraction if settings.progressive else None
        plan = plan_rescues(groups, self.peers, self.prompts, settings, seed=seed, fraction=first)
        self._attempt(plan, seed, settings)
        if settings.progressive:
            missed = {(id(r.group), r.student) for r in plan if r.hint and not r.group.solved(r.student, "rescue")}
            again = plan_rescues(groups, self.peers, self.prompts, settings, seed=seed, fraction=1.0)
            self._attempt([r for r in again if (id(r.group), r.student) in missed], seed, settings)

    def _attempt(self, plan: Sequence, seed: Sequence[object], settings: RoundSettings) -> None:
        rescue_round(
            plan,
            self.peers,
            self.prompts,
            self.verify,
            settings,
            seed=seed,
            faithful=self.credit.faithful,
            for_each=self._for_each("rescue"),
        )

    def _distances(self, groups: Sequence[Group]) -> StepDistances | None:
        if not self.rewards.needs_distance or self.embedder is None:
            return None
        embedder = self.embedder

        def embed(texts: Sequence[str]) -> torch.Tensor:
            with self.watch("embed"):
                return embedder(texts)

        return StepDistances(groups, embed, self.distance)

    def _score(self, groups: Sequence[Group], progress: float, distances: StepDistances | None) -> None:
        with self.watch("reward"):
            self.rewards.assign(groups, progress, distances)

    def _for_each(self, phase: str) -> Callable[[Callable[[Peer], Result], Sequence[Peer]], list[Result]]:
        def run(work: Callable[[Peer], Result], peers: Sequence[Peer]) -> list[Result]:
            def timed(peer: Peer) -> Result:
                with self.watch(phase, peer.name, peer.device):
                    return work(peer)

            return on_their_devices(timed, peers, self.parallel)

        return run
