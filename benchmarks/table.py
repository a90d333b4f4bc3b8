"""Measured results as a Markdown table.

python -m benchmarks.table [name ...] [--out FOLDER]
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from benchmarks.measure import HEADINGS, RESULTS, Row


def markdown(file: Path) -> str:
    """One result file as a heading, a table and a line on where it was measured."""
    document = json.loads(file.read_text())
    where = document["environment"]
    rows = [HEADINGS, ("---",) * len(HEADINGS), *(Row(**row).cells() for row in document["rows"])]
    return "\n".join(
        [
            f"### {document['benchmark']}",
            "",
            *(f"| {' | '.join(cells)} |" for cells in rows),
            "",
            f"{where.get('gpu', where['processor'])}, {where['threads']} threads, torch {where['torch']}, transformers "
            f"{where['transformers']}, commit {where['commit']}, {where['date']}.",
            "",
        ]
    )


def main(args: list[str] | None = None) -> None:
    """Print the tables of all benchmarks that were measured, or of those that are named."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help="benchmarks; none: all")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of the JSON files")
    options = parser.parse_args(args)
    for file in sorted(options.out.glob("*.json")):
        if file.suffixes == [".json"] and (not options.names or file.stem in options.names):
            print(markdown(file))


if __name__ == "__main__":
    main()
