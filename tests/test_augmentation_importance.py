"""Importance of words, and deletion that prefers important words."""

import numpy as np
import pytest

from robust_nlp.augmentation import DeleteImportantWords, augment, word_importance
from robust_nlp.augmentation.importance import deletion_probabilities
from robust_nlp.errors import DataError, ModelError

WEIGHTS = {"good": 2.0, "great": 1.5, "bad": -3.0, "film": 0.25}


class Linear:
    """Scores that are sums over words: leaving a word out takes away its weight."""

    def __init__(self, scale=1.0):
        self.scale, self.batches = scale, []

    def __call__(self, texts):
        self.batches.append(list(texts))
        words = [(t if isinstance(t, str) else t[0]).split() for t in texts]
        value = np.array([sum(WEIGHTS.get(w, 0.0) for w in text) for text in words])
        return np.stack(
            [-self.scale * value, self.scale * value, np.full(len(texts), -1e6)], axis=1
        )


# --- importance ----------------------------------------------------------------------------------


def test_importance_is_the_margin_that_a_word_is_worth():
    texts, labels = ["a good bad film", "great", ""], [1, 0, 0]
    found = word_importance(Linear(), texts, labels)
    np.testing.assert_allclose(found[0], [0.0, 4.0, -6.0, 0.5])  # twice the weight: two classes
    np.testing.assert_allclose(found[1], [-3.0])
    assert found[2].shape == (0,)


def test_texts_share_batches_and_each_version_is_scored_once():
    linear = Linear()
    texts = ["a good film", "bad", "great great film"]
    one = word_importance(linear, texts, [1, 0, 1], batch_size=4)
    assert [len(batch) for batch in linear.batches] == [4, 4, 2]
    assert linear.batches[0] == ["a good film", "good film", "a film", "a good"]
    for size in (1, 64):
        for a, b in zip(
            one, word_importance(Linear(), texts, [1, 0, 1], batch_size=size), strict=True
        ):
            np.testing.assert_array_equal(a, b)


def test_long_texts_lose_runs_of_words_that_share_their_importance():
    linear = Linear()
    (found,) = word_importance(linear, ["good a a bad film"], [1], max_pieces=2)
    assert linear.batches == [["good a a bad film", "bad film", "good a a"]]
    np.testing.assert_allclose(found, [4 / 3] * 3 + [-5.5 / 2] * 2)


@pytest.mark.parametrize(
    ("protected", "versions"),
    [
        ("second", [("good film", "x y"), ("film", "x y"), ("good", "x y")]),
        ("first", [("good film", "x y"), ("good film", "y"), ("good film", "x")]),
    ],
)
def test_a_protected_text_loses_no_words(protected, versions):
    linear = Linear()
    word_importance(linear, [("good film", "x y")], [1], protected=protected)
    assert linear.batches == [versions]


def test_bad_scores_and_labels_are_refused():
    with pytest.raises(DataError, match="one label a text; got 1 for 2 texts"):
        word_importance(Linear(), ["a", "b"], [0])
    with pytest.raises(ModelError, match=r"one score a class; got shape \(2,\)"):
        word_importance(lambda texts: [0.5] * len(texts), ["a"], [0])


# --- probabilities -------------------------------------------------------------------------------

CASES = [
    np.array([3.0, 1.0, 0.0, -1.0, 0.5]),
    np.array([1000.0, 0.0, 0.0, 0.0]),
    np.array([0.0, 0.0, 0.0]),
    np.array([-1.0, -2.0]),
    np.array([1.0]),
]


def faults(probabilities):
    """What is wrong with a rule that turns importance into probabilities of deletion."""
    found = set()
    for importance in CASES:
        for rate in (0.1, 0.5, 0.9):
            for sharpness in (0.0, 2.0, 8.0):
                p = probabilities(importance, rate=rate, sharpness=sharpness)
                if not np.isclose(p.mean(), rate):
                    found.add("mean")
                if p.min() <= 0.0 or p.max() > 1.0 + 1e-12:
                    found.add("range")
                    continue
                rises = np.diff(p[np.argsort(importance, kind="stable")])
                if rises.min(initial=0.0) < -1e-12:
                    found.add("order")
                if not np.allclose(
                    p, probabilities(importance * 1e-3, rate=rate, sharpness=sharpness)
                ):
                    found.add("scale")
                free = p < 1.0 - 1e-9
                relative = importance[free] / max(np.abs(importance).max(), 1e-300)
                if free.sum() > 1 and not np.allclose(
                    np.diff(np.log(p[free])), sharpness * np.diff(relative)
                ):
                    found.add("ratio")
    return found


def exponential(importance, *, rate, sharpness):
    weights = np.exp(sharpness * importance / max(np.abs(importance).max(), 1e-300))
    return rate * len(weights) * weights / weights.sum()


MUTANTS = {
    "uniform": lambda a, *, rate, sharpness: np.full(len(a), rate),
    "unimportant words first": lambda a, **k: deletion_probabilities(-a, **k),
    "size of the importance, not its sign": lambda a, **k: deletion_probabilities(np.abs(a), **k),
    "not capped": exponential,
    "cut off": lambda a, **k: np.minimum(exponential(a, **k), 1.0),
    "a softmax of the scores as they are": lambda a, *, rate, sharpness: (
        rate * len(a) * np.exp(sharpness * a - np.logaddexp.reduce(sharpness * a))
    ),
}


def test_probabilities_rise_with_importance_and_keep_the_rate():
    assert faults(deletion_probabilities) == set()
    assert deletion_probabilities(np.zeros(0), rate=0.5, sharpness=1.0).shape == (0,)


@pytest.mark.parametrize("mutant", MUTANTS.values(), ids=MUTANTS)
def test_wrong_rules_are_caught(mutant):
    assert faults(mutant)


# --- the augmenter -------------------------------------------------------------------------------


def shares_deleted(augmenter, importance, text="good film it a", n=4_000):
    words = text.split()
    kept = np.zeros(len(words))
    for i in range(n):
        left = augment(augmenter, text, seed=0, example=i, importance=importance).split()
        kept += [word in left for word in words]
    return 1.0 - kept / n


def prefers(shares, importance, *, rate):
    """Whether shares of deletion are those of importance, to five standard deviations."""
    expected = deletion_probabilities(importance, rate=rate, sharpness=2.0)
    return bool(np.all(np.abs(shares - expected) < 5 * np.sqrt(expected / 4_000) + rate**4))


def test_important_words_are_deleted_more_often():
    importance = word_importance(Linear(), ["good film it a"], [1])[0]
    shares = shares_deleted(DeleteImportantWords(rate=0.2), importance)
    assert shares[0] > 3 * shares[3]
    assert prefers(shares, importance, rate=0.2)
    uniform = shares_deleted(DeleteImportantWords(rate=0.2, sharpness=0.0), importance)
    assert not prefers(uniform, importance, rate=0.2)
    backwards = shares_deleted(DeleteImportantWords(rate=0.2), -importance)
    assert not prefers(backwards, importance, rate=0.2)


def test_how_sure_the_classifier_is_does_not_matter():
    texts = ["good film it a"] * 2
    calm = word_importance(Linear(), texts, [1, 1])
    sure = word_importance(Linear(scale=50.0), texts, [1, 1])
    augmenter = DeleteImportantWords(rate=0.5)
    for i in range(50):
        both = [
            augment(augmenter, texts[0], seed=0, example=i, importance=x[0]) for x in (calm, sure)
        ]
        assert both[0] == both[1]


@pytest.mark.parametrize("importance", [None, np.zeros(3)])
def test_importance_must_fit_the_text(importance):
    with pytest.raises(ValueError, match=r"each of the 2 words of a text; got (none|that of 3)"):
        augment(DeleteImportantWords(), "a b", seed=0, example=0, importance=importance)
