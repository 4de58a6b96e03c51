"""Bounds that hold at every look of a sequential plan: exact group sequential tests.

For each probability on a fine grid, the test of "the true probability is at most this" looks at
the votes at scheduled totals and rejects as soon as the successes reach a boundary. Boundaries are
computed from the exact law of the binomial walk that has not crossed yet, so that the probability
of ever crossing is at most alpha. The lower confidence bound is the largest rejected probability.
It stays valid under any stopping rule: stopping early only takes chances of rejection away.

Source: Jennison and Turnbull, Group Sequential Methods (2000), chapters 9 (repeated confidence
intervals) and 12 (exact tests of binary data), with the error-spending rule of Lan and DeMets.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy.signal import fftconvolve
from scipy.stats import binom

from robust_nlp.mechanisms.base import FloatArray, IntArray

#: Points of the grid of tested probabilities. Bounds are rounded down to it.
GRID_POINTS = 2_048

#: Share of alpha spent by all looks but the last together, and the share of that which is left
#: after each of them.
SPENT_EARLY = 0.7
SPENT_DECAY = 0.8

#: Standard deviations of the walk that are followed; what lies outside has mass below 1e-18.
BAND = 9.0

#: Allows for rounding in the sums of probabilities.
ROUNDING = 1e-13


def sequential_lower_bound(
    successes: Sequence[int], *, schedule: Sequence[int], alpha: float
) -> float:
    """Bound a success probability from below after some looks of a schedule.

    In at most a fraction `alpha` of repetitions the true probability is smaller than the returned
    value at whichever look the sampling stops, whatever rule stops it.

    Args:
        successes: Successes in total at the first, second, … look, up to the last one taken.
        schedule: Votes in total at each planned look, fixed before the first vote; at least as
            many as looks were taken.
        alpha: Failure probability, in `(0, 1)`.

    Returns:
        A probability in `[0, 1)`, rounded down to a grid.

    Raises:
        ValueError: If the looks do not fit the schedule, or alpha is outside `(0, 1)`.
    """
    schedule = tuple(schedule)
    _check(successes, schedule, alpha)
    rejected = 0
    for look, count in enumerate(successes):
        boundary = _look(schedule[: look + 1], alpha)
        needed = boundary.last if look == len(schedule) - 1 else boundary.early
        rejected = max(rejected, int(np.searchsorted(needed, count, side="right")))
    return float(_grid()[rejected - 1]) if rejected else 0.0


@dataclass(frozen=True, eq=False)
class _Look:
    """Boundaries of one look, and the walks that are still below them after it."""

    early: IntArray  # successes that reject, per grid point, if looks may follow
    last: IntArray  # successes that reject if this is the last look
    spent: FloatArray  # probability of a rejection up to here
    start: IntArray  # successes at the first column of `walk`
    walk: FloatArray  # probability of each number of successes without a rejection


@lru_cache(maxsize=1)
def _grid() -> FloatArray:
    angles = np.linspace(0.0, np.pi / 2.0, GRID_POINTS + 1)[:-1]
    return np.asarray(np.sin(angles) ** 2)


@lru_cache(maxsize=256)
def _look(schedule: tuple[int, ...], alpha: float) -> _Look:
    """Compute the boundaries of the last of these looks from those before it."""
    q = _grid()
    total = schedule[-1]
    if len(schedule) == 1:
        start, law = _binomial_band(total, q)
        spent = np.zeros_like(q)
    else:
        before = _look(schedule[:-1], alpha)
        step_start, step = _binomial_band(total - schedule[-2], q)
        law = np.clip(fftconvolve(before.walk, step, axes=1), 0.0, None)
        start, law = _crop(before.start + step_start, law, *_band(total, q))
        spent = before.spent
    tail = np.cumsum(law[:, ::-1], axis=1)[:, ::-1]
    tail = np.hstack([tail, np.zeros((len(q), 1))])
    early_budget = alpha * SPENT_EARLY * (1.0 - SPENT_DECAY ** len(schedule))
    early = _first_within(tail, early_budget - spent, start)
    last = _first_within(tail, alpha - spent, start)
    column = np.clip(early - start, 0, law.shape[1])
    rows = np.arange(len(q))
    walk = np.where(np.arange(law.shape[1]) < column[:, None], law, 0.0)
    return _Look(early, last, spent + tail[rows, column], start, walk)


def _first_within(tail: FloatArray, budget: FloatArray, start: IntArray) -> IntArray:
    """Smallest successes whose tail fits the budget, made monotone in the tested probability."""
    outside = tail > np.maximum(budget, 0.0)[:, None] - ROUNDING
    outside[:, -1] = False  # more successes than the band holds: cannot happen
    first = start + outside.argmin(axis=1)
    return np.asarray(np.maximum.accumulate(first))


def _band(trials: int, q: FloatArray) -> tuple[IntArray, int]:
    """First number of successes to follow, per grid point, and how many numbers to follow."""
    reach = BAND * np.sqrt(trials * q * (1.0 - q)) + BAND**2
    first = np.clip(np.floor(trials * q - reach), 0, trials).astype(np.int64)
    last = np.clip(np.ceil(trials * q + reach), 0, trials).astype(np.int64)
    return first, int((last - first).max()) + 1


def _binomial_band(trials: int, q: FloatArray) -> tuple[IntArray, FloatArray]:
    start, width = _band(trials, q)
    return start, binom.pmf(start[:, None] + np.arange(width), trials, q[:, None])


def _crop(
    start: IntArray, law: FloatArray, first: IntArray, width: int
) -> tuple[IntArray, FloatArray]:
    """Shift each row of a law so that it begins at `first`."""
    columns = first[:, None] - start[:, None] + np.arange(width)
    inside = (columns >= 0) & (columns < law.shape[1])
    picked = np.take_along_axis(law, np.clip(columns, 0, law.shape[1] - 1), axis=1)
    return first, np.where(inside, picked, 0.0)


def _check(successes: Sequence[int], schedule: tuple[int, ...], alpha: float) -> None:
    if not 0.0 < alpha < 1.0:
        raise ValueError(f"alpha is a failure probability in (0, 1), such as 0.001; got {alpha!r}")
    if any(b <= a for a, b in zip((0, *schedule), schedule, strict=False)):
        raise ValueError(f"a schedule is increasing and positive; got {schedule}")
    if len(successes) > len(schedule):
        raise ValueError(f"{len(successes)} looks were taken of {len(schedule)} planned")
    for look, (count, total) in enumerate(zip(successes, schedule, strict=False)):
        if not 0 <= count <= total:
            raise ValueError(f"successes at look {look + 1} must be in 0..{total}; got {count}")
