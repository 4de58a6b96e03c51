"""Randomized deletion at a fixed rate: the noise law and its closed-form certificates."""

from __future__ import annotations

import dataclasses
import itertools
import math
from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from scipy.special import comb
from scipy.stats import binom

from robust_nlp.mechanisms.base import (
    NO_RADIUS,
    REMOVED,
    EditBudget,
    IntArray,
    LengthMechanism,
    Profile,
    Strata,
    believed,
)
from robust_nlp.threats import ALL_EDITS, Attacker


def deletion_margin(
    p_lower: float, p_runner_up: float, *, p_del: float, edits: EditBudget
) -> float:
    """Bound the attacked margin between the predicted class and every other from below.

    After any `edits.insertions` insertions, `edits.deletions` deletions and
    `edits.substitutions` substitutions, the probability of the predicted class exceeds that of
    every other class by at least the returned value. No better bound exists that uses these two
    probabilities only.

    Args:
        p_lower: Lower bound of the clean probability of the predicted class, in `[0, 1]`.
        p_runner_up: Upper bound of the clean probability of every other class, in `[0, 1]`.
        p_del: Probability that a unit is deleted, in `(0, 1)`.
        edits: The attacker's moves, from clean to attacked.

    Source: Huang et al., RS-Del (NeurIPS 2023), Theorem 5, in the longest-common-subsequence form;
        the runner-up bound with the mass outside the common subsequence as in CERT-ED (2024).
    """
    low, high = believed(p_lower, p_runner_up)
    a, b, c = edits
    growth = math.exp(min((a - b) * math.log(p_del), 700.0))  # beyond, nothing is certified
    low = growth * max(0.0, low - 1.0 + p_del ** (b + c))
    high = growth * high + 1.0 - p_del ** (a + c)
    return low - min(high, 1.0 - low)


def deletion_radius(
    p_lower: float,
    p_runner_up: float,
    *,
    p_del: float,
    n_units: int,
    attacker: Attacker = ALL_EDITS,
) -> int:
    """Return the certified radius of randomized deletion at a fixed rate.

    No text within the returned number of moves has another smoothed answer, provided that the two
    bounds hold. The worst mix of moves spends the whole budget on substitutions if the attacker
    may substitute, else on insertions if it may insert, else on deletions.

    Args:
        p_lower: Lower bound of the probability of the predicted class, in `[0, 1]`.
        p_runner_up: Upper bound of the probability of every other class, in `[0, 1]`; `1.0` or
            `1 - p_lower` gives the two-class form.
        p_del: Probability that a unit is deleted, in `(0, 1)`.
        n_units: Number of units of the clean text; it caps the radius of an attacker that cannot
            insert, which is then "all texts that it can reach".
        attacker: The attacker's moves, from clean to attacked.

    Returns:
        The radius in whole edits, inclusive, strict at ties; `NO_RADIUS` if there is none.

    Source: CERT-ED (Findings of EMNLP 2024), Table 1; RS-Del (NeurIPS 2023).
    Departs: Their code counts edits from the attacked text to the clean one, so that its "ins" is
        our {"delete"}; and it certifies exact ties.
    """
    check_rate(p_del)
    low, high = believed(p_lower, p_runner_up)
    margin = low - high
    if "substitute" in attacker:
        return _largest(
            lambda q: 2.0 * q - 2.0 + margin, 1.0 - margin / 2.0, p_del, _cap(n_units, attacker)
        )
    if "insert" in attacker:
        return _largest(
            lambda q: q * (1.0 + margin) - 1.0, 1.0 / max(1.0 + margin, 1e-300), p_del, None
        )
    return _largest(lambda q: margin - 1.0 + q, 1.0 - margin, p_del, n_units)


def deletion_threshold_radius(
    p_lower: float,
    *,
    p_del: float,
    n_units: int,
    threshold: float = 0.5,
    attacker: Attacker = ALL_EDITS,
) -> int:
    """Return the radius within which a class keeps a probability above a threshold.

    With `threshold=0.5` this is the two-class certificate; another threshold serves decisions
    such as "malware if its probability exceeds 0.2".

    Args:
        p_lower: Lower bound of the probability of the class, in `[0, 1]`.
        p_del: Probability that a unit is deleted, in `(0, 1)`.
        n_units: Number of units of the clean text (caps the radius when nothing can be inserted).
        threshold: The probability that must be exceeded, in `(0, 1)`.
        attacker: The attacker's moves, from clean to attacked.

    Source: Huang et al., RS-Del (NeurIPS 2023), with class thresholds.
    Departs: Direction and ties as in `deletion_radius`. Against insertions with deletions, the
        smaller of both radii: insertions alone are the worst only from a threshold of 1/2 on.
    """
    check_rate(p_del)
    p_lower, _ = believed(p_lower, 0.0)
    if not 0.0 < threshold < 1.0:
        raise ValueError(f"threshold is a probability in (0, 1); got {threshold!r}")
    if "substitute" in attacker:
        return _largest(
            lambda q: p_lower - 1.0 + q - threshold,
            1.0 + threshold - p_lower,
            p_del,
            _cap(n_units, attacker),
        )
    radii = []
    if "insert" in attacker:
        boundary = threshold / max(p_lower, 1e-300)
        radii.append(_largest(lambda q: q * p_lower - threshold, boundary, p_del, None))
    if "delete" in attacker:  # below a threshold of one half, deletions may be the worse
        lost = 1.0 - p_lower
        kept = 1.0 - threshold
        radii.append(_largest(lambda q: q * kept - lost, lost / kept, p_del, n_units))
    return min(radii)


def deletion_frontier(
    p_lower: float,
    p_runner_up: float,
    *,
    p_del: float,
    n_units: int,
    attacker: Attacker = ALL_EDITS,
) -> list[EditBudget]:
    """List the largest safe mixes of insertions, deletions and substitutions.

    Every budget that is, move by move, at most one of the returned budgets leaves the smoothed
    answer as it is; no other budget is provable. Deletions and substitutions together never
    exceed the length of the text. Empty if nothing is certified.

    Args:
        p_lower: Lower bound of the probability of the predicted class, in `[0, 1]`.
        p_runner_up: Upper bound of the probability of every other class, in `[0, 1]`.
        p_del: Probability that a unit is deleted, in `(0, 1)`.
        n_units: Number of units of the clean text.
        attacker: The attacker's moves; the others stay at zero.
    """
    check_rate(p_del)

    def safe(a: int, b: int, c: int) -> bool:
        if b + c > n_units:
            return False
        budget = EditBudget(a, b, c)
        return deletion_margin(p_lower, p_runner_up, p_del=p_del, edits=budget) > 0.0

    if not safe(0, 0, 0):
        return []
    deletions: dict[tuple[int, int], int] = {}  # most deletions for (insertions, substitutions)
    most = n_units
    for a in itertools.count():
        row_most = n_units if a == 0 else deletions[a - 1, 0]
        if a > 0 and ("insert" not in attacker or not safe(a, 0, 0)):
            break
        for c in range(n_units + 1):
            if c > 0 and ("substitute" not in attacker or not safe(a, 0, c)):
                break
            most = min(row_most, n_units - c) if "delete" in attacker else 0
            row_most = deletions[a, c] = _last_true(lambda b, a=a, c=c: safe(a, b, c), most)  # type: ignore[misc]
    return sorted(
        EditBudget(a, b, c)
        for (a, c), b in deletions.items()
        if deletions.get((a + 1, c), -1) < b and deletions.get((a, c + 1), -1) < b
    )


def dead_zone_length(p_del: float) -> int:
    """Return the largest length at which all texts have one and the same smoothed answer.

    A text with `n` units becomes the empty text with probability `p_del ** n`; above one half,
    the answer of the base classifier to the empty text decides.
    """
    check_rate(p_del)
    return _largest(lambda q: q - 0.5, 0.5, p_del, None)


@dataclass(frozen=True, kw_only=True)
class DeletionLaw(LengthMechanism):
    """Delete every unit independently, at a rate that may depend on the number of units."""

    certifies: ClassVar[Attacker] = ALL_EDITS

    @abstractmethod
    def rate(self, n_units: int) -> float:
        """Return the probability of deletion per unit of a text with n units, in `[0, 1)`."""

    def strata(self, n_units: int) -> Strata:
        kept = np.arange(n_units + 1)
        return Strata(
            kept=kept,
            probability=binom.pmf(kept, n_units, 1.0 - self.rate(n_units)),
            outcomes=comb(n_units, kept),
        )

    def draw(self, n_units: int, size: int, rng: np.random.Generator) -> IntArray:
        deleted = rng.random((size, n_units)) < self.rate(n_units)
        return np.where(deleted, REMOVED, np.arange(n_units))

    def enumerate(self, n_units: int, kept: int) -> IntArray:
        return subsets(n_units, kept, np.full(n_units, REMOVED))

    def dead_zone(self, n_units: int) -> bool:
        return self.rate(n_units) ** n_units > 0.5


@dataclass(frozen=True, kw_only=True)
class RandomizedDeletion(DeletionLaw):
    """Delete each unit of a text independently with the same probability.

    Guarantees: against insertions, deletions and substitutions of units, in any mix, in whole
        edits; the number of insertions, deletions and substitutions counts from the clean text to
        the attacked one.
    Assumes: the base classifier sees the text only through its kept units; tokenizer, truncation
        and model are free, and come after the noise.
    Does not cover: changes of the base classifier; words in a protected prefix or partner text.

    Args:
        p_del: Probability that a unit is deleted, in `(0, 1)`. To keep one word in ten on
            average, write 0.9. No radius beyond `log(1/2) / log(p_del)` can ever be certified.
        unit: "word", "character" or "token".

    Raises:
        ValueError: If `p_del` is outside `(0, 1)` or the unit is unknown.

    Source: Huang et al., RS-Del (NeurIPS 2023); CERT-ED (Findings of EMNLP 2024).
    """

    p_del: float

    kind: ClassVar[str] = "randomized_deletion"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_rate(self.p_del)

    @property
    def description(self) -> str:
        return (
            f"Randomized deletion: every {self.unit} is deleted with probability {self.p_del:g}, "
            "independently; the answer is the class that most of the shortened texts are given."
        )

    def at_rate(self, rate: float) -> RandomizedDeletion:
        return dataclasses.replace(self, p_del=rate)

    def rate(self, n_units: int) -> float:  # noqa: ARG002
        return self.p_del

    def radius(
        self,
        p_lower: float,
        p_runner_up: float,
        *,
        n_units: int,
        attacker: Attacker,
        profile: Profile = (),  # noqa: ARG002
    ) -> int:
        self.check_attacker(attacker)
        return deletion_radius(
            p_lower, p_runner_up, p_del=self.p_del, n_units=n_units, attacker=attacker
        )

    def frontier(
        self, p_lower: float, p_runner_up: float, *, n_units: int, attacker: Attacker = ALL_EDITS
    ) -> list[EditBudget]:
        """List the largest safe mixes of moves; see `deletion_frontier`."""
        return deletion_frontier(
            p_lower, p_runner_up, p_del=self.p_del, n_units=n_units, attacker=attacker
        )


def check_rate(p_del: float) -> None:
    """Raise ValueError unless the rate is a probability strictly between zero and one."""
    if not 0.0 < p_del < 1.0:
        raise ValueError(
            f"randomized deletion needs 0 < p_del < 1, got p_del={p_del!r}. It is a probability "
            'of deletion per unit; for "keep 10 %" write p_del=0.9.'
        )


def subsets(n_units: int, kept: int, removed: IntArray) -> IntArray:
    """List all rows that keep `kept` of n positions and show `removed` at the others."""
    positions = itertools.chain.from_iterable(itertools.combinations(range(n_units), kept))
    chosen = np.fromiter(positions, np.int64).reshape(math.comb(n_units, kept), kept)
    rows = np.tile(removed, (len(chosen), 1))
    np.put_along_axis(rows, chosen, chosen, axis=1)
    return rows


def _cap(n_units: int, attacker: Attacker) -> int | None:
    """An attacker that cannot insert has reached every text within its power after n moves."""
    return None if "insert" in attacker else n_units


def _largest(
    margin: Callable[[float], float], boundary: float, p_del: float, cap: int | None
) -> int:
    """Return the largest r with margin(p_del ** r) > 0, where it falls to 0 at the boundary."""

    def safe(r: int) -> bool:
        return margin(p_del**r) > 0.0

    if not safe(0):
        return NO_RADIUS
    if boundary <= 0.0:  # only without insertions and substitutions beyond n, hence capped
        if cap is None:
            raise AssertionError("a radius without end needs a cap")
        return cap
    r = max(0, math.floor(math.log(boundary) / math.log(p_del)))
    while not safe(r):
        r -= 1
    while safe(r + 1) and (cap is None or r < cap):
        r += 1
    return r if cap is None else min(r, cap)


def _last_true(holds: Callable[[int], bool], most: int) -> int:
    """Return the largest i in 0..most with holds(i), for a condition that holds up to a point."""
    low, high = 0, most
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if holds(middle) else (low, middle - 1)
    return low
