"""How far apart two laws of a noisy text are: what a probability may become under attack.

All that a certificate needs of a clean and an attacked law are the levels of their likelihood
ratio (Neyman and Pearson). One pair of laws is *at least as far apart* as another when its `low` is
nowhere larger and its `high` nowhere smaller; replacing a pair by such a pair is sound. Three facts
are used throughout:

- Forgetting brings laws closer: a function of the noisy text, random or not, has a pair of laws
  that is nowhere further apart. Conversely, a pair at least as far apart as another can be turned
  into it by forgetting (Blackwell 1953).
- Hence, if each factor of a product is replaced by a pair at least as far apart, so is the product.
- Two sets of noisy texts, one for the predicted class and one for another, do not compete: the
  first fills up from the smallest ratios, the second from the largest, and together they have
  clean mass at most one.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]

#: Ratios closer than this, relatively, count as equal.
MERGED = 1e-12

#: Products are coarsened to this many levels.
MOST_LEVELS = 1_000

#: What adding up one more mass may misplace.
EPSILON = float(np.finfo(np.float64).eps)


@dataclass(frozen=True, eq=False)
class RatioLevels:
    """Two laws, clean and attacked, as the masses of the levels of their likelihood ratio.

    Make one with `RatioLevels.of`, which sorts and merges.

    Attributes:
        clean: Mass of each level under the clean law; shape `(levels,)`; sums to one.
        attacked: Mass of each level under the attacked law; shape `(levels,)`; sums to one. Levels
            are sorted by attacked mass over clean mass, increasing; the last may have clean mass 0.
        slack: Mass of either law that rounding may have put on a wrong level. `low` and `high`
            are loosened by it, so that they hold for the laws that are meant.

    Source: Neyman and Pearson (1933); for certificates Cohen et al. (2019), Lee et al. (2019).
    """

    clean: FloatArray
    attacked: FloatArray
    slack: float = 0.0

    @classmethod
    def of(cls, clean: npt.ArrayLike, attacked: npt.ArrayLike) -> RatioLevels:
        """Return the levels of two laws, from the masses of their outcomes in any order.

        Args:
            clean: Mass of each outcome under the clean law; sums to one.
            attacked: Mass of the same outcomes under the attacked law; sums to one.

        Raises:
            ValueError: If the two are not laws on the same outcomes.
        """
        c, a = (np.asarray(masses, np.float64).ravel() for masses in (clean, attacked))
        if len(c) != len(a):
            raise ValueError(
                f"both laws need a mass for every outcome; got {len(c)} clean and {len(a)} "
                "attacked masses"
            )
        off = 0.0
        for name, masses in (("clean", c), ("attacked", a)):
            total = math.fsum(masses)
            if not (masses >= 0.0).all() or not abs(total - 1.0) <= 1e-9:
                raise ValueError(
                    f"the {name} masses must be at least 0 and sum to one; they sum to {total!r}"
                )
            off = max(off, abs(total - 1.0))
        return _merged(c, a, off)

    def low(self, p: float) -> float:
        """Return the least attacked mass of a set (a random one, too) of clean mass at least p."""
        return float(self.lows(np.array(p)))

    def high(self, p: float) -> float:
        """Return the largest attacked mass of a set (a random one, too) of clean mass at most p."""
        return float(self.highs(np.array(p)))

    def lows(self, p: FloatArray) -> FloatArray:
        """Return `low` of each entry."""
        mass = np.interp(p - self.slack, *self._from_below) - self.slack
        return np.clip(mass, 0.0, 1.0)

    def highs(self, p: FloatArray) -> FloatArray:
        """Return `high` of each entry."""
        mass = np.interp(p + self.slack, *self._from_above) + self.slack
        return np.clip(mass, 0.0, 1.0)

    def swapped(self) -> RatioLevels:
        """Return the pair with the two laws exchanged."""
        return RatioLevels(self.attacked[::-1], self.clean[::-1], self.slack)

    def __len__(self) -> int:
        return len(self.clean)

    def __mul__(self, other: RatioLevels) -> RatioLevels:
        """Return the pair of two independent noisy texts side by side."""
        product = _merged(
            np.multiply.outer(self.clean, other.clean).ravel(),
            np.multiply.outer(self.attacked, other.attacked).ravel(),
            self.slack + other.slack,
        )
        return product.coarsened(MOST_LEVELS)

    def power(self, k: int) -> RatioLevels:
        """Return the pair of k independent copies side by side.

        Raises:
            ValueError: If k is negative.
        """
        if k < 0:
            raise ValueError(f"a power of a pair of laws needs k >= 0; got k={k}")
        result, square = SAME, self
        while k:
            if k % 2:
                result = result * square
            k //= 2
            if k:
                square = square * square
        return result

    def coarsened(self, levels: int) -> RatioLevels:
        """Return a pair of at most so many levels that is at least as far apart.

        Each outcome between two of the ratios that stay is split into an outcome of the one and an
        outcome of the other ratio, so that its clean and its attacked mass are both kept.
        Forgetting which part it was gives back the pair of before, so the new pair is at least as
        far apart. At the ratios that stay, nothing is lost.

        Args:
            levels: Most levels to keep, at least 2.

        Raises:
            ValueError: If `levels` is below 2.

        Source: Doroshenko et al., Connect the Dots (PoPETs 2022).
        """
        if levels < 2:
            raise ValueError(f"coarsening needs at least 2 levels; got {levels}")
        if len(self) <= levels:
            return self
        stay = self._spread(levels)
        # With weight w = clean + attacked and place x = attacked / w, keeping both masses means
        # keeping w and the mean place: the split is linear in x, ratios 0 and infinity included.
        weight = self.clean + self.attacked
        place = self.attacked / weight
        cell = np.searchsorted(stay, np.arange(len(self)), side="right") - 1
        cell = np.minimum(cell, len(stay) - 2)
        left, right = place[stay[cell]], place[stay[cell + 1]]
        width = right - left
        share = np.divide(place - left, width, out=np.zeros_like(width), where=width > 0.0)
        share = np.clip(share, 0.0, 1.0)
        total = np.bincount(cell, (1.0 - share) * weight, len(stay))
        total += np.bincount(cell + 1, share * weight, len(stay))
        stay, total = stay[total > 0.0], total[total > 0.0]
        scale = total / weight[stay]
        return RatioLevels(
            self.clean[stay] * scale,
            self.attacked[stay] * scale,
            self.slack + EPSILON * (len(self) + 8),
        )

    def _spread(self, levels: int) -> npt.NDArray[np.intp]:
        """Choose which levels stay: the first, the last, and more where more would be lost.

        The curve `low` is replaced by some of its tangents. What is lost between two neighbouring
        ones grows with the attacked mass and the square of the distance of the ratios, so that
        the best places are evenly spread in the integral of the square root.
        """
        with np.errstate(divide="ignore"):
            log_ratio = np.log(self.attacked) - np.log(self.clean)
        gap = np.minimum(np.diff(log_ratio), 1.0)
        mass = (self.attacked[1:] + self.attacked[:-1]) / 2.0
        spread = np.concatenate([[0.0], np.cumsum(np.sqrt(mass * gap))])
        targets = np.linspace(0.0, spread[-1], levels - 1)
        stay = np.minimum(np.searchsorted(spread, targets), len(self) - 1)
        return np.unique(np.concatenate([stay, [0, len(self) - 1]]))

    @cached_property
    def _from_below(self) -> tuple[FloatArray, FloatArray]:
        """Clean and attacked mass of the lowest levels, for as many as have clean mass."""
        bounded = self.clean > 0.0
        return _sums(self.clean[bounded]), _sums(self.attacked[bounded])

    @cached_property
    def _from_above(self) -> tuple[FloatArray, FloatArray]:
        """Clean and attacked mass of the highest levels; what the attack adds is free."""
        bounded = self.clean > 0.0
        free = self.attacked[~bounded].sum()
        return _sums(self.clean[bounded][::-1]), free + _sums(self.attacked[bounded][::-1])


def envelope(pairs: Iterable[RatioLevels]) -> RatioLevels:
    """Return a pair of laws at least as far apart as each of the given pairs.

    Its `low` is the largest convex function below those of the pairs: any convex function from
    (0, 0) to at most (1, 1) is the `low` of a pair, whose levels are its straight pieces. A
    product of k envelopes is at least as far apart as any product of k of the pairs.

    Raises:
        ValueError: If there is no pair.

    Source: Dong, Roth and Su, Gaussian differential privacy (2022), for such functions.
    """
    pairs = list(pairs)
    if not pairs:
        raise ValueError("an envelope needs at least one pair of laws")
    if len(pairs) == 1:
        return pairs[0]
    curves = np.concatenate([np.stack(pair._from_below) for pair in pairs], axis=1)
    corners: list[tuple[float, float]] = []
    for x, y in sorted(set(zip(*curves.tolist(), strict=True))):
        while len(corners) > 1 and _above_chord(corners[-2], corners[-1], (x, y)):
            corners.pop()
        corners.append((x, y))
    clean, attacked = np.diff(np.array(corners), axis=0).T
    unseen = max(0.0, 1.0 - math.fsum(attacked))
    slack = max(pair.slack for pair in pairs)
    return _merged(np.append(clean, 0.0), np.append(attacked, unseen), slack)


def margin(levels: RatioLevels, p_lower: float, p_runner_up: float) -> float:
    """Bound what the predicted class leads by after the attack, from below.

    No better bound exists that uses these two probabilities and the pair of laws only.

    Args:
        levels: The clean and the attacked law, or a pair at least as far apart.
        p_lower: Lower bound of the clean probability of the predicted class. Taken as it is: pass
            what `believed` returns.
        p_runner_up: Upper bound of the clean probability of every other class, likewise.
    """
    low = levels.low(p_lower)
    high = levels.high(min(p_runner_up, 1.0 - p_lower))
    return low - min(high, 1.0 - low)


def _merged(clean: FloatArray, attacked: FloatArray, slack: float) -> RatioLevels:
    """Sort outcomes by ratio and merge those whose ratios are the same up to rounding."""
    possible = (clean > 0.0) | (attacked > 0.0)
    clean, attacked = clean[possible], attacked[possible]
    with np.errstate(divide="ignore"):
        level = np.rint((np.log(attacked) - np.log(clean)) / MERGED)
    order = np.argsort(level, kind="stable")
    level = level[order]
    starts = np.flatnonzero(np.append(True, level[1:] != level[:-1]))
    return RatioLevels(
        np.add.reduceat(clean[order], starts),
        np.add.reduceat(attacked[order], starts),
        # Making two ratios equal moves half of MERGED of the attacked law at most.
        slack + MERGED + EPSILON * len(starts),
    )


def _sums(masses: FloatArray) -> FloatArray:
    return np.concatenate([[0.0], np.cumsum(masses)])


def _above_chord(
    left: tuple[float, float], middle: tuple[float, float], right: tuple[float, float]
) -> bool:
    """Tell whether the middle point lies on or above the line between the two others."""
    rise = (middle[1] - left[1]) * (right[0] - left[0])
    return rise >= (right[1] - left[1]) * (middle[0] - left[0])


#: Two equal laws.
SAME = RatioLevels(np.ones(1), np.ones(1))
