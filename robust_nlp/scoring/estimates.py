"""Intervals and tests for means over texts of values that are paired text by text.

A value of a text is a number from 0 to 1, such as the share of its random versions that are
classified right. Intervals are for the mean over texts drawn like these, at 95 %.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.stats import norm

from robust_nlp.mechanisms.base import FloatArray

BoolArray = npt.NDArray[np.bool_]

#: Probability that an interval fails.
DOUBT = 0.05


@dataclass(frozen=True)
class Estimate:
    """A value with a two-sided interval at 95 %."""

    value: float
    low: float
    high: float


def mean(values: Sequence[float] | FloatArray, *, answers: int = 1) -> Estimate:
    """Estimate the mean of values between 0 and 1 (Wilson's interval).

    With values 0 and 1, this is Wilson's interval of a share. Values between vary less and are
    worth more texts: those that would make the mean of zeros and ones as precise, at most as many
    as there are answers.

    Args:
        values: One value in `[0, 1]` for each text, one text at least.
        answers: Answers that a text's value is the mean of, at most.

    Raises:
        ValueError: If there are no values, or one is outside `[0, 1]`.

    Source: Wilson (1927); with the effective sample size, as Dean and Pagano (2015) for clusters.
    """
    x = _checked(values)
    p, z = float(x.mean()), float(norm.isf(DOUBT / 2))
    n = _effective(x, answers)
    middle = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n)) / (1 + z * z / n)
    # At both ends rounding must not push the bound past the share itself.
    return Estimate(p, min(p, max(0.0, middle - half)), max(p, min(1.0, middle + half)))


def difference(
    first: Sequence[float] | FloatArray, second: Sequence[float] | FloatArray, *, answers: int = 1
) -> Estimate:
    """Estimate the mean of `first` less the mean of `second`, which are paired text by text.

    With values 0 and 1, this is Newcombe's interval for paired shares: the two Wilson intervals,
    combined with the correlation of the pairs.

    Args:
        first: One value in `[0, 1]` for each text.
        second: The same for the other.
        answers: Answers that a value is the mean of, at most.

    Source: Newcombe (1998), method 10; with values between 0 and 1, the same rule for any two
        intervals, by Zou and Donner (2008).
    """
    x, y = _checked(first), _checked(second)
    covariance = float(((x - x.mean()) * (y - y.mean())).mean())
    if covariance > 0.0:  # Newcombe's continuity correction
        covariance = max(0.0, covariance - 0.5 / len(x))
    spread = math.sqrt(_variance(x, answers) * _variance(y, answers))
    correlation = covariance / spread if spread > 0.0 else 0.0
    return combine(mean(x, answers=answers), mean(y, answers=answers), correlation=correlation)


def combine(first: Estimate, second: Estimate, *, correlation: float) -> Estimate:
    """Estimate a difference from the estimates of both terms and their correlation.

    Args:
        first: The minuend.
        second: The subtrahend.
        correlation: Correlation of the two estimates, in `[-1, 1]`.

    Source: Zou and Donner (2008), equation of the method of variance estimates recovery.
    """
    r = min(1.0, max(-1.0, correlation))

    def distance(a: float, b: float) -> float:
        return math.sqrt(max(0.0, a * a - 2.0 * r * a * b + b * b))

    value = first.value - second.value
    low = value - distance(first.value - first.low, second.high - second.value)
    high = value + distance(first.high - first.value, second.value - second.low)
    return Estimate(value, low, high)


def difference_of_differences(
    first: tuple[FloatArray, FloatArray], second: tuple[FloatArray, FloatArray], *, answers: int = 1
) -> Estimate:
    """Estimate by how much one difference of paired means exceeds another, on the same texts.

    Args:
        first: Minuend and subtrahend of the first difference, one value a text each.
        second: The same of the second.
        answers: Answers that a value is the mean of, at most.
    """
    a, b = np.subtract(*first), np.subtract(*second)
    spread = float(a.std() * b.std())
    covariance = float(((a - a.mean()) * (b - b.mean())).mean())
    return combine(
        difference(*first, answers=answers),
        difference(*second, answers=answers),
        correlation=covariance / spread if spread > 0.0 else 0.0,
    )


def exchange_test(one: BoolArray, others: BoolArray) -> float:
    """Return the two-sided p-value of one answer a text against others: is it righter than chance?

    If nothing distinguishes the one answer of a text from its others, each of them is as likely to
    be the one. Given how many of a text's answers are right, the number of texts whose one answer
    is right is then a sum of independent chances; the p-value is the exact probability of a number
    at least as far from its mean. With one other answer a text, this is McNemar's exact test.

    Args:
        one: Whether the one answer is right; shape `(texts,)`.
        others: Whether the others are; shape `(texts, others)`.
    """
    chances = (others.sum(axis=1) + one) / (others.shape[1] + 1)
    law = np.ones(1)
    for chance in chances[(chances > 0.0) & (chances < 1.0)].tolist():
        law = np.convolve(law, [1.0 - chance, chance])
    open_ = (chances > 0.0) & (chances < 1.0)
    middle = float(chances[open_].sum())
    distance = abs(float(one[open_].sum()) - middle)
    far = np.abs(np.arange(len(law)) - middle) >= distance - 1e-9
    return min(1.0, float(law[far].sum()))


def sign_flip_test(differences: Sequence[int] | FloatArray) -> float:
    """Return the two-sided p-value of paired differences: is their sum further from 0 than chance?

    If the two sides of each pair may change places, each difference is as likely as its negative;
    the p-value is the exact probability of a sum at least as far from 0 under that. With
    differences -1, 0 and 1, this is McNemar's exact test.

    Args:
        differences: One whole number for each text.

    Raises:
        ValueError: If a difference is not a whole number.
    """
    found = np.asarray(differences, dtype=np.float64)
    whole = np.rint(found).astype(np.int64)
    if np.abs(found - whole).max(initial=0.0) > 1e-6:
        raise ValueError("the test takes whole numbers, such as right answers out of ten")
    sizes = np.abs(whole[whole != 0])
    total, law = int(sizes.sum()), np.zeros(int(sizes.sum()) + 1)
    law[0] = 1.0  # of the sum of the positive ones
    reached = 0
    for size in sizes.tolist():
        reached += size
        law[: reached + 1] *= 0.5
        law[size : reached + 1] += law[: reached + 1 - size].copy()
    sums = np.abs(2 * np.arange(total + 1) - total)
    return min(1.0, float(law[sums >= abs(int(whole.sum()))].sum()))


def _checked(values: Sequence[float] | FloatArray) -> FloatArray:
    x = np.asarray(values, dtype=np.float64)
    if not len(x) or not ((x >= -1e-9) & (x <= 1.0 + 1e-9)).all():
        raise ValueError(f"expected values in [0, 1], one text at least; got {x.tolist()!s:.80}")
    return np.clip(x, 0.0, 1.0)


def _variance(x: FloatArray, answers: int) -> float:
    """Variance over texts, but no less than that of as many unrelated answers."""
    p = float(x.mean())
    return max(float(x.var()), p * (1.0 - p) / answers)


def _effective(x: FloatArray, answers: int) -> float:
    p = float(x.mean())
    variance = _variance(x, answers)
    return len(x) * p * (1.0 - p) / variance if variance > 1e-15 else float(len(x))
