"""How much each word speaks for the label, and deletion that prefers such words."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from robust_nlp.augmentation.base import Augmenter, check_rate, without
from robust_nlp.base_classifier import Side, Text, split_pair
from robust_nlp.errors import DataError, ModelError
from robust_nlp.mechanisms.base import FloatArray

#: Takes texts or pairs of texts, and returns one row of scores each, larger for likelier classes:
#: an array, a tensor on the CPU or nested lists of shape `(texts, classes)`.
Scores = Callable[[list[Any]], npt.ArrayLike]


def word_importance(
    scores: Scores,
    texts: Sequence[Text],
    labels: Sequence[int],
    *,
    max_pieces: int = 64,
    protected: Side = "second",
    batch_size: int = 64,
) -> list[FloatArray]:
    """Measure by how much each word raises the margin of the label: leave it out, and look.

    The margin is the score of the label less the largest score of another class. A text of n words
    costs n + 1 scores. A longer text than `max_pieces` words is cut into that many runs of words,
    which are left out together and share their importance equally.

    Args:
        scores: The classifier; batches hold versions of several texts.
        texts: The texts, or pairs of texts.
        labels: One class index a text.
        max_pieces: Versions of a text at most, besides the text itself; at least 1.
        protected: Which text of a pair loses no words.
        batch_size: Texts per call of `scores`.

    Returns:
        For each text the importance of each word of `text.split()`, which may be negative; shape
        `(words,)`.

    Raises:
        DataError: If there is not one label a text.
        ModelError: If scores have the wrong shape.
    """
    if len(texts) != len(labels):
        raise DataError(f"expected one label a text; got {len(labels)} for {len(texts)} texts")
    words = [split_pair(text, protected)[0].split() for text in texts]
    cuts = [np.array_split(np.arange(len(w)), min(len(w), max_pieces) or 1) for w in words]

    def versions() -> Iterator[tuple[int, Text]]:
        for t, text in enumerate(texts):
            yield t, text
            for piece in cuts[t] if words[t] else ():
                left = words[t][: piece[0]] + words[t][piece[-1] + 1 :]
                yield t, put_back(" ".join(left), text, protected)

    margins: list[list[float]] = [[] for _ in texts]
    queue = versions()
    while batch := list(islice(queue, batch_size)):
        found = _margins(scores, [text for _, text in batch], [labels[t] for t, _ in batch])
        for (t, _), margin in zip(batch, found, strict=True):
            margins[t].append(margin)
    return [
        np.concatenate(
            [np.full(len(p), (m[0] - x) / len(p)) for p, x in zip(c, m[1:], strict=True)]
        )
        if w
        else np.zeros(0)
        for w, c, m in zip(words, cuts, margins, strict=True)
    ]


def put_back(open_text: str, text: Text, protected: Side) -> Text:
    """Return a text with its open part replaced; the inverse of `split_pair`."""
    if isinstance(text, str):
        return open_text
    return (text[0], open_text) if protected == "first" else (open_text, text[1])


def deletion_probabilities(importance: FloatArray, *, rate: float, sharpness: float) -> FloatArray:
    """Turn importance into probabilities of deletion that rise with it.

    A word of importance a is deleted with a probability proportional to
    `exp(sharpness * a / max |a|)`, but at most 1, so that `rate` of the words go on average. The
    scale of the scores does not matter, and so neither how sure the classifier is.

    Args:
        importance: Importance of each word; shape `(words,)`.
        rate: Mean probability, in `(0, 1)`.
        sharpness: At 0 all words are alike; the most important word is `exp(sharpness)` times as
            likely to go as one of no importance. At least 0.

    Returns:
        Probabilities with mean `rate`; shape `(words,)`.
    """
    if not len(importance):
        return np.zeros(0)
    scale = np.abs(importance).max()
    weights = np.exp(sharpness * (importance / scale if scale > 0.0 else importance))
    total = rate * len(weights)
    p = weights * (total / weights.sum())
    certain = np.zeros(len(weights), bool)
    while (p > 1.0).any():  # what a word has above 1 goes to the words below
        certain |= p >= 1.0
        rest = weights * ((total - certain.sum()) / weights[~certain].sum())
        p = np.where(certain, 1.0, rest)
    return np.asarray(p)


@dataclass(frozen=True, kw_only=True)
class DeleteImportantWords(Augmenter):
    """Delete words, those that the current classifier relies on more often than others.

    The classifier must then find what else speaks for the label. Never deletes the whole text.

    Args:
        rate: Mean probability that a word is deleted, in `(0, 1)`.
        sharpness: How strongly importance counts; see `deletion_probabilities`.
        max_pieces: Versions of a text at most that importance is measured with; see
            `word_importance`.

    Raises:
        ValueError: If a setting is outside its range.
    """

    rate: float = 0.1
    sharpness: float = 2.0
    max_pieces: int = 64

    kind: ClassVar[str] = "delete_important_words"
    needs_importance: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_rate(self, self.rate)
        if not self.sharpness >= 0.0:
            raise ValueError(f"sharpness must be at least 0; got {self.sharpness!r}")
        if self.max_pieces < 1:
            raise ValueError(f"max_pieces must be at least 1; got {self.max_pieces!r}")

    def rewrite(
        self, text: str, rng: np.random.Generator, importance: FloatArray | None = None
    ) -> str:
        words = text.split()
        if importance is None or len(importance) != len(words):
            got = "none" if importance is None else f"that of {len(importance)}"
            raise ValueError(
                f"DeleteImportantWords needs the importance of each of the {len(words)} words of a "
                f"text; got {got}. Measure it with word_importance, or in training with a "
                "RefreshRows callback"
            )
        p_del = deletion_probabilities(importance, rate=self.rate, sharpness=self.sharpness)
        return without(words, p_del, rng)


def _margins(scores: Scores, texts: list[Any], labels: Sequence[int]) -> list[float]:
    found = np.asarray(scores(texts), dtype=np.float64)
    if found.ndim != 2 or len(found) != len(texts) or found.shape[1] < 2:
        raise ModelError(
            f"the classifier must return one row of scores for each of {len(texts)} texts, one "
            f"score a class; got shape {found.shape}"
        )
    rows = np.arange(len(texts))
    others = found.copy()
    others[rows, labels] = -np.inf
    margins: list[float] = (found[rows, labels] - others.max(axis=1)).tolist()
    return margins
