"""What the measured runs of a study hold, ready to be compared."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from robust_nlp.mechanisms.base import FloatArray
from robust_nlp.recipe import Recipe
from robust_nlp.study.intervals import Cells
from robust_nlp.study.measured import MeasuredRun
from robust_nlp.study.runs import study_of
from robust_nlp.study.values import RADII, run_measures, text_values

#: Variant, held-out domain and seed.
Key = tuple[str, str, int]


@dataclass(frozen=True, kw_only=True)
class StudyResults:
    """The measured runs of a study.

    Attributes:
        recipe: The recipe with its study.
        domains: The domains that are held out.
        numbers: What is known of each run, by variant, domain and seed; see `MeasuredRun.numbers`.
        values: For each run, the values of each text of the held-out domain by its row in the test
            split; see `text_values`.
        planned: Number of runs of the study.
        left_out: Number of runs that are there, but were made with other settings.
    """

    recipe: Recipe
    domains: Sequence[str]
    numbers: Mapping[Key, Mapping[str, Any]]
    values: Mapping[Key, Mapping[int, Mapping[str, float]]]
    planned: int
    left_out: int = 0

    @classmethod
    def load(
        cls,
        recipe: Recipe,
        domains: Sequence[str],
        runs: Sequence[MeasuredRun],
        *,
        planned: int,
        left_out: int = 0,
    ) -> StudyResults:
        """Read measured runs; all numbers follow anew from the answers, text by text.

        Args:
            recipe: The recipe with its study.
            domains: The domains that are held out.
            runs: Runs that are measured.
            planned: Number of runs of the study.
            left_out: Number of runs that were made with other settings.

        Raises:
            DataError: If a file cannot be read.
        """
        radii = radii_of(recipe)
        numbers: dict[Key, Mapping[str, Any]] = {}
        values: dict[Key, Mapping[int, Mapping[str, float]]] = {}
        for each in runs:
            run, answers = each.run, each.answers()
            key = run.variant, run.held_out, run.seed
            numbers[key] = {
                **(each.numbers() or {}),
                "measures": run_measures(answers, radii),
                "host": each.directory.manifest().get("host"),
            }
            values[key] = {
                answer["row"]: text_values(answer, radii)
                for answer in answers
                if answer["held_out"]
            }
        return cls(
            recipe=recipe,
            domains=domains,
            numbers=numbers,
            values=values,
            planned=planned,
            left_out=left_out,
        )

    @property
    def variants(self) -> list[str]:
        """The variants, in the order of the recipe."""
        return list(study_of(self.recipe).variants)

    def cells(self, variant: str, measure: str) -> Cells:
        """Return a measure of a variant for each held-out domain and seed that has it."""
        return {
            (domain, seed): numbers["measures"][measure]
            for (name, domain, seed), numbers in self.numbers.items()
            if name == variant and measure in numbers["measures"]
        }

    def text_differences(
        self, variant: str, control: str, measure: str, seeds: Sequence[int]
    ) -> list[FloatArray]:
        """Return, for each domain, how texts differ between two variants, as means over seeds.

        Args:
            variant: Name of one variant.
            control: Name of the other.
            measure: A measure that texts have by themselves.
            seeds: Seeds that both have in all domains.

        Returns:
            One array a domain; shape `(texts,)`. Texts without the measure are not in it.
        """
        found = []
        for domain in self.domains:
            pairs = [
                (self.values[variant, domain, seed], self.values[control, domain, seed])
                for seed in seeds
            ]
            rows = [row for row, values in pairs[0][0].items() if measure in values]
            found.append(
                np.mean(
                    [[a[row][measure] - b[row][measure] for row in rows] for a, b in pairs], axis=0
                )
            )
        return found


def radii_of(recipe: Recipe) -> Sequence[int]:
    """Return the radii at which certified accuracy is reported."""
    return RADII if recipe.report.radii is None else recipe.report.radii
