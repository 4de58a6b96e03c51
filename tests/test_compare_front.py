"""Pareto fronts against a sweep of the sorted points, which wrong fronts do not pass."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from robust_nlp.compare.front import CLOSE, Point, dominates, dominating, pareto_front


def point(name, robustness, cost):
    return Point(method=name, robustness=robustness, cost=cost)


def swept(points):
    """Walk from the cheapest on; of equal costs, only the most robust stay."""
    front, best = set(), float("-inf")
    for _, group in itertools.groupby(sorted(points, key=lambda p: p.cost), key=lambda p: p.cost):
        same = list(group)
        most = max(p.robustness for p in same)
        if most > best:
            front |= {p.method for p in same if p.robustness == most}
            best = most
    return front


def only_strictly_better_dominates(points):
    return {
        p.method
        for p in points
        if not any(q.robustness > p.robustness and q.cost < p.cost for q in points)
    }


def equal_points_dominate_each_other(points):
    return {
        p.method
        for p in points
        if not any(q is not p and q.robustness >= p.robustness and q.cost <= p.cost for q in points)
    }


def cost_the_wrong_way_round(points):
    return {
        p.method
        for p in points
        if not any(
            (q.robustness, q.cost) != (p.robustness, p.cost)
            and q.robustness >= p.robustness
            and q.cost >= p.cost
            for q in points
        )
    }


def cheapest_and_most_robust_only(points):
    ends = max(points, key=lambda p: p.robustness), min(points, key=lambda p: p.cost)
    return {p.method for p in ends}


def found(points):
    return {p.method for p in pareto_front(points)}


#: All sets of up to four points on a grid of three by three, ties and equal points included; costs
#: that differ do so clearly.
GRID = [
    [point(f"m{i}", r / 2, c / 2) for i, (r, c) in enumerate(places)]
    for n in range(1, 5)
    for places in itertools.combinations_with_replacement(itertools.product(range(3), repeat=2), n)
]


def test_fronts_are_those_of_the_sweep():
    assert all(found(points) == swept(points) for points in GRID)


@pytest.mark.parametrize(
    "wrong",
    [
        only_strictly_better_dominates,
        equal_points_dominate_each_other,
        cost_the_wrong_way_round,
        cheapest_and_most_robust_only,
    ],
)
def test_wrong_fronts_are_told_from_it(wrong):
    assert any(wrong(points) != swept(points) for points in GRID)


def test_points_off_the_front_are_dominated_by_one_on_it():
    for points in GRID:
        off = dominating(points)
        by_name = {p.method: p for p in points}
        assert set(off) == {p.method for p in points} - found(points)
        for name, better in off.items():
            one, other = by_name[better], by_name[name]
            assert better in found(points)
            assert (one.robustness, -one.cost) != (other.robustness, -other.cost)
            assert one.robustness >= other.robustness
            assert one.cost <= other.cost


def test_the_cheapest_comes_first():
    points = [point("a", 0.9, 5.0), point("b", 0.0, 1.0), point("c", 0.5, 2.0)]
    assert [p.method for p in pareto_front(points)] == ["b", "c", "a"]
    assert pareto_front([]) == []


def test_the_same_network_timed_twice_is_not_dominated():
    same = [point("a", 0.1, 15.4), point("b", 0.1, 13.1), point("c", 0.1, 11.8)]
    assert found([*same, point("d", 0.3, 770.0)]) == {"a", "b", "c", "d"}
    assert dominating([*same, point("d", 0.3, 16.0)]) == dict.fromkeys("abc", "d")
    assert found([point("a", 0.2, 10.0), point("b", 0.1, 9.0)]) == {"a"}
    assert found([point("a", 0.2, 10.0 * CLOSE), point("b", 0.1, 9.9)]) == {"a", "b"}


def test_close_costs_leave_a_front_that_rises_clearly():
    rng = np.random.default_rng(0)
    for _ in range(300):
        pairs = zip(rng.integers(4, size=6) / 4, rng.uniform(1.0, 4.0, 6), strict=True)
        points = [point(f"m{i}", r, c) for i, (r, c) in enumerate(pairs)]
        front, off = pareto_front(points), dominating(points)
        assert front
        assert {p.method for p in points} == {p.method for p in front} | set(off)
        for one, other in itertools.pairwise(front):
            assert one.robustness <= other.robustness
            assert one.robustness == other.robustness or one.cost * CLOSE < other.cost
        by_name = {p.method: p for p in points}
        assert all(dominates(by_name[better], by_name[name]) for name, better in off.items())
