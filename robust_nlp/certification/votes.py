"""What was seen: the votes of a text's noisy versions."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

from robust_nlp.mechanisms.base import Profile


@dataclass(frozen=True, kw_only=True)
class VoteCounts:
    """The votes on one text, and how they were drawn: all that a certificate needs.

    The noisy texts fall into those that were classified one and all (`exact`) and the others,
    with probability `remainder` together, of which independent draws were classified. Without
    sampling, `remainder` is 0; without enumeration it is 1.

    Attributes:
        n_units: Number of units of the text.
        exact: Probability of the enumerated noisy texts, by the class they got; `(classes,)`.
        remainder: Probability of the noisy texts that were not enumerated, in `[0, 1]`.
        selection: Votes of the draws that chose the class; `(classes,)`.
        looks: Votes in total of the draws that bound the probabilities, by class, at each look
            that was taken; `(looks, classes)`.
        schedule: Votes in total at each look that was planned; a single entry for a number of
            votes that was fixed in advance.
        profile: What the mechanism's certificate must know about the text besides its length.
    """

    n_units: int
    exact: tuple[float, ...]
    remainder: float
    selection: tuple[int, ...]
    looks: tuple[tuple[int, ...], ...] = ()
    schedule: tuple[int, ...] = ()
    profile: Profile = ()

    def __post_init__(self) -> None:
        classes = len(self.exact)
        if classes < 2:
            raise ValueError(f"votes need two classes or more; got {classes}")
        if any(len(counts) != classes for counts in (self.selection, *self.looks)):
            raise ValueError("exact, selection and all looks need one entry per class")
        total = math.fsum((*self.exact, self.remainder))
        if min(*self.exact, self.remainder) < 0.0 or not abs(total - 1.0) <= 1e-9:
            raise ValueError(f"exact and remainder are probabilities that sum to 1; got {total!r}")
        if [sum(counts) for counts in self.looks] != list(self.schedule[: len(self.looks)]):
            raise ValueError(
                f"looks after {[sum(counts) for counts in self.looks]} votes do not follow the "
                f"schedule {self.schedule}"
            )
        if min(self.selection) < 0:
            raise ValueError(f"votes cannot be negative; got selection={self.selection}")
        for before, after in itertools.pairwise(((0,) * classes, *self.looks)):
            if any(b > a for b, a in zip(before, after, strict=True)):
                raise ValueError(
                    "votes in total cannot fall from one look to the next, nor be negative"
                )

    @property
    def n_classes(self) -> int:
        """The number of classes."""
        return len(self.exact)

    @property
    def votes_drawn(self) -> int:
        """The number of noisy texts that were drawn, for selection and estimation."""
        return sum(self.selection) + (sum(self.looks[-1]) if self.looks else 0)

    @property
    def top(self) -> int:
        """The class that seemed most probable before any vote that bounds a probability.

        It depends on enumerated noisy texts and selection votes only; the lowest index wins ties.
        """
        drawn = max(1, sum(self.selection))
        estimate = [
            mass + self.remainder * count / drawn
            for mass, count in zip(self.exact, self.selection, strict=True)
        ]
        return estimate.index(max(estimate))
