"""``python -m core_lightning compare RUN RUN``: paired differences of two runs over the same problems."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from core_lightning.report.evaluation import Evaluation, Figure, as_json, difference, from_json, sampled_k
from core_lightning.report.tables import Table, peer_names, percent, to_text, with_interval
from core_lightning.training.resume import earlier_evaluations, load_checkpoint

STAGES = ("val", "test")
_TEAM = {
    "majority_vote": "Majority vote",
    "equal_budget": "Best single peer, equal budget",
    "all_fail": "All peers fail",
}


@dataclass(frozen=True)
class Evaluated:
    """One evaluation and the data it was made on."""

    name: str
    evaluation: Evaluation
    sha256: str | None
    """Hash of the problems of the split; None where no manifest tells."""


def compare(arguments: Sequence[str]) -> None:
    """Print how the second run differs from the first, problem by problem.

    Args:
        arguments: What follows ``compare``.

    Raises:
        ValueError: A folder holds no evaluation, or the two cannot be compared; one line with the mend.
    """
    options = _parsed(arguments)
    first, second = (latest(Path(folder), options.stage) for folder in options.run)
    check_comparable(first, second)
    found = differences(first.evaluation, second.evaluation)
    if options.json:
        print(json.dumps(_as_data(first, second, found), indent=1, allow_nan=False))
    else:
        print(to_text([comparison_table(first, second, found)]))


def latest(folder: Path, stage: str = "val") -> Evaluated:
    """The evaluation that tells most about a run: of its last step, and of those the training's own.

    Where the training has none of that step, it is the newest of the run's evaluations.

    Args:
        folder: A run, or one of its evaluations.
        stage: ``val`` or ``test``.

    Raises:
        ValueError: There is none.
    """
    if not folder.is_dir():
        raise ValueError(f"{folder}: no such folder; give the folders of two runs or of two evaluations")
    if (folder / "evaluation.json").is_file():
        own = _written(folder)
        if own["stage"] != stage:
            raise ValueError(f"{folder} is an evaluation of the {own['stage']} problems; add --stage {own['stage']}")
        return Evaluated(str(folder), own, _hash(folder, stage))
    trained: list[Evaluated] = []
    checkpoint = folder / "checkpoints" / "last.ckpt"
    if checkpoint.is_file():
        history = earlier_evaluations(load_checkpoint(checkpoint))
        trained = [Evaluated(str(folder), e, _hash(folder, stage)) for e in history if e["stage"] == stage]
    beside = [f.parent for f in (folder / "evaluations").glob("*/evaluation.json")]
    newest = sorted(beside, key=lambda f: (f / "evaluation.json").stat().st_mtime, reverse=True)
    written = ((path, _written(path)) for path in newest)
    found = [
        *trained[::-1],
        *(Evaluated(str(path), e, _hash(path, stage)) for path, e in written if e["stage"] == stage),
    ]
    if not found:
        command = "validate" if stage == "val" else "test"
        raise ValueError(
            f"{folder} holds no evaluation of its {stage} problems; make one: python -m core_lightning {command} "
            f"--run {folder}"
        )
    return max(found, key=lambda e: e.evaluation["step"])  # the first of those of one step


def check_comparable(first: Evaluated, second: Evaluated) -> None:
    """Refuse evaluations of other problems or of another number of samples.

    Raises:
        ValueError: One line that says what differs.
    """
    one, other = first.evaluation, second.evaluation
    if one["ids"] != other["ids"]:
        shared = len(set(one["ids"]) & set(other["ids"]))
        raise ValueError(
            f"{first.name} was evaluated on {len(one['ids'])} problems and {second.name} on {len(other['ids'])}, and they "
            f"share {shared}; paired differences need the same problems: evaluate both with the same data settings"
        )
    if None not in (first.sha256, second.sha256) and first.sha256 != second.sha256:
        raise ValueError(
            f"the problems of {first.name} and {second.name} have the same ids and other contents (manifest.json); "
            "evaluate both on the same data"
        )
    if sampled_k(one) != sampled_k(other):
        raise ValueError(
            f"{first.name} has Pass@{sampled_k(one)} and {second.name} Pass@{sampled_k(other)}; evaluate both with the same "
            "pass_at_k.k"
        )


def sampling_differences(first: Evaluation, second: Evaluation) -> list[str]:
    """What two evaluations were sampled with, where it differs, of the settings that both have; long texts by name alone."""
    one, other = first.get("sampling", {}), second.get("sampling", {})
    return [
        name if max(len(value), len(other[name])) > 30 else f"{name} {value} and {other[name]}"
        for name, value in one.items()
        if name in other and value != other[name]
    ]


def differences(first: Evaluation, second: Evaluation) -> dict[str, tuple[str, Figure, Figure, Figure]]:
    """Label, both values and the paired difference of every figure that both have, by its name.

    ``mean/pass_at_1`` is the mean of all peers' Pass@1; it is there also where the two teams have other peers.
    """
    first, second = _with_mean(first), _with_mean(second)
    k = sampled_k(first)
    labels = {"mean/pass_at_1": "Mean Pass@1 of the peers"}
    shared = [peer for peer in peer_names(first) if peer in peer_names(second) and peer != "mean"]
    labels |= {f"{peer}/pass_at_{n}": f"{peer}  Pass@{n}" for peer in shared for n in dict.fromkeys((1, k))}
    labels |= {f"team_pass_at_{k}": f"Team Pass@{k}"} | _TEAM
    return {
        name: (label, first["values"][name], second["values"][name], difference(first, second, name))
        for name, label in labels.items()
        if name in first["values"] and name in second["values"]
    }


def comparison_table(
    first: Evaluated, second: Evaluated, found: dict[str, tuple[str, Figure, Figure, Figure]]
) -> Table:
    """The differences as rows; where the interval leaves zero out, the row is emphasized."""
    rows = [
        [label, percent(one["value"]), percent(other["value"]), with_interval(change, sign=True)]
        for label, one, other, change in found.values()
    ]
    apart = [i for i, (_, _, _, change) in enumerate(found.values()) if change["low"] > 0 or change["high"] < 0]
    a, b = (f"{e.name}, step {e.evaluation['step']}" for e in (first, second))
    if a == b:
        a, b = f"{a} (first)", f"{b} (second)"
    note = (
        "Second minus first, with the 95 % interval of the paired differences over problems: how far they would move with "
        "other problems, not with other seeds. Bold: zero lies outside."
    )
    if [*peer_names(first.evaluation)] != [*peer_names(second.evaluation)]:
        note += " The two teams have other peers; a team of more peers also draws more samples."
    if apart_in := sampling_differences(first.evaluation, second.evaluation):
        note += f" They were sampled with other settings: {'; '.join(apart_in)}."
    title = f"{len(first.evaluation['ids'])} {first.evaluation['stage']} problems, percent"
    return Table(title, ["", a, b, "difference"], rows, note, emphasized=apart)


def _with_mean(evaluation: Evaluation) -> Evaluation:
    peers = peer_names(evaluation)
    columns = [evaluation["per_problem"][f"{peer}/pass_at_1"] for peer in peers]
    mean = [sum(scores) / len(peers) for scores in zip(*columns, strict=True)]
    value = Figure(value=sum(mean) / len(mean), low=float("nan"), high=float("nan"))
    changed: Any = dict(evaluation)
    changed["values"] = {**evaluation["values"], "mean/pass_at_1": value}
    changed["per_problem"] = {**evaluation["per_problem"], "mean/pass_at_1": mean}
    return changed


def _as_data(
    first: Evaluated, second: Evaluated, found: dict[str, tuple[str, Figure, Figure, Figure]]
) -> dict[str, Any]:
    return {
        "first": {"run": first.name, "step": first.evaluation["step"]},
        "second": {"run": second.name, "step": second.evaluation["step"]},
        "stage": first.evaluation["stage"],
        "problems": len(first.evaluation["ids"]),
        "other_settings": sampling_differences(first.evaluation, second.evaluation),
        "figures": {
            name: {"first": one["value"], "second": other["value"], "difference": change}
            for name, (_, one, other, change) in as_json(found).items()
        },
    }


def _written(folder: Path) -> Evaluation:
    try:
        return from_json(json.loads((folder / "evaluation.json").read_text(encoding="utf-8")))
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{folder / 'evaluation.json'} is damaged ({type(error).__name__}); evaluate again") from error


def _hash(folder: Path, stage: str) -> str | None:
    path = folder / "manifest.json"
    if not path.is_file():
        return None
    data = json.loads(path.read_text(encoding="utf-8")).get("data") or {}
    return data.get("splits", {}).get(stage, {}).get("sha256")


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise ValueError(f"compare: {message}; python -m core_lightning compare RUN RUN")


def _parsed(arguments: Sequence[str]) -> argparse.Namespace:
    parser = _Parser(
        prog="core_lightning compare",
        description="Paired differences of two runs over the same held-out problems, with 95 % intervals.",
    )
    parser.add_argument("folders", nargs="*", metavar="RUN", help="folder of a run, or of one of its evaluations")
    parser.add_argument("--run", action="append", default=[], metavar="RUN", help="the same, by name")
    parser.add_argument("--stage", choices=STAGES, default="val", help="which problems (default: val)")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    options = parser.parse_args(list(arguments))
    options.run = [*options.folders, *options.run]
    if len(options.run) != 2:
        raise ValueError(f"compare takes two runs, got {len(options.run)}; python -m core_lightning compare RUN RUN")
    return options
