"""The trainings of a study: one for each variant, held-out domain and seed."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from robust_nlp.data import Split
from robust_nlp.errors import RecipeError
from robust_nlp.recipe import Recipe
from robust_nlp.study.settings import StudyRecipe


@dataclass(frozen=True, kw_only=True)
class StudyRun:
    """One training of a study.

    Attributes:
        variant: Name of the variant.
        held_out: The domain that it does not see.
        seed: Seed of the training.
        recipe: What is trained, as a recipe by itself.
        path: Its run directory.
        texts: Name of the test texts that it is measured on: the same for runs that read the same.
    """

    variant: str
    held_out: str
    seed: int
    recipe: Recipe
    path: Path
    texts: str

    @property
    def name(self) -> str:
        """The run in words."""
        return f"{self.variant}, {self.held_out} held out, seed {self.seed}"


def study_of(recipe: Recipe) -> StudyRecipe:
    """Return the study of a recipe.

    Raises:
        RecipeError: If it has none.
    """
    if recipe.study is None:
        raise RecipeError(
            "this recipe has no study: say with study.variants what is compared, and with "
            "study.control what with"
        )
    return recipe.study


def held_out_domains(recipe: Recipe, train: Split) -> list[str]:
    """Return the domains that are held out, one at a time.

    Args:
        recipe: The recipe with its study.
        train: Its training split, all domains included.

    Raises:
        RecipeError: If the recipe keeps one of them from training already, or none is left.
    """
    wanted, data = study_of(recipe).hold_out, recipe.data
    unseen = {*data.hold_out, *data.validate_on}
    if wanted is None:
        wanted = tuple(sorted({name for name in train.domains or () if name} - unseen))
    both = [name for name in wanted if name in unseen]
    if both or not wanted:
        raise RecipeError(
            "study.hold_out needs domains that training would see otherwise; data.hold_out or "
            f"data.validate_on has {', '.join(both) or 'all of them'} already"
        )
    if study_of(recipe).validate_on >= len(wanted):
        raise RecipeError(
            f"study.validate_on takes domains from the other held-out ones, of which there are "
            f"{len(wanted) - 1}; got {study_of(recipe).validate_on}"
        )
    return list(wanted)


def study_runs(recipe: Recipe, output: Path, domains: Sequence[str]) -> list[StudyRun]:
    """Return all runs of a study, in an order that is balanced wherever it is interrupted.

    Args:
        recipe: The recipe with its study.
        output: Folder of the study.
        domains: The domains that are held out.
    """
    study, runs = study_of(recipe), []
    variants = {name: recipe.variant(name) for name in study.variants}
    for turn, seed in enumerate(study.seeds):
        for domain in domains:
            validate_on = _others(domains, domain, turn * study.validate_on, study.validate_on)
            for name, variant in variants.items():
                data = dataclasses.replace(
                    variant.data,
                    hold_out=(*variant.data.hold_out, domain),
                    validate_on=(*variant.data.validate_on, *validate_on),
                )
                own = dataclasses.replace(
                    variant, name=f"{recipe.name}-{name}", seed=seed, data=data
                )
                path = output / name / folder_name(domain) / f"seed-{seed}"
                runs.append(
                    StudyRun(
                        variant=name,
                        held_out=domain,
                        seed=seed,
                        recipe=own,
                        path=path,
                        texts=" - ".join(map(folder_name, (domain, *validate_on))),
                    )
                )
    return runs


def _others(domains: Sequence[str], domain: str, start: int, count: int) -> list[str]:
    """Return some of the domains that follow one in a circle, from a place on."""
    place = list(domains).index(domain)
    others = [*domains[place + 1 :], *domains[:place]]
    return [others[(start + k) % len(others)] for k in range(count)]


def folder_name(domain: str) -> str:
    """Return a name of a folder for a domain, different for different domains."""
    name = quote(domain, safe=" &,+")
    return name.replace(".", "%2E", 1) if name.startswith(".") else name
