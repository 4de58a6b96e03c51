"""Changes of a text that are not meant to change its label, at rates that build on each other."""

from __future__ import annotations

import math
import unicodedata
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np

from robust_nlp.augmentation.words import misspelt
from robust_nlp.mechanisms.base import FloatArray
from robust_nlp.settings import build

Order = Literal["random", "most_important", "least_important"]
Importance = Literal["leave_one_out", "gradient_x_embedding"]

#: Rates of deletion curves.
CURVE = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)

#: Marks that a word may be given.
MARKS = (".", ",", "!", "?", ";", ":")


@dataclass(frozen=True, kw_only=True)
class Perturbation(ABC):
    """Change a share of the words of a text.

    What a larger rate changes includes what a smaller rate changes, as long as the randomness is
    the same, so that texts only drift further away along a curve. At rate 0, and where there is
    nothing to change, a text comes back as it is; otherwise its words are joined by single spaces.
    """

    kind: ClassVar[str]

    @property
    @abstractmethod
    def rates(self) -> tuple[float, ...]:
        """Shares of the words that are changed, in `(0, 1]`, rising."""

    @property
    @abstractmethod
    def draws(self) -> int:
        """Random versions of each text at each rate."""

    @property
    def name(self) -> str:
        """How results call it."""
        return self.kind

    @property
    def needs_importance(self) -> bool:
        """Whether `perturb` must be told the importance of each word."""
        return False

    @abstractmethod
    def perturb(
        self,
        text: str,
        rate: float,
        rng: np.random.Generator,
        importance: FloatArray | None = None,
    ) -> str:
        """Return a changed text; a function of the arguments alone.

        Args:
            text: The text.
            rate: Share of the words to change, in `[0, 1]`; `count` says how many these are.
            rng: All randomness. Give the same for each rate of a curve.
            importance: Where `needs_importance`, the importance of each word of `text.split()`;
                shape `(words,)`.
        """


def count(rate: float, n: int) -> int:
    """Return how many of n words a rate stands for: the nearest whole number, halves up."""
    return min(n, math.floor(rate * n + 0.5 + 1e-9))


def _check(perturbation: Perturbation) -> None:
    rates, name = perturbation.rates, type(perturbation).__name__
    rising = all(low < high for low, high in zip((0.0, *rates), rates, strict=False))
    if not rates or not rising or not rates[-1] <= 1.0:
        raise ValueError(f"{name} needs rates in (0, 1], each above the one before; got {rates}")
    if perturbation.draws < 1:
        raise ValueError(f"{name} needs draws of at least 1; got {perturbation.draws}")


@dataclass(frozen=True, kw_only=True)
class DeleteWords(Perturbation):
    """Delete words, at random or by how much they say for the label.

    Nothing keeps a word back: of a short text, a high rate leaves nothing.

    Args:
        order: Which words go first: "random", "most_important" or "least_important". Words of
            equal importance go in the order of the text.
        importance: How importance is measured, where the order asks for it; see
            `robust_nlp.scoring.importance`.
        rates: Shares of the words that are deleted, in `(0, 1]`, rising.
        draws: Random orders of each text; orders of importance have one.

    Raises:
        ValueError: If a setting is out of range.
    """

    order: Order = "random"
    importance: Importance = "leave_one_out"
    rates: tuple[float, ...] = CURVE
    draws: int = 1

    kind: ClassVar[str] = "delete_words"

    def __post_init__(self) -> None:
        _check(self)
        if self.order != "random" and self.draws != 1:
            raise ValueError(f"an order of importance has one draw; got draws={self.draws}")

    @property
    def needs_importance(self) -> bool:
        return self.order != "random"

    @property
    def name(self) -> str:
        how = "" if self.order == "random" else f" by {self.importance}"
        return f"{self.kind}[{self.order}{how}]"

    def perturb(
        self,
        text: str,
        rate: float,
        rng: np.random.Generator,
        importance: FloatArray | None = None,
    ) -> str:
        words = text.split()
        gone = self.deleted(len(words), rate, rng, importance)
        if not gone:
            return text
        return " ".join(word for i, word in enumerate(words) if i not in gone)

    def deleted(
        self, n: int, rate: float, rng: np.random.Generator, importance: FloatArray | None = None
    ) -> set[int]:
        """Return which of n words are deleted, by position."""
        if self.order == "random":
            first = rng.permutation(n)
        else:
            if importance is None or len(importance) != n:
                got = "none" if importance is None else f"that of {len(importance)}"
                raise ValueError(
                    f"{self.name} needs the importance of each of the {n} words of a text; got "
                    f"{got}. Measure it with robust_nlp.scoring.importance"
                )
            sign = -1.0 if self.order == "most_important" else 1.0
            first = np.argsort(sign * importance, kind="stable")
        return set(first[: count(rate, n)].tolist())


@dataclass(frozen=True, kw_only=True)
class SwapNeighbours(Perturbation):
    """Swap neighbouring words; each word moves once at most.

    Args:
        rates: Shares of the words that move, in `(0, 1]`, rising. The random choice of pairs
            leaves some words alone between two pairs, so that a rate near 1 moves fewer words.
        draws: Random versions of each text.

    Raises:
        ValueError: If a setting is out of range.
    """

    rates: tuple[float, ...] = (0.1, 0.2, 0.4)
    draws: int = 3

    kind: ClassVar[str] = "swap_neighbours"

    def __post_init__(self) -> None:
        _check(self)

    def perturb(
        self,
        text: str,
        rate: float,
        rng: np.random.Generator,
        importance: FloatArray | None = None,  # noqa: ARG002
    ) -> str:
        words = text.split()
        moved: set[int] = set()
        wanted = count(rate, len(words)) // 2
        for i in rng.permutation(max(0, len(words) - 1)).tolist():
            if len(moved) // 2 == wanted:
                break
            if not moved & {i, i + 1}:
                moved |= {i, i + 1}
                words[i], words[i + 1] = words[i + 1], words[i]
        return " ".join(words) if moved else text


@dataclass(frozen=True, kw_only=True)
class InsertWords(Perturbation):
    """Insert words at random places.

    Args:
        words: What is inserted, each equally likely; without any, copies of the text's own words.
        rates: Inserted words per word of the text, in `(0, 1]`, rising.
        draws: Random versions of each text.

    Raises:
        ValueError: If a setting is out of range.
    """

    words: tuple[str, ...] = ()
    rates: tuple[float, ...] = (0.1, 0.2, 0.4)
    draws: int = 3

    kind: ClassVar[str] = "insert_words"

    def __post_init__(self) -> None:
        _check(self)
        for word in self.words:
            if len(word.split()) != 1:
                raise ValueError(f"words are single words without white space; got {word!r}")

    def perturb(
        self,
        text: str,
        rate: float,
        rng: np.random.Generator,
        importance: FloatArray | None = None,  # noqa: ARG002
    ) -> str:
        own = text.split()
        known = self.words or tuple(own)
        n = len(own)
        if not count(rate, n):
            return text
        gaps = rng.integers(n + 1, size=n)
        chosen = rng.integers(len(known), size=n)
        before: list[list[str]] = [[] for _ in range(n + 1)]
        for gap, word in zip(gaps[: count(rate, n)], chosen, strict=False):
            before[gap].append(known[word])
        for i, old in enumerate(own):
            before[i].append(old)
        return " ".join(word for each in before for word in each)


class _WordByWord(Perturbation):
    """Change single words, each by itself; the rate is a share of those that can be changed."""

    @abstractmethod
    def change(self, word: str, rng: np.random.Generator) -> str:
        """Return a changed word, or the same if there is nothing to change."""

    def perturb(
        self,
        text: str,
        rate: float,
        rng: np.random.Generator,
        importance: FloatArray | None = None,  # noqa: ARG002
    ) -> str:
        words = text.split()
        changed = [self.change(word, rng) for word in words]
        open_ = [i for i, (old, new) in enumerate(zip(words, changed, strict=True)) if old != new]
        hit = [open_[i] for i in rng.permutation(len(open_))[: count(rate, len(open_))]]
        for i in hit:
            words[i] = changed[i]
        return " ".join(words) if hit else text


@dataclass(frozen=True, kw_only=True)
class Typos(_WordByWord):
    """Misspell words inside; see `robust_nlp.augmentation.words.Typos` for how.

    Args:
        rates: Shares of the words with room for it that are misspelt, in `(0, 1]`, rising.
        draws: Random versions of each text.

    Raises:
        ValueError: If a setting is out of range.

    Source: Pruthi, Dhingra and Lipton (ACL 2019).
    """

    rates: tuple[float, ...] = (0.1, 0.2, 0.4)
    draws: int = 3

    kind: ClassVar[str] = "typos"

    def __post_init__(self) -> None:
        _check(self)

    def change(self, word: str, rng: np.random.Generator) -> str:
        return misspelt(word, rng)


@dataclass(frozen=True, kw_only=True)
class ChangeCase(_WordByWord):
    """Write words in capitals, and words in capitals small.

    Classifiers that read everything in lower case never notice.

    Args:
        rates: Shares of the words with letters that have a case, in `(0, 1]`, rising.
        draws: Random versions of each text.

    Raises:
        ValueError: If a setting is out of range.
    """

    rates: tuple[float, ...] = (0.2, 1.0)
    draws: int = 3

    kind: ClassVar[str] = "case"

    def __post_init__(self) -> None:
        _check(self)

    def change(self, word: str, rng: np.random.Generator) -> str:  # noqa: ARG002
        return word.lower() if word == word.upper() else word.upper()


@dataclass(frozen=True, kw_only=True)
class ChangePunctuation(_WordByWord):
    """Take punctuation off words that have some at their ends, and put some behind others.

    A word that is punctuation alone becomes another mark.

    Args:
        rates: Shares of the words that are changed, in `(0, 1]`, rising.
        draws: Random versions of each text.

    Raises:
        ValueError: If a setting is out of range.
    """

    rates: tuple[float, ...] = (0.1, 0.2, 0.4)
    draws: int = 3

    kind: ClassVar[str] = "punctuation"

    def __post_init__(self) -> None:
        _check(self)

    def change(self, word: str, rng: np.random.Generator) -> str:
        others = [mark for mark in MARKS if mark != word]
        mark = others[rng.integers(len(others))]
        start, end = 0, len(word)
        while start < end and _is_punctuation(word[start]):
            start += 1
        while start < end and _is_punctuation(word[end - 1]):
            end -= 1
        if start == end:
            return mark
        return word + mark if end - start == len(word) else word[start:end]


#: The perturbations that a recipe may name by `kind`.
AnyPerturbation = (
    DeleteWords | SwapNeighbours | InsertWords | Typos | ChangeCase | ChangePunctuation
)

#: What is measured unless a recipe says otherwise.
DEFAULT: tuple[Perturbation, ...] = (
    DeleteWords(draws=3),
    DeleteWords(order="most_important"),
    DeleteWords(order="least_important"),
    SwapNeighbours(),
    InsertWords(),
    Typos(),
    ChangeCase(),
    ChangePunctuation(),
)


def perturbation_from(values: Any, *path: str) -> Perturbation:
    """Make a perturbation of plain values with a `kind`; a perturbation comes back as it is.

    Raises:
        RecipeError: If the values do not make a perturbation.
    """
    if isinstance(values, Perturbation):
        return values
    perturbation: Perturbation = build(AnyPerturbation, values, *path)
    return perturbation


def _is_punctuation(character: str) -> bool:
    return unicodedata.category(character)[0] in "PS"
