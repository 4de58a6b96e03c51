"""Perturbations that keep the words of a text, or nearly: order, additions, and spelling."""

from __future__ import annotations

import unicodedata
from abc import abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from robust_nlp.augmentation.words import misspelt
from robust_nlp.mechanisms.base import FloatArray
from robust_nlp.scoring.base import Perturbation, check, count

#: Marks that a word may be given.
MARKS = (".", ",", "!", "?", ";", ":")


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

    rates: tuple[float, ...] = (0.1, 0.3)
    draws: int = 3

    kind: ClassVar[str] = "swap_neighbours"

    def __post_init__(self) -> None:
        check(self)

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
    rates: tuple[float, ...] = (0.1, 0.3)
    draws: int = 3

    kind: ClassVar[str] = "insert_words"

    def __post_init__(self) -> None:
        check(self)
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

    rates: tuple[float, ...] = (0.1, 0.3)
    draws: int = 3

    kind: ClassVar[str] = "typos"

    def __post_init__(self) -> None:
        check(self)

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
        check(self)

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

    rates: tuple[float, ...] = (0.1, 0.3)
    draws: int = 3

    kind: ClassVar[str] = "punctuation"

    def __post_init__(self) -> None:
        check(self)

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


def _is_punctuation(character: str) -> bool:
    return unicodedata.category(character)[0] in "PS"
