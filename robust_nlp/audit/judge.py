"""The judge: many votes under noise that no search has seen, and a bound on what they show."""

from __future__ import annotations

from collections.abc import Hashable

import numpy as np

from robust_nlp.audit.oracle import few_outcomes
from robust_nlp.audit.records import Judgement
from robust_nlp.base_classifier import OpenText, Text
from robust_nlp.mechanisms.base import IntArray
from robust_nlp.smoothing import SmoothedClassifier
from robust_nlp.units import keyed_rng

#: Share of the judge's votes that choose the rival of the certified class.
SELECTION = 0.1

#: Standard errors of the selection votes by which the certified class leads where no more are cast.
CLEAR_LEAD = 3.0


def judge(
    smoothed: SmoothedClassifier, text: Text, certified: int, *, votes: int, seed: int, key: str
) -> Judgement:
    """Cast the votes of the judge on a candidate.

    Equal noisy texts are classified once, and nothing is remembered from one candidate to another.
    The selection votes may end the judgement, in favour of the certified class only: that makes a
    contradiction rarer and no bound wrong.

    Args:
        smoothed: The smoothed classifier.
        text: The candidate.
        certified: The certified class.
        votes: Votes, besides those that choose the rival; a candidate with no more noisy texts
            than that has all of them classified.
        seed: Seed of the noise.
        key: Key of the candidate.
    """
    opened = smoothed.base.open(text, smoothed.mechanism)
    n_classes = len(smoothed.labels)
    nothing = (0,) * n_classes
    if few_outcomes(opened.law, votes):
        rows, weights = opened.law.outcomes()
        masses = np.bincount(
            _classes(smoothed, opened, rows, {}), weights=weights, minlength=n_classes
        )
        return Judgement(exact=tuple(masses.tolist()), selection=nothing, counts=nothing)
    known: dict[Hashable, int] = {}

    def cast(stage: str, size: int) -> IntArray:
        rows = opened.law.draw(size, keyed_rng(seed, key, "audit", "judge", stage))
        counts: IntArray = np.bincount(_classes(smoothed, opened, rows, known), minlength=n_classes)
        return counts

    selection = cast("selection", max(1, round(SELECTION * votes)))
    counts = np.zeros(n_classes, np.int64)
    if not _leads(selection, certified):
        counts = cast("votes", votes)
    return Judgement(exact=None, selection=tuple(selection.tolist()), counts=tuple(counts.tolist()))


def _classes(
    smoothed: SmoothedClassifier, opened: OpenText, rows: IntArray, known: dict[Hashable, int]
) -> IntArray:
    keys = opened.encode(rows)
    new = [key for key in dict.fromkeys(keys) if key not in known]
    if new:
        known.update(zip(new, np.asarray(smoothed.base.classify(new)).tolist(), strict=True))
    return np.array([known[key] for key in keys], np.int64)


def _leads(counts: IntArray, certified: int) -> bool:
    """Tell whether the certified class leads by several standard errors."""
    shares = counts / counts.sum()
    own, other = shares[certified], np.delete(shares, certified).max()
    error = np.sqrt((own + other - (own - other) ** 2) / counts.sum())
    return bool(own - other > CLEAR_LEAD * error)
