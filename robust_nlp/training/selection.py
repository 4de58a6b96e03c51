"""The accuracies that choose a checkpoint."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from robust_nlp.base_classifier import Text
from robust_nlp.huggingface import HuggingFaceClassifier
from robust_nlp.mechanisms import RandomizedDeletion
from robust_nlp.mechanisms.base import FloatArray, IntArray, TextMechanism
from robust_nlp.smoothing import SmoothedClassifier
from robust_nlp.units import keyed_rng

#: Splits a text into units that join to the very same text, white space included.
_AS_IT_IS = RandomizedDeletion(p_del=0.5, unit="character")


class Selection:
    """Measure the accuracy of a model on validation texts, the same way at every checkpoint.

    With votes, an answer counts as right if the label has more votes than every other class, under
    noise that is the same at every checkpoint. Without, if it is the answer to the text as it is.
    Processes share the texts and all get the accuracy on all of them.

    Args:
        base: The classifier that is being trained.
        texts: Validation texts.
        labels: One class index a text.
        mechanism: The law of the noise; `None` measures without noise.
        n_votes: Votes per text.
        limit: Texts used at most, chosen at random by the seed; `None` takes all.
        seed: Seed of the choice and of the noise.
    """

    def __init__(
        self,
        base: HuggingFaceClassifier,
        texts: Sequence[Text],
        labels: Sequence[int],
        *,
        mechanism: TextMechanism | None,
        n_votes: int = 32,
        limit: int | None = None,
        seed: int = 0,
    ) -> None:
        # Data sets are often sorted by class: the first texts would say little.
        order = keyed_rng(seed, "selection-texts").permutation(len(texts))[:limit]
        self._texts = [texts[i] for i in order]
        self._labels = np.array([labels[i] for i in order])
        self._base, self._mechanism = base, mechanism
        self._n_votes, self._seed = n_votes, seed

    @property
    def metric(self) -> str:
        """Name of the metric, without the prefix "eval_"."""
        return "accuracy" if self._mechanism is None else "smoothed_accuracy"

    def __call__(self, accelerator: Any) -> dict[str, float]:
        """Return the accuracy by name; call it in all processes.

        Args:
            accelerator: The `accelerate.Accelerator` of the processes that share the texts.
        """
        mine = slice(accelerator.process_index, None, accelerator.num_processes)
        right = self._count_right(self._texts[mine], self._labels[mine])
        total = accelerator.reduce(torch.tensor(right, device=accelerator.device), "sum")
        return {self.metric: int(total) / len(self._texts)}

    def _count_right(self, texts: list[Text], labels: IntArray) -> int:
        if not texts:  # fewer texts than processes
            return 0
        if self._mechanism is None:
            return int((answers(self._base, texts) == labels).sum())
        smoothed = SmoothedClassifier(self._base, self._mechanism)
        shares = smoothed.vote_shares(texts, self._n_votes, seed=self._seed)
        return int(wins(shares, labels).sum())


def wins(shares: FloatArray, labels: IntArray) -> npt.NDArray[np.bool_]:
    """Tell where the label has more votes than every other class; a tie is no win.

    Args:
        shares: Shares of the votes; shape `(texts, classes)`.
        labels: Class indices; shape `(texts,)`.
    """
    rows = np.arange(len(labels))
    others = shares.copy()
    others[rows, labels] = -1.0
    return np.asarray(shares[rows, labels] > others.max(axis=1))


def answers(base: HuggingFaceClassifier, texts: Sequence[Text]) -> IntArray:
    """Return the answers of a classifier to texts as they are; shape `(texts,)`."""
    keys: list[Any] = []
    for text in texts:
        opened = base.open(text, _AS_IT_IS)
        keys += opened.encode(np.arange(opened.law.n_units)[None])
    return base.classify(keys)
