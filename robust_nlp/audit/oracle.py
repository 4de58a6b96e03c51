"""The search oracle: few votes, the same noise for all candidates, soft where votes are alike."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import NamedTuple

import numpy as np

from robust_nlp.base_classifier import Text
from robust_nlp.denoising.reading import protected_side, reader
from robust_nlp.embedding_noise import NoisyInput
from robust_nlp.mechanisms.base import FloatArray, IntArray, Law, LengthLaw
from robust_nlp.smoothing import SmoothedClassifier
from robust_nlp.units import keyed_rng

#: Noisy texts that are classified in one go.
AT_ONCE = 2_048


class Score(NamedTuple):
    """How well a candidate holds the certified class; the lowest is the most promising.

    Attributes:
        margin: Share of votes of the certified class minus the largest other share; exact where
            all noisy texts were classified.
        soft: Mean over the noisy texts of the margin of the base classifier's scores, squeezed
            into (-1, 1); it tells candidates apart whose votes are alike.
    """

    margin: float
    soft: float


class Oracle:
    """Score candidates for one text by few votes.

    Within a round all candidates meet the same noise, vote by vote: draws for texts of equal
    length agree place by place, and those for a longer text begin like those for a shorter one. So
    the scores of two candidates differ by what the candidates do, much more than by chance. A new
    round draws anew, so that no search can settle on one draw.

    Args:
        smoothed: The smoothed classifier.
        certified: The certified class.
        votes: Noisy texts per candidate; a candidate with no more than that has all of them
            classified.
        seed: Seed of the noise.
        key: Key of the clean text.
        forwards: Passes of the base classifier to spend at most.
    """

    def __init__(
        self,
        smoothed: SmoothedClassifier,
        certified: int,
        *,
        votes: int,
        seed: int,
        key: str,
        forwards: int,
    ) -> None:
        self._smoothed, self._certified, self._votes = smoothed, certified, votes
        self._seed, self._key, self._round = seed, key, 0
        self._reader = reader(smoothed.base, protected_side(smoothed.base))
        self._rows: dict[int, IntArray] = {}
        self._known: dict[Hashable, tuple[int, float]] = {}
        self.left = forwards
        #: Set to false when a candidate is scored by a sample of its noisy texts.
        self.exact = True

    def redraw(self) -> None:
        """Begin a round with noise of its own."""
        self._round += 1
        self._rows.clear()

    def scores(self, texts: Sequence[Text]) -> list[Score]:
        """Score candidates, until the passes are spent; the candidates left over have no score."""
        found: list[Score] = []
        size = max(1, AT_ONCE // self._votes)
        for start in range(0, len(texts), size):
            asked = [self._noisy(text) for text in texts[start : start + size]]
            new: dict[Hashable, None] = {}
            for done, (keys, _) in enumerate(asked):
                fresh = {key for key in keys if key not in self._known and key not in new}
                if len(fresh) > self.left - len(new):
                    asked = asked[:done]
                    break
                new.update(dict.fromkeys(key for key in keys if key in fresh))
            self.left -= len(new)
            self._answer(list(new))
            found += [self._score(keys, weights) for keys, weights in asked]
            if len(asked) < min(size, len(texts) - start):
                break
        return found

    def _noisy(self, text: Text) -> tuple[Sequence[Hashable], FloatArray]:
        opened = self._smoothed.base.open(text, self._smoothed.mechanism)
        if few_outcomes(opened.law, self._votes):
            rows, weights = opened.law.outcomes()
        else:
            self.exact = False
            rows = self._drawn(opened.law)
            weights = np.full(len(rows), 1.0 / len(rows))
        return opened.encode(rows), weights

    def _drawn(self, law: Law) -> IntArray:
        if isinstance(law, LengthLaw) and law.n_units in self._rows:
            return self._rows[law.n_units]
        stage = (self._key, "audit", "search", self._round)
        draws = [law.draw(1, keyed_rng(self._seed, *stage, vote)) for vote in range(self._votes)]
        rows = np.concatenate(draws)
        self._rows[law.n_units] = rows
        return rows

    def _answer(self, keys: list[Hashable]) -> None:
        if not keys:
            return
        n_classes = len(self._smoothed.labels)
        if isinstance(keys[0], NoisyInput):  # noise on embeddings is read by the classifier alone
            scores = np.eye(n_classes)[self._smoothed.base.classify(keys)]
        else:
            scores = self._reader.scores(keys)
        others = np.delete(scores, self._certified, axis=1).max(axis=1)
        margins = scores[:, self._certified] - others
        squeezed = (margins / (1.0 + np.abs(margins))).tolist()
        self._known.update(
            zip(keys, zip(scores.argmax(axis=1).tolist(), squeezed, strict=True), strict=True)
        )

    def _score(self, keys: Sequence[Hashable], weights: FloatArray) -> Score:
        answers = [self._known[key] for key in keys]
        classes = np.array([answer for answer, _ in answers], np.int64)
        shares = np.bincount(classes, weights=weights, minlength=len(self._smoothed.labels))
        margin = float(shares[self._certified] - np.delete(shares, self._certified).max())
        soft = float(weights @ np.array([soft for _, soft in answers]))
        return Score(margin=round(margin, 12), soft=soft)  # what sums lose must not break ties


def mean(scores: Sequence[Score]) -> Score:
    """Return the mean of scores under different noise."""
    margins, softs = zip(*scores, strict=True)
    return Score(margin=round(sum(margins) / len(scores), 12), soft=sum(softs) / len(scores))


def few_outcomes(law: Law, votes: int) -> bool:
    """Tell whether all noisy texts of a text are no more than the votes that would be cast."""
    return float(law.strata().outcomes.sum()) <= votes
