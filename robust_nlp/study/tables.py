"""Tables of a study."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from robust_nlp.reporting.tables import NOTHING, Table, percent
from robust_nlp.study.facts import WORST
from robust_nlp.study.values import certified_name

#: Domains in one table.
DOMAINS = 7


def study_tables(facts: Mapping[str, Any]) -> list[Table]:
    """Return the tables of a study: by domain, against the control, robustness and cost."""
    return [*_domains(facts), _differences(facts), _robustness(facts)]


def points(difference: float | None) -> str:
    """Write a difference of two shares in points of percent."""
    return NOTHING if difference is None else f"{100.0 * difference:+.1f}"


def between(interval: Sequence[float] | None) -> str:
    """Write an interval of a difference in points of percent."""
    return NOTHING if interval is None else f"[{points(interval[0])}, {points(interval[1])}]"


def _domains(facts: Mapping[str, Any]) -> Iterable[Table]:
    """Say the accuracy in each held-out domain, a few domains at a time."""
    domains = facts["domains"]
    for start in range(0, len(domains), DOMAINS):
        part = domains[start : start + DOMAINS]
        yield Table(
            title="Accuracy in each held-out domain, mean over seeds, in %",
            header=["variant", *part, "average", "worst"],
            rows=[
                [
                    variant["variant"],
                    *(percent(variant["domains"][domain]["accuracy"]) for domain in part),
                    percent(variant["averages"]["accuracy"]),
                    percent(variant["averages"][WORST]),
                ]
                for variant in facts["variants"]
            ],
        )


def _differences(facts: Mapping[str, Any]) -> Table:
    rows = []
    for variant in facts["variants"]:
        for measure, short in (("accuracy", "average"), (WORST, "worst domain")):
            found = variant["differences"].get(measure)
            if found is not None:
                rows.append(
                    [
                        variant["variant"],
                        short,
                        points(found["difference"]),
                        between(found["over_seeds"]),
                        between(found["over_texts"]),
                        "yes" if found["clear"] else "no",
                    ]
                )
    return Table(
        title=f"Accuracy in held-out domains less that of {facts['control']}, in points of percent",
        header=["variant", "", "difference", "95 %\nseeds", "95 %\ntest texts", "clear"],
        rows=rows,
    )


def _robustness(facts: Mapping[str, Any]) -> Table:
    heads = {
        "seen_accuracy": "domains\nseen",
        "deleted_accuracy": "words\ndeleted",
        "robustness_score": "score",
        **{certified_name(radius): f"certified\nr = {radius}" for radius in facts["radii"]},
        "attacked_accuracy": "attacked",
    }
    measures = [measure for measure in heads if measure in facts["measures"]]
    return Table(
        title=f"Accuracy in the domains of training, robustness in held-out ones, in %; cost of "
        f"training as a multiple of that of {facts['control']}, median over runs",
        header=["variant", *(heads[measure] for measure in measures), "time", "texts\nread"],
        rows=[
            [
                variant["variant"],
                *(percent(variant["averages"][measure]) for measure in measures),
                _times(variant["cost"]["relative_seconds"]),
                _times(variant["cost"]["relative_texts_read"]),
            ]
            for variant in facts["variants"]
        ],
    )


def _times(factor: float | None) -> str:
    return NOTHING if factor is None else f"{factor:.2f}"
