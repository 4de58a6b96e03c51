"""Augmenters: their laws against laws written out by hand, and randomness of their own."""

import itertools
import subprocess
import sys
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from robust_nlp.augmentation import (
    Crop,
    DeleteImportantWords,
    DeleteWords,
    Noise,
    SwapWords,
    TextAttackAugmenter,
    Typos,
    augment,
    augmenter_from,
)
from robust_nlp.augmentation.words import misspelt
from robust_nlp.errors import RecipeError
from robust_nlp.mechanisms import (
    GaussianEmbedding,
    RandomizedDeletion,
    RandomMasking,
    Reordering,
)
from robust_nlp.settings import plain
from robust_nlp.units import keyed_rng

SWAPS = {"good": ["great", "fine"], "film": ["movie"]}
DRAWS = 4_000


def drawn(augmenter, text, n=DRAWS):
    """How often each text comes out, as shares."""
    found = Counter(augment(augmenter, text, seed=3, example=i) for i in range(n))
    return {text: count / n for text, count in found.items()}


def assert_law(found, law, n=DRAWS):
    """The shares are those of the law, to five standard deviations."""
    assert set(found) <= set(law)
    for text, p in law.items():
        assert found.get(text, 0.0) == pytest.approx(p, abs=5 * np.sqrt(p * (1 - p) / n) + 1e-12)
    assert sum(law.values()) == pytest.approx(1.0)


def contradicts(found, law):
    try:
        assert_law(found, law)
    except AssertionError:
        return True
    return False


# --- the laws ------------------------------------------------------------------------------------


def deletion_law(words, rate, *, keep_one=True):
    law = Counter()
    for kept in itertools.product([False, True], repeat=len(words)):
        p = np.prod([1 - rate if k else rate for k in kept])
        if any(kept) or not keep_one:
            law[" ".join(w for w, k in zip(words, kept, strict=True) if k)] += p
        else:
            for word in words:
                law[word] += p / len(words)
    return dict(law)


def test_words_are_deleted_independently_and_one_stays():
    found = drawn(DeleteWords(rate=0.4), "a b c")
    assert_law(found, deletion_law("abc", 0.4))
    assert contradicts(found, deletion_law("abc", 0.4, keep_one=False))
    assert contradicts(found, deletion_law("abc", 0.6))


def test_swapped_words_are_uniform_over_allowed_swaps():
    found = drawn(SwapWords(swaps=SWAPS, rate=0.4), "Good film, yes")
    first = {"Good": 0.6, "Great": 0.2, "Fine": 0.2}
    second = {"film,": 0.6, "movie,": 0.4}
    law = {
        f"{a} {b} yes": p * q for (a, p), (b, q) in itertools.product(first.items(), second.items())
    }
    assert_law(found, law)
    only_nearest = drawn(SwapWords(swaps=SWAPS, rate=0.4, limit=1), "Good film, yes")
    assert contradicts(only_nearest, law)
    assert "Fine film, yes" not in only_nearest
    back = drawn(SwapWords(swaps=SWAPS, rate=0.4, symmetric=True), "movie")
    assert_law(back, {"movie": 0.6, "film": 0.4})


def test_every_run_of_words_of_a_length_is_equally_likely():
    found = drawn(Crop(shortest=0.5, longest=1.0), "a b c d")
    law = {"a b c d": 1 / 3}
    law |= dict.fromkeys(["a b c", "b c d"], 1 / 6) | dict.fromkeys(["a b", "b c", "c d"], 1 / 9)
    assert_law(found, law)
    every_run_alike = dict.fromkeys(law, 1 / 6)
    assert contradicts(found, every_run_alike)


def test_every_set_of_sentences_of_a_number_is_equally_likely_and_in_order():
    found = drawn(Crop(shortest=0.0, by="sentences"), "One. Two is 1.5 long!  Three?")
    one, two, three = "One.", "Two is 1.5 long!", "Three?"
    law = {" ".join(s): 1 / 9 for r in (1, 2) for s in itertools.combinations([one, two, three], r)}
    law[f"{one} {two} {three}"] = 1 / 3
    assert_law(found, law)


@pytest.mark.parametrize(
    ("n", "shortest", "longest", "sizes"),
    [(10, 0.7, 0.7, {7}), (10, 0.3, 0.6, {3, 4, 5, 6}), (3, 0.0, 0.1, {1}), (1, 0.5, 0.6, {1})],
)
def test_lengths_stay_between_the_bounds(n, shortest, longest, sizes):
    text = " ".join("abcdefghij"[:n])
    lengths = {len(t.split()) for t in drawn(Crop(shortest=shortest, longest=longest), text, 200)}
    assert lengths == sizes


def test_typos_hit_words_at_their_rate_and_each_kind_alike():
    found = drawn(Typos(rate=0.3), "word it 12345")
    law = {"word": 0.7, "wrod": 0.1, "wrd": 0.1, "woord": 0.1}
    assert_law(found, {f"{word} it 12345": p for word, p in law.items()})


def inside_edits(word):
    """All misspellings that keep the first letter, the last letter, and what is no letter."""
    letters = [i for i, c in enumerate(word) if c.isalpha()]
    inner = letters[1:-1]
    for i in inner:
        yield word[:i] + word[i + 1 :]
        yield word[:i] + word[i] + word[i:]
        if i + 1 in inner:
            yield word[:i] + word[i + 1] + word[i] + word[i + 2 :]


@given(word=st.text(alphabet="abBé'-.,1", min_size=1, max_size=8), seed=st.integers(0, 20))
def test_a_misspelt_word_is_one_edit_inside_away(word, seed):
    result = misspelt(word, keyed_rng(seed))
    room = any(
        i + 1 in inner and word[i] != word[i + 1]
        for inner in [[i for i, c in enumerate(word) if c.isalpha()][1:-1]]
        for i in inner
    )
    assert result in set(inside_edits(word)) if room else result == word
    assert not room or result != word


@pytest.mark.parametrize(
    ("mechanism", "law"),
    [
        (RandomizedDeletion(p_del=0.4), deletion_law("abc", 0.4, keep_one=False)),
        (
            RandomMasking(p_mask=1 / 3, mask="_"),
            dict.fromkeys(["_ b c", "a _ c", "a b _"], 1 / 3),
        ),
    ],
    ids=["deletion", "masking"],
)
def test_noise_is_that_of_the_mechanism(mechanism, law):
    assert_law(drawn(Noise(mechanism=mechanism), "a b c"), law)


def test_noise_on_characters_keeps_spaces_as_characters():
    found = drawn(Noise(mechanism=RandomizedDeletion(p_del=0.5, unit="character")), "a b")
    assert_law(
        found,
        {"": 0.125, "a": 0.125, " ": 0.125, "b": 0.125}
        | dict.fromkeys(["a ", " b", "ab", "a b"], 0.125),
    )


def test_noise_of_reordering_keeps_the_words():
    found = drawn(Noise(mechanism=Reordering()), "a b c", 200)
    assert {tuple(sorted(text.split())) for text in found} == {("a", "b", "c")}
    assert len(found) > 1


# --- randomness ----------------------------------------------------------------------------------

NATIVE = [
    DeleteWords(rate=0.5),
    Typos(rate=0.5),
    SwapWords(swaps=SWAPS, rate=0.5),
    Crop(),
    Noise(mechanism=RandomizedDeletion(p_del=0.5)),
    DeleteImportantWords(rate=0.5),
]
TEXT = "a good film with a clever story and brilliant people in it"


def rewritten(augmenter, **key):
    importance = np.arange(12.0) if augmenter.needs_importance else None
    return augment(augmenter, TEXT, importance=importance, **{"seed": 0, "example": 0, **key})


@pytest.mark.parametrize("augmenter", NATIVE, ids=lambda a: a.kind)
def test_each_part_of_the_key_matters_and_nothing_else(augmenter):
    base = [rewritten(augmenter, example=i) for i in range(20)]
    assert base == [rewritten(augmenter, example=i) for i in reversed(range(20))][::-1]
    for key in ({"seed": 1}, {"epoch": 1}, {"copy": 1}, {"copy": "typos"}):
        assert base != [rewritten(augmenter, example=i, **key) for i in range(20)]
    assert len(set(base)) > 5


def test_results_are_the_same_on_all_machines():
    assert [rewritten(augmenter) for augmenter in NATIVE] == PINNED


PINNED = [
    "a good people in it",
    "a good flim wiith a clver sotry and brliliant people in it",
    "a good movie with a clever story and brilliant people in it",
    "clever story and brilliant people in it",
    "a good people in it",
    "a good a",
]


@pytest.mark.parametrize("augmenter", NATIVE, ids=lambda a: a.kind)
def test_texts_without_words_stay_without_words(augmenter):
    for text in ("", "  "):
        importance = np.zeros(0)
        assert augment(augmenter, text, seed=0, example=0, importance=importance).split() == []


def test_importing_the_package_imports_neither_torch_nor_textattack():
    code = (
        "import sys, robust_nlp.augmentation as a; a.augment(a.Typos(), 'word', seed=0, example=0);"
        "print([m for m in ('torch', 'transformers', 'textattack', 'nltk') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


# --- settings ------------------------------------------------------------------------------------


@pytest.mark.parametrize("augmenter", NATIVE, ids=lambda a: a.kind)
def test_settings_survive_a_recipe(augmenter):
    values = plain(augmenter)
    assert values["kind"] == augmenter.kind
    assert augmenter_from(values) == augmenter
    assert augmenter_from(augmenter) is augmenter


def test_textattack_settings_need_no_textattack():
    augmenter = TextAttackAugmenter(name="embedding", swaps=SWAPS)
    assert augmenter_from(plain(augmenter)) == augmenter


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"kind": "delete_words", "rate": 1.0}, "0 < rate < 1.*got rate=1.0"),
        ({"kind": "typos", "rate": 0}, "Typos needs 0 < rate < 1"),
        ({"kind": "swap_words", "swaps": {"a b": ["c"]}}, "between single words"),
        ({"kind": "swap_words"}, "swaps: this entry is missing"),
        ({"kind": "crop", "shortest": 0.9, "longest": 0.5}, "shortest <= longest"),
        ({"kind": "crop", "by": "lines"}, "'words' or 'sentences'"),
        ({"kind": "delete_important_words", "sharpness": -1}, "sharpness must be at least 0"),
        ({"kind": "delete_important_words", "max_pieces": 0}, "max_pieces must be at least 1"),
        ({"kind": "textattack", "name": "clare"}, "expected 'wordnet', 'embedding'"),
        ({"kind": "textattack", "name": "embedding"}, "swaps, such as a neighbour file, belong to"),
        ({"kind": "textattack", "name": "eda", "swaps": SWAPS}, "and only to it"),
        ({"kind": "noise", "mechanism": {"kind": "randomized_deletion"}}, "mechanism.p_del"),
        ({"kind": "typo"}, "Did you mean 'typos'"),
    ],
)
def test_bad_settings_are_refused(values, message):
    with pytest.raises(RecipeError, match=message):
        augmenter_from(values)


@pytest.mark.parametrize(
    ("mechanism", "message"),
    [
        (RandomizedDeletion(p_del=0.5, unit="token"), "got RandomizedDeletion on tokens"),
        (GaussianEmbedding(sigma=0.1, swaps=SWAPS), "got GaussianEmbedding"),
        (RandomMasking(p_mask=0.5), r'RandomMasking\(mask="\[MASK\]", ...\)'),
    ],
)
def test_noise_that_needs_a_model_is_refused(mechanism, message):
    with pytest.raises(ValueError, match=message):
        Noise(mechanism=mechanism)
