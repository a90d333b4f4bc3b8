"""How often a hint helped: the rescue rate over the whole run, and the rescues worth reading."""

from __future__ import annotations

import hashlib
import math
from typing import Any

import torch
from lightning.pytorch import Callback, Trainer

from core_lightning.callbacks.ranks import gather_rows
from core_lightning.records import Group
from core_lightning.report.evaluation import Figure, mean_figure
from core_lightning.report.rescue import Rescue, RescueCounts


class RescueRateCallback(Callback):
    """Counts hinted (problem, peer) pairs and rescues over the run.

    Logs ``rescue/rate``, ``rescue/faithful_rate``, ``rescue/<peer>/rate``, ``rescue/hints``, ``rescue/rescues`` and
    ``rescue/leakage``, all of them since the first step. NaN until there is a hint.

    Args:
        examples: How many rescues to keep for the tables at the end. The most instructive ones are kept: with a hint
            without the gold value, with a wrong answer to compare with, one per problem.
        questions: Keep the texts of questions. Switch it off if they must not be published; completions may still quote
            them.

    Attributes:
        hinted: (problem, peer) pairs that failed cold and saw a hint, by peer.
        rescued: Those of them that then succeeded, by peer.
        faithful: Those of them with a faithful rescue, by peer (:mod:`core_lightning.protocol.faithful`).
        leaks: Hints in which the gold value still stood, by peer.
        rescues: The kept examples, best first.
        failed: As many examples of a hint that did not help.
    """

    def __init__(self, examples: int = 20, questions: bool = True) -> None:
        if examples < 0:
            raise ValueError(f"rescue_rate.examples is {examples}; set it to 0 or more")
        self.examples = examples
        self.questions = questions
        self.hinted: dict[str, int] = {}
        self.rescued: dict[str, int] = {}
        self.faithful: dict[str, int] = {}
        self.leaks: dict[str, int] = {}
        self.rescues: list[Rescue] = []
        self.failed: list[Rescue] = []

    def totals(self) -> RescueCounts:
        """Counts of all peers together."""
        hinted, rescued, faithful, leaks = (
            sum(c.values()) for c in (self.hinted, self.rescued, self.faithful, self.leaks)
        )
        return RescueCounts(hinted, rescued, faithful, leaks)

    def on_fit_start(self, trainer: Trainer, pl_module: Any) -> None:
        """Give every peer a count, so that every step logs the same names."""
        for counts in (self.hinted, self.rescued, self.faithful, self.leaks):
            for peer in pl_module.peer_configs:
                counts.setdefault(peer, 0)

    def on_train_batch_end(self, trainer: Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Count the step's pairs over all ranks."""
        record = pl_module.record
        pairs = gather_rows([pair for group in record.groups for pair in self._pairs(group, record.step)])
        for peer, leaks, rescued, attempt in pairs:
            self.hinted[peer] += 1
            self.leaks[peer] += leaks
            self.rescued[peer] += rescued
            self.faithful[peer] += rescued and not attempt["flaw"]
        self.rescues = self._kept(self.rescues, [attempt for *_, rescued, attempt in pairs if rescued])
        self.failed = self._kept(self.failed, [attempt for *_, rescued, attempt in pairs if not rescued])
        metrics = {"rescue/rate": _rate(sum(self.rescued.values()), sum(self.hinted.values()))}
        metrics["rescue/faithful_rate"] = _rate(sum(self.faithful.values()), sum(self.hinted.values()))
        metrics |= {f"rescue/{p}/rate": _rate(self.rescued[p], self.hinted[p]) for p in pl_module.peer_configs}
        metrics["rescue/hints"] = float(sum(self.hinted.values()))
        metrics["rescue/rescues"] = float(sum(self.rescued.values()))
        metrics["rescue/leakage"] = _rate(sum(self.leaks.values()), sum(self.hinted.values()))
        pl_module.log_dict(metrics, batch_size=max(len(record.groups), 1))

    def figures(self) -> dict[str, Figure]:
        """Rescue rate of each peer and of the ``team``, with Wilson intervals over (problem, peer) pairs."""
        counts = {peer: (self.rescued[peer], self.hinted[peer]) for peer in self.hinted}
        counts["team"] = (sum(self.rescued.values()), sum(self.hinted.values()))
        return {
            name: mean_figure(torch.tensor([1.0] * rescued + [0.0] * (hinted - rescued)))
            if hinted
            else Figure(value=math.nan, low=math.nan, high=math.nan)
            for name, (rescued, hinted) in counts.items()
        }

    def state_dict(self) -> dict[str, Any]:
        """Counts and examples."""
        return {n: getattr(self, n) for n in ("hinted", "rescued", "faithful", "leaks", "rescues", "failed")}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Count on from the run that is resumed."""
        for name in ("hinted", "rescued", "faithful", "leaks"):
            setattr(self, name, dict(state_dict[name]))
        self.rescues = list(state_dict["rescues"])
        self.failed = list(state_dict.get("failed", []))  # a checkpoint of the first release has none

    def _pairs(self, group: Group, step: int) -> list[tuple[str, bool, bool, Rescue]]:
        """(peer, whether its hint leaked, whether it was rescued, its rescue or failed attempt) of every hinted pair."""
        pairs: list[tuple[str, bool, bool, Rescue]] = []
        for peer in group.peers():
            shown = [t for t in group.of(peer, "rescue") if t.hint is not None]
            if not shown or not group.failed_cold(peer):
                continue
            # A faithful rescue before one that is only right.
            right = next(iter([*group.rescues(peer, faithful=True), *group.rescues(peer)]), None)
            leaks = any(t.hint.leaks for t in shown if t.hint)
            attempt = right or next((t for t in shown if t.answer is not None), shown[0])
            hint = attempt.hint or shown[0].hint
            assert hint is not None
            written = [t.text for t in group.of(hint.teacher, "cold") if t.index == hint.teacher_index]
            cold = group.of(peer, "cold")
            wrong = next((t for t in cold if t.answer is not None), cold[0])
            rescue = Rescue(
                step=step,
                problem=group.problem.id,
                question=group.problem.question if self.questions else "(withheld)",
                gold=group.problem.answer,
                student=peer,
                teacher=hint.teacher,
                wrong_answer=wrong.answer or "",
                wrong_text=wrong.text,
                hint=hint.text,
                leaks=hint.leaks,
                answer=attempt.answer or "",
                text=attempt.text,
                flaw=attempt.flaw or "",
                truncated=attempt.truncated,
                teacher_text=written[0] if written else "",
            )
            pairs.append((peer, leaks, right is not None, rescue))
        return pairs

    def _kept(self, known: list[Rescue], new: list[Rescue]) -> list[Rescue]:
        best: dict[str, Rescue] = {}
        for rescue in sorted([*known, *new], key=_rank):
            best.setdefault(rescue["problem"], rescue)
        return list(best.values())[: self.examples]


def _rank(rescue: Rescue) -> tuple[bool, bool, bool, bytes]:
    # Equals are ordered by a hash: a fair spread over the run, and the same one after a resume.
    key = f"{rescue['problem']}/{rescue['student']}/{rescue['step']}".encode()
    drawn = hashlib.blake2b(key, digest_size=8).digest()
    return rescue["leaks"], not rescue["wrong_answer"], rescue["truncated"], drawn


def _rate(part: int, whole: int) -> float:
    return part / whole if whole else math.nan
