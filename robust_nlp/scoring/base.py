"""What every perturbation is: a change of a text at a rate, where higher rates change more."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from robust_nlp.mechanisms.base import FloatArray


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


def check(perturbation: Perturbation) -> None:
    """Raise ValueError unless rates rise within `(0, 1]` and there is a draw."""
    rates, name = perturbation.rates, type(perturbation).__name__
    rising = all(low < high for low, high in zip((0.0, *rates), rates, strict=False))
    if not rates or not rising or not rates[-1] <= 1.0:
        raise ValueError(f"{name} needs rates in (0, 1], each above the one before; got {rates}")
    if perturbation.draws < 1:
        raise ValueError(f"{name} needs draws of at least 1; got {perturbation.draws}")
