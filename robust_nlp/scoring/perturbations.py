"""Deletion of words, and the perturbations that a recipe may name."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np

from robust_nlp.mechanisms.base import FloatArray
from robust_nlp.scoring.base import Perturbation, check, count
from robust_nlp.scoring.changes import (
    ChangeCase,
    ChangePunctuation,
    InsertWords,
    SwapNeighbours,
    Typos,
)
from robust_nlp.settings import build

Order = Literal["random", "most_important", "least_important"]
Importance = Literal["leave_one_out", "gradient_x_embedding"]

#: Rates of deletion curves.
CURVE = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)


@dataclass(frozen=True, kw_only=True)
class DeleteWords(Perturbation):
    """Delete words, at random or by how much they say for the label.

    Importance is for the right label: without the least important words, a text may well be
    answered better than before. It is measured once, on the whole text and without noise. Nothing
    keeps a word back: of a short text, a high rate leaves nothing.

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
        check(self)
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
