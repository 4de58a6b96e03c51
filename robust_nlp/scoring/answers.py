"""Classifiers of any kind as functions from texts to answers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from robust_nlp.base_classifier import CallableClassifier, Text
from robust_nlp.certification.plan import SamplingPlan
from robust_nlp.denoising import DenoisedClassifier
from robust_nlp.denoising.reading import protected_side, reader
from robust_nlp.errors import ModelError
from robust_nlp.huggingface import HuggingFaceClassifier
from robust_nlp.scoring.settings import PLAN
from robust_nlp.smoothing import SmoothedClassifier

#: Takes texts or pairs of texts, and returns one class index each; `None` is an abstention.
Answers = Callable[[list[Text]], list[int | None]]

#: Anything that can be scored; a function returns one row of scores a text.
Classifier = (
    SmoothedClassifier
    | HuggingFaceClassifier
    | CallableClassifier
    | DenoisedClassifier
    | Callable[[list[Any]], npt.ArrayLike]
)


def answers_of(
    classifier: Classifier, *, plan: SamplingPlan | None = None, seed: int = 0
) -> Answers:
    """Return the function that answers for a classifier; equal texts are answered once a call.

    A smoothed classifier answers by votes and may abstain. Every other one reads each text as it
    is and always answers; of the empty text, a Hugging Face model reads the special tokens alone,
    or one of them where its tokenizer adds none.

    Args:
        classifier: A smoothed or plain classifier, or a function from texts to scores.
        plan: Votes of a smoothed classifier; `None` takes up to 500 at alpha 0.01.
        seed: Seed of the votes.
    """
    if isinstance(classifier, SmoothedClassifier):
        smoothed = classifier
        return _once(lambda texts: smoothed.predict(texts, plan or PLAN, seed=seed))
    if isinstance(classifier, HuggingFaceClassifier | CallableClassifier):
        base: Any = classifier
        keys = reader(base, protected_side(base))
        return _once(lambda texts: base.classify(keys.keys(texts)).tolist())
    if isinstance(classifier, DenoisedClassifier):
        return answers_of(plain(classifier))
    function = classifier
    return _once(lambda texts: _largest(np.asarray(function(texts), np.float64), len(texts)))


def plain(classifier: Any) -> Any:
    """Return what answers when nothing is smoothed or repaired: the innermost classifier."""
    while isinstance(classifier, SmoothedClassifier | DenoisedClassifier):
        classifier = classifier.base
    return classifier


def _once(answer: Callable[[list[Text]], Sequence[int | None]]) -> Answers:
    def answers(texts: list[Text]) -> list[int | None]:
        distinct = list(dict.fromkeys(texts))
        known = dict(zip(distinct, answer(distinct), strict=True)) if distinct else {}
        return [known[text] for text in texts]

    return answers


def _largest(scores: npt.NDArray[np.float64], n_texts: int) -> list[int | None]:
    if scores.ndim != 2 or len(scores) != n_texts or not np.isfinite(scores).all():
        raise ModelError(
            f"the classifier must return one row of finite scores for each of {n_texts} texts; got "
            f"shape {scores.shape}"
        )
    found: list[int | None] = scores.argmax(axis=1).tolist()
    return found
