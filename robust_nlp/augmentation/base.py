"""What every augmenter is: a way to write a text anew that is meant to keep its label."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from robust_nlp.mechanisms.base import FloatArray
from robust_nlp.units import keyed_rng


@dataclass(frozen=True, kw_only=True)
class Augmenter(ABC):
    """Write a text anew, at random, so that a reader would still give it the same label.

    That the label stays is an assumption about the task, not a guarantee: it holds for most texts
    at rates of about a tenth of the words, and less at higher ones.
    """

    kind: ClassVar[str]
    #: Whether `rewrite` must be told the importance of each word.
    needs_importance: ClassVar[bool] = False
    #: Whether a text takes so long that copies are made once, before training.
    slow: ClassVar[bool] = False

    @abstractmethod
    def rewrite(
        self, text: str, rng: np.random.Generator, importance: FloatArray | None = None
    ) -> str:
        """Return a rewritten text, which may be equal to the given one.

        Args:
            text: The text.
            rng: All randomness.
            importance: For augmenters with `needs_importance`, the importance of each word of
                `text.split()`; shape `(words,)`. See `robust_nlp.augmentation.importance`.
        """


def augment(
    augmenter: Augmenter,
    text: str,
    *,
    seed: int,
    example: int | str,
    epoch: int = 0,
    copy: int | str = 0,
    importance: FloatArray | None = None,
) -> str:
    """Rewrite a text with randomness that belongs to it.

    The result depends on the arguments alone: it is the same in any order of texts, in any
    process, and after resuming.

    Args:
        augmenter: How to rewrite it.
        text: The text.
        seed: Seed of the run, at least 0.
        example: Which example the text is.
        epoch: Epoch of training, from 0.
        copy: Which copy of the example.
        importance: See `Augmenter.rewrite`.
    """
    rng = keyed_rng(seed, "augment", epoch, example, copy)
    return augmenter.rewrite(text, rng, importance)


def check_rate(owner: object, rate: float) -> None:
    """Raise ValueError unless a rate is a probability between 0 and 1."""
    if not 0.0 < rate < 1.0:
        raise ValueError(
            f"{type(owner).__name__} needs 0 < rate < 1, the probability that a word is changed; "
            f"got rate={rate!r}"
        )


def without(words: list[str], p_del: FloatArray, rng: np.random.Generator) -> str:
    """Delete each word with its own probability; if all would go, one drawn at random stays.

    Args:
        words: The words.
        p_del: Probability of deletion of each word; shape `(words,)`.
        rng: The randomness.
    """
    gone = rng.random(len(words)) < p_del
    if words and gone.all():
        gone[rng.integers(len(words))] = False
    return " ".join(word for word, deleted in zip(words, gone, strict=True) if not deleted)
