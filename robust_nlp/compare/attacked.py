"""What attacks made of a method: accuracies, finds that are quoted, and what they say of proofs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from robust_nlp.attacks.report import AttackReport, accuracies
from robust_nlp.compare.results import MethodResults

#: Adversarial texts of each method that are quoted.
QUOTED = 5


def attacks(method: MethodResults, *, quoted: bool) -> dict[str, Any]:
    """Return the accuracy of a method under each attack and under the worst of them.

    Where an attack was tried only on the texts that cheaper ones left, texts that these broke count
    as broken.
    """
    report, facts = method.attacked, method.attacks
    assert report is not None
    assert facts is not None
    # An attack that found nothing left to try has no rows.
    names, cumulative = list(facts["attacks"]), facts["settings"]["survivors_only"]
    under = {}
    for k, name in enumerate(names):
        tried = names[: k + 1] if cumulative else [name]
        part = AttackReport(rows={n: report.rows.get(n, []) for n in tried}, findings=[])
        under[name] = accuracies(part.worst())["robust_accuracy"]
    worst, beside = facts["worst_case"], facts["certificates"]
    if beside is not None and not quoted:
        found = hidden(beside["contradictions"], ("text", "found"))
        beside = {**beside, "contradictions": found}
    return {
        "worst_case": worst["robust_accuracy"],
        "lenient": worst["robust_accuracy_lenient"],
        "strict": worst["robust_accuracy_strict"],
        "clean_accuracy": worst["clean_accuracy"],
        "success_rate": worst["attack_success_rate"],
        "cumulative": cumulative,
        "under": under,
        "efforts": facts["attacks"],
        "findings": facts["findings"],
        "certificates": beside,
        "examples": _examples(report, facts["labels"]) if quoted else [],
    }


def standing(report: AttackReport) -> list[float]:
    """Return 1 for each text that is answered rightly under every attack, 0 for the others."""
    survived = ("failed", "budget", "timeout", "error")
    return [float(row.outcome in survived) for row in report.worst()]


def hidden(entries: Iterable[Mapping[str, Any]], names: Sequence[str]) -> list[dict[str, Any]]:
    """Return entries without the texts that may not be quoted.

    Args:
        entries: Entries that quote texts.
        names: Where their texts stand.
    """
    return [{**each, **dict.fromkeys(names)} for each in entries]


def _examples(report: AttackReport, labels: Sequence[str]) -> list[dict[str, Any]]:
    """Return the confirmed finds with the fewest changed words, one a text."""
    won = [row for row in report.worst() if row.outcome == "success"]
    won.sort(key=lambda row: (row.edits or 0, row.example_id))
    return [
        {
            "attack": row.attack,
            "example_id": row.example_id,
            "label": _class(labels, row.label),
            "text": row.text,
            "pair": row.pair,
            "found": row.found,
            "found_predicted": _class(labels, row.found_predicted),
            "edits": row.edits,
        }
        for row in won[:QUOTED]
    ]


def _class(labels: Sequence[str], label: int | None) -> str | None:
    return None if label is None else labels[label]
