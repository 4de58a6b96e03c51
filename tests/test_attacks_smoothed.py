"""The search oracle, the judge and the null attack, against exact values."""

import itertools
import math
from types import SimpleNamespace

import numpy as np
import pytest
from scipy.stats import binom

from robust_nlp import CallableClassifier, HuggingFaceClassifier, RandomizedDeletion
from robust_nlp.attacks.smoothed import Oracle, VotingJudge, null_flip_rate
from robust_nlp.attacks.victim import Question
from robust_nlp.base_classifier import CallableClassifier as Base
from robust_nlp.smoothing import SmoothedClassifier

TEXT = "good bad film great awful"
WEIGHTS = {"good": 1.0, "great": 2.0, "bad": -1.5, "awful": -1.0}


def function(texts):
    totals = [0.2 + sum(WEIGHTS.get(word, 0.0) for word in text.split()) for text in texts]
    return np.array([[-total, total] for total in totals])


def smoothed(p_del=0.4):
    base = CallableClassifier(function, ["no", "yes"])
    return SmoothedClassifier(base, RandomizedDeletion(p_del=p_del))


def exact(text, p_del, score):
    """Sum over all subsets of the words."""
    words, total = text.split(), 0.0
    for kept in itertools.product([False, True], repeat=len(words)):
        p = math.prod(1 - p_del if keep else p_del for keep in kept)
        total = total + p * score(" ".join(itertools.compress(words, kept)))
    return total


def softmax(row):
    return np.exp(row) / np.exp(row).sum()


@pytest.mark.parametrize("temperature", [1.0, 10.0])
def test_scores_are_mean_probabilities(temperature):
    oracle = Oracle(smoothed(), 20_000, seed=0)
    (found,) = oracle.score([Question(TEXT, 0, temperature=temperature)])
    expected = exact(TEXT, 0.4, lambda text: softmax(function([text])[0] / temperature))
    np.testing.assert_allclose(np.exp(found), expected, atol=0.01)
    assert oracle.soft


def test_texts_of_a_round_share_their_noise():
    oracle = Oracle(smoothed(), 16, seed=0)
    calls = []
    oracle.smoothed.base._function = lambda texts: calls.append(sorted(texts)) or function(texts)

    def seen(text, example=0, round=0):
        oracle._known.clear()
        oracle.score([Question(text, example, round)])
        return calls[-1]

    base = seen(TEXT)
    assert seen(TEXT.replace("great", "poor")) == sorted(t.replace("great", "poor") for t in base)
    assert seen(TEXT) == base
    assert base not in (seen(TEXT, example=1), seen(TEXT, round=1))
    both = oracle.score([Question(TEXT, 0), Question(TEXT, 1)])
    assert both[0].tolist() == oracle.score([Question(TEXT, 0)])[0].tolist()
    assert both[0].tolist() != both[1].tolist()


def test_noisy_texts_are_scored_once():
    """A change that noise hides must not look like a small one, as rounding differs by batch."""
    oracle, rng = Oracle(smoothed(), 200, seed=0), np.random.default_rng(0)

    def blurred(texts):
        return function(texts) + rng.normal(scale=1e-9, size=(len(texts), 2))

    oracle.smoothed.base._function = blurred
    (first,), (again,) = (oracle.score([Question(TEXT, 0)]) for _ in range(2))
    assert first.tolist() == again.tolist()


def test_classifiers_that_only_give_classes_are_searched_by_votes():
    class OnlyClasses(Base):
        pass

    hidden = OnlyClasses(function, ["no", "yes"])
    classifier = SmoothedClassifier(hidden, RandomizedDeletion(p_del=0.4))
    oracle = Oracle(classifier, 20_000, seed=0)
    oracle.soft = False
    (found,) = oracle.score([Question(TEXT, 0)])
    expected = exact(TEXT, 0.4, lambda text: float(function([text])[0].argmax() == 1))
    assert np.exp(found[1]) == pytest.approx(expected, abs=0.01)
    oracle = Oracle(classifier, 4, seed=0)
    oracle.soft = False
    assert np.isfinite(oracle.score([Question("great great", 0)])).all()


def test_models_give_soft_scores(tiny_classifier_dir):
    base = HuggingFaceClassifier.from_pretrained(tiny_classifier_dir, device="cpu")
    classifier = SmoothedClassifier(base, RandomizedDeletion(p_del=0.4))
    (found,) = Oracle(classifier, 4_000, seed=0).score([Question("a good bad film", 0)])

    def probabilities(text):
        inputs = base.tokenizer(text, return_tensors="pt")
        return softmax(base.model(**inputs).logits[0].detach().double().numpy())

    expected = exact("a good bad film", 0.4, probabilities)
    np.testing.assert_allclose(np.exp(found), expected, atol=0.03)


def test_the_judge_counts_new_votes():
    judge = VotingJudge(smoothed(), 20_000, alpha=1e-3, seed=0)
    (verdict,) = judge.judge([TEXT])
    share = exact(TEXT, 0.4, lambda text: float(function([text])[0].argmax() == 1))
    assert sum(verdict.counts) == 20_000
    assert verdict.counts[1] / 20_000 == pytest.approx(share, abs=0.015)
    assert verdict.predicted == int(share > 0.5)
    assert judge.judge([TEXT]) == [verdict]
    other = VotingJudge(smoothed(), 20_000, alpha=1e-3, seed=1)
    assert other.judge([TEXT])[0].counts != verdict.counts


def test_the_judge_abstains_in_doubt():
    def halves(texts):  # right for half of the noisy texts: those that keep an odd number of words
        return [[len(text.split()) % 2, 0.5] for text in texts]

    base = CallableClassifier(halves, ["no", "yes"])
    even = SmoothedClassifier(base, RandomizedDeletion(p_del=0.5))
    judge = VotingJudge(even, 500, alpha=1e-3, seed=0)
    assert judge.judge([TEXT])[0].predicted is None


def judge_with(counts_at, first):
    """A judge of 60 votes that sees these counts of "yes" at its looks."""
    judge = VotingJudge(smoothed(), 60, alpha=0.1, seed=0, first=first)
    left = list(counts_at)

    def votes(texts, plan, *, seed):
        yes = left.pop(0)
        looks = SimpleNamespace(looks=[(plan.n_estimation - yes, yes)])
        return [SimpleNamespace(votes=looks)] * len(texts)

    judge.smoothed.votes = votes
    return judge


@pytest.mark.parametrize("first", [None, 20])
def test_verdicts_are_wrong_with_probability_alpha_at_most(first):
    """Summed over all counts, where both classes are equally probable: naming "yes" is wrong."""
    sizes = [60] if first is None else [20, 40]
    wrong = 0.0
    for counts in itertools.product(*[range(size + 1) for size in sizes]):
        p = math.prod(binom.pmf(k, size, 0.5) for k, size in zip(counts, sizes, strict=True))
        wrong += p * (judge_with(counts, first).judge([TEXT])[0].predicted is not None)
    assert 0.02 < wrong <= 0.1


def test_a_second_look_only_follows_a_doubt():
    (sure,) = judge_with([20], 20).judge([TEXT])
    assert (sure.predicted, sure.counts, sure.cost) == (1, (0, 20), 20)
    (late,) = judge_with([11, 38], 20).judge([TEXT])
    assert (late.predicted, late.counts, late.cost) == (1, (11, 49), 60)
    judge = judge_with([20], 20)
    assert judge.judge([TEXT, TEXT]) == judge.judge([TEXT]) * 2  # judged once
    assert judge_with([11, 20], 20).judge([TEXT])[0].predicted is None


def test_looks_have_draws_of_their_own():
    one = VotingJudge(smoothed(), 500, alpha=1e-300, seed=0, first=250).judge([TEXT])[0].counts
    half = VotingJudge(smoothed(), 250, alpha=1e-300, seed=0).judge([TEXT])[0].counts
    assert one != tuple(2 * count for count in half)


@pytest.mark.parametrize("questions", [1, 7])
def test_the_null_attack_flips_as_often_as_votes_do(questions):
    votes, counts = 11, (30, 70)
    one = binom.cdf(votes // 2, votes, 0.7)  # fewer than half for the label
    found = null_flip_rate(
        counts, 1, votes=votes, questions=questions, rng=np.random.default_rng(0)
    )
    assert found == pytest.approx(1 - (1 - one) ** questions, abs=0.06)
    sure = null_flip_rate((0, 50), 1, votes=5, questions=9, rng=np.random.default_rng(0))
    assert sure == 0.0
