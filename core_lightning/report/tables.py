"""The tables of a run as plain rows, drawn by rich on a console and by the report as HTML."""

from __future__ import annotations

import io
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch

from core_lightning.report.evaluation import Evaluation, Figure, difference, mean_figure, sampled_k
from core_lightning.report.rescue import Rescue, RescueCounts
from core_lightning.report.visible import visible

if TYPE_CHECKING:
    from rich.table import Table as RichTable


#: A label with more values than this is no kind of problem but a name.
KINDS = 30
#: Characters of a cell on a console. Rich needs minutes for a cell of millions, and nobody reads one.
CELL = 2000


@dataclass(frozen=True)
class Table:
    """Rows of text under a title."""

    title: str
    columns: list[str]
    rows: list[list[str]]
    note: str = ""
    text: bool = False
    """The cells hold running text instead of numbers."""
    emphasized: list[int] = field(default_factory=list)
    """Indices of the rows that matter most."""


def percent(value: float, sign: bool = False) -> str:
    """A share in percent, one decimal; a dash where undefined."""
    return f"{100 * value:{'+' if sign else ''}.1f}" if math.isfinite(value) else "–"


def with_interval(figure: Figure, sign: bool = False) -> str:
    """A share in percent with its interval in brackets."""
    if not math.isfinite(figure["value"]):
        return "–"
    shown = percent(figure["value"], sign)
    if not math.isfinite(figure["low"]):
        return shown
    return f"{shown} [{percent(figure['low'], sign)}, {percent(figure['high'], sign)}]"


def peer_names(evaluation: Evaluation) -> list[str]:
    """The peers of an evaluation, in the team's order."""
    return [name.removesuffix("/pass_at_1") for name in evaluation["values"] if name.endswith("/pass_at_1")]


def first_and_last(history: Sequence[Evaluation]) -> tuple[Evaluation, Evaluation] | None:
    """The first and the latest evaluation in validation, the same one if there was only one."""
    runs = [e for e in history if e["stage"] == "val"]
    return (runs[0], runs[-1]) if runs else None


def before_after_table(before: Evaluation, after: Evaluation) -> Table:
    """Pass@k of peers and team before and after, beside chance and one peer alone at the team's budget."""
    values, peers, k = after["values"], peer_names(after), sampled_k(after)
    budget, team = len(peers) * k, len(peers) > 1
    rows: list[tuple[str, str, str, str]] = []  # label, figure, chance level, what one peer does with the team's budget
    for peer in peers:
        own = f"{peer}/pass_at_{budget}"
        rows += [
            (f"{peer}  Pass@{s}", f"{peer}/pass_at_{s}", f"chance_pass_at_{s}", own) for s in dict.fromkeys((1, k))
        ]
        if f"{peer}/greedy_pass_at_1" in values.keys() & before["values"].keys():
            rows.append((f"{peer}  greedy", f"{peer}/greedy_pass_at_1", "chance_pass_at_1", ""))
    if team:
        rows += [
            (f"Team Pass@{k}", f"team_pass_at_{k}", f"chance_pass_at_{budget}", "equal_budget"),
            (f"Majority vote of {budget}", "majority_vote", "chance_pass_at_1", ""),
            ("Agreement gate, accuracy", "agreement_accuracy", "chance_pass_at_1", ""),
            ("Agreement gate, coverage", "agreement_coverage", "", ""),
            ("All peers fail", "all_fail", "", ""),
        ]
    guessing = values[f"chance_pass_at_{budget}"]["value"] > 0
    single = after is before
    columns = (
        ["", f"step {after['step']}"] if single else ["", f"step {before['step']}", f"step {after['step']}", "change"]
    )
    columns += [f"one peer ×{budget}"] * team + ["chance"] * guessing
    cells = []
    for label, name, chance, alone in rows:
        row = [label, with_interval(values[name])]
        if not single:
            row[1:1] = [with_interval(before["values"][name])]
            row.append(with_interval(difference(before, after, name), sign=True))
        row += [percent(values[alone]["value"]) if alone in values else ""] * team
        row += [percent(values[chance]["value"]) if chance else ""] * guessing
        cells.append(row)
    title = f"{len(after['ids'])} held-out problems, percent"
    note = "In brackets: 95 % interval over problems (Wilson); of a change, paired over the same problems."
    if team:
        gain, phi = values["collaboration_gain"], values["phi"]["value"]
        note += f" Team Pass@{k} minus the best single peer at the same budget: {with_interval(gain, sign=True)}."
        note += f" Correlation of failures (phi): {phi:.2f}." if math.isfinite(phi) else ""
    return Table(title, columns, cells, note, emphasized=[i for i, r in enumerate(rows) if r[1].startswith("team_")])


def evaluation_tables(evaluation: Evaluation) -> Iterator[Table]:
    """The figures of one evaluation, and the same by source, subject, level, ... where there are several."""
    yield before_after_table(evaluation, evaluation)
    if "rescue_rate" in evaluation["values"]:
        yield with_rescue_table(evaluation)
    for name, labels in evaluation.get("labels", {}).items():
        if 1 < len(set(labels)) <= KINDS:
            yield by_kind_table(evaluation, name)


def with_rescue_table(evaluation: Evaluation) -> Table:
    """The team's answers without and with a rescue round, and the paired change; of an evaluation that had one."""
    values, peers, k = evaluation["values"], peer_names(evaluation), sampled_k(evaluation)
    labels = {f"{peer}/solved": f"{peer}  solved in {k}" for peer in peers}
    labels |= {"majority_vote": "Majority vote", "agreement_accuracy": "Agreement gate, accuracy"}
    labels |= {"agreement_coverage": "Agreement gate, coverage"}
    rows = []
    for name, label in labels.items():
        before, after = f"without_rescue/{name}", f"with_rescue/{name}"
        if before in evaluation["per_problem"]:
            old, new = (torch.tensor(evaluation["per_problem"][n], dtype=torch.float64) for n in (before, after))
            change = mean_figure(new - old, paired=True)
        else:
            change = Figure(value=values[after]["value"] - values[before]["value"], low=math.nan, high=math.nan)
        rows.append([label, *(with_interval(values[n]) for n in (before, after)), with_interval(change, sign=True)])
    hinted, phi = (
        int(values["hinted_pairs"]["value"]),
        [values[f"{w}_rescue/phi"]["value"] for w in ("without", "with")],
    )
    note = (
        f"{hinted} pairs of a problem and a peer that failed it saw a hint from a peer's trace known to be right: rescued "
        f"{with_interval(values['rescue_rate'])}, faithfully {with_interval(values['faithful_rescue_rate'])}. "
        f"Knowing what is right takes the gold answer. Team Pass@{k} cannot change: a rescue needs a peer that solved the "
        "problem."
    )
    if all(map(math.isfinite, phi)):
        note += f" Correlation of failures (phi): {phi[0]:.2f} without, {phi[1]:.2f} with."
    return Table("Without and with a rescue round, percent", ["", "without", "with", "change"], rows, note)


def by_kind_table(evaluation: Evaluation, name: str) -> Table:
    """Pass@1 of every peer, Team Pass@k and the majority vote for every kind of problem.

    Args:
        evaluation: With ``labels``.
        name: The label, such as ``source``.
    """
    peers, k = peer_names(evaluation), sampled_k(evaluation)
    figures = [(f"{peer}  Pass@1", f"{peer}/pass_at_1") for peer in peers]
    if len(peers) > 1:
        figures.append((f"Team Pass@{k}", f"team_pass_at_{k}"))
    figures.append((f"Majority vote of {k * len(peers)}", "majority_vote"))
    labels = evaluation["labels"][name]
    rows = []
    for kind in sorted(set(labels)):
        own = [i for i, label in enumerate(labels) if label == kind]
        columns = [
            torch.tensor([evaluation["per_problem"][f][i] for i in own], dtype=torch.float64) for _, f in figures
        ]
        rows.append([kind or "–", str(len(own)), *(with_interval(mean_figure(column)) for column in columns)])
    return Table(f"By {name}, percent", ["", "problems", *(label for label, _ in figures)], rows)


def to_text(tables: Sequence[Table], width: int = 120) -> str:
    """Tables for a file or a log, which have no edge to wrap at."""
    from rich.console import Console

    out = io.StringIO()
    console = Console(file=out, width=width)
    for table in tables:
        console.print(to_rich(table))
    return "\n".join(line.rstrip() for line in out.getvalue().splitlines())


def _cut(text: str, width: int = CELL) -> str:
    return text if len(text) <= width else text[: width - 1] + "…"


def rescues_table(rescues: Sequence[Rescue], count: int = 5, width: int = 220) -> Table:
    """The first rescues, readable: what was asked, what went wrong, what helped, what then came out."""

    def short(text: str) -> str:
        return _cut(" ".join(text.split()), width)

    rows = [
        [
            short(r["question"]),
            f"{r['student']}: {short(r['wrong_answer'] or 'no answer')}  (gold {short(r['gold'])})",
            f"{r['teacher']}: {short(r['hint'])}",
            short(r["text"]),
        ]
        for r in rescues[:count]
    ]
    return Table("Rescues", ["question", "cold answer", "hint", "after the hint"], rows, text=True)


def rescue_rates_table(
    figures: Mapping[str, Figure],
    hinted: Mapping[str, int],
    rescued: Mapping[str, int],
    faithful: Mapping[str, int] | None = None,
) -> Table:
    """Rescue rate of every peer and of the team over the run, and how many rescues were faithful."""
    hints, rescues = ({**counts, "team": sum(counts.values())} for counts in (hinted, rescued))
    sound = {**faithful, "team": sum(faithful.values())} if faithful is not None else {}
    rows = []
    for name in figures:
        row = [name, str(hints[name]), str(rescues[name]), with_interval(figures[name])]
        if faithful is not None:
            yes, no = sound[name], hints[name] - sound[name]
            share = with_interval(mean_figure(torch.tensor([1.0] * yes + [0.0] * no))) if yes + no else "–"
            row += [str(yes), share]
        rows.append(row)
    columns = ["", "hinted", "rescued", "rate, percent"]
    note = "Pairs of a problem and a peer that failed it cold and saw a hint."
    if faithful is not None:
        columns += ["faithfully rescued", "rate, percent"]
        note += " Faithfully: ended, with no unlikely token and no false equation on the way, and more than the answer."
    return Table("Rescue rate over the run", columns, rows, note, emphasized=[len(rows) - 1])


def profile_table(
    seconds: Mapping[str, Mapping[str, float]],
    peers: Sequence[str],
    steps: int,
    evaluations: Sequence[float] = (),
    counts: RescueCounts | None = None,
) -> Table:
    """Seconds of a mean step by phase and peer, and the phase's share.

    Args:
        seconds: As :func:`core_lightning.report.phases.phase_seconds` gives it.
        peers: Columns.
        steps: Number of steps the means are over.
        evaluations: Seconds of each evaluation, for a row of their own.
        counts: Rescues of the run, for what each of them cost in the rescue round.
    """
    total = sum(sum(by_peer.values()) for by_peer in seconds.values())
    rows = []
    for phase, by_peer in seconds.items():
        spent = sum(by_peer.values())
        own = [f"{by_peer[p]:.2f}" if p in by_peer else "" for p in peers]
        rows.append([phase, *own, f"{spent:.2f}", percent(spent / total) if total else "–"])
    rows.append(["all", *[f"{sum(s.get(p, 0.0) for s in seconds.values()):.2f}" for p in peers], f"{total:.2f}", ""])
    step_rows = len(rows)
    if evaluations:
        mean = sum(evaluations) / len(evaluations)
        rows.append([f"one evaluation (of {len(evaluations)})", *[""] * len(peers), f"{mean:.2f}", ""])
    if counts is not None and "rescue" in seconds:
        spent = sum(seconds["rescue"].values()) * steps
        for label, n in (
            ("hinted", counts.hinted),
            ("rescued", counts.rescued),
            ("faithfully rescued", counts.faithful),
        ):
            if n:
                rows.append([f"rescue round, per {label} pair ({n})", *[""] * len(peers), f"{spent / n:.2f}", ""])
    columns = ["", *peers, "together", "share, percent"]
    note = (
        "Work done for all peers at once (verify, embed, reward, step) stands under together only. "
        "The seconds of peers that work at the same time overlap, so they may add up to more than a step."
    )
    return Table(f"Seconds per step, mean of {steps} steps", columns, rows, note, emphasized=[step_rows - 1])


def to_rich(table: Table) -> RichTable:
    """A table for a console; of a cell, the first 2,000 characters."""
    from rich import box
    from rich.table import Table as RichTable
    from rich.text import Text

    drawn = RichTable(
        title=Text(table.title), title_style="bold", title_justify="left", box=box.SIMPLE_HEAD, show_lines=table.text
    )
    if table.note:
        drawn.caption, drawn.caption_justify = Text(table.note), "left"
    for i, column in enumerate(table.columns):
        numeric = i > 0 and not table.text
        # Model text may hold square brackets, so cells are Text and never markup.
        drawn.add_column(Text(column), justify="right" if numeric else "left", overflow="fold", no_wrap=False)
    for i, row in enumerate(table.rows):
        drawn.add_row(*(Text(visible(_cut(cell))) for cell in row), style="bold" if i in table.emphasized else "")
    return drawn
