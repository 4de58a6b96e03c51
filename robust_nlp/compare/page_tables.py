"""Tables that stand beside the pictures of the page, with the numbers that these draw."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from robust_nlp.compare.facts import COLUMNS, score_of
from robust_nlp.compare.tables import measured_methods, milliseconds, perturbation_name
from robust_nlp.reporting.accuracy import table_radii
from robust_nlp.reporting.charts import span
from robust_nlp.reporting.tables import NOTHING, Table, percent
from robust_nlp.scoring.wording import estimate

Facts = Mapping[str, Any]


def sandwich_table(picture: Facts, threat: str) -> Table:
    """Return what was proved and what was not broken, by radius; two rows a method."""
    radii: list[int] = picture["radii"]
    shown = table_radii(radii[-1], at_most=COLUMNS)
    rows = []
    for row in picture["methods"]:
        for said, values in (("proved", row["certified"]), ("not broken", row["unbroken"])):
            cells = (NOTHING if values is None else percent(values[r]) for r in shown)
            rows.append([f"{row['method']}, {said}", *cells])
    return Table(
        title=f"Accuracy in % that is proved, and that attacks left, by radius; attacker: {threat}",
        header=["method", *(f"r = {radius}" for radius in shown)],
        rows=rows,
    )


def deletion_table(facts: Facts, perturbation: str) -> Table:
    """Return the accuracy at each rate of a perturbation."""
    rows, rates = [], []
    for method in measured_methods(facts):
        score = score_of(method, perturbation)
        if score is not None:
            rates = [f"{100 * point['rate']:g} %" for point in score["points"]]
            cells = [estimate(point["accuracy"]) for point in score["points"]]
            rows.append([method["method"], estimate(method["clean_accuracy"]), *cells])
    return Table(
        title=f"Accuracy in % under {perturbation_name(perturbation)}, by share of the words",
        header=["method", "0 %", *rates],
        rows=rows,
    )


def domain_table(facts: Facts) -> Table:
    """Return the accuracy of each method in each domain."""
    methods = [method for method in facts["methods"] if method["domains"]]
    domains = methods[0]["domains"] if methods else []
    return Table(
        title="Clean accuracy in % by domain, with 95 % intervals",
        header=["domain", "texts", *(method["method"] for method in methods)],
        rows=[
            [
                row["domain"],
                f"{row['texts']:,}",
                *(estimate(method["domains"][place]["accuracy"]) for method in methods),
            ]
            for place, row in enumerate(domains)
        ],
    )


def length_table(facts: Facts, rows: Mapping[str, Sequence[Facts]], title: str) -> Table:
    """Return accuracies by class of length, of so many texts."""
    classes = facts["lengths"]["classes"]
    counts = next(iter(rows.values()), [])
    return Table(
        title=title,
        header=["method", *(f"{span(c['shortest'], c['longest'])} words" for c in classes)],
        rows=[
            ["texts", *(f"{each['texts']:,}" for each in counts)],
            *([method, *(estimate(e["accuracy"]) for e in each)] for method, each in rows.items()),
        ],
    )


def front_table(front: Facts) -> Table:
    """Return which methods are on a front, and what is better than the others."""
    return Table(
        title="Robustness in %, and the time of an answer in milliseconds",
        header=["method", "robustness", "time", "on the front"],
        rows=[
            [
                point["method"],
                percent(point["robustness"]),
                milliseconds(point["cost"]),
                "yes"
                if point["method"] in front["front"]
                else f"no: {front['dominated'][point['method']]} is better",
            ]
            for point in front["points"]
        ],
    )
