"""Certified accuracy against radius, and what chance leaves uncertain about it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import binom

from robust_nlp.certification import lower_confidence_bound, upper_confidence_bound
from robust_nlp.reporting.texts import CertifiedText

#: Probability with which an interval, or a corrected value, of a report fails.
DOUBT = 0.05


@dataclass(frozen=True, kw_only=True)
class CurvePoint:
    """Certified accuracy at one radius; without labels, the share of certified answers.

    Attributes:
        radius: Radius in whole edits.
        count: Texts that are right and certified at least that far.
        share: The same as a share of all texts.
        low: Lower end of the interval of the share over texts like these.
        high: Upper end of that interval.
        corrected: Lower bound of the share on these very texts that allows for wrong certificates.
        share_without_dead_zone: The share among the texts outside the dead zone; `None` if all
            texts are in it.
        share_with_swaps: The share among those of them with something to swap; `None` if there is
            none.
    """

    radius: int
    count: int
    share: float
    low: float
    high: float
    corrected: float
    share_without_dead_zone: float | None
    share_with_swaps: float | None


def interval(successes: int, trials: int) -> tuple[float, float]:
    """Return the two-sided Clopper–Pearson interval of a share, at 95 %."""
    return (
        lower_confidence_bound(successes, trials, alpha=DOUBT / 2),
        upper_confidence_bound(successes, trials, alpha=DOUBT / 2),
    )


def wrong_certificates(n_certificates: int, *, alpha: float, doubt: float = DOUBT) -> int:
    """Bound the number of wrong certificates from above.

    With probability at least `1 - doubt` no more of them are wrong. Each fails with probability
    at most `alpha`, independently of the others, so that their number is at most binomial.

    Args:
        n_certificates: Certificates of different texts that rest on drawn votes.
        alpha: Failure probability of one certificate.
        doubt: Probability that the bound fails, in `(0, 1)`.

    Source: `HighProbAccuracy` in the code of Cohen et al. (2019).
    Departs: The binomial law itself, where they use Bernstein's bound of it.
    """
    return int(binom.ppf(1.0 - doubt, n_certificates, alpha)) if n_certificates else 0


def drawn_texts(texts: Iterable[CertifiedText]) -> int:
    """Count the different texts whose certificates rest on drawn votes and so may be wrong."""
    return len({text.text_hash for text in texts if text.first.alpha > 0.0})


def certified_curve(
    texts: Sequence[CertifiedText], attacker: str, radii: Iterable[int]
) -> list[CurvePoint]:
    """Return the certified accuracy at each radius.

    All corrected values, of all radii and attackers together, hold with probability 95 % over the
    draws. Equal texts have equal votes and fail together; the correction takes the most frequent
    ones for the wrong ones.

    Args:
        texts: The texts; one at least.
        attacker: Name of the attacker.
        radii: Radii in whole edits.
    """
    alpha = max(text.first.alpha for text in texts)
    wrong = wrong_certificates(drawn_texts(texts), alpha=alpha)
    outside = sum(not text.first.dead_zone for text in texts)
    telling = sum(not text.trivial for text in texts)

    def point(radius: int) -> CurvePoint:
        counted = [text for text in texts if text.survives(attacker, radius)]
        drawn = Counter(text.text_hash for text in counted if text.first.alpha > 0.0)
        lost = sum(copies for _, copies in drawn.most_common(wrong))
        counted_outside = sum(not text.first.dead_zone for text in counted)
        counted_telling = sum(not text.trivial for text in counted)
        low, high = interval(len(counted), len(texts))
        return CurvePoint(
            radius=radius,
            count=len(counted),
            share=len(counted) / len(texts),
            low=low,
            high=high,
            corrected=(len(counted) - lost) / len(texts),
            share_without_dead_zone=counted_outside / outside if outside else None,
            share_with_swaps=counted_telling / telling if telling else None,
        )

    return [point(radius) for radius in radii]


def largest_radius(texts: Iterable[CertifiedText], attacker: str) -> int | None:
    """Return the largest radius of a right answer, `None` if there is no right answer."""
    radii = [text.certificates[attacker].radius for text in texts if text.right]
    return max((radius for radius in radii if radius is not None), default=None)


def table_radii(largest: int, *, at_most: int = 12) -> list[int]:
    """Choose radii from 0 to the largest for a table: all of them, or steps that grow."""
    if largest < at_most:
        return list(range(largest + 1))
    return sorted({0, *(round(radius) for radius in np.geomspace(1, largest, at_most - 1))})
