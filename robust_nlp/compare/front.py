"""Which methods are on the Pareto front of robustness against cost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

#: Costs within this factor count as equal: the same network, timed twice, differs by as much.
CLOSE = 1.5


@dataclass(frozen=True, kw_only=True)
class Point:
    """One method in a picture of robustness against cost.

    Attributes:
        method: Its name.
        robustness: The more, the better.
        cost: The less, the better.
    """

    method: str
    robustness: float
    cost: float


def dominates(one: Point, other: Point) -> bool:
    """Tell whether one is no less robust and not clearly dearer, and better in one way.

    Costs differ clearly if they differ by more than the factor `CLOSE`. There are no circles: along
    a chain robustness grows, or stays while costs clearly fall.
    """
    no_worse = one.robustness >= other.robustness and one.cost <= other.cost * CLOSE
    return no_worse and (one.robustness > other.robustness or one.cost * CLOSE < other.cost)


def pareto_front(points: Sequence[Point]) -> list[Point]:
    """Return the points that no other dominates, the cheapest first; equal points are all in."""
    front = [p for p in points if not any(dominates(other, p) for other in points)]
    return sorted(front, key=lambda p: p.cost)


def dominating(points: Sequence[Point]) -> dict[str, str]:
    """Return for each point off the front the most robust of the points that dominate it."""
    front = {p.method for p in pareto_front(points)}
    return {
        p.method: max(
            (other for other in points if dominates(other, p)),
            key=lambda other: (other.robustness, -other.cost),
        ).method
        for p in points
        if p.method not in front
    }
