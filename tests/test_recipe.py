"""Recipes: what YAML makes of them, and what it is told when it does not."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from robust_nlp.certification.plan import ExactPlan, FixedPlan, SequentialPlan
from robust_nlp.errors import RecipeError
from robust_nlp.mechanisms import AdaptiveDeletion, RandomizedDeletion, RandomMasking
from robust_nlp.recipe import (
    CertifyRecipe,
    DataRecipe,
    ModelRecipe,
    Recipe,
    ReportRecipe,
    TrainRecipe,
    load_recipe,
    recipe_from_dict,
    recipe_to_dict,
    recipe_to_yaml,
)

SMALL = """
name: small
model: {base: some-model}
data: {path: some-data}
mechanism: {kind: randomized_deletion, p_del: 0.9}
"""


@pytest.fixture
def small(tmp_path: Path) -> Path:
    path = tmp_path / "small.yaml"
    path.write_text(SMALL, encoding="utf-8")
    return path


def small_with(**entries):
    return recipe_from_dict(
        {
            "name": "small",
            "model": {"base": "some-model"},
            "data": {"path": "some-data"},
            "mechanism": {"kind": "randomized_deletion", "p_del": 0.9},
            **entries,
        }
    )


def test_a_small_recipe_has_all_defaults(small):
    recipe = load_recipe(small)
    assert recipe.mechanism == RandomizedDeletion(p_del=0.9)
    assert recipe.certify.plan == SequentialPlan()
    assert recipe.certify.attackers[0] == "insert+delete+substitute"


@pytest.mark.parametrize(
    ("override", "read"),
    [
        ("certify.limit=100", lambda r: r.certify.limit == 100),
        ("mechanism.p_del=8e-1", lambda r: r.mechanism.p_del == 0.8),
        ("train.args.learning_rate=1e-3", lambda r: r.train.args["learning_rate"] == 1e-3),
        ("certify.plan.alpha=1e-2", lambda r: r.certify.plan == SequentialPlan(alpha=0.01)),
        ("certify.attackers=[delete]", lambda r: r.certify.attackers == ("delete",)),
        ("certify.attackers=[delete+insert]", lambda r: r.certify.attackers == ("insert+delete",)),
        ("model.revision=", lambda r: r.model.revision is None),
        ("model.prefix=a=b", lambda r: r.model.prefix == "a=b"),
        (
            "mechanism={kind: random_masking, p_mask: 0.5}",
            lambda r: r.mechanism == RandomMasking(p_mask=0.5),
        ),
    ],
)
def test_an_override_replaces_an_entry(small, override, read):
    assert read(load_recipe(small, [override]))


def test_overrides_apply_in_order(small):
    recipe = load_recipe(small, ["seed=1", "seed=2"])
    assert recipe.seed == 2


@pytest.mark.parametrize(
    ("override", "message"),
    [
        (
            "mechanism.p_dell=0.5",
            r"^mechanism\.p_dell: unexpected keyword\. Did you mean 'p_del'\?",
        ),
        ("zzz=1", r"^zzz: unexpected keyword\. Expected one of name, model, data"),
        ("mechanism.p_del=1.5", r"^mechanism: randomized deletion needs 0 < p_del < 1"),
        (
            "mechanism.kind=randomised_deletion",
            r"^mechanism\.kind: expected one of randomized_deletion, adaptive_deletion, "
            r"random_masking, .*; got 'randomised_deletion'\. Did you mean 'randomized_deletion'\?",
        ),
        ("mechanism={p_del: 0.9}", r"^mechanism\.kind: this entry is missing; expected one of"),
        ("certify.plan.kind=fix", r"^certify\.plan\.kind: expected one of fixed, .* mean 'fixed'"),
        ("certify.plan=[1]", r"^certify\.plan: expected a mapping; got \[1\]"),
        ("certify.limit=many", r"^certify\.limit: expected a valid integer.*; got 'many'"),
        ("certify.limit=0", r"^certify: limit must be at least 1; got limit=0"),
        ("certify.attackers=insert", r"^certify\.attackers: expected a valid list; got 'insert'"),
        ("certify.attackers=[inserts]", r"^certify: an attacker .* mean 'insert'"),
        ("train.rates=[0.9, 0.5]", r"^train: rates are probabilities 0 <= low <= high < 1"),
        ("train.rates=[0.9]", r"^train\.rates\.1: expected more entries"),
        ("train.clean_share=2", r"^train: clean_share is a share"),
        ("model.dtype=int8", r"^model\.dtype: expected 'float32', .*; got 'int8'"),
        ("model=", r"^model: expected a mapping; got None"),
        ("data.files={train: a.csv}", r"^data: give either `path` .* or `files`"),
        ("report.radii=[-1]", r"^report: radii are whole numbers"),
        ("report.radii=[]", r"^report: radii are whole numbers .* one or more; got \[\]"),
        ("schema=2", r"^this version of robust_nlp reads recipes of schema 1; got schema=2"),
        ("name=../elsewhere", r"^name is also the name of a folder"),
        ("seed=-1", r"^seed must be at least 0"),
        ("name.first=x", r"^--set name\.first=x: name is 'small', not a mapping"),
        ("name", r"^--set name: expected an entry and its value, such as certify\.limit=100"),
        ("name=[", r"^--set name=\[: the value is not valid YAML"),
    ],
)
def test_a_wrong_entry_is_named_by_its_path(small, override, message):
    with pytest.raises(RecipeError, match=message):
        load_recipe(small, [override])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "is not a recipe: expected a mapping; got None"),
        ("- a", r"is not a recipe: expected a mapping; got \['a'\]"),
        ("name: [", "is not valid YAML"),
        ("name: a\nname: b", "the key 'name' stands twice"),
        ("name: !!python/object:os.system x", "is not valid YAML"),
        ("name: a", r"^model: this entry is missing and has no default"),
        (b"\xff\xfe\xff", "cannot read the recipe"),
    ],
)
def test_a_file_that_is_no_recipe_is_refused(tmp_path, content, message):
    path = tmp_path / "recipe.yaml"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(RecipeError, match=message):
        load_recipe(path)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(RecipeError, match=r"there is no recipe .*nowhere\.yaml"):
        load_recipe(tmp_path / "nowhere.yaml")


def test_a_mechanism_is_given_the_attackers_that_it_certifies():
    recipe = small_with(mechanism={"kind": "random_masking", "p_mask": 0.5})
    assert recipe.certify.attackers == ("substitute",)


def test_an_attacker_outside_the_certificate_is_refused():
    with pytest.raises(RecipeError, match="RandomMasking certifies against substitute; got"):
        small_with(
            mechanism={"kind": "random_masking", "p_mask": 0.5},
            certify={"attackers": ["insert"]},
        )


def test_the_recipes_of_the_package_can_be_read():
    recipes = sorted((Path(__file__).parents[1] / "recipes").glob("*.yaml"))
    assert recipes
    for path in recipes:
        assert load_recipe(path).name == path.stem.replace("_", "-")


texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
names = st.from_regex(r"\w[\w.+-]{0,8}", fullmatch=True)
probability = st.floats(0.01, 0.99)
counts = st.integers(1, 10_000)
scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | texts
mechanisms = (
    st.builds(RandomizedDeletion, p_del=probability, unit=st.sampled_from(["word", "token"]))
    | st.builds(RandomMasking, p_mask=probability, mask=st.none() | texts)
    | st.builds(
        AdaptiveDeletion,
        keeps=st.tuples(st.floats(0.5, 50), st.floats(0.5, 50)),
        edges=st.tuples(st.integers(1, 100)),
    )
)
plans = (
    st.builds(FixedPlan, alpha=probability, n_selection=counts, n_estimation=counts)
    | st.builds(SequentialPlan, max_votes=counts, max_radius=st.none() | st.integers(0, 9))
    | st.builds(ExactPlan, max_outcomes=counts)
)
recipes = st.builds(
    Recipe,
    name=names,
    model=st.builds(ModelRecipe, base=texts, revision=st.none() | texts, prefix=texts),
    data=st.builds(DataRecipe, path=texts, label=st.none() | texts)
    | st.builds(DataRecipe, files=st.dictionaries(texts, texts)),
    mechanism=mechanisms,
    seed=st.integers(0, 2**31),
    train=st.builds(
        TrainRecipe,
        rates=st.none() | st.just((0.5, 0.9)),
        args=st.dictionaries(texts, scalars | st.lists(scalars, max_size=3), max_size=4),
    ),
    certify=st.builds(
        CertifyRecipe,
        plan=plans,
        limit=st.none() | counts,
        attackers=st.sampled_from([(), ("substitute",)]),
    ),
    report=st.builds(ReportRecipe, radii=st.none() | st.tuples(counts)),
)


@given(recipe=recipes)
def test_a_recipe_survives_plain_values(recipe):
    assert recipe_from_dict(recipe_to_dict(recipe)) == recipe


@given(recipe=recipes)
@settings(max_examples=100)
def test_a_recipe_survives_yaml(tmp_path_factory, recipe):
    path = tmp_path_factory.mktemp("yaml") / "recipe.yaml"
    path.write_text(recipe_to_yaml(recipe), encoding="utf-8", newline="")
    assert load_recipe(path) == recipe


def test_text_that_looks_like_a_number_stays_text(tmp_path):
    recipe = small_with(name="1e-3")
    path = tmp_path / "recipe.yaml"
    path.write_text(recipe_to_yaml(recipe), encoding="utf-8")
    assert load_recipe(path).name == "1e-3"


def test_plain_values_hold_every_entry():
    values = recipe_to_dict(small_with())
    assert list(values) == [field.name for field in dataclasses.fields(Recipe)]
    assert values["mechanism"]["kind"] == "randomized_deletion"
    assert values["certify"]["plan"]["kind"] == "sequential"
