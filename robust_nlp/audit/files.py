"""The audit of a run on disk: rows in parts, and what they were made with."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from robust_nlp.audit.records import AuditedText
from robust_nlp.audit.settings import AuditSettings
from robust_nlp.errors import DataError, RunMismatchError
from robust_nlp.files import write_whole

_ROWS = TypeAdapter(AuditedText)


class AuditFiles:
    """The folder `audit` of a run: `audit.json`, and one file of JSON lines a part.

    Files are written under a temporary name and renamed, so that an interruption leaves whole
    files only.

    Args:
        run: The run directory.
    """

    def __init__(self, run: str | Path) -> None:
        self.path = Path(run) / "audit"

    def start(
        self, settings: AuditSettings, made_with: Mapping[str, str], *, fresh: bool = False
    ) -> None:
        """Prepare the folder; what was done with the same settings and contents is kept.

        Args:
            settings: The settings; `alpha` is free, since verdicts are found anew from the rows.
            made_with: Keys of what rows depend on besides, by name.
            fresh: Whether to delete what is there first.

        Raises:
            RunMismatchError: If there are rows of other settings or contents.
        """
        if fresh:
            shutil.rmtree(self.path, ignore_errors=True)
        self.path.mkdir(parents=True, exist_ok=True)
        for leftover in self.path.glob(".*.tmp"):
            leftover.unlink(missing_ok=True)
        now = {**dataclasses.asdict(settings), **made_with}
        before = self.made_with()
        differences = [
            f"  {name}: {before.get(name)!r} in the audit, {now.get(name)!r} now"
            for name in dict.fromkeys([*before, *now])
            if name != "alpha" and before.get(name) != now.get(name)
        ]
        if self.parts_done() and differences:
            raise RunMismatchError(
                f"{self.path} holds an audit made with other settings or contents:\n"
                + "\n".join(differences)
                + "\nUse --fresh to start the audit again."
            )
        write_whole(self.path / "audit.json", (json.dumps(now, indent=2) + "\n").encode())

    def made_with(self) -> dict[str, Any]:
        """Return settings and contents of the rows; empty before the first start."""
        path = self.path / "audit.json"
        if not path.is_file():
            return {}
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return content

    def parts_done(self) -> set[tuple[int, int]]:
        """Return the ranges of examples, (start, stop), that are audited."""
        return set(self._parts())

    def write_part(self, start: int, stop: int, rows: Sequence[AuditedText]) -> None:
        """Write the rows of the examples from `start` up to and without `stop`."""
        lines = [json.dumps(dataclasses.asdict(row), ensure_ascii=True) + "\n" for row in rows]
        name = f"part-{start:06d}-{stop - 1:06d}.jsonl"
        write_whole(self.path / name, "".join(lines).encode())

    def rows(self) -> list[AuditedText]:
        """Return the audited texts, by example.

        Raises:
            DataError: If a part cannot be read.
        """
        rows: list[AuditedText] = []
        for _, path in sorted(self._parts().items()):
            try:
                lines = path.read_text(encoding="utf-8").splitlines()
                rows += [_ROWS.validate_json(line) for line in lines]
            except (OSError, ValidationError) as error:
                raise DataError(
                    f"cannot read {path}: {error}. Delete it and audit again."
                ) from error
        return sorted(rows, key=lambda row: row.example_id)

    def _parts(self) -> dict[tuple[int, int], Path]:
        parts = {}
        for path in self.path.glob("part-*.jsonl"):
            if match := re.fullmatch(r"part-(\d+)-(\d+)\.jsonl", path.name):
                parts[int(match[1]), int(match[2]) + 1] = path
        return parts


def certificates_key(rows: Sequence[Mapping[str, Any]], attackers: Sequence[str]) -> str:
    """Return a key of the votes of a run and the attackers that they are counted against.

    Args:
        rows: Certificate rows of a run directory.
        attackers: Names of the attackers.
    """
    votes = ("text_hash", "exact", "remainder", "selection", "looks", "schedule")
    content = [[row["example_id"], *(row[name] for name in votes)] for row in rows]
    text = json.dumps([list(attackers), content])
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()
