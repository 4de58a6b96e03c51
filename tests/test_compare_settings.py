"""Comparisons in recipes: what they say, which runs follow, and what is refused."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from compare_reviews import METHODS, compare_recipe, with_compare

from robust_nlp.compare.drive import compare_methods
from robust_nlp.compare.methods import (
    SCORE,
    built_on,
    comparison_of,
    limits_of,
    method_runs,
    trained_first,
    wanted_methods,
)
from robust_nlp.errors import RecipeError
from robust_nlp.recipe import load_recipe, recipe_from_dict, recipe_to_dict, recipe_to_yaml

RECIPES = Path(__file__).parents[1] / "recipes" / "compare"

CHAIN = {
    "last": {"start_from": "middle"},
    "middle": {"model_of": "first"},
    "first": {},
    "other": {"set": {"train.noise": False}},
}


@pytest.fixture(scope="module")
def recipe(tmp_path_factory):
    return compare_recipe(tmp_path_factory.mktemp("settings"))


def changed(recipe, **compare):
    values = recipe_to_dict(recipe)
    values["compare"] |= compare
    return recipe_from_dict(values)


def test_a_comparison_survives_yaml(recipe, tmp_path):
    whole = changed(recipe, budget=3.5, timed=7, methods={**METHODS, **CHAIN})
    path = tmp_path / "recipe.yaml"
    path.write_text(recipe_to_yaml(whole), encoding="utf-8")
    assert load_recipe(path) == whole
    assert whole.compare.methods["last"].start_from == "middle"


def test_a_method_is_the_recipe_with_its_entries_replaced(recipe):
    plain = recipe.method("none")
    assert plain.compare is None
    assert plain.train.noise is False
    assert dataclasses.replace(plain, train=recipe.train, compare=recipe.compare) == recipe


def test_attackers_that_nobody_named_follow_the_mechanism(recipe):
    assert recipe.method("masking").certify.attackers == ("substitute",)
    assert recipe.method("deletion").certify.attackers == recipe.certify.attackers
    values = recipe_to_dict(recipe)
    values["certify"]["attackers"] = ["delete"]
    with pytest.raises(RecipeError, match=r"compare\.methods\.masking: .*certifies against"):
        recipe_from_dict(values)
    values["compare"]["methods"]["masking"]["set"]["certify.attackers"] = ["substitute"]
    assert recipe_from_dict(values).method("deletion").certify.attackers == ("delete",)


@pytest.mark.parametrize(
    ("compare", "message"),
    [
        ({"baseline": "nine"}, r"baseline names a method, one of none, .*mean 'none'"),
        ({"methods": {}}, "a comparison needs two methods or more; got none"),
        ({"methods": {"none": {}}}, "a comparison needs two methods or more; got none"),
        ({"methods": {"../x": {}, "none": {}}}, "is that of a folder"),
        ({"methods": {"x": {"smooth": 1}, "none": {}}}, r"methods\.x\.smooth: .*'smoothed'"),
        ({"methods": {"x": {"set": {"seed": 1}}, "none": {}}}, "replaces seed, but all methods"),
        (
            {"methods": {"x": {"set": {"data.text": "t"}}, "none": {}}},
            r"replaces data\.text, but all methods have the same",
        ),
        (
            {"methods": {"x": {"set": {"certify.plan.alpha": 0.1}}, "none": {}}},
            r"replaces certify\.plan\.alpha, but all",
        ),
        ({"methods": {"x": {"set": {"score": None}}, "none": {}}}, "replaces score, but all"),
        ({"methods": {"x": {"model_of": "y"}, "none": {}}}, r"model_of names a method.*got 'y'"),
        ({"methods": {"x": {"start_from": "y"}, "none": {}}}, r"start_from names a method"),
        (
            {"methods": {"x": {"model_of": "none", "start_from": "none"}, "none": {}}},
            "a method has one of them",
        ),
        (
            {"methods": {"x": {"model_of": "none"}, "none": {"start_from": "x"}}},
            "methods wait for each other: x needs none needs x",
        ),
        (
            {"methods": {"x": {"model_of": "none", "set": {"certify.model": "m"}}, "none": {}}},
            r"takes the classifier of 'none' and replaces certify\.model as well",
        ),
        (
            {
                "methods": {
                    "none": {},
                    "x": {
                        "smoothed": False,
                        "set": {"denoiser": {"kind": "masked_lm", "model": "m"}},
                    },
                }
            },
            r"compare\.methods\.x: a denoiser repairs noisy texts",
        ),
        (
            {"methods": {"x": {"set": {"train.nois": False}}, "none": {}}},
            r"compare\.methods\.x: train\.nois: unexpected keyword\. Did you mean 'noise'",
        ),
        ({"stages": ["certify"]}, "score is one of them"),
        ({"stages": ["score", "train"]}, r"stages\.1: expected"),
        ({"budget": 0}, "budget is a number of minutes above 0"),
        ({"timed": 0}, "timed must be at least 1"),
    ],
)
def test_wrong_entries_are_named(recipe, compare, message):
    with pytest.raises(RecipeError, match=message):
        changed(recipe, **compare)


def test_what_cannot_be_compared_is_refused(recipe, tmp_path):
    with pytest.raises(RecipeError, match="this recipe compares nothing"):
        compare_methods(dataclasses.replace(recipe, compare=None), tmp_path)
    unlabelled = dataclasses.replace(recipe, data=dataclasses.replace(recipe.data, label=None))
    with pytest.raises(RecipeError, match=r"a comparison needs labels: say with data\.label"):
        compare_methods(unlabelled, tmp_path)
    with pytest.raises(RecipeError, match=r"no method 'delet'.* mean 'deletion'"):
        compare_methods(recipe, tmp_path, only=["delet"])
    with pytest.raises(ValueError, match="budget is a number of minutes above 0; got -1"):
        compare_methods(recipe, tmp_path, budget=-1.0)
    assert list(tmp_path.iterdir()) == []


def test_methods_are_runs_that_measure_the_same(recipe, tmp_path):
    runs = {run.name: run for run in method_runs(recipe, tmp_path)}
    assert [run.path for run in runs.values()] == [tmp_path / name for name in METHODS]
    for run in runs.values():
        own = run.limited({"score": 5, "certify": 4})
        assert own.score.split == own.attack.split == own.certify.split == "test"
        assert own.score.plan == recipe.score.plan
        assert (own.score.limit, own.certify.limit) == (5, 4)
        assert own.seed == recipe.seed
        assert own.certify.plan == recipe.certify.plan
    assert runs["none"].recipe.score.classifiers == ("plain",)
    assert runs["none"].recipe.attack.classifiers == ("plain",)
    assert runs["deletion"].recipe.score.classifiers == ("smoothed",)
    assert not runs["none"].measures("certify")
    assert runs["masking"].measures("certify")
    assert runs["untrained"].recipe.certify.model == str(tmp_path / "none" / "model")
    assert [run.name for run in runs.values() if run.trains] == ["none", "deletion", "masking"]


def test_classifiers_come_from_the_methods_that_train_them(recipe, tmp_path):
    chained = changed(recipe, methods={**METHODS, **CHAIN})
    runs = {run.name: run for run in method_runs(chained, tmp_path)}
    first = str(tmp_path / "first" / "model")
    assert runs["middle"].recipe.certify.model == first
    assert runs["last"].recipe.model.base == first
    assert runs["last"].trains
    given = changed(
        recipe,
        methods={
            **METHODS,
            "given": {"set": {"certify.model": "there"}},
            "x": {"model_of": "given"},
        },
    )
    runs = {run.name: run for run in method_runs(given, tmp_path)}
    assert not runs["given"].trains
    assert runs["x"].recipe.certify.model == "there"


def test_methods_follow_what_they_need(recipe):
    comparison = changed(recipe, methods={**METHODS, **CHAIN}).compare
    assert trained_first(comparison, ["last", "other"]) == ["first", "middle", "last", "other"]
    assert built_on(comparison, ["first"]) == ["last", "middle", "first"]
    assert built_on(comparison, ["none"]) == ["none", "untrained"]
    assert wanted_methods(comparison, ["other", "none"]) == ["none", "other"]


def test_denoisers_are_trained_where_the_recipe_says_how(recipe, tmp_path):
    trained = {"kind": "masked_lm", "model": "m", "train": {"args": {"max_steps": 1}}}
    methods = {
        "none": {},
        "ready": {"set": {"denoiser": {"kind": "masked_lm", "model": "m"}}},
        "trained": {"set": {"denoiser": trained}},
        "embedded": {"set": {"denoiser": {"kind": "masked_lm", "model": "embedded:minilm"}}},
    }
    runs = method_runs(changed(recipe, methods=methods), tmp_path)
    assert [run.name for run in runs if run.trains_denoiser] == ["trained", "embedded"]


def test_without_sections_defaults_are_measured(recipe):
    bare = dataclasses.replace(recipe, score=None, attack=None)
    assert limits_of(bare) == {"score": SCORE.limit, "certify": 9, "attack": 50}
    assert [p.name for p in SCORE.perturbations] == [
        "delete_words[random]",
        "delete_words[most_important by leave_one_out]",
    ]


@pytest.mark.parametrize("name", ["smoke", "sst2"])
def test_recipes_of_comparisons_have_a_plain_baseline(name, tmp_path):
    recipe = load_recipe(RECIPES / f"{name}.yaml")
    assert recipe.name == f"compare-{name}"
    comparison = comparison_of(recipe)
    assert not comparison.methods[comparison.baseline].smoothed
    assert method_runs(recipe, tmp_path)
    assert with_compare(recipe, budget=5.0).compare.budget == 5.0
