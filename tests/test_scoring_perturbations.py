"""Perturbations: what they change, how much, and that rates build on each other."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from robust_nlp.errors import RecipeError
from robust_nlp.recipe import recipe_from_dict, recipe_to_dict
from robust_nlp.scoring import (
    DEFAULT,
    ChangeCase,
    ChangePunctuation,
    DeleteWords,
    InsertWords,
    ScoreRecipe,
    SwapNeighbours,
    Typos,
)
from robust_nlp.scoring.base import count
from robust_nlp.scoring.perturbations import perturbation_from
from robust_nlp.scoring.rows import versions_of
from robust_nlp.units import keyed_rng

TEXT = "The film, a quiet story of two brothers, is far BETTER than its title !"
WORDS = TEXT.split()
RATES = (0.1, 0.2, 0.3, 0.5, 0.7, 0.9, 1.0)
RANDOM = [
    DeleteWords(),
    SwapNeighbours(),
    InsertWords(),
    InsertWords(words=("the", "of")),
    Typos(),
    ChangeCase(),
    ChangePunctuation(),
]


def by_name(value):
    return value.name


def rng(draw: int = 0):
    return keyed_rng(7, "test", draw)


@pytest.mark.parametrize(
    ("rate", "n", "expected"),
    [(0.0, 9, 0), (0.1, 4, 0), (0.1, 5, 1), (0.3, 5, 2), (0.7, 5, 4), (0.9, 4, 4), (1.0, 3, 3)],
)
def test_a_rate_stands_for_the_nearest_number_of_words(rate, n, expected):
    assert count(rate, n) == expected


@pytest.mark.parametrize("perturbation", RANDOM, ids=by_name)
def test_nothing_changes_at_rate_zero_nor_in_the_empty_text(perturbation):
    spaced = "two  spaces\nand a line"
    assert perturbation.perturb(spaced, 0.0, rng()) == spaced
    for text in ("", "  \n"):
        assert perturbation.perturb(text, 1.0, rng()) == text


@pytest.mark.parametrize("perturbation", RANDOM, ids=by_name)
def test_a_version_depends_on_the_randomness_alone(perturbation):
    versions = [[perturbation.perturb(TEXT, 0.5, rng(draw)) for draw in range(8)] for _ in "ab"]
    assert versions[0] == versions[1]
    if perturbation.kind != "case":
        assert len(set(versions[0])) > 4


def is_subsequence(short, long) -> bool:
    rest = iter(long)
    return all(word in rest for word in short)


@given(n=st.integers(0, 30), draw=st.integers(0, 5))
def test_random_deletion_keeps_the_order_and_builds_on_lower_rates(n, draw):
    words = [f"w{i}" for i in range(n)]
    before = words
    for rate in RATES:
        left = DeleteWords().perturb(" ".join(words), rate, rng(draw)).split()
        assert len(left) == n - count(rate, n)
        assert is_subsequence(left, words)
        assert set(left) <= set(before)
        before = left


def test_every_word_is_deleted_equally_often():
    words = " ".join("abcdefgh")
    left = Counter(w for d in range(2000) for w in DeleteWords().perturb(words, 0.5, rng(d)))
    shares = np.array([left[w] for w in "abcdefgh"]) / 2000
    assert np.abs(shares - 0.5).max() < 0.05


IMPORTANCE = np.array([0.5, -1.0, 2.0, 0.5, 0.0])


def deleted_first(order: str) -> list[list[str]]:
    perturbation = DeleteWords(order=order)
    return [
        perturbation.perturb("a b c d e", rate, rng(), IMPORTANCE).split()
        for rate in (0.2, 0.4, 0.6, 0.8)
    ]


def test_orders_of_importance_delete_the_most_or_the_least_important_first():
    assert deleted_first("most_important") == [list("abde"), list("bde"), list("be"), ["b"]]
    assert deleted_first("least_important") == [list("acde"), list("acd"), list("cd"), ["c"]]


def test_swapped_orders_are_caught(monkeypatch):
    argsort = np.argsort
    monkeypatch.setattr(np, "argsort", lambda x, **kwargs: argsort(-x, **kwargs))
    with pytest.raises(AssertionError):
        test_orders_of_importance_delete_the_most_or_the_least_important_first()


def test_an_order_of_importance_needs_the_importance_of_each_word():
    with pytest.raises(ValueError, match="each of the 5 words of a text; got none"):
        DeleteWords(order="most_important").perturb("a b c d e", 0.2, rng())
    with pytest.raises(ValueError, match="got that of 4"):
        DeleteWords(order="least_important").perturb("a b c d e", 0.2, rng(), np.zeros(4))


def test_neighbours_swap_places_and_no_word_moves_twice():
    words = [f"w{i}" for i in range(20)]
    before: set[int] = set()
    for rate in (0.1, 0.2, 0.4):
        found = SwapNeighbours().perturb(" ".join(words), rate, rng()).split()
        assert sorted(found) == sorted(words)
        moved = {i for i in range(20) if found[i] != words[i]}
        assert len(moved) == rate * 20
        assert all(abs(words.index(found[i]) - i) <= 1 for i in range(20))
        assert before <= moved
        before = moved


@pytest.mark.parametrize("words", [(), ("the", "of")], ids=["own words", "given words"])
def test_inserted_words_stand_between_the_words_of_the_text(words):
    before: Counter[str] = Counter(WORDS)
    for rate in RATES:
        found = InsertWords(words=words).perturb(TEXT, rate, rng()).split()
        assert len(found) == len(WORDS) + count(rate, len(WORDS))
        assert is_subsequence(WORDS, found)
        assert set(found) <= set(WORDS) | set(words)
        assert before <= Counter(found)
        before = Counter(found)


@pytest.mark.parametrize("perturbation", [Typos(), ChangeCase(), ChangePunctuation()], ids=by_name)
def test_single_words_change_in_place_and_stay_changed_at_higher_rates(perturbation):
    full = perturbation.perturb(TEXT, 1.0, rng()).split()
    open_ = {i for i, word in enumerate(WORDS) if full[i] != word}
    before: set[int] = set()
    for rate in RATES:
        found = perturbation.perturb(TEXT, rate, rng()).split()
        changed = {i for i, word in enumerate(WORDS) if found[i] != word}
        assert len(changed) == count(rate, len(open_))
        assert before <= changed <= open_
        assert all(found[i] == full[i] for i in changed)
        before = changed


def test_case_changes_letters_of_all_words_with_a_case():
    found = ChangeCase().perturb("a Quiet FILM of 1999 !", 1.0, rng())
    assert found == "A QUIET film OF 1999 !"


def test_punctuation_comes_and_goes_at_the_ends_of_words():
    marks = set()
    for draw in range(30):
        a, b, c, d = ChangePunctuation().perturb('fine "good," isn\'t .', 1.0, rng(draw)).split()
        assert a[:-1] == "fine"
        assert b == "good"
        assert c[:-1] == "isn't"
        assert d in {",", "!", "?", ";", ":"}
        marks |= {a[-1], d}
    assert len(marks) == 6


def test_versions_belong_to_text_and_seed_and_spare_the_protected_side():
    perturbations = (DeleteWords(rates=(0.5, 1.0), draws=2), Typos(rates=(0.5,), draws=1))
    for text, protected, kept in (
        ((TEXT, "a premise"), "second", 1),
        (("a premise", TEXT), "first", 0),
    ):
        found = list(versions_of(text, perturbations, seed=3, protected=protected))
        assert found == list(versions_of(text, perturbations, seed=3, protected=protected))
        assert {version.text[kept] for version in found} == {"a premise"}
        assert [version.perturbation for version in found] == [
            "clean",
            *["delete_words[random]"] * 4,
            "typos",
        ]
        assert found[0].text == text
        assert [v.text[1 - kept] for v in found if v.rate == 1.0] == ["", ""]
        assert found[1].text != found[2].text
    other = list(versions_of((TEXT, "a premise"), perturbations, seed=4))
    assert other[1:3] != list(versions_of((TEXT, "a premise"), perturbations, seed=3))[1:3]


def test_edits_are_word_edits_and_not_changed_positions():
    (_, version) = versions_of("a b c d e f", (DeleteWords(rates=(0.5,)),), seed=0)
    assert (version.n_words, version.edits) == (6, 3)
    (_, version) = versions_of(
        "a b c d e f", (InsertWords(words=("x",), rates=(0.5,), draws=1),), seed=0
    )
    assert (version.n_words, version.edits) == (6, 3)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: DeleteWords(rates=()), "rates in"),
        (lambda: DeleteWords(rates=(0.5, 0.2)), "each above the one before"),
        (lambda: Typos(rates=(0.0, 0.5)), "each above the one before"),
        (lambda: Typos(rates=(0.5, 1.5)), "rates in"),
        (lambda: Typos(draws=0), "at least 1; got 0"),
        (lambda: DeleteWords(order="most_important", draws=3), "has one draw; got draws=3"),
        (lambda: InsertWords(words=("two words",)), "single words"),
        (lambda: ScoreRecipe(perturbations=(Typos(), Typos())), "each once"),
        (lambda: ScoreRecipe(classifiers=()), "one or more"),
        (lambda: ScoreRecipe(limit=0), "limit must be at least 1"),
    ],
)
def test_settings_are_checked(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_a_recipe_names_perturbations_and_comes_back_from_plain_values(tiny_recipe):
    values = recipe_to_dict(tiny_recipe)
    values["score"] = {
        "limit": 5,
        "classifiers": ["plain"],
        "perturbations": [{"kind": "delete_words", "rates": [0.5]}, {"kind": "typos", "draws": 2}],
    }
    recipe = recipe_from_dict(values)
    assert recipe.score is not None
    assert recipe.score.perturbations == (DeleteWords(rates=(0.5,)), Typos(draws=2))
    assert recipe_from_dict(recipe_to_dict(recipe)) == recipe
    values["score"]["plan"] = {"kind": "sequential", "max_votes": 50}
    assert recipe_from_dict(values).score.plan.max_radius == 0
    assert ScoreRecipe().perturbations == DEFAULT
    values["score"]["perturbations"][1] = {"kind": "typo"}
    with pytest.raises(RecipeError, match="Did you mean 'typos'"):
        recipe_from_dict(values)
    with pytest.raises(RecipeError, match="unexpected keyword"):
        perturbation_from({"kind": "typos", "rate": 0.1})
