"""Comparisons in recipes: which methods there are, and what is measured of them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from robust_nlp.errors import did_you_mean
from robust_nlp.settings import build

Measuring = Literal["score", "certify", "attack"]

#: What is measured of a method, in this order: attacks are held against certificates.
MEASURINGS: tuple[Measuring, ...] = get_args(Measuring)

#: Entries of a recipe that are the same for all methods, so that differences are the methods'.
SHARED = (
    "name",
    "schema",
    "seed",
    "study",
    "compare",
    "data",
    "report",
    "score",
    "attack",
    "certify.split",
    "certify.limit",
    "certify.plan",
    "train.train_split",
    "train.validation_split",
)


@dataclass(frozen=True, kw_only=True)
class Method:
    """One method: a recipe, and how its classifier answers.

    Attributes:
        set: Entries of the recipe that it replaces, as `--set` does: `{mechanism.p_del: 0.9}`.
        smoothed: Whether it answers by votes under the mechanism's noise. If not, it is the plain
            classifier, and nothing of it is certified.
        model_of: A method whose classifier it takes, in place of a training of its own; the entries
            under `train` do not count then.
        start_from: A method from whose classifier its own training starts.
    """

    set: dict[str, Any] = field(default_factory=dict)
    smoothed: bool = True
    model_of: str | None = None
    start_from: str | None = None

    def __post_init__(self) -> None:
        if self.model_of is not None and self.start_from is not None:
            raise ValueError(
                "model_of takes a classifier as it is and start_from trains it further; a method "
                f"has one of them; got model_of={self.model_of!r}, start_from={self.start_from!r}"
            )

    @property
    def needs(self) -> str | None:
        """The method whose classifier must be there first."""
        return self.model_of or self.start_from


@dataclass(frozen=True, kw_only=True)
class CompareRecipe:
    """Methods that are trained, measured alike and compared.

    All have the same texts (the first of the split that `certify.split` names), votes, attacks and
    seeds: those of the recipe's sections `certify`, `score` and `attack`, of which `split` and
    `classifiers` do not count.

    Attributes:
        methods: Name of each method, which is that of its folder, and its entries; see `Method`.
            An empty one is the recipe as it is.
        baseline: The method that the others are compared with, text by text.
        stages: What is measured: "score", which says clean accuracy too and cannot be left out;
            "certify"; "attack", which is left out, and said so, where TextAttack is not installed.
        budget: Minutes that all measuring together may take, about; trainings come on top. How
            many texts that allows is tried out on a few. `None` takes the limits of the recipe.
        timed: Texts that are answered one by one to measure the time of an answer.
    """

    methods: dict[str, Any]
    baseline: str
    stages: tuple[Measuring, ...] = MEASURINGS
    budget: float | None = None
    timed: int = 16

    def __post_init__(self) -> None:
        found = {
            name: values if isinstance(values, Method) else build(Method, values, "methods", name)
            for name, values in self.methods.items()
        }
        object.__setattr__(self, "methods", found)
        if len(found) < 2:
            raise ValueError(
                f"a comparison needs two methods or more; got {', '.join(found) or 'none'}"
            )
        for name, method in found.items():
            _check_entries(name, method)
        for name, others in (
            ("baseline", [self.baseline]),
            ("model_of", [m.model_of for m in found.values() if m.model_of is not None]),
            ("start_from", [m.start_from for m in found.values() if m.start_from is not None]),
        ):
            for other in others:
                if other not in found:
                    raise ValueError(
                        f"{name} names a method, one of {', '.join(found)}; got {other!r}."
                        f"{did_you_mean(other, found)}"
                    )
        self._check_chains()
        if "score" not in self.stages or len(set(self.stages)) < len(self.stages):
            raise ValueError(
                f"stages are {', '.join(MEASURINGS)}, each once, and score is one of them: clean "
                f"accuracy comes from it; got {list(self.stages)}"
            )
        if self.budget is not None and not 0.0 < self.budget < float("inf"):
            raise ValueError(f"budget is a number of minutes above 0; got {self.budget!r}")
        if self.timed < 1:
            raise ValueError(f"timed must be at least 1; got timed={self.timed}")

    def chain(self, name: str) -> Iterator[str]:
        """Yield a method, the one whose classifier it needs, the one which that needs, and so on.

        Args:
            name: A method.
        """
        at: str | None = name
        while at is not None:
            yield at
            at = self.methods[at].needs

    def _check_chains(self) -> None:
        for name in self.methods:
            seen: list[str] = []
            for other in self.chain(name):
                if other in seen:
                    raise ValueError(
                        f"methods wait for each other: {' needs '.join([*seen, other])}; one of "
                        "them must train a classifier of its own"
                    )
                seen.append(other)


def _check_entries(name: str, method: Method) -> None:
    if not re.fullmatch(r"\w[\w.+-]*", name):
        raise ValueError(
            "the name of a method is that of a folder: letters, digits and _ . + - only, a letter "
            f"or digit first; got {name!r}"
        )
    for entry in method.set:
        if any(f"{entry}.".startswith(f"{shared}.") for shared in SHARED):
            raise ValueError(
                f"method {name!r} replaces {entry}, but all methods have the same "
                f"{', '.join(SHARED)}"
            )
    for entry, given in (("certify.model", method.model_of), ("model.base", method.start_from)):
        if given is not None and entry in method.set:
            raise ValueError(
                f"method {name!r} takes the classifier of {given!r} and replaces {entry} as well; "
                "leave one of them out"
            )
