"""Columns of local files: JSON Lines, CSV and parquet."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

from robust_nlp.errors import DataError

Columns = dict[str, list[Any]]

#: Endings of the files that can be read; the text formats may be followed by ".gz".
FORMATS = (".jsonl", ".json", ".csv", ".parquet")


def read_columns(path: str | Path) -> Columns:
    """Read all columns of a file; the values of CSV files stay text.

    Raises:
        DataError: If there is no such file, or it cannot be read as what its name says.
    """
    path = Path(path)
    packed = path.suffix == ".gz"
    suffix = Path(path.stem).suffix if packed else path.suffix
    if suffix not in FORMATS or (packed and suffix == ".parquet"):
        raise DataError(
            f"{path}: expected a file that ends in {', '.join(FORMATS)}, or a text format "
            "followed by .gz"
        )
    if not path.is_file():
        raise DataError(f"there is no file {path} (looked from {Path.cwd()})")
    import pyarrow
    from pyarrow import parquet

    try:
        if suffix == ".parquet":
            return dict(parquet.read_table(path).to_pydict())
        raw = gzip.decompress(path.read_bytes()) if packed else path.read_bytes()
        text = raw.decode("utf-8-sig")
        return _csv_columns(raw) if suffix == ".csv" else json_lines(text, str(path))
    except UnicodeDecodeError as error:
        raise DataError(
            f"cannot read {path} as {suffix[1:]}: it is not UTF-8 ({error}); save it as UTF-8"
        ) from error
    except (OSError, EOFError, pyarrow.ArrowException) as error:
        hint = ". Texts with commas, quotes or line breaks stand between double quotes"
        hint = hint if "Expected" in str(error) else ""
        raise DataError(f"cannot read {path} as {suffix[1:]}: {error}{hint}") from error


def json_lines(text: str, where: str) -> Columns:
    """Read one JSON object a line; empty lines do not count.

    Raises:
        DataError: If a line is something else; the message begins with its number, from 1.
    """
    rows: list[dict[str, Any]] = []
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            raise DataError(f"line {number} of {where} is not JSON: {error}") from error
        if not isinstance(row, dict):
            raise DataError(
                f"line {number} of {where}: expected one JSON object a line, such as "
                f'{{"text": "…", "label": 0}}; got {type(row).__name__} {line[:40]!r}'
            )
        rows.append(row)
    names = dict.fromkeys(name for row in rows for name in row)
    return {name: [row.get(name) for row in rows] for name in names}


def _csv_columns(raw: bytes) -> Columns:
    import pyarrow
    from pyarrow import csv

    options = {
        "read_options": csv.ReadOptions(block_size=len(raw) + 1),
        "parse_options": csv.ParseOptions(delimiter=_delimiter(raw), newlines_in_values=True),
    }
    header = csv.open_csv(pyarrow.BufferReader(raw), **options).schema.names
    as_text = csv.ConvertOptions(column_types=dict.fromkeys(header, pyarrow.string()))
    table = csv.read_csv(pyarrow.BufferReader(raw), convert_options=as_text, **options)
    return dict(table.to_pydict())


def _delimiter(raw: bytes) -> str:
    """Return what stands between columns: semicolons or tabs if the first line has no comma."""
    header = raw.partition(b"\n")[0]
    return next((mark for mark in ",;\t" if mark.encode() in header), ",")
