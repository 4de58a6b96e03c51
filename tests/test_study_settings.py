"""Studies in recipes: what they say, which runs follow, and what is refused."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from study_reviews import DOMAINS, study_recipe, with_study

from robust_nlp.data import load_split
from robust_nlp.errors import RecipeError
from robust_nlp.recipe import load_recipe, recipe_from_dict, recipe_to_dict, recipe_to_yaml
from robust_nlp.study.runs import folder_name, held_out_domains, study_of, study_runs

RECIPES = Path(__file__).parents[1] / "recipes" / "train"


@pytest.fixture(scope="module")
def recipe(tmp_path_factory):
    return study_recipe(tmp_path_factory.mktemp("settings"))


def changed(recipe, **study):
    values = recipe_to_dict(recipe)
    values["study"] |= study
    return recipe_from_dict(values)


def test_a_study_survives_yaml(recipe, tmp_path):
    attack = {"recipe": "deepwordbug", "limit": 3}
    whole = changed(recipe, attack=attack, hold_out=["dvd"], limit=7, certify=2)
    path = tmp_path / "recipe.yaml"
    path.write_text(recipe_to_yaml(whole), encoding="utf-8")
    assert load_recipe(path) == whole
    assert whole.study.attack.adversarial.recipe == "deepwordbug"


def test_a_variant_is_the_recipe_with_its_entries_replaced(recipe):
    fishr = recipe.variant("fishr")
    assert fishr.study is None
    assert fishr.train.domains.objective == "fishr"
    assert fishr.train.domains.ramp_end == 0.0
    same = dataclasses.replace(fishr, train=recipe.train, study=recipe.study)
    assert same == recipe


@pytest.mark.parametrize(
    ("study", "message"),
    [
        ({"control": "plane"}, r"control names a variant, one of plain, fishr.*mean 'plain'"),
        ({"variants": {"../x": {}}, "control": "../x"}, "is that of a folder"),
        ({"seeds": [1, 1]}, r"seeds needs one entry or more, none twice; got \[1, 1\]"),
        ({"seeds": []}, "seeds needs one entry"),
        ({"seeds": [-1]}, "seeds must be at least 0"),
        ({"hold_out": []}, "hold_out needs one entry"),
        ({"deleted": 1.0}, r"deleted is a probability in \(0, 1\)"),
        ({"certify": 0}, "certify must be at least 1"),
        ({"attack": {"recipe": "a2t"}}, r"study\.attack: swaps.* belong to recipe=.a2t."),
        ({"attack": {"limit": 0}}, r"study\.attack: limit must be at least 1"),
        ({"variants": {"plain": {"seed": 3}}}, "replaces seed, but all variants have the same"),
        ({"variants": {"plain": {"data.hold_out": []}}}, r"replaces data\.hold_out, but all"),
        ({"variants": {"plain": {"certify.split": "x"}}}, r"replaces certify\.split, but all"),
        (
            {"variants": {"plain": {"train.domain.objective": "erm"}}},
            r"study\.variants\.plain: train\.domain: unexpected keyword\. Did you mean 'domains'",
        ),
        (
            {"variants": {"plain": {"train.domains.rows_per_domain": "many"}}},
            r"study\.variants\.plain: train\.domains\.rows_per_domain: expected a valid integer",
        ),
    ],
)
def test_wrong_entries_are_named(recipe, study, message):
    with pytest.raises(RecipeError, match=message):
        changed(recipe, **study)


def test_a_study_needs_domains_and_no_denoiser(recipe):
    values = recipe_to_dict(recipe)
    values["data"]["domain"] = None
    with pytest.raises(RecipeError, match=r"say with data\.domain which column"):
        recipe_from_dict(values)
    with pytest.raises(RecipeError, match="this recipe has no study"):
        study_of(dataclasses.replace(recipe, study=None))


def test_entries_may_begin_like_those_that_variants_share(recipe):
    variants = {"plain": {"certify.plan.alpha": 0.01}, "fishr": {"model.freeze": 0}}
    assert changed(recipe, variants=variants).variant("fishr").model.freeze == 0


def test_runs_hold_out_each_domain_with_each_seed_for_each_variant(recipe, tmp_path):
    runs = study_runs(recipe, tmp_path, DOMAINS)
    assert [(run.seed, run.held_out, run.variant) for run in runs] == [
        (seed, domain, variant)
        for seed in (0, 1)
        for domain in DOMAINS
        for variant in ("plain", "fishr")
    ]
    for run in runs:
        assert run.path == tmp_path / run.variant / run.held_out / f"seed-{run.seed}"
        assert run.recipe.data.hold_out == (run.held_out,)
        assert run.recipe.seed == run.seed
        expected = recipe.variant(run.variant)
        assert run.recipe.train == expected.train
        assert run.recipe.certify == expected.certify


def test_all_domains_of_training_are_held_out_but_those_kept_from_it_anyway(recipe):
    train = load_split(recipe.data, "train")
    assert held_out_domains(recipe, train) == DOMAINS

    def without(**data):
        return dataclasses.replace(recipe, data=dataclasses.replace(recipe.data, **data))

    assert held_out_domains(without(hold_out=("dvd",)), train) == ["air", "books"]
    assert held_out_domains(without(validate_on=("dvd",)), train) == ["air", "books"]
    assert held_out_domains(with_study(recipe, hold_out=("dvd",)), train) == ["dvd"]
    both = with_study(without(validate_on=("dvd",)), hold_out=("dvd", "air"))
    with pytest.raises(RecipeError, match=r"data\.validate_on has dvd already"):
        held_out_domains(both, train)


def test_domains_have_folders_of_their_own():
    domains = ["books", "a/b", "a%2Fb", "..", ".", "%2E.", "camera & photo", "Größe"]
    names = [folder_name(domain) for domain in domains]
    assert len(set(names)) == len(domains)
    assert all("/" not in name and not name.startswith(".") for name in names)
    assert names[0] == "books"


def test_the_recipes_of_training_are_named_like_their_files():
    for path in sorted(RECIPES.glob("*.yaml")):
        assert load_recipe(path).name == path.stem


def test_the_study_of_reviews_changes_nothing_but_the_training():
    recipe = load_recipe(RECIPES / "reviews7.yaml")
    assert len(recipe.study.variants) == 10
    for name in recipe.study.variants:
        variant = recipe.variant(name)
        same = dataclasses.replace(variant, train=recipe.train, study=recipe.study)
        assert same == recipe, name
        rows = variant.train.args["per_device_train_batch_size"]
        assert rows == (96 if variant.train.augmentation else 48), name
