"""Base classifiers: what is asked about noisy texts, one vote a text."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import Any, Literal, Protocol

import numpy as np
import numpy.typing as npt

from robust_nlp.errors import DataError, ModelError
from robust_nlp.mechanisms.base import FloatArray, IntArray, Law, TextMechanism
from robust_nlp.mechanisms.gaussian import GaussianEmbedding
from robust_nlp.units import join_units, split_units

#: A text, or a pair of texts of which one is protected.
Text = str | tuple[str, str]
Side = Literal["first", "second"]


class OpenText(Protocol):
    """One text whose noisy versions can be encoded."""

    law: Law

    def encode(self, rows: IntArray) -> Sequence[Hashable]:
        """Return what the base classifier reads for each noisy row; equal inputs are equal keys."""
        ...


class BaseClassifier(Protocol):
    """A classifier that answers for each input on its own, whatever stands beside it."""

    labels: list[str]

    def open(self, text: Text, mechanism: TextMechanism) -> OpenText:
        """Split a text into the mechanism's units, and find the law of the noise on them."""
        ...

    def classify(self, inputs: Sequence[Any]) -> IntArray:
        """Return the class of each input; shape `(inputs,)`."""
        ...


class CallableClassifier:
    """A base classifier behind a plain function, which must answer equal texts equally.

    Args:
        function: Takes a list of texts (or of pairs of texts, where pairs are classified) and
            returns one row of scores per text, the largest of which is the answer; an array, a
            tensor on the CPU or nested lists of shape `(texts, classes)`.
        labels: Names of the classes, in the order of the scores.
        protected: Which text of a pair neither noise nor attacker touches.
        batch_size: Texts per call.

    Raises:
        ModelError: On use, if scores have the wrong shape or are not numbers.
    """

    def __init__(
        self,
        function: Callable[[list[Any]], npt.ArrayLike],
        labels: Sequence[str],
        *,
        protected: Side = "second",
        batch_size: int = 256,
    ) -> None:
        self.labels = list(labels)
        self._function = function
        self._protected = protected
        self._batch_size = batch_size
        if len(self.labels) < 2:
            raise ModelError(f"a classifier needs two labels or more; got {self.labels}")

    def open(self, text: Text, mechanism: TextMechanism) -> OpenText:
        if mechanism.kind == GaussianEmbedding.kind:
            raise ModelError(
                "noise on embeddings needs the embeddings of a model: use a HuggingFaceClassifier "
                "in place of a function of texts"
            )
        return _OpenString(text, mechanism, self._protected)

    def classify(self, inputs: Sequence[Text]) -> IntArray:
        votes = np.empty(len(inputs), np.int64)
        for start in range(0, len(inputs), self._batch_size):
            batch = list(inputs[start : start + self._batch_size])
            decided, doubtful = decide(self._scores(batch), batch, tolerance=1e-4)
            for i in doubtful:
                decided[i] = decide(self._scores([batch[i]]), [batch[i]], tolerance=0.0)[0][0]
            votes[start : start + len(batch)] = decided
        return votes

    def _scores(self, batch: list[Text]) -> FloatArray:
        scores = np.asarray(self._function(batch), dtype=np.float64)
        if scores.shape != (len(batch), len(self.labels)):
            raise ModelError(
                f"the classifier must return scores of shape ({len(batch)}, {len(self.labels)}) "
                f"for {len(batch)} texts and {len(self.labels)} labels; got shape {scores.shape}"
            )
        return scores


def decide(
    scores: FloatArray, inputs: Sequence[Any], *, tolerance: float
) -> tuple[IntArray, list[int]]:
    """Return the class of each row of scores, and the rows that are too close to call.

    Scores of one input differ by rounding with the batch in which they were computed. Rows whose
    two largest scores differ by no more than the tolerance are to be scored again alone, so that
    votes do not depend on batches.

    Args:
        scores: Scores; shape `(inputs, classes)`.
        inputs: The inputs, for the error message.
        tolerance: Largest doubtful difference, relative to one plus the largest score.

    Raises:
        ModelError: If a score is not a finite number.
    """
    bad = ~np.isfinite(scores).all(axis=1)
    if bad.any():
        raise ModelError(
            f"the base classifier gave scores that are not finite numbers (NaN or infinite) for "
            f"{int(bad.sum())} of {len(scores)} noisy texts, the first of which is "
            f"{str(inputs[int(bad.argmax())])[:200]!r}. Check the weights, or use float32."
        )
    top = np.partition(scores, -2, axis=1)[:, -2:]
    doubtful = top[:, 1] - top[:, 0] <= tolerance * (1.0 + np.abs(scores).max(axis=1))
    rows = np.flatnonzero(doubtful).tolist() if tolerance > 0.0 else []
    return scores.argmax(axis=1).astype(np.int64), rows


def parts(text: Text) -> tuple[str, ...]:
    """Return a text, or both texts of a pair, as a tuple."""
    return (text,) if isinstance(text, str) else text


def checked_texts(texts: Iterable[Any]) -> list[Text]:
    """Return texts, and pairs as tuples.

    Raises:
        DataError: If an element is neither a text nor a pair of texts.
    """
    if isinstance(texts, str):
        raise DataError("expected a list of texts; got one string")
    checked: list[Text] = []
    for position, text in enumerate(texts):
        if isinstance(text, str):
            checked.append(text)
        elif isinstance(text, tuple | list) and [type(part) for part in text] == [str, str]:
            checked.append((text[0], text[1]))
        else:
            raise DataError(
                f"expected a text, or a pair of texts, at position {position}; got {text!r:.80}"
            )
    return checked


def split_pair(text: Text, protected: Side) -> tuple[str, str | None]:
    """Return the text that is open to edits, and its protected partner if there is one."""
    if isinstance(text, str):
        return text, None
    first, second = text
    return (second, first) if protected == "first" else (first, second)


class _OpenString:
    def __init__(self, text: Text, mechanism: TextMechanism, protected: Side) -> None:
        body, self._partner = split_pair(text, protected)
        self._unit = mechanism.unit
        self._protected = protected
        units = split_units(body, mechanism.unit)
        self.law = mechanism.law(units)
        self._units = [*units, *self.law.extra_units]

    def encode(self, rows: IntArray) -> list[Hashable]:
        texts = [
            join_units([self._units[i] for i in row if i >= 0], self._unit) for row in rows.tolist()
        ]
        if self._partner is None:
            return list(texts)
        if self._protected == "first":
            return [(self._partner, text) for text in texts]
        return [(text, self._partner) for text in texts]
