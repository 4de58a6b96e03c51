"""Synonym smoothing: every word is replaced by a uniform draw from its perturbation set."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from itertools import islice
from typing import Any, ClassVar, Literal

import numpy as np

from robust_nlp.mechanisms.base import (
    NO_RADIUS,
    FloatArray,
    IntArray,
    Law,
    Profile,
    Strata,
    TextMechanism,
    believed,
)
from robust_nlp.swaps import AllowedSwaps, SwapSetting, load_swaps, read
from robust_nlp.threats import Attacker

#: Directions in which the reach of an attacker is bounded; more give a radius that is closer to
#: the exact one where perturbation sets differ in size, and change nothing where they do not.
DIRECTIONS = 512

#: Words whose sets are remembered.
CACHED_WORDS = 20_000

#: What stands for a share of zero: far beyond what can be certified.
_NOTHING = 1e-100


def shares(clean: Sequence[str], attacked: Sequence[str]) -> tuple[float, float]:
    """Return the share of each of two perturbation sets that both have in common.

    Args:
        clean: Perturbation set of a word, without repeats.
        attacked: Perturbation set of its substitute, without repeats.

    Departs: SAFER divides by the size of the first set alone, which overstates what is left where
        the second is larger.
    """
    common = len(set(clean) & set(attacked))
    return common / len(clean), common / len(attacked)


@lru_cache(maxsize=10_000)
def needed_margins(profile: Profile) -> tuple[float, ...]:
    """Return by how much the predicted class must lead so that k swapped words change nothing.

    Uniform draws from P and P' agree on the common part, with masses a = |P & P'| / |P| and
    b = |P & P'| / |P'|, and exclude each other elsewhere. Over several words, the a and the b
    multiply to A and B, and these two decide: by Neyman and Pearson, the attacked probabilities
    are at least B/A (p_A - 1 + A) and at most B/A p_B + 1 - B, so that the answer stands iff
    p_A - p_B > 1 - A (2 - 1/B). For sets of one size, this is twice the total variation, 2 (1 - A).

    The worst choice of words and substitutes is sought by x = -log A and y = -log B: the answer
    stands iff (1 - p_A + p_B) e^x + e^y < 2, a convex condition, so that a polygon around all
    (x, y) in reach may stand for them. Each side of it is the sum of the k words that reach
    farthest in its direction.

    Args:
        profile: For each unit, the `shares` of each swap, one after the other.

    Returns:
        The margin that must be exceeded for k = 1, 2, ... up to the number of words with swaps;
        not decreasing, and 1 where no margin will do. Exact where all swaps share as much of P as
        of P'; else the sides of the polygon, `DIRECTIONS`, make it some thousandths larger at most.
    """
    words = [word for word in profile if word]
    if not words:
        return ()
    lost = -np.log(np.maximum(np.concatenate(words).reshape(-1, 2), _NOTHING))
    toward = np.linspace(0.0, 1.0, DIRECTIONS + 1)
    starts = np.cumsum([0] + [len(word) // 2 for word in words[:-1]])
    far = np.maximum.reduceat(lost @ np.stack([toward, 1.0 - toward]), starts)
    reach = np.cumsum(-np.sort(-far, axis=0), axis=0)
    slope = np.diff(reach) * DIRECTIONS  # x - y at the corner between two sides
    y = reach[:, :-1] - toward[:-1] * slope
    x = y + slope
    spared = np.maximum(2.0 - np.exp(np.minimum(y, 1.0)), 0.0) * np.exp(-x)
    return tuple(np.maximum.accumulate(1.0 - spared.min(axis=1)).tolist())


@dataclass(frozen=True, kw_only=True)
class SwapMechanism(TextMechanism):
    """Noise on words against an attacker who replaces words inside their allowed swaps.

    Args:
        swaps: The allowed swaps: the path of a neighbour file, "wordnet", or word -> list of
            words; see `robust_nlp.swaps.AllowedSwaps`.
        limit: Allowed swaps of a word at most, the nearest; `None` for no limit.
        symmetric: Whether w may replace v wherever v may replace w.
        unit: "word".

    Raises:
        ValueError: If a setting is outside its range.
    """

    swaps: SwapSetting = field(hash=False)
    limit: int | None = None
    symmetric: bool = False

    certifies: ClassVar[Attacker] = frozenset({"substitute"})
    keeps_length: ClassVar[bool] = True
    not_covered: ClassVar[tuple[str, ...]] = (
        "substitutes that are not among the allowed ones, such as a substitute of a substitute, "
        "and other capitals or punctuation",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.unit != "word":
            raise ValueError(
                f"{type(self).__name__} swaps words, so that it needs unit='word'; "
                f"got unit={self.unit!r}"
            )
        if not isinstance(self.swaps, str):  # files are read when they are needed
            own = {word: list(others) for word, others in self.swaps.items()}
            object.__setattr__(self, "swaps", own)
            load_swaps(own, limit=self.limit, symmetric=self.symmetric)

    @cached_property
    def allowed(self) -> AllowedSwaps:
        """The allowed swaps that the settings name."""
        return load_swaps(self.swaps, limit=self.limit, symmetric=self.symmetric)

    @property
    def substitutes(self) -> Callable[[str], Collection[str]] | None:
        return self._substitutes_of

    def swappable(self, profile: Profile) -> int | None:
        return sum(map(bool, profile))

    def contents(self) -> dict[str, dict[str, Any]]:
        if not isinstance(self.swaps, str):
            return {}
        return {
            "swaps": {
                "source": self.swaps,
                "words": len(self.allowed),
                "content_hash": self.allowed.fingerprint,
            }
        }

    def _substitutes_of(self, unit: str) -> Collection[str]:
        # A file is read when somebody asks, so that reports do without it.
        return self.allowed.of(unit)

    def dead_zone(self, n_units: int) -> bool:
        return n_units == 0


@dataclass(frozen=True, kw_only=True)
class SynonymSmoothing(SwapMechanism):
    """Replace every word, independently, by a uniform draw from its perturbation set.

    Guarantees: against substitutions inside the allowed swaps, in whole words, whatever the
        positions. Punctuation around a word and its capitals stay as they are.
    Assumes: the base classifier sees the text only through the replaced words.
    Does not cover: substitutions outside the allowed swaps, by several swaps in a row, with other
        capitals or punctuation; insertions and deletions.

    Args:
        swaps: The allowed swaps: the path of a neighbour file, "wordnet", or word -> list of
            words; see `robust_nlp.swaps.AllowedSwaps`.
        sets: The perturbation set of a word. "component": the word and the nearest words in the
            graph of swaps, so that a component of at most `max_size` words is the set of all its
            words, and swaps inside it are harmless. "nearest": the word and its own swaps.
        max_size: Words in a perturbation set at most, at least 1.
        limit: Allowed swaps of a word at most, the nearest; `None` for no limit.
        symmetric: Whether w may replace v wherever v may replace w.
        unit: "word".

    Raises:
        ValueError: If a setting is outside its range.

    Source: Ye et al., SAFER (ACL 2020).
    Departs: The certificate is for sets of any sizes and for each number of words, see
        `needed_margins`. Nearness is counted in swaps, since neighbour files hold no vectors.
    """

    sets: Literal["component", "nearest"] = "component"
    max_size: int = 100

    kind: ClassVar[str] = "synonym_smoothing"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.sets not in ("component", "nearest"):
            raise ValueError(f"sets must be component or nearest; got {self.sets!r}")
        if self.max_size < 1:
            raise ValueError(f"max_size is a number of words, at least 1; got {self.max_size!r}")

    @property
    def description(self) -> str:
        tied = (
            "the words that may replace it"
            if self.sets == "nearest"
            else "words that allowed substitutions tie to it"
        )
        return (
            f"Synonym smoothing: every word is replaced by a uniform draw from itself and {tied}, "
            f"{self.max_size} words at most; the answer is the class that most of the rewritten "
            "texts are given. It certifies against substitutions by allowed words only."
        )

    def perturbation_set(self, unit: str) -> tuple[str, ...]:
        """Return what may be drawn in place of a unit, the unit itself first."""
        return _perturbation_set(self.allowed, unit, self.sets, self.max_size)

    def law(self, units: Sequence[str]) -> Law:
        return UniformLaw(
            [self.perturbation_set(unit) for unit in units],
            tuple(_swap_shares(self.allowed, unit, self.sets, self.max_size) for unit in units),
        )

    def radius(
        self,
        p_lower: float,
        p_runner_up: float,
        *,
        n_units: int,
        attacker: Attacker,
        profile: Profile = (),
    ) -> int:
        self.check_attacker(attacker)
        check_profile(profile, n_units)
        low, high = believed(p_lower, p_runner_up)
        if low <= high:
            return NO_RADIUS
        needed = needed_margins(profile)
        radius = bisect_left(needed, low - high)
        return n_units if radius == len(needed) else radius


class UniformLaw(Law):
    """Draw every word of a text on its own, uniformly from a set.

    Args:
        sets: For each position the words that may stand there, the clean unit first.
        profile: See `Law`.
    """

    def __init__(self, sets: Sequence[Sequence[str]], profile: Profile) -> None:
        self.n_units = len(sets)
        self.profile = profile
        self.extra_units = tuple(dict.fromkeys(word for words in sets for word in words[1:]))
        place = {word: self.n_units + j for j, word in enumerate(self.extra_units)}
        #: For each position the indices of its words, as they stand in noisy rows.
        self.choices = [
            np.array([i, *(place[word] for word in words[1:])]) for i, words in enumerate(sets)
        ]

    def strata(self) -> Strata:
        return Strata(
            kept=np.array([self.n_units]),
            probability=np.array([1.0]),
            outcomes=np.array([math.prod(float(len(choice)) for choice in self.choices)]),
        )

    def kept_counts(self, rows: IntArray) -> IntArray:
        return np.full(len(rows), self.n_units)

    def draw(self, size: int, rng: np.random.Generator) -> IntArray:
        rows = np.tile(np.arange(self.n_units), (size, 1))
        for i, choice in enumerate(self.choices):
            if len(choice) > 1:
                rows[:, i] = choice[self.pick(i, rng.random(size))]
        return rows

    def pick(self, position: int, at: FloatArray) -> IntArray:
        """Turn uniform numbers in `[0, 1)` into choices at a position."""
        return (at * len(self.choices[position])).astype(np.int64)

    def enumerate(self, kept: int) -> IntArray:  # noqa: ARG002
        rows = np.empty((1, 0), np.int64)
        for choice in self.choices:
            rows = np.column_stack(
                [np.repeat(rows, len(choice), axis=0), np.tile(choice, len(rows))]
            )
        return rows


def check_profile(profile: Profile, n_units: int) -> None:
    """Raise ValueError unless the profile has an entry for each unit."""
    if len(profile) != n_units:
        raise ValueError(
            f"this certificate depends on the words of the text: give the profile of its law, "
            f"mechanism.law(units).profile; got {len(profile)} entries for {n_units} units"
        )


@lru_cache(maxsize=CACHED_WORDS)
def _perturbation_set(swaps: AllowedSwaps, unit: str, sets: str, max_size: int) -> tuple[str, ...]:
    found = read(unit)
    if found is None:
        return (unit,)
    if sets == "nearest":
        return (unit, *swaps.of(unit))[:max_size]
    word, spelling = found
    near = (spelling.write(v) for v, _ in swaps.around(word) if spelling.fits(v))
    return tuple(islice(near, max_size))


@lru_cache(maxsize=CACHED_WORDS)
def _swap_shares(swaps: AllowedSwaps, unit: str, sets: str, max_size: int) -> tuple[float, ...]:
    """Shares of the swaps of a unit, without those that can do no more than another."""
    clean = _perturbation_set(swaps, unit, sets, max_size)
    found = {
        shares(clean, _perturbation_set(swaps, other, sets, max_size)) for other in swaps.of(unit)
    }
    kept: list[float] = []
    for pair in sorted(found):
        if not kept or pair[1] < kept[-1]:
            kept += pair
    return tuple(kept)
