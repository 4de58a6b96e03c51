"""Robustness scores as the page shows them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from robust_nlp.reporting import charts
from robust_nlp.scoring.wording import (
    METHODS,
    answered_table,
    comparison_table,
    curve_table,
    group_table,
    score_table,
)

#: Perturbations whose curves share one chart begin with this.
DELETION = "delete_words"


def scored(facts: Mapping[str, Any]) -> dict[str, Any]:
    """Return charts and tables of robustness scores.

    One chart a classifier shows what is left of its accuracy as words are deleted, one line an
    order of deletion; the tables have everything else.

    Args:
        facts: See `robust_nlp.scoring.tables.RobustnessScores.to_dict`.
    """
    drawn = []
    for index, name in enumerate(facts["classifiers"]):
        clean = facts["clean"][name]["accuracy"]
        curves = [
            (_order(curve["perturbation"]), clean, curve)
            for curve in facts["scores"]
            if curve["classifier"] == name and curve["perturbation"].startswith(DELETION)
        ]
        if curves:
            title = f"Accuracy of the {name} classifier as words are deleted"
            drawn.append(charts.rate_chart(f"deleted-{index}", title, "words deleted", curves))
    tables = [
        ("Accuracy and score by rate", *score_table(facts)),
        ("Whole curves", *curve_table(facts)),
        ("Without abstentions", *answered_table(facts)),
        ("Classifiers compared", *comparison_table(facts)),
        ("By length, at the largest rate", *group_table(facts, "lengths")),
        ("By class, at the largest rate", *group_table(facts, "classes")),
    ]
    return {
        "charts": drawn,
        "texts": facts["texts"],
        "methods": METHODS,
        "tables": [
            {"title": title, "head": head, "rows": rows} for title, head, rows in tables if rows
        ],
    }


def _order(perturbation: str) -> str:
    """Say an order of deletion, such as "most important by leave one out"."""
    return perturbation.removeprefix(DELETION).strip("[]").replace("_", " ")
