"""Geometry of the pictures of a comparison; each method has one style in all of them."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from robust_nlp.compare.facts import score_of
from robust_nlp.compare.tables import perturbation_name
from robust_nlp.reporting.accuracy import table_radii
from robust_nlp.reporting.charts import (
    BOTTOM,
    HEIGHT,
    LEFT,
    MARKED,
    RIGHT,
    TOP,
    WIDTH,
    Axis,
    Chart,
    Series,
    accuracy_chart,
    path,
    rate_chart,
    share_ticks,
    span,
    steps,
    whole_ticks,
)
from robust_nlp.reporting.words import percent

Facts = Mapping[str, Any]

#: Intervals of so many lines can be told apart.
BANDS = 2

#: Size of the picture of one method, in SVG units.
SMALL_WIDTH, SMALL_HEIGHT = 320.0, 210.0

#: Names of the two lines of a sandwich, and their styles.
PROVED, BROKEN = ("certified (proved)", 0), ("under attack (found)", 1)


def styles(facts: Facts) -> dict[str, int]:
    """Return the style of each method."""
    return {method["method"]: style for style, method in enumerate(facts["methods"])}


def certified_chart(facts: Facts, threat: str, name: str) -> Chart:
    """Draw the certified accuracy of all methods with such certificates against radius.

    Args:
        facts: Facts of the comparison.
        threat: What the certificates are against.
        name: Prefix of the ids in the page.
    """
    found = {
        method["method"]: method["certified"][threat]
        for method in facts["methods"]
        if threat in (method["certified"] or {})
    }
    unit = next(m["report"]["unit"] for m in facts["methods"] if m["method"] in found)
    chart = accuracy_chart(
        name,
        [{**curve, "attacker": method} for method, curve in found.items()],
        unit=unit,
        measure="Certified accuracy",
        band=False,
        styles=[styles(facts)[method] for method in found],
    )
    return dataclasses.replace(chart, title=f"{chart.title}, attacker: {threat}")


def sandwich_chart(picture: Facts, row: Facts, name: str, *, threat: str, unit: str) -> Chart:
    """Draw what was proved and what was broken of a method, and shade what is not known.

    Args:
        picture: The sandwich of a threat; see `robust_nlp.compare.sandwich.sandwiches`.
        row: Its row of the method.
        name: Prefix of the ids in the page.
        threat: Name of the threat.
        unit: Unit of the edits.
    """
    radii: list[int] = picture["radii"]
    proved = row["certified"] or [0.0] * len(radii)
    points = [
        {"radius": radius, "proved": low, "unbroken": high}
        for radius, low, high in zip(radii, proved, row["unbroken"], strict=True)
    ]
    x = Axis(radii[-1], LEFT, SMALL_WIDTH - RIGHT)
    y = Axis(1.0, SMALL_HEIGHT - BOTTOM, TOP)
    lower, upper = steps(points, "proved", x, y), steps(points, "unbroken", x, y)

    def line(which: tuple[str, int], value: str, corners: list[tuple[float, float]]) -> Series:
        marked = [(x(p["radius"]), y(p[value])) for p in points]
        return Series(
            name=which[0],
            style=which[1],
            line=path(corners),
            band=path([*upper, *reversed(lower)]) + " Z" if value == "unbroken" else "",
            points=marked if len(marked) <= MARKED else [],
        )

    told = ", ".join(
        f"{percent(p['proved'])} to {percent(p['unbroken'])} at radius {p['radius']}"
        for p in points
        if p["radius"] in table_radii(radii[-1], at_most=8)
    )
    series = [line(BROKEN, "unbroken", upper)]
    series += [line(PROVED, "proved", lower)] if row["certified"] is not None else []
    return Chart(
        name=name,
        title=f"{row['method']}, attacker {threat}: proved and found",
        description=f"The true accuracy is between {told}.",
        x_label=f"radius ({unit} edits)",
        x_ticks=[(x(tick), f"{tick}") for tick in whole_ticks(radii[-1])],
        y_ticks=share_ticks(y),
        series=series,
        width=SMALL_WIDTH,
        height=SMALL_HEIGHT,
        right=SMALL_WIDTH - RIGHT,
        bottom=SMALL_HEIGHT - BOTTOM,
    )


def deletion_chart(facts: Facts, perturbation: str, name: str) -> Chart:
    """Draw the accuracy of all methods as ever more of the texts is changed.

    Args:
        facts: Facts of the comparison.
        perturbation: How texts are changed.
        name: Prefix of the ids in the page.
    """
    scores = {m["method"]: score_of(m, perturbation) for m in facts["methods"]}
    clean = {m["method"]: m["clean_accuracy"] for m in facts["methods"]}
    curves = [(method, clean[method], score) for method, score in scores.items() if score]
    return rate_chart(
        name,
        f"Accuracy under {perturbation_name(perturbation)}",
        "share of the words",
        curves,
        band=len(curves) <= BANDS,
        styles=[styles(facts)[method] for method, *_ in curves],
    )


def length_chart(
    facts: Facts, rows: Mapping[str, Sequence[Facts]], name: str, *, title: str
) -> Chart | None:
    """Draw accuracies by class of length, one line a method; `None` if there is nothing to draw.

    Args:
        facts: Facts of the comparison.
        rows: For each method what is known in each class; see `length_facts`.
        name: Prefix of the ids in the page.
        title: What is drawn.
    """
    classes = facts["lengths"]["classes"]
    if len(classes) < 2 or not rows:
        return None
    width = (WIDTH - LEFT - RIGHT) / len(classes)
    places = [round(LEFT + (k + 0.5) * width, 2) for k in range(len(classes))]
    labels = [span(each["shortest"], each["longest"]) for each in classes]
    y = Axis(1.0, HEIGHT - BOTTOM, TOP)
    series, told = [], []
    for method, values in rows.items():
        known = [
            (place, label, each["accuracy"]["value"])
            for place, label, each in zip(places, labels, values, strict=True)
            if each["accuracy"] is not None
        ]
        points = [(place, y(value)) for place, _, value in known]
        told.append(
            f"{method}: " + ", ".join(f"{percent(v)} with {label} words" for _, label, v in known)
        )
        series.append(
            Series(
                name=method,
                style=styles(facts)[method],
                line=path(points),
                band="",
                points=points,
            )
        )
    return Chart(
        name=name,
        title=title,
        description="; ".join(told) + ".",
        x_label="length of the text (words)",
        x_ticks=list(zip(places, labels, strict=True)),
        y_ticks=share_ticks(y),
        series=series,
    )
