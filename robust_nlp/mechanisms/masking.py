"""Random masking: keep a fixed number of units, mask the others."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from scipy.special import comb

from robust_nlp.mechanisms.base import (
    NO_RADIUS,
    IntArray,
    LengthMechanism,
    Profile,
    Strata,
    believed,
)
from robust_nlp.mechanisms.deletion import subsets
from robust_nlp.threats import Attacker


def masking_loss(n_units: int, kept: int, substitutions: int) -> float:
    """Return the probability that at least one substituted unit is kept.

    Args:
        n_units: Number of units of the text.
        kept: Number of units that the mechanism really leaves unmasked, in `0..n_units`.
        substitutions: Number of substituted units, in `0..n_units`.

    Source: Levine and Feizi (AAAI 2020), Theorem 1; RanMASK (2023), equation 10, with beta = 1.
    """
    untouched = math.comb(n_units - substitutions, kept) / math.comb(n_units, kept)
    return 1.0 - untouched


def masking_radius(p_lower: float, p_runner_up: float, *, n_units: int, kept: int) -> int:
    """Return the number of substituted units that provably leaves the smoothed answer as it is.

    Args:
        p_lower: Lower bound of the probability of the predicted class, in `[0, 1]`.
        p_runner_up: Upper bound of the probability of every other class, in `[0, 1]`.
        n_units: Number of units of the text.
        kept: Number of units that the mechanism really leaves unmasked, in `0..n_units`.

    Returns:
        The radius in whole substitutions, inclusive, strict at ties; `NO_RADIUS` if there is none.

    Source: Levine and Feizi (AAAI 2020); Zeng et al., RanMASK (Computational Linguistics 2023).
    Departs: RanMASK multiplies the loss by a point estimate (beta), which is no bound; returns the
        first radius that fails; and counts masks that the sampler does not place.
    """
    if not 0 <= kept <= n_units:
        raise ValueError(f"kept must be in 0..{n_units}; got {kept}")
    low, high = believed(p_lower, p_runner_up)
    margin = low - high
    if margin <= 0.0:
        return NO_RADIUS
    radius = 0
    while radius < n_units and margin - 2.0 * masking_loss(n_units, kept, radius + 1) > 0.0:
        radius += 1
    return radius


@dataclass(frozen=True, kw_only=True)
class RandomMasking(LengthMechanism):
    """Keep a fixed number of units, chosen uniformly, and replace the others by a mask.

    Guarantees: against substitutions of units, in whole substitutions (Hamming distance), whatever
        the positions.
    Assumes: the base classifier sees the text only through the masked text.
    Does not cover: insertions and deletions, which move the masks; protected words.

    Args:
        p_mask: Share of units that are masked, in `(0, 1)`, rounded to whole units.
        min_kept: Units left unmasked at least, however short the text.
        mask: What stands for a masked unit; `None` takes the mask token of the tokenizer.
        unit: "word", "character" or "token".

    Raises:
        ValueError: If a setting is outside its range.

    Source: Zeng et al., RanMASK (Computational Linguistics 49(2), 2023).
    Departs: The certificate counts the units really kept; see `masking_radius`.
    """

    p_mask: float
    min_kept: int = 1
    mask: str | None = None

    kind: ClassVar[str] = "random_masking"
    certifies: ClassVar[Attacker] = frozenset({"substitute"})
    keeps_length: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0.0 < self.p_mask < 1.0:
            raise ValueError(
                f"random masking needs 0 < p_mask < 1, got p_mask={self.p_mask!r}. It is the "
                'share of masked units; for "keep 30 %" write p_mask=0.7.'
            )
        if self.min_kept < 0:
            raise ValueError(f"min_kept must be at least 0; got {self.min_kept}")

    @property
    def description(self) -> str:
        return (
            f"Random masking: a share of {self.p_mask:g} of the {self.unit}s, drawn anew each "
            "time, is hidden behind a mask; the answer is the class that most of the masked texts "
            "are given. It certifies against substitutions only."
        )

    def at_rate(self, rate: float) -> RandomMasking:
        return dataclasses.replace(self, p_mask=rate)

    @property
    def needs_mask(self) -> bool:
        return self.mask is None

    @property
    def extra_units(self) -> tuple[str, ...]:
        if self.mask is None:
            raise ValueError(
                "RandomMasking does not know which mask to write: give mask=..., or use it in a "
                "SmoothedClassifier whose tokenizer has a mask token"
            )
        return (self.mask,)

    def kept(self, n_units: int) -> int:
        """Return the number of units that are left unmasked in a text with n units."""
        return max(min(self.min_kept, n_units), n_units - math.floor(n_units * self.p_mask + 0.5))

    def strata(self, n_units: int) -> Strata:
        kept = self.kept(n_units)
        return Strata(
            kept=np.array([kept]),
            probability=np.array([1.0]),
            outcomes=np.array([comb(n_units, kept)]),
        )

    def draw(self, n_units: int, size: int, rng: np.random.Generator) -> IntArray:
        kept = self.kept(n_units)
        chosen = np.argsort(rng.random((size, n_units)), axis=1, kind="stable")[:, :kept]
        rows = np.full((size, n_units), n_units)
        np.put_along_axis(rows, chosen, chosen, axis=1)
        return rows

    def enumerate(self, n_units: int, kept: int) -> IntArray:
        return subsets(n_units, kept, np.full(n_units, n_units))

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
        return masking_radius(p_lower, p_runner_up, n_units=n_units, kept=self.kept(n_units))

    def dead_zone(self, n_units: int) -> bool:
        return self.kept(n_units) == 0
