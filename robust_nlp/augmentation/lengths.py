"""An augmenter that varies the length of texts."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from robust_nlp.augmentation.base import Augmenter
from robust_nlp.mechanisms.base import FloatArray

#: White space behind the end of a sentence.
_END = re.compile(r"(?<=[.!?…])\s+")


@dataclass(frozen=True, kw_only=True)
class Crop(Augmenter):
    """Keep a part of a text: consecutive words, or some of its sentences in their order.

    How many are kept is uniform between the two bounds, and so is which: every run of that many
    words, and every set of that many sentences, is equally likely. At least one is kept.

    Args:
        shortest: Share of the words or sentences that is kept at least, in `[0, longest]`.
        longest: Share that is kept at most, in `(0, 1]`.
        by: What is kept or not: "words", or "sentences", which end in . ! ? or … before white
            space.

    Raises:
        ValueError: If a setting is outside its range.
    """

    shortest: float = 0.3
    longest: float = 1.0
    by: Literal["words", "sentences"] = "words"

    kind: ClassVar[str] = "crop"

    def __post_init__(self) -> None:
        if not 0.0 <= self.shortest <= self.longest <= 1.0 or not self.longest > 0.0:
            raise ValueError(
                "Crop needs shares 0 <= shortest <= longest <= 1, longest above 0; got "
                f"shortest={self.shortest!r} and longest={self.longest!r}"
            )
        if self.by not in ("words", "sentences"):
            raise ValueError(f"Crop needs by to be words or sentences; got by={self.by!r}")

    def rewrite(
        self,
        text: str,
        rng: np.random.Generator,
        importance: FloatArray | None = None,  # noqa: ARG002
    ) -> str:
        whole = text.split() if self.by == "words" else _END.split(text.strip())
        n = len(whole)
        if n == 0:
            return text
        tiny = 1e-9  # 0.7 * 10 is a little more than 7
        low = max(1, math.ceil(self.shortest * n - tiny))
        high = max(low, math.floor(self.longest * n + tiny))
        size = int(rng.integers(low, high + 1))
        if self.by == "words":
            start = int(rng.integers(n - size + 1))
            return " ".join(whole[start : start + size])
        return " ".join(whole[i] for i in np.sort(rng.choice(n, size, replace=False)))
