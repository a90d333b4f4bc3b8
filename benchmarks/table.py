"""Measured results as Markdown tables.

python -m benchmarks.table [name ...] [--out FOLDER]   prints them
python -m benchmarks.table --readme                    writes them into benchmarks/README.md, below its mark
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Iterable, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from benchmarks.measure import RESULTS, Row

README = Path(__file__).parent / "README.md"
MARK = "<!-- From here on written by `python -m benchmarks.table --readme`. -->\n"


def markdown(file: Path) -> str:
    """One result file as a heading, its tables and a line on where it was measured."""
    document = json.loads(file.read_text())
    if "rows" not in document:
        return "\n".join([f"### {file.stem}", "", *_counts(document), ""])
    where = document["environment"]
    rows = [Row(**row) for row in document["rows"]]
    return "\n".join(
        [
            f"### {_title(file, document)}",
            "",
            *tables(rows),
            f"{where.get('gpu', where['processor'])}, {where['threads']} threads, torch {where['torch']}, transformers "
            f"{where['transformers']}, commit {where['commit']}, {where['date']}.",
            "",
        ]
    )


def tables(rows: Sequence[Row]) -> list[str]:
    """Lines of a table for each run of cases that measure the same: a case in a line, or a measure for a case alone."""
    lines: list[str] = []
    for same in _alike(rows):
        if len(same) == 1:
            ((case, own),) = same
            heads = (case, "median (min to max)", "target", "met")
            lines += _table(heads, ([_named(r), cell(r), r.target, r.met] for r in own.values()))
        else:
            measures = list(max((own for _, own in same), key=len))
            columns = [_head([own[m] for _, own in same if m in own]) for m in measures]
            cells = ([case, *(_marked(own[m]) if m in own else "" for m in measures)] for case, own in same)
            lines += _table(("", *columns), cells)
        lines.append("")
    return lines


def _alike(rows: Sequence[Row]) -> list[list[tuple[str, dict[tuple[str, str], Row]]]]:
    """Cases one after the other whose measures are the same, or some of them."""
    runs: list[list[tuple[str, dict[tuple[str, str], Row]]]] = []
    for case, found in groupby(rows, key=lambda r: r.case):
        own = {(r.measure, r.unit): r for r in found}
        before = runs[-1][-1][1].keys() if runs else set()
        if before and (before <= own.keys() or own.keys() <= before):
            runs[-1].append((case, own))
        else:
            runs.append([(case, own)])
    return runs


def cell(row: Row) -> str:
    """Median, and in brackets how far apart the rounds were."""
    least, median, most = row.cells()[2:5]
    return median if least == most else f"{median} ({least} to {most})"


def summary(files: Iterable[Path]) -> list[str]:
    """Lines of a table of everything that has a target: what was wanted, and what was measured."""
    found: dict[tuple[str, str, str], list[Row]] = {}
    for file in files:
        document = json.loads(file.read_text())
        for row in (Row(**r) for r in document.get("rows", [])):
            if row.target:
                found.setdefault((_title(file, document), _named(row), row.target), []).append(row)
    lines = []
    for (title, measure, target), rows in found.items():
        medians = sorted((statistics.median(r.values), r.cells()[3]) for r in rows)
        span = medians[0][1] if medians[0][1] == medians[-1][1] else f"{medians[0][1]} to {medians[-1][1]}"
        met = sum(r.met == "yes" for r in rows)
        lines.append(
            [title, measure, target, span, f"{met} of {len(rows)}" if met == len(rows) else f"**{met} of {len(rows)}**"]
        )
    return _table(("benchmark", "measure", "wanted", "medians", "cases that met it"), lines)


def measured(folder: Path = RESULTS) -> list[Path]:
    """Result files, without those of quick runs."""
    return [file for file in sorted(folder.glob("*.json")) if file.suffixes == [".json"]]


def generated() -> str:
    """The part of the README that is made from the results."""
    files = measured()
    parts = ["## What was wanted, and what was measured", "", *summary(files), "", "## All figures", ""]
    parts += [
        "A cell holds the median and, in brackets, the least and the most of all rounds. Bold: the target was missed.",
        "",
    ]
    return "\n".join([*parts, *map(markdown, files)])


def _title(file: Path, document: dict[str, Any]) -> str:
    name = document.get("benchmark", file.stem)
    rest = file.stem.removesuffix(".quick").removeprefix(name).strip("_").replace("_", " ")
    return f"{name}, {rest}, measured again" if rest else name


def _named(row: Row) -> str:
    return f"{row.measure}, {row.unit}" if row.unit else row.measure


def _head(rows: Sequence[Row]) -> str:
    targets = sorted({r.target for r in rows if r.target})
    return f"{_named(rows[0])}{f' ({targets[0]})' if len(targets) == 1 else ''}"


def _marked(row: Row) -> str:
    return f"**{cell(row)}**" if row.met == "no" else cell(row)


def _counts(document: dict[str, dict[str, Any]]) -> list[str]:
    names = list(dict.fromkeys(name for counts in document.values() for name in counts))
    return _table(
        ("", *names), ([case, *(str(counts.get(name, "")) for name in names)] for case, counts in document.items())
    )


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    return [f"| {' | '.join(line)} |" for line in (heads, ["---"] * len(heads), *rows)]


def main(args: list[str] | None = None) -> None:
    """Print the tables of all benchmarks that were measured, or of those that are named."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help="benchmarks; none: all")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of the JSON files")
    parser.add_argument("--readme", action="store_true", help="write the tables of all into benchmarks/README.md")
    options = parser.parse_args(args)
    if options.readme:
        README.write_text(
            README.read_text(encoding="utf-8").split(MARK)[0] + MARK + "\n" + generated(), encoding="utf-8"
        )
        return
    for file in measured(options.out):
        if not options.names or file.stem in options.names:
            print(markdown(file))


if __name__ == "__main__":
    main()
