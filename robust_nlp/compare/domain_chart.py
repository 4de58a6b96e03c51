"""Geometry of the bars of accuracy by domain."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from robust_nlp.compare.charts import styles
from robust_nlp.reporting.charts import RIGHT, WIDTH, Axis, share_ticks
from robust_nlp.reporting.words import percent

Facts = Mapping[str, Any]

#: Left end of the bars, heights of a bar, of the name above a group, and between two groups.
START, BAR, NAME, GAP = 14.0, 11.0, 17.0, 9.0

#: Room for the axis below.
BELOW = 30.0


@dataclass(frozen=True, kw_only=True)
class Bar:
    """The accuracy of one method in one domain, in SVG units."""

    method: str
    style: int
    y: float
    end: float
    low: float
    high: float
    worst: bool


@dataclass(frozen=True, kw_only=True)
class Group:
    """The bars of one domain."""

    domain: str
    texts: int
    y: float
    bars: list[Bar]


@dataclass(frozen=True, kw_only=True)
class DomainChart:
    """Bars of accuracy by domain and method."""

    description: str
    start: float
    bar: float
    width: float
    height: float
    bottom: float
    x_ticks: list[tuple[float, str]]
    groups: list[Group]


def domain_chart(facts: Facts) -> DomainChart | None:
    """Draw for each domain one bar a method, with its interval; `None` without domains.

    Args:
        facts: Facts of the comparison.
    """
    methods = [method for method in facts["methods"] if method["domains"]]
    if not methods:
        return None
    style, x, y = styles(facts), Axis(1.0, START, WIDTH - RIGHT), 0.0
    groups, told = [], []
    for row in methods[0]["domains"]:
        domain, bars = row["domain"], []
        top = y + NAME
        for method in methods:
            found = next(each for each in method["domains"] if each["domain"] == domain)
            accuracy = found["accuracy"]
            bars.append(
                Bar(
                    method=method["method"],
                    style=style[method["method"]],
                    y=top,
                    end=x(accuracy["value"]),
                    low=x(accuracy["low"]),
                    high=x(accuracy["high"]),
                    worst=method["worst_domain"]["domain"] == domain,
                )
            )
            told.append(f"{domain}, {method['method']}: {percent(accuracy['value'])}")
            top += BAR
        groups.append(Group(domain=domain, texts=row["texts"], y=y + NAME - 5.0, bars=bars))
        y = top + GAP
    return DomainChart(
        description="; ".join(told) + ".",
        start=START,
        bar=BAR,
        width=WIDTH,
        height=y + BELOW,
        bottom=y,
        x_ticks=share_ticks(x),
        groups=groups,
    )
