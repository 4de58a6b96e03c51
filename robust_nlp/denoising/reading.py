"""Ask a base classifier about whole texts, as they are."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from robust_nlp.base_classifier import (
    BaseClassifier,
    CallableClassifier,
    Side,
    Text,
    split_pair,
)
from robust_nlp.encoding import ID, UnitEncoder
from robust_nlp.mechanisms.base import FloatArray
from robust_nlp.mechanisms.deletion import RandomizedDeletion

if TYPE_CHECKING:
    from robust_nlp.huggingface import HuggingFaceClassifier

#: Splits a text into units that join to the very same text, white space included.
_AS_IT_IS = RandomizedDeletion(p_del=0.5, unit="character")


class Reader(Protocol):
    """Keys and scores of whole texts.

    Attributes:
        tolerance: By how much scores may change with the inputs beside them, relative to one plus
            the largest of them.
    """

    tolerance: float

    def keys(self, texts: Sequence[Text]) -> list[Hashable]:
        """Return what the base classifier reads for each text."""
        ...

    def scores(self, keys: Sequence[Any]) -> FloatArray:
        """Return one row of scores per key, of which the largest is the answer."""
        ...


def reader(base: BaseClassifier, protected: Side) -> Reader:
    """Return the way to read whole texts that suits a base classifier.

    Args:
        base: Any base classifier. One that is neither a `HuggingFaceClassifier` nor a
            `CallableClassifier` tells no scores, so that its answers count as scores 0 and 1.
        protected: Which text of a pair is not repaired.
    """
    if isinstance(base, CallableClassifier):
        return _CallableReader(base)
    from robust_nlp.huggingface import HuggingFaceClassifier

    if isinstance(base, HuggingFaceClassifier):
        return _HuggingFaceReader(base, protected)
    return _AnyReader(base)


def protected_side(base: BaseClassifier) -> Side:
    """Return which text of a pair a base classifier protects; "second" if it does not say."""
    if isinstance(base, CallableClassifier):
        return base._protected
    side: Side = getattr(base, "protected", "second")
    return side


class _AnyReader:
    tolerance = 0.0

    def __init__(self, base: BaseClassifier) -> None:
        self._base = base

    def keys(self, texts: Sequence[Text]) -> list[Hashable]:
        keys: list[Hashable] = []
        for text in texts:
            opened = self._base.open(text, _AS_IT_IS)
            keys += opened.encode(np.arange(opened.law.n_units)[None])
        return keys

    def scores(self, keys: Sequence[Any]) -> FloatArray:
        return np.eye(len(self._base.labels))[self._base.classify(keys)]


class _CallableReader:
    tolerance = 1e-4

    def __init__(self, base: CallableClassifier) -> None:
        self._base = base

    def keys(self, texts: Sequence[Text]) -> list[Hashable]:
        return list(texts)

    def scores(self, keys: Sequence[Text]) -> FloatArray:
        size = self._base._batch_size
        batches = [
            self._base._scores(list(keys[start : start + size]))
            for start in range(0, len(keys), size)
        ]
        return np.concatenate(batches)


class _HuggingFaceReader:
    def __init__(self, base: HuggingFaceClassifier, protected: Side) -> None:
        from robust_nlp.huggingface import TOLERANCE

        self._base, self._protected = base, protected
        self._encoder = UnitEncoder(base.tokenizer, "character", base.prefix)
        self.tolerance = TOLERANCE.get(base.model.dtype, 2e-2)

    def keys(self, texts: Sequence[Text]) -> list[Hashable]:
        by_partner: dict[str | None, list[int]] = defaultdict(list)
        strings = []
        for i, text in enumerate(texts):
            body, partner = split_pair(text, self._protected)
            strings.append(self._encoder.string([body]))
            by_partner[partner].append(i)
        bodies = self._encoder.bodies_of_strings(strings)
        keys: list[Hashable] = [b""] * len(texts)
        for partner, members in by_partner.items():
            built = self._base.builder.build([bodies[i] for i in members], partner)
            for i, key in zip(members, built, strict=True):
                keys[i] = key
        return keys

    def scores(self, keys: Sequence[bytes]) -> FloatArray:
        scores = np.empty((len(keys), len(self._base.labels)))
        by_length: dict[int, list[int]] = defaultdict(list)
        for i, key in enumerate(keys):
            by_length[len(key)].append(i)
        training = self._base.model.training
        self._base.model.eval()
        try:
            for size, members in sorted(by_length.items()):
                rows = max(1, self._base.batch_tokens * ID.itemsize // size)
                for start in range(0, len(members), rows):
                    batch = members[start : start + rows]
                    scores[batch] = self._base.scores([keys[i] for i in batch])
        finally:
            self._base.model.train(training)
        return scores
