"""Rows of answers in a run directory, part by part."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow
from pyarrow import parquet

from robust_nlp.errors import DataError, RunMismatchError
from robust_nlp.files import write_whole

#: Columns of a row; see `robust_nlp.scoring.rows.score_rows`. `text` is the open text of a pair.
ROW = pyarrow.schema(
    [
        ("example_id", pyarrow.int64()),
        ("text_hash", pyarrow.string()),
        ("classifier", pyarrow.string()),
        ("perturbation", pyarrow.string()),
        ("rate", pyarrow.float64()),
        ("draw", pyarrow.int64()),
        ("text", pyarrow.string()),
        ("n_words", pyarrow.int64()),
        ("edits", pyarrow.int64()),
        ("label", pyarrow.int64()),
        ("predicted", pyarrow.int64()),
        ("right", pyarrow.bool_()),
    ]
)


class ScoreStore:
    """The folder `scores` of a run directory: parts of rows, and what they were made with.

    Args:
        run: The run directory; it need not exist.
    """

    def __init__(self, run: str | Path) -> None:
        self.path = Path(run) / "scores"

    def start(self, made_with: Mapping[str, Any], *, fresh: bool = False) -> None:
        """Prepare the folder; parts that were made with the same settings are kept.

        Args:
            made_with: What decides the rows, as plain values, nested at will.
            fresh: Whether to delete what is there.

        Raises:
            RunMismatchError: See `check`.
        """
        if fresh:
            shutil.rmtree(self.path, ignore_errors=True)
        self.check(made_with)
        self.path.mkdir(parents=True, exist_ok=True)
        for leftover in self.path.glob(".*.tmp"):
            leftover.unlink(missing_ok=True)
        text = json.dumps(made_with, indent=2, ensure_ascii=False)
        write_whole(self.path / "made_with.json", text.encode())

    def check(self, made_with: Mapping[str, Any]) -> None:
        """Compare settings with those of the parts that are there.

        Raises:
            RunMismatchError: If there are parts that were made with other settings.
        """
        if not self.parts_done():
            return
        before, now = _flat(self.made_with()), _flat(json.loads(json.dumps(made_with)))
        differences = [
            f"  {key}: {before.get(key)!r} in the run, {now.get(key)!r} now"
            for key in dict.fromkeys([*before, *now])
            if before.get(key) != now.get(key)
        ]
        if differences:
            raise RunMismatchError(
                f"{self.path} holds scores made with other settings:\n"
                + "\n".join(differences)
                + "\nUse --fresh to score again, or choose another --output."
            )

    def made_with(self) -> dict[str, Any]:
        """Return what the rows were made with; empty if there are none."""
        path = self.path / "made_with.json"
        if not path.is_file():
            return {}
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return found

    def parts_done(self) -> set[tuple[int, int]]:
        """Return the ranges of examples, (start, stop), that are there."""
        return set(self._parts())

    def write_part(self, start: int, stop: int, rows: Sequence[Mapping[str, Any]]) -> None:
        """Write the rows of the examples from `start` up to and without `stop`."""
        sink = pyarrow.BufferOutputStream()
        parquet.write_table(pyarrow.Table.from_pylist(list(rows), schema=ROW), sink)
        name = f"part-{start:06d}-{stop - 1:06d}.parquet"
        write_whole(self.path / name, sink.getvalue())

    def rows(self, limit: int | None = None) -> list[dict[str, Any]]:
        """Return the rows of the first examples, or of all, by example.

        Raises:
            DataError: If a part cannot be read.
        """
        rows: list[dict[str, Any]] = []
        for _, path in sorted(self._parts().items()):
            try:
                rows += parquet.read_table(path, schema=ROW).to_pylist()
            except (OSError, pyarrow.ArrowException) as error:
                raise DataError(
                    f"cannot read {path}: {error}. Delete it and score again."
                ) from error
        return [row for row in rows if limit is None or row["example_id"] < limit]

    def _parts(self) -> dict[tuple[int, int], Path]:
        parts = {}
        for path in self.path.glob("part-*.parquet"):
            if match := re.fullmatch(r"part-(\d+)-(\d+)\.parquet", path.name):
                parts[int(match[1]), int(match[2]) + 1] = path
        return parts


def _flat(values: Mapping[str, Any], path: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{path}{key}.")
        else:
            flat[f"{path}{key}"] = value
    return flat
