"""Scoring in recipes: which texts, which classifiers, and what is done to the texts."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, Literal, get_args

from robust_nlp.certification.plan import SamplingPlan, SequentialPlan
from robust_nlp.scoring.perturbations import DEFAULT, perturbation_from

Reading = Literal["smoothed", "plain"]

READINGS: tuple[Reading, ...] = get_args(Reading)

#: Votes for one prediction. There are many versions of each text, of which accuracy is a mean, so
#: that a wrong answer in a hundred is no harm; certificates ask for more.
PLAN = SequentialPlan(alpha=0.01, max_votes=500, max_radius=0)


@dataclass(frozen=True, kw_only=True)
class ScoreRecipe:
    """Robustness scores on a split.

    Attributes:
        split: Split to score; `None` takes `certify.split`.
        limit: Texts at most, from the start; `None` takes all.
        classifiers: Who answers: "smoothed" by votes, as it is certified; "plain", the base
            classifier without noise and denoiser. Both read the same versions of each text.
        perturbations: What is done to the texts, one entry with a `kind` each.
        plan: Votes of the smoothed classifier for one answer. A sequential plan without a
            `max_radius` stops as soon as the answer is certain, and looks for no radius.
        part_size: Texts per part: what an interruption loses at most.
    """

    split: str | None = None
    limit: int | None = 200
    classifiers: tuple[Reading, ...] = ("smoothed", "plain")
    perturbations: tuple[Any, ...] = DEFAULT
    plan: SamplingPlan = PLAN
    part_size: int = 16

    def __post_init__(self) -> None:
        found = [
            perturbation_from(values, "perturbations", str(i))
            for i, values in enumerate(self.perturbations)
        ]
        object.__setattr__(self, "perturbations", tuple(found))
        if isinstance(self.plan, SequentialPlan) and self.plan.max_radius is None:
            object.__setattr__(self, "plan", dataclasses.replace(self.plan, max_radius=0))
        names = [each.name for each in found]
        for what, given in (("perturbations", names), ("classifiers", list(self.classifiers))):
            if not given or len(set(given)) < len(given):
                raise ValueError(f"{what} must be one or more, each once; got {given}")
        for name in ("limit", "part_size"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} must be at least 1; got {name}={value}")
