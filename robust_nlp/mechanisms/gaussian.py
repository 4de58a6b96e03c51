"""Gaussian noise on the input embeddings, and what its radius means in words."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar

import numpy as np
from scipy.special import ndtri

from robust_nlp.mechanisms.base import (
    NO_RADIUS,
    FloatArray,
    IntArray,
    Law,
    Profile,
    Strata,
    believed,
)
from robust_nlp.mechanisms.synonyms import SwapMechanism, check_profile
from robust_nlp.threats import Attacker

#: What squares of distances and their sums may lose by rounding, relatively.
SLACK = 1e-12

#: Bins of squared distances in which texts are counted; more give a larger count.
BINS = 2_000


def gaussian_radius(p_lower: float, p_runner_up: float, *, sigma: float) -> float:
    """Return how far the embeddings may move, in L2, before the smoothed answer may change.

    The answer stands wherever the embeddings of all tokens together move by less than this.

    Args:
        p_lower: Lower bound of the probability of the predicted class, in `[0, 1]`.
        p_runner_up: Upper bound of the probability of every other class, in `[0, 1]`. With
            `1 - p_lower` the radius is `sigma * PhiInv(p_lower)`.
        sigma: Standard deviation of the noise, above 0.

    Returns:
        The radius, exclusive; `NO_RADIUS` if the bounds do not fix the answer on the clean text.

    Source: Cohen, Rosenfeld and Kolter (ICML 2019), Theorem 1.
    """
    low, high = believed(p_lower, p_runner_up)
    if low <= high:
        return NO_RADIUS
    return sigma / 2.0 * float(ndtri(low) - ndtri(high))


@lru_cache(maxsize=10_000)
def swap_costs(profile: Profile) -> tuple[float, ...]:
    """Return the squared distance that k swapped words can cover, for k = 1, 2, ...

    Words at different places move different coordinates, so that squared distances add up; the
    worst k words are those whose farthest swaps are the farthest.

    Args:
        profile: For each unit, the distance of each swap.
    """
    farthest = sorted((max(distances) for distances in profile if distances), reverse=True)
    squares = np.square(farthest) * (1.0 + SLACK)
    return tuple((np.cumsum(squares) * (1.0 + SLACK)).tolist())


def log10_texts(profile: Profile, radius: float) -> float:
    """Return a lower bound of the log10 of how many texts lie within an L2 radius.

    Counted are the text itself and all joint swaps, of any number of words, whose squared distances
    sum to less than the squared radius. Each squared distance is rounded up to a bin.

    Args:
        profile: For each unit, the distance of each swap.
        radius: The radius, above 0, exclusive.
    """
    width = radius**2 / BINS
    share: FloatArray = np.zeros(BINS)  # of the texts so far, by the bin of their squared distance
    share[0] = 1.0
    total = 0.0
    for distances in profile:
        bins = np.ceil(np.square(distances) * (1.0 + SLACK) / width)
        longer = share.copy()
        for bin_, swaps in zip(*np.unique(bins[bins < BINS], return_counts=True), strict=True):
            step = int(bin_)
            longer[step:] += swaps * share[: BINS - step]
        total += math.log10(longer.sum())
        share = longer / longer.sum()
    return max(0.0, total - 1e-9)  # what the logarithms and sums above may gain by rounding


@dataclass(frozen=True, kw_only=True)
class GaussianEmbedding(SwapMechanism):
    """Add independent normal noise to the input embeddings of all tokens.

    The noise sits on the output of the model's input embedding (`get_input_embeddings()`), before
    positions, token types and layer norms: the distance of two words is that of their rows of the
    table, wherever they stand.

    Guarantees: against substitutions inside the allowed swaps that keep the number of tokens, in
        whole words, whatever the positions; and against all that moves the embeddings by less than
        the L2 radius in `Certificate.details`.
    Assumes: the base classifier sees the text only through the noisy embeddings and their number;
        `HuggingFaceClassifier` sees to that.
    Does not cover: swaps that change the number of tokens, which a certificate leaves out without
        further mention (a text none of whose swaps keeps it is certified against nothing); swaps
        outside the allowed ones; insertions and deletions.

    Args:
        sigma: Standard deviation of the noise, above 0, on the scale of the embedding table.
        swaps: The allowed swaps: the path of a neighbour file, "wordnet", or word -> list of
            words; see `robust_nlp.swaps.AllowedSwaps`.
        limit: Allowed swaps of a word at most, the nearest; `None` for no limit.
        symmetric: Whether w may replace v wherever v may replace w.
        unit: "word".

    Raises:
        ValueError: If a setting is outside its range.

    Source: Cohen, Rosenfeld and Kolter (ICML 2019).
    Departs: Counts words. Strict at ties: the theorem says nothing at the radius itself.
    """

    sigma: float

    kind: ClassVar[str] = "gaussian_embedding"
    detail_names: ClassVar[Mapping[str, str]] = {
        "l2_radius": "L2 radius, on the scale of the embedding table",
        "log10_texts": "log10 of the number of texts covered, at least",
    }
    not_covered: ClassVar[tuple[str, ...]] = (
        *SwapMechanism.not_covered,
        "allowed substitutes with another number of tokens than the word",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0.0 < self.sigma < math.inf:
            raise ValueError(
                f"Gaussian noise needs sigma > 0, its standard deviation on the scale of the "
                f"embedding table; got sigma={self.sigma!r}"
            )

    @property
    def description(self) -> str:
        return (
            f"Gaussian noise: to the embedding of every token, normal noise of standard deviation "
            f"{self.sigma:g} is added; the answer is the class that most of the noisy versions are "
            "given. It certifies against substitutions by allowed words of as many tokens only."
        )

    @property
    def substitutes(self) -> Callable[[str], Collection[str]] | None:
        return self._unknown

    @staticmethod
    def _unknown(unit: str) -> Collection[str]:
        raise ValueError(
            f"which substitutes of {unit!r} keep the number of tokens, only the classifier knows: "
            "a certificate of Gaussian noise alone cannot tell whether it covers a text"
        )

    def law(self, units: Sequence[str]) -> Law:
        """Return the law with infinite distances; the base classifier's law has the true ones."""
        return GaussianLaw(tuple((math.inf,) * len(self.allowed.of(unit)) for unit in units))

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
        reach = gaussian_radius(p_lower, p_runner_up, sigma=self.sigma)
        if reach == NO_RADIUS:
            return NO_RADIUS
        costs = swap_costs(profile)
        radius = bisect_left(costs, reach**2)  # as many as cost strictly less
        return n_units if radius == len(costs) else radius

    def ceiling(self, n_units: int, attacker: Attacker, profile: Profile = ()) -> int:
        """Return the radius that votes of one mind would give; before distances are known, all."""
        unknown = any(math.inf in distances for distances in profile)
        return n_units if unknown else super().ceiling(n_units, attacker, profile)

    def details(
        self, p_lower: float, p_runner_up: float, *, n_units: int, profile: Profile = ()
    ) -> dict[str, float]:
        """Return `l2_radius`, and `log10_texts`, how many texts the certificate covers at least."""
        check_profile(profile, n_units)
        reach = gaussian_radius(p_lower, p_runner_up, sigma=self.sigma)
        if reach <= 0.0:
            return {}
        return {"l2_radius": reach, "log10_texts": log10_texts(profile, reach)}


class GaussianLaw(Law):
    """Noise on embeddings, drawn as seeds of it: what a seed becomes, the base classifier says.

    Args:
        profile: For each unit the distances of its claimed swaps, in increasing order.
    """

    def __init__(self, profile: Profile) -> None:
        self.n_units = len(profile)
        self.profile = profile

    def strata(self) -> Strata:
        return Strata(
            kept=np.array([self.n_units]),
            probability=np.array([1.0]),
            outcomes=np.array([math.inf]),
        )

    def draw(self, size: int, rng: np.random.Generator) -> IntArray:
        return rng.integers(2**63, size=(size, 1), dtype=np.int64)

    def kept_counts(self, rows: IntArray) -> IntArray:
        return np.full(len(rows), self.n_units)
