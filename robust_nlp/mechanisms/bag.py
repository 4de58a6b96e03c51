"""Deletion with the order hidden: what is left of a text is a bag of units."""

from __future__ import annotations

import dataclasses
import itertools
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from scipy.special import perm

from robust_nlp.mechanisms.base import (
    NO_RADIUS,
    REMOVED,
    EditBudget,
    IntArray,
    Profile,
    Strata,
    believed,
)
from robust_nlp.mechanisms.deletion import (
    DeletionLaw,
    check_rate,
    deletion_frontier,
    deletion_radius,
)
from robust_nlp.threats import ALL_EDITS, Attacker

REORDER: Attacker = frozenset({"reorder"})


@dataclass(frozen=True, kw_only=True)
class BagDeletion(DeletionLaw):
    """Delete each unit of a text independently and show what is left in random order.

    Guarantees: against insertions, deletions and substitutions of units, in any mix, in whole
        edits from the clean text to the attacked one, and against any reordering besides, which
        is free.
    Assumes: the base classifier sees the text only through its kept units, in the order drawn.
    Does not cover: words in a protected prefix or partner text. What the order of units says is
        lost: a base classifier needs training under this noise.

    The noisy text is a function of that of `RandomizedDeletion`, whose radii therefore hold, and
    its law is the same for all orders of a text, so that they hold for every order of every text
    within them. They are no smaller than they must be: on texts of distinct units, the units
    left over tell their order in the text, so that the likelihood ratios of both laws agree.

    Args:
        p_del: Probability that a unit is deleted, in `(0, 1)`. To keep one word in ten on
            average, write 0.9.
        unit: "word", "character" or "token".

    Raises:
        ValueError: If `p_del` is outside `(0, 1)` or the unit is unknown.

    Source: Zhang et al., Text-CRS (IEEE S&P 2024), word deletion under a full permutation.
    Departs: The exact radius in place of a binomial bound that is up to 80 times smaller; deletes
        units in place of padding them, so that no length is left to see; certifies insertions and
        substitutions under the same noise.
    """

    p_del: float

    kind: ClassVar[str] = "bag_deletion"
    certifies: ClassVar[Attacker] = ALL_EDITS | REORDER
    shown: ClassVar[tuple[str, ...]] = (
        "insert+delete+substitute+reorder",
        "substitute+reorder",
        "insert+reorder",
        "delete+reorder",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        check_rate(self.p_del)

    @property
    def description(self) -> str:
        return (
            f"Deletion with the order hidden: every {self.unit} is deleted with probability "
            f"{self.p_del:g}, independently, and the others are put in random order; the answer is "
            "the class that most of the shuffled rests are given. Reordering is free for the "
            "attacker and certified as well."
        )

    def at_rate(self, rate: float) -> BagDeletion:
        return dataclasses.replace(self, p_del=rate)

    def rate(self, n_units: int) -> float:  # noqa: ARG002
        return self.p_del

    def strata(self, n_units: int) -> Strata:
        strata = super().strata(n_units)
        return dataclasses.replace(strata, outcomes=perm(n_units, strata.kept))

    def draw(self, n_units: int, size: int, rng: np.random.Generator) -> IntArray:
        return rng.permuted(super().draw(n_units, size, rng), axis=1)

    def enumerate(self, n_units: int, kept: int) -> IntArray:
        shown = np.array(list(itertools.permutations(range(n_units), kept)), np.int64)
        return np.pad(shown, ((0, 0), (0, n_units - kept)), constant_values=REMOVED)

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
        if attacker == REORDER:
            low, high = believed(p_lower, p_runner_up)
            return 0 if low > high else NO_RADIUS
        return deletion_radius(
            p_lower, p_runner_up, p_del=self.p_del, n_units=n_units, attacker=attacker - REORDER
        )

    def frontier(
        self, p_lower: float, p_runner_up: float, *, n_units: int, attacker: Attacker = ALL_EDITS
    ) -> list[EditBudget]:
        """List the largest safe mixes of moves, in whatever order; see `deletion_frontier`."""
        self.check_attacker(attacker)
        if attacker == REORDER:
            return [EditBudget(insertions=0, deletions=0, substitutions=0)]
        return deletion_frontier(
            p_lower, p_runner_up, p_del=self.p_del, n_units=n_units, attacker=attacker - REORDER
        )
