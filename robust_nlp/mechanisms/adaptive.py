"""Length-adaptive deletion: a deletion rate that depends on the length of the text."""

from __future__ import annotations

import bisect
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from scipy.stats import binom

from robust_nlp.mechanisms.base import (
    NO_RADIUS,
    EditBudget,
    FloatArray,
    IntArray,
    Profile,
    believed,
)
from robust_nlp.mechanisms.deletion import DeletionLaw
from robust_nlp.threats import Attacker

#: Radii are searched up to here; a text this safe is reported with this radius.
MAX_RADIUS = 1_000

#: Radii whose attacks are bounded in one go.
RADII_AT_ONCE = 16

#: Binomial distribution functions are good to about 1e-13; margins below this do not certify.
NUMERICAL_SLACK = 1e-10


@dataclass(frozen=True, kw_only=True)
class AdaptiveDeletion(DeletionLaw):
    """Delete units at a rate that grows with the length of the text.

    The rate of a text with n units is `max(p_min, p_max - keep / n)`, where `keep` is the entry of
    `keeps` that belongs to n: with `p_max = 1`, about `keep` units are left of every long text.

    Guarantees: against insertions, deletions and substitutions of units, in any mix, in whole
        edits, by the exact pairwise bound; attacks that change the length, and so the rate, are
        covered, pure deletions included, also where a longer attack is weaker than a shorter one.
    Assumes: the base classifier sees the text only through its kept units.
    Does not cover: changes of the base classifier; protected text.

    Args:
        keeps: Expected number of units kept, above zero; one entry more than `edges`.
        edges: Lengths, increasing, at which the next entry of `keeps` takes over (inclusive).
        p_min: Smallest rate, in `[0, 1)`.
        p_max: Rate of an infinitely long text, in `(p_min, 1]`.
        unit: "word", "character" or "token".

    Raises:
        ValueError: If a setting is outside its range.

    Source: Huang et al., AdaptDel (NeurIPS 2025); bins as in its AdaptDel+ variant.
    Departs: The released search lacks the runner-up's mass outside the common subsequence, skips
        pure deletions, assumes that margins fall with the radius, and overflows on long texts.
    """

    keeps: tuple[float, ...] = (20.0,)
    edges: tuple[int, ...] = ()
    p_min: float = 0.0
    p_max: float = 1.0

    kind: ClassVar[str] = "adaptive_deletion"

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "keeps", tuple(float(keep) for keep in self.keeps))
        object.__setattr__(self, "edges", tuple(int(edge) for edge in self.edges))
        if not 0.0 <= self.p_min < self.p_max <= 1.0:
            raise ValueError(
                f"adaptive deletion needs 0 <= p_min < p_max <= 1; got p_min={self.p_min!r} and "
                f"p_max={self.p_max!r}"
            )
        if not self.keeps or min(self.keeps) <= 0.0:
            raise ValueError(f"every entry of keeps must be above 0; got keeps={self.keeps!r}")
        if len(self.keeps) != len(self.edges) + 1:
            raise ValueError(
                f"keeps needs one entry more than edges; got {len(self.keeps)} keeps and "
                f"{len(self.edges)} edges"
            )
        if list(self.edges) != sorted(set(self.edges)):
            raise ValueError(f"edges must increase; got {self.edges!r}")

    @property
    def description(self) -> str:
        kept = " / ".join(f"{keep:g}" for keep in self.keeps)
        return (
            f"Length-adaptive deletion: every {self.unit} is deleted with one probability that "
            f"depends on the length of the text, so that about {kept} {self.unit}s are left; the "
            "answer is the class that most of the shortened texts are given."
        )

    def rate(self, n_units: int) -> float:
        if n_units == 0:
            return self.p_min  # nothing to delete: any rate gives the empty text
        keep = self.keeps[bisect.bisect_right(self.edges, n_units)]
        return max(self.p_min, self.p_max - keep / n_units)

    def radius(
        self,
        p_lower: float,
        p_runner_up: float,
        *,
        n_units: int,
        attacker: Attacker,
        profile: Profile = (),  # noqa: ARG002
    ) -> int:
        """Return the certified radius; see `TextMechanism.radius`.

        Radii are tried in turn and the first that fails ends the search, so no assumption
        on how margins change with the radius is needed.
        """
        self.check_attacker(attacker)
        low, high = believed(p_lower, p_runner_up)
        if low <= high:
            return NO_RADIUS
        cap = MAX_RADIUS if "insert" in attacker else min(n_units, MAX_RADIUS)
        for start in range(1, cap + 1, RADII_AT_ONCE):
            radii = range(start, min(start + RADII_AT_ONCE, cap + 1))
            spheres = [_sphere(n_units, radius, attacker) for radius in radii]
            common, attacked = (np.concatenate(lengths) for lengths in zip(*spheres, strict=True))
            margins = self._margins(low, high, n_units, common, attacked)
            of_radius = np.repeat(radii, [len(lengths) for lengths, _ in spheres])
            failed = of_radius[margins <= NUMERICAL_SLACK]
            if len(failed):
                return int(failed.min()) - 1
        return cap

    def margin(
        self, p_lower: float, p_runner_up: float, *, n_units: int, edits: EditBudget
    ) -> float:
        """Bound the attacked margin between the predicted class and every other from below.

        The bound is exact for texts of distinct units and edits with fresh units: some base
        classifier with these two probabilities attains it.

        Args:
            p_lower: Lower bound of the clean probability of the predicted class, in `[0, 1]`.
            p_runner_up: Upper bound of the clean probability of every other class, in `[0, 1]`.
            n_units: Number of units of the clean text.
            edits: The attacker's moves; deletions and substitutions together at most `n_units`.
        """
        low, high = believed(p_lower, p_runner_up)
        common = np.array([n_units - edits.deletions - edits.substitutions])
        if common[0] < 0:
            raise ValueError(f"{edits} does not fit a text of {n_units} units")
        attacked = np.array([n_units + edits.insertions - edits.deletions])
        return float(self._margins(low, high, n_units, common, attacked)[0])

    def _margins(
        self, p_lower: float, p_runner_up: float, n: int, common: IntArray, attacked: IntArray
    ) -> FloatArray:
        """Margins after attacks that leave `common` units in texts of `attacked` units."""
        clean_rate = self.rate(n)
        if not len(common):
            return np.empty(0)
        lengths = np.arange(attacked.min(), attacked.max() + 1)
        rates = np.array([self.rate(int(length)) for length in lengths])
        attacked_rate = rates[attacked - lengths[0]]
        # Mass of the noisy texts inside the common part, before and after the attack.
        inside_clean: FloatArray = np.power(clean_rate, n - common)
        inside_attacked = attacked_rate ** (attacked - common)
        low_target = np.clip(p_lower - 1.0 + inside_clean, 0.0, None)
        high_target = np.minimum(p_runner_up, inside_clean)
        shrinks = attacked_rate >= clean_rate  # then long noisy texts lose most of their mass
        low = inside_attacked * _transported(
            low_target, inside_clean, common, clean_rate, attacked_rate, from_long=shrinks
        )
        high = inside_attacked * _transported(
            high_target, inside_clean, common, clean_rate, attacked_rate, from_long=~shrinks
        )
        # Where no clean noisy text lies inside the common part, all of it may be the other's.
        high = np.where(inside_clean > 0.0, high + 1.0 - inside_attacked, 1.0)
        margins: FloatArray = low - np.minimum(high, 1.0 - low)
        return margins


def _sphere(n_units: int, radius: int, attacker: Attacker) -> tuple[IntArray, IntArray]:
    """Common and attacked lengths that exactly `radius` moves reach and fewer do not.

    An insertion and a deletion leave the same common part and length as one substitution, so an
    attacker that may substitute never gains by mixing insertions with deletions.
    """
    spent = np.arange(radius + 1)
    if "substitute" in attacker:
        mixes = [(spent, 0 * spent, radius - spent), (0 * spent, spent, radius - spent)]
    else:
        mixes = [(spent, radius - spent, 0 * spent)]
    a, b, c = (np.concatenate(moves) for moves in zip(*mixes, strict=True))
    possible = b + c <= n_units
    for move, count in (("insert", a), ("delete", b)):
        if move not in attacker:
            possible &= count == 0
    a, b, c = a[possible], b[possible], c[possible]
    return n_units - b - c, n_units + a - b


def _transported(
    target: FloatArray,
    inside: FloatArray,
    common: IntArray,
    clean_rate: float,
    attacked_rate: FloatArray,
    *,
    from_long: np.ndarray[tuple[int, ...], np.dtype[np.bool_]],
) -> FloatArray:
    """Attacked share of noisy texts of the common part that have clean mass `target`.

    Noisy texts are taken in the order of their length, from the longest or the shortest; the last
    length is taken in part (fractional knapsack: the ratio of the two masses is monotone in the
    length). Shares are relative to the mass of the common part, `inside` in the clean text.
    """
    # Count from the end where filling starts: deleted units from the longest, kept ones otherwise.
    clean = np.where(from_long, clean_rate, 1.0 - clean_rate)
    attacked = np.where(from_long, attacked_rate, 1.0 - attacked_rate)
    share = np.divide(target, inside, out=np.zeros_like(inside), where=inside > 0.0)
    share = np.clip(share, 0.0, 1.0)
    last = np.clip(binom.ppf(share, common, clean), 0, common)
    before = binom.cdf(last - 1, common, clean)
    step = binom.pmf(last, common, clean)
    part = np.divide(share - before, step, out=np.ones_like(step), where=step > 0.0)
    taken: FloatArray = binom.cdf(last - 1, common, attacked) + np.clip(part, 0.0, 1.0) * binom.pmf(
        last, common, attacked
    )
    return np.where(share > 0.0, taken, 0.0)
