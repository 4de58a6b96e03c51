"""Geometry of the charts; the templates draw it as inline SVG with real text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from robust_nlp.reporting import words

#: Size of a chart with axes, and the margins of its plot, in SVG units.
WIDTH, HEIGHT = 440.0, 260.0
LEFT, RIGHT, TOP, BOTTOM = 46.0, 14.0, 12.0, 44.0

#: Length of the bar of outcomes, the gap between two of them, and styles that belong to a name.
BAR, GAP = 960.0, 2.0
STYLES = {"wrong": 2, "abstention": 3, "dead zone": 4}
STYLES |= {"right, nothing to swap": 5, "certified, nothing to swap": 5}

#: Points are marked up to this many of them.
MARKED = 30


@dataclass(frozen=True, kw_only=True)
class Series:
    """One line of a chart: its style, path, band and marked points."""

    name: str
    style: int
    line: str
    band: str
    points: list[tuple[float, float]]


@dataclass(frozen=True, kw_only=True)
class Chart:
    """A chart with axes, in SVG units."""

    name: str
    title: str
    description: str
    x_label: str
    x_ticks: list[tuple[float, str]]
    y_ticks: list[tuple[float, str]]
    series: list[Series]
    width: float = WIDTH
    height: float = HEIGHT
    left: float = LEFT
    right: float = WIDTH - RIGHT
    top: float = TOP
    bottom: float = HEIGHT - BOTTOM


@dataclass(frozen=True)
class Axis:
    """Map values from 0 to `largest` to SVG units."""

    largest: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        """Return the place of a value, to a hundredth."""
        return round(self.start + (self.end - self.start) * value / self.largest, 2)


def whole_ticks(largest: int, *, at_most: int = 8) -> list[int]:
    """Return round whole numbers from 0 to at most `largest`, in steps of 1, 2 or 5 times ten."""
    steps = (m * 10**e for e in range(12) for m in (1, 2, 5))
    step = next(step for step in steps if largest / step <= at_most)
    return list(range(0, largest + 1, step))


def accuracy_chart(
    name: str,
    attackers: Sequence[Mapping[str, Any]],
    *,
    unit: str,
    measure: str,
    band: bool,
    largest: int | None = None,
    styles: Sequence[int] | None = None,
) -> Chart:
    """Draw certified accuracy against radius as steps, one line an attacker.

    Args:
        name: Prefix of the ids in the page.
        attackers: Attackers with their curves; see `attacker_facts`.
        unit: Unit of the edits.
        measure: What the share is called.
        band: Whether to draw intervals.
        largest: Where the radius axis ends; `None` shows the curves to their ends.
        styles: Style of each line; `None` counts from 0.
    """
    ends = [(a["largest_radius"] or 0) + 1 for a in attackers]
    end = max(ends) if largest is None else min(largest, max(ends))
    x = Axis(end, LEFT, WIDTH - RIGHT)
    y = Axis(1.0, HEIGHT - BOTTOM, TOP)
    series = []
    for index, attacker in enumerate(attackers):
        points = [p for p in attacker["curve"] if p["radius"] <= end]
        low = steps(points, "low", x, y)
        high = steps(points, "high", x, y)
        series.append(
            Series(
                name=attacker["attacker"],
                style=index if styles is None else styles[index],
                line=path(steps(points, "share", x, y)),
                band=path([*high, *reversed(low)]) + " Z" if band else "",
                points=[(x(p["radius"]), y(p["share"])) for p in points]
                if len(points) <= MARKED
                else [],
            )
        )
    return Chart(
        name=name,
        title=f"{measure} against radius",
        description="; ".join(_in_words(attacker) for attacker in attackers) + ".",
        x_label=f"radius ({unit} edits)",
        x_ticks=[(x(tick), f"{tick}") for tick in whole_ticks(end)],
        y_ticks=share_ticks(y),
        series=series,
    )


def steps(
    points: Sequence[Mapping[str, Any]], value: str, x: Axis, y: Axis
) -> list[tuple[float, float]]:
    """Return the corners of a line that keeps each value up to the next radius."""
    corners = []
    for point, following in zip(points, [*points[1:], points[-1]], strict=True):
        corners += [
            (x(point["radius"]), y(point[value])),
            (x(following["radius"]), y(point[value])),
        ]
    return corners


def share_ticks(axis: Axis) -> list[tuple[float, str]]:
    """Return ticks at quarters of all texts."""
    return [(axis(tick / 4), f"{25 * tick} %") for tick in range(5)]


def path(corners: Sequence[tuple[float, float]]) -> str:
    """Write a line through corners as an SVG path."""
    return "M" + " L".join(f"{x:g},{y:g}" for x, y in corners)


def _in_words(attacker: Mapping[str, Any]) -> str:
    shown = [p for p in attacker["curve"] if p["radius"] in attacker["table"]]
    values = ", ".join(f"{words.percent(p['share'])} at radius {p['radius']}" for p in shown)
    return f"{attacker['attacker']}: {values}"


def rate_chart(
    name: str,
    title: str,
    x_label: str,
    curves: Sequence[tuple[str, Mapping[str, Any], Mapping[str, Any]]],
    *,
    band: bool = True,
    styles: Sequence[int] | None = None,
) -> Chart:
    """Draw accuracy against the rate of a perturbation, one line a curve.

    Args:
        name: Prefix of the ids in the page.
        title: Title of the chart.
        x_label: What the rate is a share of.
        curves: For each line its name, the accuracy without perturbation, and the curve; see
            `robust_nlp.scoring.tables.RobustnessScores.to_dict`.
        band: Whether to draw intervals.
        styles: Style of each line; `None` counts from 0.
    """
    end = max(curve["largest_rate"] for _, _, curve in curves)
    x, y = Axis(end, LEFT, WIDTH - RIGHT), Axis(1.0, HEIGHT - BOTTOM, TOP)
    series, told = [], []
    for index, (label, clean, curve) in enumerate(curves):
        points = [(0.0, clean), *((p["rate"], p["accuracy"]) for p in curve["points"])]
        line, low, high = (
            [(x(rate), y(accuracy[which])) for rate, accuracy in points]
            for which in ("value", "low", "high")
        )
        series.append(
            Series(
                name=label,
                style=index if styles is None else styles[index],
                line=path(line),
                band=path([*high, *reversed(low)]) + " Z" if band else "",
                points=line,
            )
        )
        shares = ", ".join(f"{words.percent(a['value'])} at {100 * rate:g} %" for rate, a in points)
        told.append(f"{label}: {shares}")
    ticks = sorted({0.0, *(p["rate"] for _, _, curve in curves for p in curve["points"])})
    step = -(-len(ticks) // 10)
    return Chart(
        name=name,
        title=title,
        description="; ".join(told) + ".",
        x_label=x_label,
        x_ticks=[(x(tick), f"{100 * tick:g} %") for tick in ticks[::step]],
        y_ticks=share_ticks(y),
        series=series,
    )


@dataclass(frozen=True, kw_only=True)
class LengthColumn:
    """Radii of one length class, in SVG units; `None` for what does not exist or fit."""

    x: float
    label: str
    low: float | None
    median: float | None
    high: float | None
    ceiling: float | None


@dataclass(frozen=True, kw_only=True)
class LengthChart:
    """Quartiles of the radius by length class."""

    axes: Chart
    columns: list[LengthColumn]


def length_chart(rows: Sequence[Mapping[str, Any]], *, unit: str) -> LengthChart:
    """Draw the quartiles of the radius, and the ceiling, by length class."""
    # A ceiling far above all radii (an attacker that may only delete) would flatten the picture.
    reached = max([1, *(row["upper_quartile"] or 0 for row in rows)])
    ceilings = [row["ceiling"] or 0 for row in rows]
    end = max([reached, *(ceiling for ceiling in ceilings if ceiling <= 4 * reached)])
    y = Axis(end, HEIGHT - BOTTOM, TOP)
    width = (WIDTH - LEFT - RIGHT) / len(rows)

    def place(value: int | None) -> float | None:
        return None if value is None or value > end else y(value)

    columns = [
        LengthColumn(
            x=round(LEFT + (i + 0.5) * width, 2),
            label=span(row["shortest"], row["longest"]),
            low=place(row["lower_quartile"]),
            median=place(row["median"]),
            high=place(row["upper_quartile"]),
            ceiling=place(row["ceiling"]),
        )
        for i, row in enumerate(rows)
    ]
    told = [
        f"{span(row['shortest'], row['longest'])} {unit}s: "
        + ("no answer" if row["median"] is None else f"median {row['median']}")
        for row in rows
    ]
    axes = Chart(
        name="length",
        title="Certified radius by length of the text",
        description="; ".join(told) + ".",
        x_label=f"length of the text ({unit}s)",
        x_ticks=[(column.x, column.label) for column in columns],
        y_ticks=[(y(tick), f"{tick}") for tick in whole_ticks(end, at_most=6)],
        series=[],
    )
    return LengthChart(axes=axes, columns=columns)


@dataclass(frozen=True, kw_only=True)
class Segment:
    """One outcome in a bar."""

    style: int
    x: float
    width: float


def span(low: int, high: int) -> str:
    """Write a range of lengths, such as "5–9"."""
    return f"{low}" if low == high else f"{low}–{high}"


def bar_segments(outcomes: Sequence[Mapping[str, Any]]) -> list[Segment]:
    """Lay outcomes side by side in a bar."""
    segments, start = [], 0.0
    for position, outcome in enumerate(outcomes):
        width = BAR * outcome["share"]
        segments.append(
            Segment(
                style=STYLES.get(outcome["name"], position),
                x=round(start, 2),
                width=round(max(0.0, width - GAP), 2),
            )
        )
        start += width
    return segments
