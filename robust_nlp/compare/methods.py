"""The methods of a comparison as runs: their recipes, folders and order."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from robust_nlp.attacks.settings import AttackRecipe
from robust_nlp.compare.settings import CompareRecipe, Measuring, Method
from robust_nlp.denoising.settings import DenoiserTraining, MaskedLMSettings
from robust_nlp.errors import RecipeError, did_you_mean
from robust_nlp.recipe import Recipe
from robust_nlp.results import RunDirectory
from robust_nlp.scoring.perturbations import DeleteWords
from robust_nlp.scoring.settings import Reading, ScoreRecipe

#: Rates of the deletions of a recipe that says nothing of scores.
RATES = (0.1, 0.2, 0.3, 0.4, 0.5)

#: What is scored and attacked unless the recipe says otherwise.
SCORE = ScoreRecipe(
    perturbations=(DeleteWords(rates=RATES), DeleteWords(order="most_important", rates=RATES))
)
ATTACK = AttackRecipe(attacks=("deepwordbug",), limit=50)

#: Texts that each stage measures at most; `None` for all.
Limits = Mapping[Measuring, int | None]


@dataclass(frozen=True, kw_only=True)
class MethodRun:
    """One method and its run directory.

    Attributes:
        name: Name of the method.
        method: How it answers, and whose classifier it takes.
        recipe: Its recipe by itself, with what it measures, without limits.
        path: Its run directory.
    """

    name: str
    method: Method
    recipe: Recipe
    path: Path

    @property
    def directory(self) -> RunDirectory:
        """The run directory."""
        return RunDirectory(self.path)

    @property
    def reading(self) -> Reading:
        """Who answers: "smoothed" or "plain"."""
        return "smoothed" if self.method.smoothed else "plain"

    @property
    def trains(self) -> bool:
        """Whether it has a training of its own."""
        return self.recipe.certify.model is None

    @property
    def trains_denoiser(self) -> bool:
        """Whether its denoiser is trained: the recipe says how, or there is no other way."""
        settings = self.recipe.denoiser
        if not isinstance(settings, MaskedLMSettings):
            return False
        return settings.train != DenoiserTraining() or settings.model.startswith("embedded:")

    def measures(self, stage: Measuring) -> bool:
        """Tell whether a stage has anything to measure of it: nothing of a plain one is proved."""
        return stage != "certify" or self.method.smoothed

    def limited(self, limits: Limits) -> Recipe:
        """Return the recipe for so many texts."""
        recipe = self.recipe
        assert recipe.score is not None
        assert recipe.attack is not None
        return dataclasses.replace(
            recipe,
            certify=dataclasses.replace(recipe.certify, limit=limits.get("certify")),
            score=dataclasses.replace(recipe.score, limit=limits.get("score")),
            attack=dataclasses.replace(recipe.attack, limit=limits.get("attack")),
        )


def comparison_of(recipe: Recipe) -> CompareRecipe:
    """Return the comparison of a recipe.

    Raises:
        RecipeError: If it has none.
    """
    if recipe.compare is None:
        raise RecipeError(
            "this recipe compares nothing: say with compare.methods what is compared, and with "
            "compare.baseline what with"
        )
    return recipe.compare


def method_runs(recipe: Recipe, output: Path) -> list[MethodRun]:
    """Return all methods of a comparison, in the order of the recipe.

    Args:
        recipe: The recipe with its comparison.
        output: Folder of the comparison.
    """
    comparison = comparison_of(recipe)
    score, attack = recipe.score or SCORE, recipe.attack or ATTACK
    runs = []
    for name, method in comparison.methods.items():
        own, split = recipe.method(name), recipe.certify.split
        reading: tuple[Reading, ...] = ("smoothed",) if method.smoothed else ("plain",)
        if method.model_of is not None:
            model = _model(output, comparison, method.model_of, recipe)
            own = dataclasses.replace(own, certify=dataclasses.replace(own.certify, model=model))
        if method.start_from is not None:
            base = _model(output, comparison, method.start_from, recipe)
            own = dataclasses.replace(
                own, model=dataclasses.replace(own.model, base=base, revision=None)
            )
        own = dataclasses.replace(
            own,
            name=f"{recipe.name}-{name}",
            score=dataclasses.replace(score, split=split, classifiers=reading),
            attack=dataclasses.replace(attack, split=split, classifiers=reading),
        )
        runs.append(MethodRun(name=name, method=method, recipe=own, path=output / name))
    return runs


def limits_of(recipe: Recipe) -> dict[Measuring, int | None]:
    """Return the texts that each stage measures at most, without a budget."""
    return {
        "score": (recipe.score or SCORE).limit,
        "certify": recipe.certify.limit,
        "attack": (recipe.attack or ATTACK).limit,
    }


def wanted_methods(comparison: CompareRecipe, only: Sequence[str]) -> list[str]:
    """Return the methods that are asked for, all without any.

    Raises:
        RecipeError: If one of them is not a method.
    """
    for name in only:
        if name not in comparison.methods:
            raise RecipeError(
                f"the comparison has no method {name!r}; it has {', '.join(comparison.methods)}."
                f"{did_you_mean(name, comparison.methods)}"
            )
    return [name for name in comparison.methods if not only or name in only]


def trained_first(comparison: CompareRecipe, wanted: Sequence[str]) -> list[str]:
    """Return methods with those whose classifiers they need, each after what it needs."""
    order: dict[str, None] = {}
    for name in wanted:
        order.update(dict.fromkeys([*comparison.chain(name)][::-1]))
    return list(order)


def built_on(comparison: CompareRecipe, names: Sequence[str]) -> list[str]:
    """Return the methods that are among the names or need a classifier of one that is."""
    return [name for name in comparison.methods if {*comparison.chain(name)} & {*names}]


def _model(output: Path, comparison: CompareRecipe, name: str, recipe: Recipe) -> str:
    """Return the folder of a method's classifier, which may be that of yet another one."""
    method = comparison.methods[name]
    if method.model_of is not None:
        return _model(output, comparison, method.model_of, recipe)
    given = recipe.method(name).certify.model
    return str(RunDirectory(output / name).model) if given is None else given
