"""Substitution by an exponential kernel: near words are drawn more often than far ones."""

from __future__ import annotations

import hashlib
import json
import math
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache
from itertools import islice
from typing import Any, ClassVar

import numpy as np

from robust_nlp.errors import DataError
from robust_nlp.likelihood import SAME, RatioLevels, envelope, margin
from robust_nlp.mechanisms.base import (
    NO_RADIUS,
    ROUNDING,
    FloatArray,
    IntArray,
    Law,
    Profile,
    Strata,
    believed,
)
from robust_nlp.mechanisms.synonyms import (
    CACHED_WORDS,
    SwapMechanism,
    UniformLaw,
    check_profile,
)
from robust_nlp.swaps import AllowedSwaps, checked_word, read, read_json
from robust_nlp.threats import Attacker

#: Distances as a recipe writes them: a file, or word -> word -> distance; `None` counts swaps.
DistanceSetting = str | dict[str, dict[str, float]] | None

#: Words that may be drawn in place of a word, at most: distances between all are needed.
MOST_CANDIDATES = 2_000

#: Levels to which the pair of laws of a word, and of several words, is coarsened.
WORD_LEVELS = 64
TEXT_LEVELS = 128

#: Noisy texts of one text that are listed, at most.
MOST_LISTED = 4_096


class SwapDistances:
    """Count the swaps from one word to another, in either direction.

    Args:
        swaps: The allowed swaps; all words that they tie together are candidates of each other.
    """

    def __init__(self, swaps: AllowedSwaps) -> None:
        self._swaps = swaps

    def row(self, word: str) -> tuple[tuple[str, ...], FloatArray]:
        """Return the candidates of a lower-case word and the distance of each from the word.

        All candidates of a word have the same candidates, in the same order.

        Raises:
            ValueError: If swaps tie more than `MOST_CANDIDATES` words together.
        """
        found = sorted(islice(self._swaps.around(word), MOST_CANDIDATES + 1))
        if len(found) > MOST_CANDIDATES:
            raise ValueError(
                f"the allowed swaps tie {word!r} to more than {MOST_CANDIDATES} words, all of "
                "which would have to be drawn in its place; take a smaller limit, such as "
                "limit=1, or give distances"
            )
        return tuple(other for other, _ in found), np.array([float(hops) for _, hops in found])


class GivenDistances:
    """A table of distances, which must be a metric.

    Words that the table ties together are candidates of each other, and the table must hold the
    distance of any two of them, in one direction at least. Words that it does not hold stay as
    they are.

    Args:
        table: Distance of one word from another, at least 0.

    Raises:
        ValueError: If a distance is missing, not a number, or not the same in both directions, or
            if a detour over a third word is shorter.
    """

    def __init__(self, table: Mapping[str, Mapping[str, float]]) -> None:
        found: dict[str, dict[str, float]] = {}
        for one, others in table.items():
            for other, distance in others.items():
                _set_distance(found, checked_word(one), checked_word(other), distance)
        self._rows: dict[str, tuple[tuple[str, ...], FloatArray]] = {}
        ties = AllowedSwaps(found)
        for word in found:
            if word not in self._rows:
                group = tuple(sorted(other for other, _ in ties.around(word)))
                self._rows |= {
                    other: (group, row)
                    for other, row in zip(group, _metric(group, found), strict=True)
                }

    def __len__(self) -> int:
        """How many words the table holds."""
        return len(self._rows)

    @cached_property
    def fingerprint(self) -> str:
        """A key of the content, equal on all machines."""
        digest = hashlib.blake2b(digest_size=16)
        for word in sorted(self._rows):
            group, row = self._rows[word]
            if word == group[0]:
                digest.update(json.dumps(group).encode())
            digest.update(row.astype("<f8").tobytes())
        return digest.hexdigest()

    def row(self, word: str) -> tuple[tuple[str, ...], FloatArray]:
        """Return the candidates of a lower-case word and the distance of each from the word."""
        return self._rows.get(word, ((word,), np.zeros(1)))


Distances = SwapDistances | GivenDistances


@dataclass(frozen=True, kw_only=True)
class ExponentialSubstitution(SwapMechanism):
    """Replace every word, independently, by a candidate v with chance ~ exp(-epsilon d(w, v) / 2).

    All words that the distance d ties together have the same candidates: themselves.

    Guarantees: against substitutions inside the allowed swaps, in whole words, whatever the
        positions (`radius`); and against substitutions of words by any of their candidates, in
        the sum of their distances (`metric_radius`). Punctuation around a word and its capitals
        stay as they are.
    Assumes: the base classifier sees the text only through the replaced words.
    Does not cover: substitutions outside the allowed swaps, by several swaps in a row, with other
        capitals or punctuation; insertions and deletions.

    Args:
        swaps: The allowed swaps: the path of a neighbour file, "wordnet", or word -> list of
            words; see `robust_nlp.swaps.AllowedSwaps`.
        epsilon: Loss of chance with distance, above 0: small for much noise.
        distances: A metric: the path of a JSON file (packed if it ends in ".gz") or a mapping,
            word -> word -> distance; see `GivenDistances`. `None` counts swaps, in either
            direction, from word to word: words that swaps tie together are the candidates.
        limit: Allowed swaps of a word at most, the nearest; `None` for no limit.
        symmetric: Whether w may replace v wherever v may replace w.
        unit: "word".

    Raises:
        ValueError: If a setting is outside its range, or distances are no metric.

    Source: McSherry and Talwar, exponential mechanism (FOCS 2007); it takes the place of the
        staircase noise of Text-CRS (IEEE S&P 2024).
    Departs: Text-CRS draws from the neighbour list of the word, in one direction: the lists of two
        words are different, ratios have no bound, and its certificate fails.
    """

    epsilon: float
    distances: DistanceSetting = field(default=None, hash=False)

    kind: ClassVar[str] = "exponential_substitution"
    detail_names: ClassVar[Mapping[str, str]] = {
        "metric_radius": "sum of distances below which words may be replaced by any candidates",
    }

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0.0 < self.epsilon < math.inf:
            raise ValueError(f"epsilon must be a number above 0; got {self.epsilon!r}")
        if isinstance(self.distances, dict):  # files are read when they are needed
            own = {word: dict(others) for word, others in self.distances.items()}
            object.__setattr__(self, "distances", own)
            GivenDistances(own)

    @property
    def description(self) -> str:
        return (
            "Exponential substitution: every word is replaced by a word at distance d with a "
            f"chance that falls by exp(-{self.epsilon / 2.0:g} d); the answer is the class that "
            "most of the rewritten texts are given. It certifies against substitutions by allowed "
            "words only."
        )

    @cached_property
    def metric(self) -> Distances:
        """The distances that the settings name."""
        if self.distances is None:
            return SwapDistances(self.allowed)
        if isinstance(self.distances, dict):
            return GivenDistances(self.distances)
        return _distances_from_file(self.distances)

    def contents(self) -> dict[str, dict[str, Any]]:
        found = super().contents()
        if isinstance(self.distances, str) and isinstance(self.metric, GivenDistances):
            found["distances"] = {
                "source": self.distances,
                "words": len(self.metric),
                "content_hash": self.metric.fingerprint,
            }
        return found

    def law(self, units: Sequence[str]) -> Law:
        drawn = [_chances(self.metric, self.epsilon, unit) for unit in units]
        return WeightedLaw(
            [words for words, _ in drawn],
            [chances for _, chances in drawn],
            tuple(_levels(self.allowed, self.metric, self.epsilon, unit) for unit in units),
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
        pairs = worst_pairs(profile)
        radius = bisect_left(pairs, True, key=lambda pair: not margin(pair, low, high) > 0.0)
        return n_units if radius == sum(map(bool, profile)) else radius

    def details(
        self,
        p_lower: float,
        p_runner_up: float,
        *,
        n_units: int,  # noqa: ARG002
        profile: Profile = (),  # noqa: ARG002
    ) -> dict[str, float]:
        """Return `metric_radius`."""
        return {"metric_radius": self.metric_radius(p_lower, p_runner_up)}

    def metric_radius(self, p_lower: float, p_runner_up: float) -> float:
        """Return the sum of distances below which the smoothed answer stays as it is.

        Substitutes may be any candidates of their words, whether swaps allow them or not; the sum
        of their distances must be smaller than the returned one.

        With t = epsilon times that sum, no noisy text is more than e^t times as likely, or as
        unlikely, under the clean text as under the attacked one: a word at distance d changes
        weights by at most e^(epsilon d / 2), and so their sum too.

        Args:
            p_lower: Lower bound of the probability of the predicted class, in `[0, 1]`.
            p_runner_up: Upper bound of the probability of every other class, in `[0, 1]`.

        Returns:
            A distance, exclusive; `0.0` if the bounds do not fix the answer on the clean text.

        Source: Text-CRS (IEEE S&P 2024), whose formula holds for this noise.
        """
        low, high = believed(p_lower, p_runner_up)
        if low <= high:
            return 0.0
        # p_A falls to the larger of e^-t p_A and 1 - e^t (1 - p_A) at least, p_B rises to the
        # smaller of e^t p_B and 1 - e^-t (1 - p_B) at most. As p_B <= 1 - p_A, no other two of
        # these cross later than one of these pairs.
        return max(math.log(low / high) / 2.0, -math.log(1.0 - low + high)) / self.epsilon


@lru_cache(maxsize=4_096)
def worst_pairs(profile: Profile) -> tuple[RatioLevels, ...]:
    """Return pairs of laws at least as far apart as any that k swapped words can bring about.

    Words are ordered by what a swap can do to them, the worst first. Whichever k of them are
    swapped, the j-th in this order is the j-th of all or a later one, and no further apart than
    the envelope of all these. So the product of the first k such envelopes will do. It is exact if
    each swap in this order can do no more than the swaps before it.

    Args:
        profile: For each unit, the levels of a pair of laws at least as far apart as the laws of
            the unit and any of its swaps: clean masses, then attacked masses.

    Returns:
        Pairs for k = 1, 2, ... up to the number of words with swaps, or to the first pair under
        which no answer stands.
    """
    words = [RatioLevels.of(*np.array(word).reshape(2, -1)) for word in profile if word]
    words.sort(key=_variation, reverse=True)
    for j in reversed(range(len(words) - 1)):
        words[j] = envelope([words[j], words[j + 1]]).coarsened(WORD_LEVELS)
    found, text = [], SAME
    for word in words:
        text = (text * word).coarsened(TEXT_LEVELS)
        found.append(text)
        if not margin(text, 1.0 - ROUNDING, ROUNDING) > 0.0:
            break
    return tuple(found)


class WeightedLaw(UniformLaw):
    """Draw every word of a text on its own, with given chances.

    Where there are few noisy texts, a stratum holds those of one probability, and strata are
    numbered from `n_units` on; else all are in one stratum, which cannot be enumerated.

    Args:
        sets: For each position the words that may stand there, the clean unit first.
        chances: For each position the chance of each of these, above 0.
        profile: See `Law`.
    """

    def __init__(
        self, sets: Sequence[Sequence[str]], chances: Sequence[FloatArray], profile: Profile
    ) -> None:
        super().__init__(sets, profile)
        self._chances = chances

    def pick(self, position: int, at: FloatArray) -> IntArray:
        steps = np.cumsum(self._chances[position])
        steps[-1] = 1.0  # whatever rounding says
        return np.searchsorted(steps, at, side="right")

    def strata(self) -> Strata:
        if self._listed is None:
            return replace(super().strata(), outcomes=np.array([np.inf]))
        _, labels, logs = self._listed
        outcomes = np.bincount(labels)
        return Strata(
            kept=self.n_units + np.arange(len(outcomes)),
            probability=np.bincount(labels, np.exp(logs)).astype(np.float64),
            outcomes=outcomes.astype(np.float64),
        )

    def kept_counts(self, rows: IntArray) -> IntArray:
        if self._listed is None:
            return super().kept_counts(rows)
        return self.n_units + np.array([self._label[row.tobytes()] for row in rows], np.int64)

    def enumerate(self, kept: int) -> IntArray:
        if self._listed is None:
            raise NotImplementedError("a text with this many noisy versions cannot be enumerated")
        rows, labels, _ = self._listed
        chosen: IntArray = rows[labels == kept - self.n_units]
        return chosen

    @cached_property
    def _listed(self) -> tuple[IntArray, IntArray, FloatArray] | None:
        """All noisy texts, with the number of their stratum and the logarithm of their chance."""
        if math.prod(map(len, self._chances)) > MOST_LISTED:
            return None
        logs = np.zeros(1)
        for chance in self._chances:
            logs = np.repeat(logs, len(chance)) + np.tile(np.log(chance), len(logs))
        labels = np.unique(np.round(logs, 12), return_inverse=True)[1]
        return super().enumerate(self.n_units), labels, logs

    @cached_property
    def _label(self) -> dict[bytes, int]:
        rows, labels, _ = self._listed or ((), (), ())
        return {row.tobytes(): label for row, label in zip(rows, labels, strict=True)}


def _variation(pair: RatioLevels) -> float:
    """Return the total variation between two laws."""
    return float(np.maximum(pair.clean - pair.attacked, 0.0).sum())


@lru_cache(maxsize=CACHED_WORDS)
def _chances(metric: Distances, epsilon: float, unit: str) -> tuple[tuple[str, ...], FloatArray]:
    """Return what may be drawn in place of a unit, the unit itself first, and the chances."""
    found = read(unit)
    if found is None:
        return (unit,), np.ones(1)
    word, spelling = found
    candidates, distances = metric.row(word)
    weights = np.exp(-epsilon / 2.0 * distances)
    kept = [i for i, v in enumerate(candidates) if weights[i] > 0.0 and spelling.fits(v)]
    kept.sort(key=lambda i: candidates[i] != word)
    weights = weights[kept]
    return tuple(spelling.write(candidates[i]) for i in kept), weights / weights.sum()


@lru_cache(maxsize=CACHED_WORDS)
def _levels(swaps: AllowedSwaps, metric: Distances, epsilon: float, unit: str) -> tuple[float, ...]:
    """Return a pair of laws at least as far apart as those of a unit and any of its swaps."""
    clean = dict(zip(*_chances(metric, epsilon, unit), strict=True))
    pairs = []
    for swap in swaps.of(unit):
        attacked = dict(zip(*_chances(metric, epsilon, swap), strict=True))
        words = dict.fromkeys([*clean, *attacked])
        pairs.append(
            RatioLevels.of(
                [clean.get(word, 0.0) for word in words],
                [attacked.get(word, 0.0) for word in words],
            )
        )
    if not pairs:
        return ()
    worst = envelope(pairs).coarsened(WORD_LEVELS)
    return tuple(np.concatenate([worst.clean, worst.attacked]).tolist())


@lru_cache(maxsize=8)
def _distances_from_file(path: str) -> GivenDistances:
    content = read_json(path, "distances", "a file, or word -> word -> distance")
    try:
        return GivenDistances(content)
    except ValueError as error:
        raise DataError(f"{path}: {error}") from error


def _set_distance(
    found: dict[str, dict[str, float]], one: str, other: str, distance: float
) -> None:
    """Note a distance in both directions."""
    if isinstance(distance, bool) or not isinstance(distance, int | float):
        raise ValueError(f"the distance of {one!r} from {other!r} is no number: {distance!r}")
    if not 0.0 <= distance < math.inf or (one == other and distance > 0.0):
        raise ValueError(
            f"distances are at least 0, and 0 from a word to itself; got {distance!r} for "
            f"{one!r} and {other!r}"
        )
    if found.get(other, {}).get(one, distance) != distance:
        raise ValueError(
            f"distances must be the same in both directions; got {distance!r} from {one!r} to "
            f"{other!r} and {found[other][one]!r} back"
        )
    found.setdefault(one, {})[other] = float(distance)
    found.setdefault(other, {})[one] = float(distance)


def _metric(group: Sequence[str], found: Mapping[str, Mapping[str, float]]) -> FloatArray:
    """Return the distances between all words of a group, which must be a metric."""
    if len(group) > MOST_CANDIDATES:
        raise ValueError(
            f"the distances tie {len(group)} words together, {group[0]!r} among them; at most "
            f"{MOST_CANDIDATES} are possible"
        )
    far = np.zeros((len(group), len(group)))
    for i, one in enumerate(group):
        for j, other in enumerate(group):
            if i != j and other not in found[one]:
                raise ValueError(
                    f"the distance of {one!r} from {other!r} is missing: words that the table "
                    "ties together, also over others, need the distance of any two"
                )
            far[i, j] = 0.0 if i == j else found[one][other]
    for k, over in enumerate(group):
        detour = far[:, [k]] + far[k]
        i, j = divmod(int((far - detour).argmax()), len(group))
        if far[i, j] > detour[i, j] * (1.0 + 1e-12):
            raise ValueError(
                f"distances must be a metric, but {group[i]!r} and {group[j]!r} are at distance "
                f"{far[i, j]:g}, and over {over!r} at {detour[i, j]:g} only"
            )
    return far
