"""Reordering: shuffle all units, or those of each block between random borders."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from robust_nlp.mechanisms.base import (
    NO_RADIUS,
    IntArray,
    LengthMechanism,
    Profile,
    Strata,
    believed,
)
from robust_nlp.threats import Attacker

#: Noisy texts of one offset beyond which they are not counted: far more than anybody enumerates.
MOST_COUNTED = 2**53


def reordering_loss(n_units: int, swaps: int, block: int | None) -> float:
    """Return the probability that swaps of neighbours may show: that one crosses a border.

    A text of n units has n - 1 gaps between neighbours. Borders fall on every `block`-th gap from
    a uniform offset, so that each gap is a border for exactly one of `block` offsets. For the
    other offsets a swap across it moves units inside one block, and the shuffled text has the same
    law as before. Swaps across k gaps are thus seen for at most k offsets, and never for more than
    there are gaps or offsets.

    For one swap, this is the total variation of the two laws, and so the certificate is exact
    unless `p_runner_up` is below the chance that borders elsewhere give the same noisy text. For
    more swaps the total variation falls short by such a chance, which vanishes as texts grow.

    Args:
        n_units: Number of units of the text.
        swaps: Number of swaps.
        block: Units between two borders, at least 2; `None` for no borders at all.
    """
    if block is None:
        return 0.0
    return min(swaps, block, max(0, n_units - 1)) / block


@dataclass(frozen=True, kw_only=True)
class Reordering(LengthMechanism):
    """Shuffle the units of a text, all of them or inside each block between random borders.

    Guarantees: against swaps of neighbouring units, in whole swaps. Without blocks, every order of
        the text has the same answer. With blocks of B units, k swaps leave the answer as it is if
        they move less than half the margin, `k / B < (p_A - p_B) / 2`; a unit that moves by m
        places makes m swaps.
    Assumes: the base classifier sees the units only in the order drawn, and not the borders.
    Does not cover: insertions, deletions, substitutions.

    Args:
        block: Units between two borders, at least 2, such as 64; the first border falls after 0 to
            `block - 1` units, uniformly at random. `None` shuffles the whole text.
        unit: "word", "character" or "token".

    Raises:
        ValueError: If `block` is below 2 or the unit is unknown.

    Source: Zhang et al., Text-CRS (IEEE S&P 2024), word reordering.
    Departs: Their borders are fixed: two neighbours on either side of one never mix, so that one
        swap may change every noisy text. With random borders, their radius `B (p_A - p_B) / 2` in
        total displacement is true; ours is as large in swaps, and an order at k swaps has a
        displacement of more than k.
    """

    block: int | None = None

    kind: ClassVar[str] = "reordering"
    certifies: ClassVar[Attacker] = frozenset({"swap"})
    shown: ClassVar[tuple[str, ...]] = ("swap",)
    keeps_length: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.block is not None and self.block < 2:
            raise ValueError(
                f"reordering needs blocks of at least 2 units, or block=None for the whole text; "
                f"got block={self.block}"
            )

    @property
    def description(self) -> str:
        what = f"all {self.unit}s"
        if self.block is not None:
            what = f"the {self.unit}s of each block of {self.block}, from a random start,"
        return (
            f"Reordering: {what} are put in random order; the answer is the class that most of the "
            "shuffled texts are given. It certifies against swaps of neighbours only."
        )

    def strata(self, n_units: int) -> Strata:
        rows = (self.block or 1) * self._rows_per_offset(n_units)
        return Strata(
            kept=np.array([n_units]), probability=np.array([1.0]), outcomes=np.array([rows])
        )

    def draw(self, n_units: int, size: int, rng: np.random.Generator) -> IntArray:
        blocks = np.zeros((size, n_units), np.int64)
        if self.block is not None:
            offsets = rng.integers(self.block, size=(size, 1))
            blocks = (np.arange(n_units) - offsets) // self.block
        return np.lexsort((rng.random((size, n_units)), blocks))

    def enumerate(self, n_units: int, kept: int) -> IntArray:  # noqa: ARG002
        """List the orders of every offset, repeated so that each row is equally likely."""
        size = int(self._rows_per_offset(n_units))
        rows = []
        for blocks in self._offsets(n_units):
            shuffled = itertools.product(*map(itertools.permutations, blocks))
            orders = [list(itertools.chain(*parts)) for parts in shuffled]
            rows += orders * (size // len(orders))
        return np.array(rows, np.int64)

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
        low, high = believed(p_lower, p_runner_up)
        every_order = n_units * (n_units - 1) // 2

        def safe(swaps: int) -> bool:
            return low - high - 2.0 * reordering_loss(n_units, swaps, self.block) > 0.0

        if safe(every_order):
            return every_order
        radius = NO_RADIUS
        while safe(radius + 1):
            radius += 1
        return radius

    def dead_zone(self, n_units: int) -> bool:
        return n_units == 0

    def _offsets(self, n_units: int) -> Iterator[list[range]]:
        """List the blocks of each offset; offsets are equally likely."""
        if self.block is None:
            yield [range(n_units)]
            return
        for offset in range(self.block):
            borders = {0, n_units, *range(offset, n_units, self.block)}
            yield [range(*ends) for ends in itertools.pairwise(sorted(borders))]

    def _rows_per_offset(self, n_units: int) -> float:
        """Return the least number of rows that every offset can fill evenly with its orders."""
        rows = 1
        for blocks in self._offsets(n_units):
            rows = math.lcm(rows, math.prod(math.factorial(len(block)) for block in blocks))
            if rows > MOST_COUNTED:
                return math.inf
        return float(rows)
