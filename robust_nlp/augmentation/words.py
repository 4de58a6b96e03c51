"""Augmenters that change words: deletion, misspelling, and allowed swaps."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import ClassVar

import numpy as np

from robust_nlp.augmentation.base import Augmenter, check_rate, without
from robust_nlp.mechanisms.base import FloatArray
from robust_nlp.swaps import AllowedSwaps, SwapSetting, load_swaps


@dataclass(frozen=True, kw_only=True)
class DeleteWords(Augmenter):
    """Delete each word with the same probability, but never the whole text.

    Args:
        rate: Probability that a word is deleted, in `(0, 1)`.

    Raises:
        ValueError: If the rate is outside its range.

    Source: Wei and Zou, EDA (EMNLP 2019), random deletion.
    """

    rate: float = 0.1

    kind: ClassVar[str] = "delete_words"

    def __post_init__(self) -> None:
        check_rate(self, self.rate)

    def rewrite(
        self,
        text: str,
        rng: np.random.Generator,
        importance: FloatArray | None = None,  # noqa: ARG002
    ) -> str:
        words = text.split()
        return without(words, np.full(len(words), self.rate), rng)


@dataclass(frozen=True, kw_only=True)
class Typos(Augmenter):
    """Misspell words inside: swap two neighbouring letters, drop a letter, or double one.

    The first and the last letter of a word stay, and with them short words: people read such texts
    with ease. Digits and punctuation stay too.

    Args:
        rate: Probability that a word is misspelt, in `(0, 1)`.

    Raises:
        ValueError: If the rate is outside its range.

    Source: Pruthi, Dhingra and Lipton, Combating Adversarial Misspellings (ACL 2019).
    Departs: Letters are doubled, where they add any letter or one near it on an English keyboard.
    """

    rate: float = 0.1

    kind: ClassVar[str] = "typos"

    def __post_init__(self) -> None:
        check_rate(self, self.rate)

    def rewrite(
        self,
        text: str,
        rng: np.random.Generator,
        importance: FloatArray | None = None,  # noqa: ARG002
    ) -> str:
        words = text.split()
        hit = rng.random(len(words)) < self.rate
        return " ".join(misspelt(w, rng) if h else w for w, h in zip(words, hit, strict=True))


def misspelt(word: str, rng: np.random.Generator) -> str:
    """Misspell a word by one edit inside; a word without room for that comes back as it is."""
    letters = [i for i, character in enumerate(word) if character.isalpha()]
    inner = set(letters[1:-1])
    places = [i for i in sorted(inner) if i + 1 in inner and word[i] != word[i + 1]]
    if not places:
        return word
    i = places[rng.integers(len(places))]
    before, one, two, after = word[:i], word[i], word[i + 1], word[i + 2 :]
    edits = (before + two + one + after, before + two + after, before + one + one + two + after)
    return edits[rng.integers(len(edits))]


@dataclass(frozen=True, kw_only=True)
class SwapWords(Augmenter):
    """Replace words by allowed swaps, such as synonyms; capitals and punctuation stay.

    Args:
        swaps: The allowed swaps: the path of a neighbour file, "wordnet", or word -> list of
            words; see `robust_nlp.swaps.AllowedSwaps`.
        rate: Probability that a word that has allowed swaps is replaced by one of them, each
            equally likely; in `(0, 1)`.
        limit: Allowed swaps of a word at most, the nearest; `None` for no limit.
        symmetric: Whether w may replace v wherever v may replace w.

    Raises:
        ValueError: If a setting is outside its range.

    Source: Wei and Zou, EDA (EMNLP 2019), synonym replacement, with the allowed swaps in place of
        WordNet.
    """

    swaps: SwapSetting = field(hash=False)
    rate: float = 0.1
    limit: int | None = None
    symmetric: bool = False

    kind: ClassVar[str] = "swap_words"

    def __post_init__(self) -> None:
        check_rate(self, self.rate)
        if not isinstance(self.swaps, str):  # files are read when they are needed
            load_swaps(self.swaps, limit=self.limit, symmetric=self.symmetric)

    @cached_property
    def allowed(self) -> AllowedSwaps:
        """The allowed swaps that the settings name."""
        return load_swaps(self.swaps, limit=self.limit, symmetric=self.symmetric)

    def rewrite(
        self,
        text: str,
        rng: np.random.Generator,
        importance: FloatArray | None = None,  # noqa: ARG002
    ) -> str:
        words = text.split()
        for i in np.flatnonzero(rng.random(len(words)) < self.rate):
            others = self.allowed.of(words[i])
            if others:
                words[i] = others[rng.integers(len(others))]
        return " ".join(words)
