"""Rows of JSON lines, CSV and Parquet with their line numbers, or one line about the line that cannot be read."""

from __future__ import annotations

import csv
import json
import unicodedata
from collections.abc import Iterator, Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any

from core_lightning.data.errors import DataError

Rows = Iterator[tuple[int, Mapping[str, Any]]]
_LONGEST_CELL = 2**30
#: Byte order mark. It stands at the beginning of a file, and within one that was put together of several.
_MARK = "\ufeff"


def read_rows(file: Path) -> Rows:
    """Rows with their line number (row number in Parquet and in a JSON list), by the file's suffix.

    Raises:
        DataError: The suffix is none of these, or the file is damaged.
    """
    readers = {".jsonl": read_json_lines, ".csv": read_csv, ".parquet": read_parquet, ".json": read_json}
    if file.suffix not in readers:
        raise DataError(f"{file}: unknown format {file.suffix!r}, expected one of {', '.join(readers)}")
    return readers[file.suffix](file)


def read_lines(file: Path) -> Iterator[tuple[int, str]]:
    """Lines of a plain text with their number from 1.

    Raises:
        DataError: It is not UTF-8.
    """
    try:
        with file.open(encoding="utf-8-sig") as lines:  # not str.splitlines, for which a line ends at U+2028, too
            yield from enumerate(lines, start=1)
    except UnicodeDecodeError as error:
        raise not_utf8(file, "plain text") from error


def read_json_lines(file: Path) -> Rows:
    """Objects of a JSON-lines file with their line number from 1; blank lines are skipped.

    Raises:
        DataError: Naming the line that is no JSON object.
    """

    try:
        with file.open(encoding="utf-8-sig") as lines:
            for number, line in enumerate(lines, start=1):
                text = line.lstrip(_MARK).rstrip()
                if not text:
                    continue
                row = _json(text, file, number)
                if not isinstance(row, dict):
                    raise DataError(f"{file}:{number}: expected a JSON object, got {text.strip()[:60]}")
                yield number, row
    except UnicodeDecodeError as error:
        raise not_utf8(file, "JSON lines") from error


def read_json(file: Path) -> Rows:
    """Objects of a JSON list with their number from 1, or JSON lines.

    Raises:
        DataError: Naming the line that is no JSON, or the row that is no object.
    """
    first = next((line.lstrip() for _, line in read_lines(file) if line.strip()), "")
    if not first.startswith("["):
        yield from read_json_lines(file)
        return
    text = "".join(line for _, line in read_lines(file))
    for number, row in enumerate(_json(text, file, 1), start=1):
        if not isinstance(row, dict):
            raise DataError(f"{file}:{number}: expected a JSON object, got {str(row)[:60]}")
        yield number, row


def _json(text: str, file: Path, line: int) -> Any:
    """What a text that begins in this line of a file holds; numbers keep their digits."""
    try:
        return json.loads(text, object_pairs_hook=_once, parse_float=Decimal)
    except json.JSONDecodeError as error:
        raise DataError(
            f"{file}:{line + error.lineno - 1}: not JSON ({error.msg}, column {error.colno}); correct or remove the line"
        ) from error
    except (ValueError, RecursionError) as error:
        reason = " ".join(str(error).split()).partition("; ")[0][:100]
        raise DataError(f"{file}:{line}: not read as JSON ({reason}); correct the line") from error


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    row = dict(pairs)
    if len(row) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the name {twice!r} stands twice")
    return row


def read_csv(file: Path) -> Rows:
    """Rows of a CSV file with a header, as text, with the number of the line each ends on.

    Not through ``datasets``, which would turn the answer "007" into 7 and "NA" into nothing.
    """
    csv.field_size_limit(_LONGEST_CELL)  # the module's own limit is 128 KiB
    try:
        with file.open(encoding="utf-8-sig", newline="") as lines:
            reader = csv.DictReader((line.lstrip(_MARK) for line in lines), strict=True)
            names = list(reader.fieldnames or ())
            if not names and any(line.strip() for line in lines):
                raise DataError(f"{file}:1: the line is blank; begin with the names of the columns")
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
    from numpy import float16, float32

    number = 0
    try:
        with pyarrow.parquet.ParquetFile(file) as table:
            names = table.schema_arrow.names
            if twice := [name for name in names if names.count(name) > 1]:
                raise DataError(f"{file}: two columns are named {twice[0]!r}; rename one")
            types = {pyarrow.float16(): float16, pyarrow.float32(): float32}
            short = {field.name: types[field.type] for field in table.schema_arrow if field.type in types}
            for batch in table.iter_batches():
                try:
                    rows = batch.to_pylist()
                except UnicodeDecodeError as error:
                    number += next(i for i in range(1, batch.num_rows + 1) if not _is_text(batch.slice(i - 1, 1)))
                    raise DataError(f"{file}:{number}: not UTF-8 text ({error.reason}); correct the row") from error
                for row in rows:
                    number += 1
                    # 0.1 in 32 bits is 0.1, not the 0.10000000149011612 that it becomes in 64.
                    yield number, row | {n: Decimal(str(t(row[n]))) for n, t in short.items() if row[n] is not None}
    except DataError:
        raise
    except Exception as error:  # pyarrow's errors have no common base, and any failure here is a damaged file
        reason = " ".join(str(error).split())[:200]
        raise DataError(f"{file}: cannot be read as Parquet behind row {number} ({reason})") from error


def _is_text(rows: Any) -> bool:
    try:
        rows.to_pylist()
    except UnicodeDecodeError:
        return False
    return True


def not_utf8(file: Path, form: str) -> DataError:
    """What is wrong with a file that is not UTF-8 text, with the first such line."""
    with file.open("rb") as lines:
        for number, line in enumerate(lines, start=1):
            try:
                line.decode("utf-8")
            except UnicodeDecodeError as error:
                return DataError(f"{file}:{number}: not UTF-8 text ({error.reason}); is it really {form}? Convert it")
    return DataError(f"{file} is not UTF-8 text; is it really {form}? Convert it")


def is_blank(text: str) -> bool:
    """Whether nothing of a text can be seen: it is empty, or all white space, marks of zero width and control characters.

    >>> is_blank("\\u200b \\ufeff"), is_blank("0")
    (True, False)
    """
    return all(c.isspace() or unicodedata.category(c) in ("Cc", "Cf") for c in text)


def as_text(value: object, where: str) -> str:
    """A cell as text: 145.0 as "145", since a number column with a gap in it is read as floats; None, or what is blank, as
    nothing.

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
        text = str(value).strip().strip(_MARK).strip()
        if wrong := next((c for c in text if c == "\0" or "\ud800" <= c <= "\udfff"), None):
            name = "a NUL byte" if wrong == "\0" else f"half of a character ({ascii(wrong)[1:-1]})"
            raise DataError(f"{where}: the text holds {name}; correct or remove the row")
        return "" if is_blank(text) else text
    raise DataError(f"{where}: expected a text or a number, got {str(value)[:60]}; correct or remove the row")
