"""Geometry of the picture of robustness against cost, with its Pareto front."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from robust_nlp.compare.charts import styles
from robust_nlp.compare.tables import milliseconds
from robust_nlp.compare.words import measure, sentence
from robust_nlp.reporting.charts import (
    BOTTOM,
    HEIGHT,
    LEFT,
    RIGHT,
    TOP,
    WIDTH,
    Axis,
    Chart,
    path,
    share_ticks,
)
from robust_nlp.reporting.words import percent

Facts = Mapping[str, Any]

#: Width of a letter and height of a line, in SVG units, for labels that do not meet.
LETTER, LINE = 6.4, 13.0


@dataclass(frozen=True, kw_only=True)
class Name:
    """Where the name of a method is written."""

    x: float
    y: float
    anchor: str


@dataclass(frozen=True, kw_only=True)
class Place:
    """A method in the picture.

    Attributes:
        method: Its name.
        style: Its style.
        x: Place of its point.
        y: Place of its point.
        on_front: Whether it is on the front.
        name: Where its name is written, `None` if there is no room, or if it is not on the front.
    """

    method: str
    style: int
    x: float
    y: float
    on_front: bool
    name: Name | None


@dataclass(frozen=True, kw_only=True)
class CostChart:
    """Robustness against the time of an answer, in SVG units."""

    axes: Chart
    places: list[Place]
    front: str


@dataclass(frozen=True)
class LogAxis:
    """Map positive values to SVG units, equal factors to equal distances."""

    smallest: float
    largest: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        """Return the place of a value, to a hundredth."""
        share = math.log(value / self.smallest) / math.log(self.largest / self.smallest)
        return round(self.start + (self.end - self.start) * share, 2)


def cost_chart(facts: Facts, front: Facts, name: str) -> CostChart:
    """Draw one point a method, and the front as the most that a time buys.

    The front is a staircase: between two methods there is nothing to choose.

    Args:
        facts: Facts of the comparison.
        front: One of its fronts; see `robust_nlp.compare.facts.fronts`.
        name: Prefix of the ids in the page.
    """
    points: Sequence[Facts] = front["points"]
    costs = [point["cost"] for point in points]
    x = LogAxis(min(costs) / 1.6, max(costs) * 1.6, LEFT, WIDTH - RIGHT)
    y = Axis(1.0, HEIGHT - BOTTOM, TOP)
    at = {point["method"]: (x(point["cost"]), y(point["robustness"])) for point in points}
    style = styles(facts)
    stairs = _stairs([at[method] for method in front["front"]])
    names = _names(at, front["front"], stairs)
    return CostChart(
        axes=Chart(
            name=name,
            title=f"{sentence(measure(front))} against the time of an answer",
            description="; ".join(
                f"{p['method']}: {percent(p['robustness'])}, {milliseconds(p['cost'])} ms"
                + (", on the Pareto front" if p["method"] in front["front"] else "")
                for p in points
            )
            + ".",
            x_label="time of an answer (ms, logarithmic)",
            x_ticks=[(x(tick), f"{1000 * tick:g}") for tick in _ticks(x.smallest, x.largest)],
            y_ticks=share_ticks(y),
            series=[],
        ),
        places=[
            Place(
                method=method,
                style=style[method],
                x=place[0],
                y=place[1],
                on_front=method in front["front"],
                name=names.get(method),
            )
            for method, place in at.items()
        ],
        front=path(stairs) if stairs else "",
    )


def _stairs(corners: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Keep the robustness of each point up to the time of the next, and of the last to the end."""
    after = [x for x, _ in corners[1:]] + [WIDTH - RIGHT]
    return [
        turn
        for (x, y), following in zip(corners, after, strict=True)
        for turn in ((x, y), (following, y))
    ]


def _ticks(smallest: float, largest: float) -> list[float]:
    """Return times of 1, 2 or 5 times a power of ten, or fewer of them over a long range."""
    powers = range(math.floor(math.log10(smallest)), math.ceil(math.log10(largest)) + 1)
    for steps in ((1, 2, 5), (1,)):
        ticks = [m * 10.0**e for e in powers for m in steps if smallest <= m * 10.0**e <= largest]
        if len(ticks) <= 8:
            break
    return ticks


def _names(
    at: Mapping[str, tuple[float, float]],
    front: Sequence[str],
    stairs: Sequence[tuple[float, float]],
) -> dict[str, Name]:
    """Place the names of the methods on the front where they cover nothing."""
    taken = [(x - 7, y - 7, x + 7, y + 7) for x, y in at.values()]
    for one, other in itertools.pairwise(stairs):
        (left, right), (top, bottom) = (sorted(pair) for pair in zip(one, other, strict=True))
        taken.append((left, top - 1, right, bottom + 1))
    found = {}
    for method in front:
        x, y = at[method]
        width = LETTER * len(method)
        choices = [
            (Name(x=x, y=y - 11, anchor="middle"), x - width / 2),
            (Name(x=x - 10, y=y - 4, anchor="end"), x - 10 - width),
            (Name(x=x + 10, y=y - 6, anchor="start"), x + 10),
            (Name(x=x + 4, y=y + 20, anchor="start"), x + 4),
            (Name(x=x - 4, y=y + 20, anchor="end"), x - 4 - width),
        ]
        for name, left in choices:
            box = (left, name.y - LINE + 3, left + width, name.y + 3)
            if not _outside(box) and not any(_meet(box, other) for other in taken):
                taken.append(box)
                found[method] = name
                break
    return found


def _meet(one: tuple[float, ...], other: tuple[float, ...]) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


def _outside(box: tuple[float, ...]) -> bool:
    return box[0] < LEFT or box[2] > WIDTH or box[1] < -TOP or box[3] > HEIGHT - BOTTOM
