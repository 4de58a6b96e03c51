"""The facts of an audit, as plain values: what report.json holds and report.html shows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from robust_nlp.audit.files import AuditFiles, certificates_key
from robust_nlp.audit.settings import AuditSettings
from robust_nlp.audit.verdict import Verdict, verdict
from robust_nlp.audit.wording import evidence, sentences
from robust_nlp.results import RunDirectory
from robust_nlp.threats import Unit

#: Contradictions that are listed, at most one of them for a text.
LISTED = 10

#: Entries of an evidence that quote a text.
QUOTED = ("text", "pair", "attacked", "difference")


def audit_facts(
    run: RunDirectory, rows: Sequence[Mapping[str, Any]], labels: Sequence[str]
) -> dict[str, Any] | None:
    """Return what the audit of a run found; `None` without an audit of these very certificates.

    Args:
        run: The run.
        rows: Its certificate rows.
        labels: Names of the classes.

    Raises:
        DataError: If the audit cannot be read.
    """
    files, recipe = AuditFiles(run.path), run.recipe()
    made_with = files.made_with()
    key = certificates_key(rows, recipe.certify.attackers)
    audited = files.rows() if made_with.get("certificates") == key else []
    if not audited:
        return None
    found = verdict(audited, alpha=made_with["alpha"])
    settings = {name: made_with[name] for name in AuditSettings.__dataclass_fields__}
    return {
        "passed": found.passed,
        "sentences": [*_part(len(audited), len(rows)), *sentences(found)],
        "texts": found.texts,
        "wrong": found.wrong,
        "allowed": found.allowed,
        "candidates": found.candidates,
        "judged": found.judged,
        "coverage": dict(found.coverage),
        "confirmed": found.confirmed,
        "forwards": sum(row.forwards for row in audited),
        "seconds": sum(row.seconds for row in audited),
        "contradictions": listed(
            found, labels, recipe.mechanism.unit, with_text=recipe.report.texts
        ),
        "settings": settings,
    }


def listed(
    found: Verdict, labels: Sequence[str], unit: Unit, *, with_text: bool
) -> list[dict[str, Any]]:
    """Return the evidence of the first contradictions, one a text.

    Args:
        found: The verdict.
        labels: Names of the classes.
        unit: Unit of the edits.
        with_text: Whether texts may be quoted; without, they are `None`.
    """
    first = {each.audited.text_hash: each for each in reversed(found.contradictions)}
    chosen = sorted(first.values(), key=lambda each: each.audited.example_id)[:LISTED]
    facts = [evidence(each, labels, unit) for each in chosen]
    return [
        {name: None if name in QUOTED and not with_text else value for name, value in each.items()}
        for each in facts
    ]


def _part(done: int, texts: int) -> list[str]:
    return [] if done >= texts else [f"The audit has seen {done:,} of {texts:,} texts."]
