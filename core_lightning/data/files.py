"""Rows of JSON lines, CSV and Parquet with their line numbers, or one line about the line that cannot be read."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any

from core_lightning.data.errors import DataError

Rows = Iterator[tuple[int, Mapping[str, Any]]]
_LONGEST_CELL = 2**30


def read_rows(file: Path) -> Rows:
    """Rows with their line number (row number in Parquet), by the file's suffix.

    Raises:
        DataError: The suffix is none of the three, or the file is damaged.
    """
    readers = {".jsonl": read_json_lines, ".csv": read_csv, ".parquet": read_parquet}
    if file.suffix not in readers:
        raise DataError(f"{file}: unknown format {file.suffix!r}, expected one of {', '.join(readers)}")
    return readers[file.suffix](file)


def read_json_lines(file: Path) -> Rows:
    """Objects of a JSON-lines file with their line number from 1; blank lines are skipped.

    Raises:
        DataError: Naming the line that is no JSON object.
    """

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        row = dict(pairs)
        if len(row) < len(pairs):
            names = [name for name, _ in pairs]
            twice = next(name for name in names if names.count(name) > 1)
            raise ValueError(f"the name {twice!r} stands twice")
        return row

    try:
        with file.open(encoding="utf-8-sig") as lines:
            for number, line in enumerate(lines, start=1):
                if not line.strip():
                    continue
                try:
                    row = json.loads(line.rstrip(), object_pairs_hook=once, parse_float=Decimal)
                except json.JSONDecodeError as error:
                    raise DataError(
                        f"{file}:{number}: not JSON ({error.msg}, column {error.colno}); correct or remove the line"
                    ) from error
                except (ValueError, RecursionError) as error:
                    raise DataError(
                        f"{file}:{number}: not read as JSON ({' '.join(str(error).split())[:100]}); correct the line"
                    ) from error
                if not isinstance(row, dict):
                    raise DataError(f"{file}:{number}: expected a JSON object, got {line.strip()[:60]}")
                yield number, row
    except UnicodeDecodeError as error:
        raise not_utf8(file, "JSON lines") from error


def read_csv(file: Path) -> Rows:
    """Rows of a CSV file with a header, as text, with the number of the line each ends on.

    Not through ``datasets``, which would turn the answer "007" into 7 and "NA" into nothing.
    """
    csv.field_size_limit(_LONGEST_CELL)  # the module's own limit is 128 KiB
    try:
        with file.open(encoding="utf-8-sig", newline="") as lines:
            reader = csv.DictReader(lines, strict=True)
            names = list(reader.fieldnames or ())
            if twice := [name for name in names if names.count(name) > 1]:
                raise DataError(f"{file}:1: two columns are named {twice[0]!r}; rename one")
            try:
                for row in reader:
                    if None in row or None in row.values():
                        raise DataError(
                            f"{file}:{reader.line_num}: more or fewer fields than the header; quote texts with commas"
                        )
                    yield reader.line_num, row
            except csv.Error as error:
                raise DataError(
                    f"{file}:{reader.line_num}: cannot be read as CSV ({error}); correct the line"
                ) from error
    except csv.Error as error:
        raise DataError(f"{file}:1: cannot be read as CSV ({error}); correct the line") from error
    except UnicodeDecodeError as error:
        raise not_utf8(file, "CSV") from error


def read_parquet(file: Path) -> Rows:
    """Rows of a Parquet file with their number from 1."""
    import pyarrow.parquet

    number = 0
    try:
        with pyarrow.parquet.ParquetFile(file) as table:
            for batch in table.iter_batches():
                for row in batch.to_pylist():
                    number += 1
                    yield number, row
    except DataError:
        raise
    except Exception as error:  # pyarrow's errors have no common base, and any failure here is a damaged file
        reason = " ".join(str(error).split())[:200]
        raise DataError(f"{file}: cannot be read as Parquet behind row {number} ({reason})") from error


def not_utf8(file: Path, form: str) -> DataError:
    """What is wrong with a file that is not UTF-8 text, with the first such line."""
    with file.open("rb") as lines:
        for number, line in enumerate(lines, start=1):
            try:
                line.decode("utf-8")
            except UnicodeDecodeError as error:
                return DataError(f"{file}:{number}: not UTF-8 text ({error.reason}); is it really {form}? Convert it")
    return DataError(f"{file} is not UTF-8 text; is it really {form}? Convert it")


def as_text(value: object, where: str) -> str:
    """A cell as text: 145.0 as "145", since a number column with a gap in it is read as floats; None as nothing.

    Raises:
        DataError: If the cell, which is at ``where``, is a list or an object, not a number, or no text that can be written.
    """
    if value is None:
        return ""
    if isinstance(value, float):
        value = Decimal(repr(value))
    if isinstance(value, Decimal):
        if not value.is_finite():
            raise DataError(f"{where}: expected a text or a number, got {value}; fill it in or remove the row")
        # Written out, as far as that is readable: 1e400000 would fill the memory.
        plain = -20 <= value.adjusted() <= 30
        whole = value == value.to_integral_value() if plain else False
        return f"{value:f}".split(".")[0] if whole else f"{value:f}" if plain else str(value)
    if isinstance(value, str | bool | int):
        text = str(value).strip()
        if wrong := next((c for c in text if c == "\0" or "\ud800" <= c <= "\udfff"), None):
            name = "a NUL byte" if wrong == "\0" else f"half of a character ({ascii(wrong)[1:-1]})"
            raise DataError(f"{where}: the text holds {name}; correct or remove the row")
        return text
    raise DataError(f"{where}: expected a text or a number, got {str(value)[:60]}")
