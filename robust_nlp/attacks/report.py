"""What attacks add up to: accuracies under attack, with intervals, and the findings beside them."""

from __future__ import annotations

import dataclasses
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from scipy.stats import binomtest

from robust_nlp.attacks.detectors import Finding
from robust_nlp.attacks.rows import AttackRow, Outcome

#: Outcomes from the worst for the classifier to the best.
_SEVERITY: tuple[Outcome, ...] = (
    "success",
    "skipped",
    "uncertain",
    "error",
    "timeout",
    "budget",
    "failed",
)

#: Outcomes of an attack that did not break the classifier.
_SURVIVED: tuple[Outcome, ...] = ("failed", "budget", "timeout", "error")


@dataclass(frozen=True, kw_only=True)
class AttackReport:
    """What became of a suite of attacks.

    Attributes:
        rows: Rows by attack, in the order in which they ran.
        findings: What the detectors saw.
        checks: Rows of control experiments, by what they climbed or attacked.
        counts: Settings and costs of the run.
    """

    rows: dict[str, list[AttackRow]]
    findings: list[Finding]
    checks: dict[str, list[AttackRow]] = field(default_factory=dict)
    counts: dict[str, Any] = field(default_factory=dict)

    @property
    def flagged(self) -> list[Finding]:
        """The findings that say to read the scores with care."""
        return [finding for finding in self.findings if finding.flagged]

    def worst(self) -> list[AttackRow]:
        """Return for each example the row of the attack that ended worst for the classifier.

        An example survives only if every attack failed. `flips` are those of all attacks.
        """
        by_example: dict[int, list[AttackRow]] = defaultdict(list)
        for rows in self.rows.values():
            for row in rows:
                by_example[row.example_id].append(row)
        return [
            dataclasses.replace(min(rows, key=_rank), flips=sum(row.flips for row in rows))
            for _, rows in sorted(by_example.items())
        ]

    def summary(self) -> dict[str, Any]:
        """Return accuracies for the worst case, and what each attack did; see `accuracies`."""
        return {
            "worst_case": accuracies(self.worst()),
            "attacks": {name: efforts(rows) for name, rows in self.rows.items()},
            "findings": [
                {"name": f.name, "flagged": f.flagged, "words": f.words, "values": dict(f.values)}
                for f in self.findings
            ],
            **self.counts,
        }


def accuracies(rows: Sequence[AttackRow]) -> dict[str, Any]:
    """Return accuracies of one row an example, each with a 95 % interval (Wilson).

    `clean_accuracy` counts clean texts that are classified rightly. `robust_accuracy` counts
    those that no attack broke; doubts of the judge count as broken. `robust_accuracy_lenient`
    counts doubts as unbroken, and `robust_accuracy_strict` counts only searches that ended by
    themselves: attacks ended by a limit or an error count as broken. `robustness_score` is clean
    less robust accuracy. `in_search_accuracy` believes
    every text of another class that a search saw, as is often reported. `attack_success_rate` is
    the share of attacked examples with a confirmed success.
    """
    n = len(rows)
    counts = Counter(row.outcome for row in rows)
    attacked = n - counts["skipped"]
    survived = sum(counts[outcome] for outcome in _SURVIVED)
    fooled = sum(row.outcome == "success" or row.flips > 0 for row in rows if row.attacked)
    return {
        "examples": n,
        "outcomes": dict(counts),
        "clean_accuracy": proportion(attacked, n),
        "robust_accuracy": proportion(survived, n),
        "robust_accuracy_lenient": proportion(survived + counts["uncertain"], n),
        "robust_accuracy_strict": proportion(counts["failed"], n),
        "robustness_score": proportion(attacked - survived, n),
        "in_search_accuracy": proportion(attacked - fooled, n),
        "attack_success_rate": proportion(counts["success"], attacked),
    }


def efforts(rows: Sequence[AttackRow]) -> dict[str, Any]:
    """Return what one attack did and cost: outcomes, means over attacked examples, and edits."""
    attacked = [row for row in rows if row.attacked]
    won = [row for row in attacked if row.outcome == "success"]
    null = [row.null_flip for row in attacked if row.null_flip is not None]
    return {
        "examples": len(rows),
        "outcomes": dict(Counter(row.outcome for row in rows)),
        "attack_success_rate": proportion(len(won), len(attacked)),
        "queries": _mean([row.queries for row in attacked]),
        "forwards": _mean([row.forwards for row in attacked]),
        "seconds": _mean([row.seconds for row in attacked]),
        "edits": _quantiles([row.edits for row in won]),
        "edit_rate": _quantiles([row.edit_rate for row in won]),
        "characters": _quantiles([row.characters for row in won]),
        "null_flip_rate": _mean(null),
    }


def proportion(count: int, n: int) -> dict[str, float] | None:
    """Return a proportion with a 95 % interval; `None` of nothing.

    Source: Wilson (1927).
    """
    if n == 0:
        return None
    interval = binomtest(count, n).proportion_ci(confidence_level=0.95, method="wilson")
    return {"value": count / n, "low": float(interval.low), "high": float(interval.high)}


def _rank(row: AttackRow) -> int:
    return _SEVERITY.index(row.outcome)


def _mean(values: Sequence[float | None]) -> float | None:
    return float(np.mean([v for v in values if v is not None])) if values else None


def _quantiles(values: Sequence[float | None]) -> dict[str, float] | None:
    known = [v for v in values if v is not None]
    if not known:
        return None
    return {
        "mean": float(np.mean(known)),
        "median": float(np.median(known)),
        "p90": float(np.quantile(known, 0.9)),
    }
