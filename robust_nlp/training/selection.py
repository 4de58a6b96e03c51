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
        domains: One domain a text, `None` where it is unknown, to measure each by itself as well.
        worst: Whether what picks a checkpoint is the accuracy in the worst domain.
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
        domains: Sequence[str | None] | None = None,
        worst: bool = False,
    ) -> None:
        # Data sets are often sorted by class: the first texts would say little.
        order = keyed_rng(seed, "selection-texts").permutation(len(texts))[:limit]
        self._texts = [texts[i] for i in order]
        self._labels = np.array([labels[i] for i in order])
        self._base, self._mechanism = base, mechanism
        self._n_votes, self._seed = n_votes, seed
        chosen = [None] * len(order) if domains is None else [domains[i] for i in order]
        self._names = sorted({name for name in chosen if name is not None})
        index = {name: i for i, name in enumerate(self._names)}
        #: The last one is that of texts of no known domain.
        self._domains = np.array([len(index) if name is None else index[name] for name in chosen])
        self.metric = selection_metric(noise=mechanism is not None, worst=worst)

    def __call__(self, accelerator: Any) -> dict[str, float]:
        """Return accuracies by name; call it in all processes.

        They are that of all texts and, with domains, that of each, and of the worst.

        Args:
            accelerator: The `accelerate.Accelerator` of the processes that share the texts.
        """
        mine = slice(accelerator.process_index, None, accelerator.num_processes)
        right = self._right(self._texts[mine], self._labels[mine])
        size = len(self._names) + 1
        counts = np.bincount(self._domains[mine], weights=right, minlength=size)
        total = accelerator.reduce(torch.tensor(counts, device=accelerator.device), "sum")
        found = total.cpu().numpy()
        noise = self._mechanism is not None
        metrics = {selection_metric(noise=noise): float(found.sum()) / len(self._texts)}
        if self._names:
            sizes = np.bincount(self._domains, minlength=size)
            each = found[:-1] / sizes[:-1]
            metrics |= {
                f"{name}_{selection_metric(noise=noise)}": float(accuracy)
                for name, accuracy in zip(self._names, each, strict=True)
            }
            metrics[selection_metric(noise=noise, worst=True)] = float(each.min())
        return metrics

    def _right(self, texts: list[Text], labels: IntArray) -> FloatArray:
        if not texts:  # fewer texts than processes
            return np.zeros(0)
        if self._mechanism is None:
            return np.asarray(answers(self._base, texts) == labels, np.float64)
        smoothed = SmoothedClassifier(self._base, self._mechanism)
        shares = smoothed.vote_shares(texts, self._n_votes, seed=self._seed)
        return np.asarray(wins(shares, labels), np.float64)


def selection_metric(*, noise: bool, worst: bool = False) -> str:
    """Name the accuracy that picks a checkpoint, without the prefix "eval_"."""
    name = "smoothed_accuracy" if noise else "accuracy"
    return f"worst_domain_{name}" if worst else name


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
