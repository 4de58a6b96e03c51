"""Deletion, masking and random replacement at once, and the surface of edits that are safe."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np
from scipy.stats import binom

from robust_nlp.errors import DataError
from robust_nlp.likelihood import RatioLevels
from robust_nlp.mechanisms.base import (
    NO_RADIUS,
    REMOVED,
    EditBudget,
    FloatArray,
    IntArray,
    Law,
    Profile,
    Strata,
    TextMechanism,
    believed,
)
from robust_nlp.threats import ALL_EDITS, Attacker, Move

#: Moves of one kind are searched up to here; a text this safe is reported with this radius.
MAX_RADIUS = 1_000

#: Longest run of hidden units that the certificate tells apart; a longer one counts as this long.
LONGEST_RUN = 50

#: Most noisy texts that are listed for one text.
MOST_OUTCOMES = 1_000_000


@lru_cache(maxsize=1_000)
def deletion_levels(p_del: float, p_hidden: float, n_units: int) -> RatioLevels:
    """Return laws at least as far apart as those of a text and of the text without one unit.

    Noise hides a unit (deletes, masks or replaces it) with probability `p_hidden`, and what it
    leaves of hidden units does not depend on them. Show the base classifier, besides the noisy
    text, which units were kept. If the deleted unit was kept, the attacked text cannot give this
    noisy text. Else it lies in a run of g hidden units of the clean text, g - 1 of the attacked
    one, of which l left a mask or a random word: this has
    `C(g, l) p_del^(g - l) ...` against `C(g - 1, l) p_del^(g - 1 - l) ...`, a ratio of
    `(g - l) / (g p_del)` with equal dots. The more units are hidden beside the deleted one, the
    closer the laws, since a longer run is a shorter one with the same random units after it.
    Runs are shortest for the last unit of a text (an inner unit has the same neighbours on two
    sides) and for short texts; so this is the worst unit, and lengths may be counted too short.

    Exact for a text of distinct units (up to `LONGEST_RUN`) that loses its last, without random
    words.

    Args:
        p_del: Probability that a unit is deleted, in `[0, p_hidden]`.
        p_hidden: Probability that a unit is not kept, in `(0, 1)`.
        n_units: Number of units of the longer text, at least 1.
    """
    longest = min(n_units, LONGEST_RUN)
    length = np.arange(1, longest + 1)
    run = p_hidden ** (length - 1.0) * np.where(length < longest, 1.0 - p_hidden, 1.0)
    g, shown = np.nonzero(np.tri(longest, longest + 1, 1))
    g, run = g + 1, run[g]
    p_shown = 1.0 - p_del / p_hidden
    clean = p_hidden * run * binom.pmf(shown, g, p_shown)
    attacked = run * binom.pmf(shown, g - 1, p_shown)
    return RatioLevels.of(np.append(clean, 1.0 - p_hidden), np.append(attacked, 0.0))


@lru_cache(maxsize=1_000)
def insertion_levels(p_del: float, p_hidden: float, n_units: int) -> RatioLevels:
    """Return laws at least as far apart as those of a text and of the text with one unit more.

    Args:
        p_del: Probability that a unit is deleted, in `[0, p_hidden]`.
        p_hidden: Probability that a unit is not kept, in `(0, 1)`.
        n_units: Number of units of the shorter text.
    """
    return deletion_levels(p_del, p_hidden, min(n_units + 1, LONGEST_RUN)).swapped()


@dataclass(frozen=True, kw_only=True)
class CombinedNoise(TextMechanism):
    """Delete, mask, replace by a random word, or keep each unit, independently.

    Guarantees: against insertions, deletions and substitutions of units, in any mix, in whole
        edits from the clean text to the attacked one; `frontier` lists which mixes.
    Assumes: the base classifier sees the text only through the noisy text.
    Does not cover: changes of the base classifier; protected text. Without deletion
        (`p_del = 0`), the number of units shows, and no insertion or deletion is certified.

    Every attack can be ordered: deletions, substitutions, insertions. What is left of a probability
    is bounded move by move, each bound holding for all texts of the length reached.
    A deletion and an insertion are bounded by `deletion_levels` and `insertion_levels`. Of a
    substitutions the base classifier sees nothing if all these units are hidden: the probability
    changes by at most `1 - p_hidden^a`, and for fresh words outside the vocabulary by no less.
    With deletion alone, the bounds are those of `RandomizedDeletion`.

    Args:
        p_del: Probability that a unit is deleted.
        p_mask: Probability that a unit is replaced by the mask.
        p_substitute: Probability that a unit is replaced by a word of the vocabulary, each equally
            likely. The sum of the three is the probability that a unit is hidden, in `(0, 1)`.
        vocabulary: The words, or the path of a text file with one a line; fixed, and not made from
            the texts to be certified. May be empty if `p_substitute` is 0.
        mask: What stands for a masked unit; `None` takes the mask token of the tokenizer.
        unit: "word", "character" or "token".

    Raises:
        ValueError: If a setting is outside its range, or words are missing.

    Source: Text-CRS (IEEE S&P 2024) for the four operations; deletion as in RS-Del (NeurIPS 2023).
    Departs: Their operations are certified one at a time and each with its own noise. Our bounds of
        one deletion, one insertion and any number of substitutions are exact; those of more moves
        are valid, but may be loose, that of a deletion together with an insertion most.
    """

    p_del: float = 0.0
    p_mask: float = 0.0
    p_substitute: float = 0.0
    vocabulary: tuple[str, ...] | str = ()
    mask: str | None = None

    kind: ClassVar[str] = "combined"
    certifies: ClassVar[Attacker] = ALL_EDITS

    def __post_init__(self) -> None:
        super().__post_init__()
        if not isinstance(self.vocabulary, str):
            object.__setattr__(self, "vocabulary", tuple(self.vocabulary))
        rates = (self.p_del, self.p_mask, self.p_substitute)
        if not min(rates) >= 0.0 or not 0.0 < self.p_hidden < 1.0:
            raise ValueError(
                "combined noise needs p_del, p_mask and p_substitute of at least 0, with a sum "
                "between 0 and 1 that leaves some units as they are; got p_del={!r}, p_mask={!r}, "
                "p_substitute={!r}".format(*rates)
            )
        if self.p_substitute > 0.0 and not self.vocabulary:
            raise ValueError(
                "combined noise with p_substitute > 0 needs a vocabulary: a list of words, or the "
                "path of a text file with one word a line"
            )

    @property
    def description(self) -> str:
        shares = (
            ("deleted", self.p_del),
            ("masked", self.p_mask),
            ("replaced by a random word", self.p_substitute),
        )
        hidden = ", ".join(f"{how} with probability {p:g}" for how, p in shares if p > 0.0)
        return (
            f"Combined noise: every {self.unit} is, independently, {hidden}; the answer is the "
            "class that most of the noisy texts are given."
        )

    @property
    def p_hidden(self) -> float:
        """Probability that a unit is deleted, masked or replaced."""
        return self.p_del + self.p_mask + self.p_substitute

    @property
    def needs_mask(self) -> bool:
        return self.p_mask > 0.0 and self.mask is None

    @property
    def extra_units(self) -> tuple[str, ...]:
        """Units that the noise may add: the mask, then the vocabulary."""
        if self.needs_mask:
            raise ValueError(
                "CombinedNoise does not know which mask to write: give mask=..., or use it in a "
                "SmoothedClassifier whose tokenizer has a mask token"
            )
        masks = (self.mask,) if self.mask is not None and self.p_mask > 0.0 else ()
        return masks + self._words()

    def contents(self) -> dict[str, dict[str, Any]]:
        words = self._words()
        if not words or not isinstance(self.vocabulary, str):
            return {}
        key = hashlib.blake2b("\n".join(words).encode(), digest_size=16).hexdigest()
        return {"vocabulary": {"source": self.vocabulary, "words": len(words), "content_hash": key}}

    def law(self, units: Sequence[str]) -> Law:
        return CombinedLaw(self, len(units))

    def safe(
        self,
        p_lower: float,
        p_runner_up: float,
        *,
        n_units: int,
        substitutions: int = 0,
        deletions: int = 0,
        insertions: int = 0,
    ) -> bool:
        """Tell whether no attack with at most these moves changes the smoothed answer.

        Args:
            p_lower: Lower bound of the probability of the predicted class, in `[0, 1]`.
            p_runner_up: Upper bound of the probability of every other class, in `[0, 1]`.
            n_units: Number of units of the clean text.
            substitutions: Units that may be substituted.
            deletions: Units that may be deleted.
            insertions: Units that may be inserted.
        """
        bounds = _Bounds.of(p_lower, p_runner_up)
        left = max(0, n_units - deletions)
        for n in range(n_units, left, -1):
            bounds = bounds.after(self._deletion(n))
        bounds = bounds.substituted(self.p_hidden, np.array([substitutions]))
        for n in range(left, left + insertions):
            bounds = bounds.after(self._insertion(n))
        return bool(bounds.safe[0])

    def frontier(
        self, p_lower: float, p_runner_up: float, *, n_units: int, attacker: Attacker = ALL_EDITS
    ) -> list[EditBudget]:
        """List the largest safe mixes of insertions, deletions and substitutions.

        Every budget that is, move by move, at most one of the returned budgets leaves the smoothed
        answer as it is. Deletions and substitutions together never exceed the length of the text.
        Empty if nothing is certified.

        Args:
            p_lower: Lower bound of the probability of the predicted class, in `[0, 1]`.
            p_runner_up: Upper bound of the probability of every other class, in `[0, 1]`.
            n_units: Number of units of the clean text.
            attacker: The attacker's moves; the others stay at zero.
        """
        self.check_attacker(attacker)
        most = self._surface(p_lower, p_runner_up, n_units, attacker)
        return sorted(
            EditBudget(insertions, deletions, substitutions)
            for (deletions, insertions), substitutions in most.items()
            if most.get((deletions + 1, insertions), -1) < substitutions
            and most.get((deletions, insertions + 1), -1) < substitutions
        )

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
        most = self._surface(p_lower, p_runner_up, n_units, attacker)
        if not most:
            return NO_RADIUS
        unsafe = []
        for (deletions, insertions), substitutions in most.items():
            moves = deletions + insertions
            if "substitute" in attacker and deletions + substitutions < n_units:
                unsafe.append(moves + substitutions + 1)
            more = [(deletions, insertions + 1)] if "insert" in attacker else []
            if "delete" in attacker and deletions < n_units:
                more.append((deletions + 1, insertions))
            unsafe += [moves + 1] * (not most.keys() >= set(more))
        return min(unsafe, default=n_units + 1) - 1

    def dead_zone(self, n_units: int) -> bool:
        shown = np.arange(n_units + 1)
        each = max(self.p_mask, self.p_substitute / max(1, len(self._words())))
        share = each / max(self.p_mask + self.p_substitute, 1e-300)
        chance = binom.pmf(shown, n_units, 1.0 - self.p_del / self.p_hidden) * share**shown
        return bool(self.p_hidden**n_units * chance.max() > 0.5)

    def _surface(
        self, p_lower: float, p_runner_up: float, n_units: int, attacker: Attacker
    ) -> dict[tuple[int, int], int]:
        """Most safe substitutions for each safe number of (deletions, insertions)."""

        def most(move: Move, possible: int) -> int:
            return min(possible, MAX_RADIUS) if move in attacker else 0

        found: dict[tuple[int, int], int] = {}
        kept = _Bounds.of(p_lower, p_runner_up)
        for deletions in range(most("delete", n_units) + 1):
            left = n_units - deletions
            if deletions:
                kept = kept.after(self._deletion(left + 1))
            bounds = kept.substituted(self.p_hidden, np.arange(most("substitute", left) + 1))
            for insertions in range(most("insert", MAX_RADIUS) + 1):
                if insertions:
                    bounds = bounds.after(self._insertion(left + insertions - 1))
                bounds = bounds.while_safe()
                if not len(bounds.low):
                    break
                found[deletions, insertions] = len(bounds.low) - 1
            if (deletions, 0) not in found:
                break
        return found

    def _deletion(self, n_units: int) -> RatioLevels:
        return deletion_levels(self.p_del, self.p_hidden, min(n_units, LONGEST_RUN))

    def _insertion(self, n_units: int) -> RatioLevels:
        return insertion_levels(self.p_del, self.p_hidden, min(n_units, LONGEST_RUN))

    def _words(self) -> tuple[str, ...]:
        if self.p_substitute == 0.0:
            return ()
        return _read(self.vocabulary) if isinstance(self.vocabulary, str) else self.vocabulary


class CombinedLaw(Law):
    """The law of combined noise on a text of so many units."""

    def __init__(self, mechanism: CombinedNoise, n_units: int) -> None:
        self.n_units = n_units
        self._mechanism = mechanism
        masks, words = int(mechanism.p_mask > 0.0), len(mechanism._words())
        #: The one stratum goes by the number of units that are left to be read, on average.
        self._kept = round(n_units * (1.0 - mechanism.p_del))
        #: What stands in place of a hidden unit, and how likely each is.
        self._hidden = np.array([REMOVED, *range(n_units, n_units + masks + words)])
        self._chances = np.concatenate(
            [
                [mechanism.p_del],
                np.full(masks, mechanism.p_mask),
                np.full(words, mechanism.p_substitute / max(1, words)),
            ]
        )

    @property
    def extra_units(self) -> tuple[str, ...]:  # type: ignore[override]
        return self._mechanism.extra_units

    def strata(self) -> Strata:
        return Strata(
            kept=np.array([self._kept]),
            probability=np.array([1.0]),
            outcomes=np.array([np.inf]),
        )

    def draw(self, size: int, rng: np.random.Generator) -> IntArray:
        ends = np.cumsum(self._chances)
        drawn = np.searchsorted(ends, rng.random((size, self.n_units)), side="right")
        kept = drawn == len(ends)
        return np.where(kept, np.arange(self.n_units), np.append(self._hidden, 0)[drawn])

    def kept_counts(self, rows: IntArray) -> IntArray:
        return np.full(len(rows), self._kept)

    def outcomes(self) -> tuple[IntArray, FloatArray]:
        n, choices = self.n_units, len(self._hidden) + 1
        if choices**n > MOST_OUTCOMES:
            raise ValueError(
                f"a text of {n} units has {choices}^{n} noisy versions under combined noise; at "
                f"most {MOST_OUTCOMES} can be listed"
            )
        drawn = np.array(list(itertools.product(range(choices), repeat=n)), np.int64)
        drawn = drawn.reshape(choices**n, n)
        rows = np.where(drawn == choices - 1, np.arange(n), np.append(self._hidden, 0)[drawn])
        chances = np.append(self._chances, 1.0 - self._chances.sum())
        return rows, chances[drawn].prod(axis=1)


class _Bounds(NamedTuple):
    """Bounds of the predicted class and of every other, for several attacks side by side."""

    low: FloatArray
    high: FloatArray

    @classmethod
    def of(cls, p_lower: float, p_runner_up: float) -> _Bounds:
        low, high = believed(p_lower, p_runner_up)
        return cls(np.array([low]), np.array([high]))

    def after(self, levels: RatioLevels) -> _Bounds:
        """Return the bounds after a move with these levels."""
        return _Bounds(levels.lows(self.low), levels.highs(self.high))

    def substituted(self, p_hidden: float, count: IntArray) -> _Bounds:
        """Return the bounds after each of these numbers of substitutions."""
        seen = 1.0 - p_hidden**count
        return _Bounds(self.low - seen, self.high + seen)

    def while_safe(self) -> _Bounds:
        """Return the bounds before the first that leaves no margin."""
        first = int(np.append(self.safe, False).argmin())
        return _Bounds(self.low[:first], self.high[:first])

    @property
    def safe(self) -> np.ndarray[tuple[int, ...], np.dtype[np.bool_]]:
        """Whether the predicted class still leads."""
        return self.low - np.minimum(self.high, 1.0 - self.low) > 0.0


@lru_cache(maxsize=16)
def _read(path: str) -> tuple[str, ...]:
    """Read the words of a vocabulary, one a line."""
    if not Path(path).is_file():
        raise DataError(
            f"the vocabulary of combined noise must be a list of words or the path of a text file "
            f"with one word a line; there is no file {path}"
        )
    lines = Path(path).read_text(encoding="utf-8").splitlines()
    words = tuple(word for line in lines if (word := line.strip()))
    if not words:
        raise DataError(f"the vocabulary {path} of combined noise holds no words; write one a line")
    return words
