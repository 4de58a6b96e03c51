"""The test texts of a study: which are measured, what repeats, what is deleted."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from robust_nlp.data import Split
from robust_nlp.errors import DataError
from robust_nlp.study.settings import StudyRecipe
from robust_nlp.study.texts import bare_words, choose_texts, with_deletions

DOMAINS = ["air", "books", "dvd"]


def split(name: str, texts: list, domains: list | None = None) -> Split:
    return Split(
        name=name,
        texts=texts,
        labels=[i % 2 for i in range(len(texts))],
        label_names=["bad", "good"],
        content_hash=f"hash of {name}",
        description="made up",
        domains=domains or [DOMAINS[i % 3] for i in range(len(texts))],
    )


TEST = split("test", [f"test text {i}" for i in range(60)])
TRAIN = split("train", [f"training text {i}" for i in range(20)], ["books", "dvd"] * 10)
VALIDATION = split("validation", [f"validation text {i}" for i in range(8)], ["books", "dvd"] * 4)


def settings(**entries) -> StudyRecipe:
    return StudyRecipe(variants={"a": {}}, control="a", **entries)


def chosen(study=None, *, test=TEST, train=TRAIN, validation=VALIDATION, seed=0):
    return choose_texts(study or settings(), "air", test, train, validation, seed=seed)


@pytest.mark.parametrize(
    ("text", "same"),
    [
        ("Great film!", "great film"),
        ("Don't  you\tthink?", "don t you think"),
        ("STRASSE_straße", "strasse strasse"),
        ("!!!", repr("!!!")),
        (("A pair?", "Of texts."), "a pair\nof texts"),
    ],
)
def test_case_punctuation_and_space_do_not_count(text, same):
    assert bare_words(text) == same


def test_texts_without_words_are_their_own():
    assert bare_words("!!!") != bare_words("???")
    assert bare_words(("a", "b c")) != bare_words(("a b", "c"))


def test_all_texts_of_the_held_out_domain_and_of_those_of_training_are_measured():
    found = chosen()
    assert sorted(found.held_out) == list(range(0, 60, 3))
    assert {name: sorted(rows) for name, rows in found.seen.items()} == {
        "books": list(range(1, 60, 3)),
        "dvd": list(range(2, 60, 3)),
    }
    assert list(found.held_out) != sorted(found.held_out)
    assert found.repeats == {"held_out": 0, "seen": 0}
    assert {found.data[name] for name in ("train", "validation")} == {
        "hash of train",
        "hash of validation",
    }


def test_domains_that_training_does_not_see_are_not_measured():
    train = split("train", TRAIN.texts, ["books"] * 20)
    assert set(chosen(train=train).seen) == {"books"}


@pytest.mark.parametrize("place", ["train", "validation"])
def test_repeated_texts_are_left_out_and_counted(place):
    read = dataclasses.replace(
        {"train": TRAIN, "validation": VALIDATION}[place],
        texts=["TEST, text 0!", "test-text 3", "test text 1", "other", "x", "y", "z", "u"],
        labels=[0] * 8,
        domains=["books"] * 8,
    )
    found = chosen(**{place: read})
    assert set(found.held_out) == set(range(6, 60, 3))
    assert 1 not in found.seen["books"]
    assert found.repeats == {"held_out": 2, "seen": 1}
    kept = chosen(settings(drop_repeats=False), **{place: read})
    assert len(kept.held_out) == 20
    assert kept.repeats == found.repeats
    assert kept.data["test"] != found.data["test"]


def test_limits_take_the_first_of_a_random_order_that_seeds_decide():
    whole, some = chosen(), chosen(settings(limit=5))
    assert some.held_out == whole.held_out[:5]
    assert {name: rows[:5] for name, rows in whole.seen.items()} == some.seen
    assert chosen(seed=1).held_out != whole.held_out
    assert chosen(settings(draws=2, deleted=0.5, seeds=(4,))) == whole


def test_a_domain_without_usable_texts_is_named():
    test = split("test", ["training text 1"] * 3)
    with pytest.raises(DataError, match="no rows of the domain 'air' that training does not read"):
        chosen(test=test)
    with pytest.raises(DataError, match=r"no rows of the domain 'air'$"):
        chosen(test=split("test", ["text"], ["dvd"]))
    with pytest.raises(DataError, match="a study needs labels; split 'test' has none"):
        chosen(test=dataclasses.replace(TEST, labels=None))


def deleted(texts, rate=0.3, draws=3, seed=0, protected="second"):
    return with_deletions(texts, rate, draws=draws, seed=seed, protected=protected)


words = st.lists(st.sampled_from("abcdefgh"), min_size=1, max_size=30)


@given(words=words, rate=st.floats(0.05, 0.95))
def test_what_is_left_is_a_part_of_the_text_in_order(words, rate):
    for version in deleted([" ".join(words)], rate)[0]:
        rest = iter(words)
        assert version
        assert all(word in rest for word in version.split())


def test_deletions_belong_to_the_text_and_the_draw():
    texts = [f"{i} " + " ".join("abcdefghij") for i in range(5)]
    versions = deleted(texts)
    assert deleted(texts[::-1]) == versions[::-1]
    assert deleted(texts, draws=2) == [each[:2] for each in versions]
    assert deleted(texts, seed=1) != versions
    assert all(len(set(each)) == 3 for each in versions)


def test_words_are_missing_as_often_as_asked():
    text = " ".join(str(i) for i in range(50))
    left = [len(version.split()) for version in deleted([text], 0.3, draws=400)[0]]
    # 400 x 50 words: the standard error of their share is 0.0033.
    assert abs(np.mean(left) / 50 - 0.7) < 0.012


def test_the_protected_text_of_a_pair_stays():
    pair = ("a b c d e f g h", "i j k l m n o p")
    for first, second in deleted([pair])[0]:
        assert second == pair[1]
        assert len(first.split()) < 8
    for first, second in deleted([pair], protected="first")[0]:
        assert first == pair[0]
        assert len(second.split()) < 8
