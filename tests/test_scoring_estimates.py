"""Intervals and tests of paired values, against published numbers, enumeration and simulation."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from scipy.stats import binomtest, norm

from robust_nlp.scoring.estimates import (
    Estimate,
    difference,
    difference_of_differences,
    exchange_test,
    mean,
    sign_flip_test,
)


def pairs(both: int, first: int, second: int, neither: int) -> tuple[list[int], list[int]]:
    """Paired zeros and ones with these counts."""
    x = [1] * (both + first) + [0] * (second + neither)
    return x, [1] * both + [0] * first + [1] * second + [0] * neither


@pytest.mark.parametrize(("right", "texts"), [(0, 20), (7, 20), (20, 20), (199, 200)])
def test_the_interval_of_a_share_is_that_of_wilson(right, texts):
    found = mean([1] * right + [0] * (texts - right))
    expected = binomtest(right, texts).proportion_ci(0.95, method="wilson")
    assert (found.value, found.low, found.high) == pytest.approx(
        (right / texts, expected.low, expected.high)
    )


# The first two: package contingencytables 3.1 for R, data of Bentur et al. (2009) and Cavo et al.
# (2012); the others: Newcombe (1998), method 10.
PUBLISHED = [
    ((1, 1, 7, 12), -0.286, -0.507, -0.026, 3),
    ((59, 6, 16, 80), -0.0621, -0.1186, -0.0046, 4),
    ((36, 12, 2, 0), 0.2, 0.0569, 0.3404, 4),
    ((20, 12, 2, 16), 0.2, 0.0562, 0.3292, 4),
]


def check_published(interval) -> None:
    for counts, value, low, high, digits in PUBLISHED:
        found = interval(*pairs(*counts))
        assert (found.value, found.low, found.high) == pytest.approx(
            (value, low, high), abs=0.51 * 10**-digits
        )


def unpaired(x, y, *, answers=1):
    a, b = mean(x), mean(y)
    low = math.hypot(a.value - a.low, b.high - b.value)
    high = math.hypot(a.high - a.value, b.value - b.low)
    return Estimate(a.value - b.value, a.value - b.value - low, a.value - b.value + high)


def wald(x, y, *, answers=1):
    d = np.subtract(x, y)
    half = norm.isf(0.025) * d.std() / math.sqrt(len(d))
    return Estimate(d.mean(), d.mean() - half, d.mean() + half)


def flipped(x, y, *, answers=1):
    return difference(y, x, answers=answers)


def test_the_paired_interval_is_that_of_newcombe():
    check_published(difference)


@pytest.mark.parametrize("mutant", [unpaired, wald, flipped])
def test_other_intervals_are_not(mutant):
    with pytest.raises(AssertionError):
        check_published(mutant)


def test_pairing_makes_the_interval_shorter_where_pairs_agree():
    x, y = pairs(70, 8, 2, 20)
    own, other = difference(x, y), unpaired(x, y)
    assert own.high - own.low < 0.6 * (other.high - other.low)


def simulated(interval, *, draws: int, texts: int, seed: int) -> tuple[float, float]:
    """Share of intervals that contain the truth, and their mean length.

    A text has a chance of its own to survive a perturbation; only right texts can.
    """
    rng = np.random.default_rng(seed)
    covered, lengths, clean, runs = 0, [], 0.85, 600
    truth = clean - clean * 0.8  # the mean of Beta(2, 0.5)
    for _ in range(runs):
        c = rng.random(texts) < clean
        stays = rng.beta(2.0, 0.5, texts)
        p = (rng.random((draws, texts)) < stays).mean(axis=0) * c
        found = interval(c.astype(float), p, answers=draws)
        covered += found.low <= truth <= found.high
        lengths.append(found.high - found.low)
    return covered / runs, float(np.mean(lengths))


@pytest.mark.parametrize("draws", [1, 5])
@pytest.mark.parametrize("texts", [30, 200])
def test_intervals_contain_the_truth_as_often_as_they_say(draws, texts):
    share, length = simulated(difference, draws=draws, texts=texts, seed=1)
    assert 0.93 <= share <= 0.99
    assert length < 0.9 * simulated(unpaired, draws=draws, texts=texts, seed=1)[1]


def test_more_draws_of_a_text_make_shorter_intervals():
    lengths = [simulated(difference, draws=n, texts=100, seed=2)[1] for n in (1, 8)]
    assert lengths[1] < 0.95 * lengths[0]


def texts_times_draws(x, y, *, answers=1):
    """As if every draw were a text of its own."""
    both = [np.repeat(x, answers), np.repeat(y, answers)]
    return difference(*both)


def test_counting_draws_as_texts_makes_intervals_too_short():
    share, _ = simulated(texts_times_draws, draws=8, texts=100, seed=3)
    assert share < 0.9


def test_intervals_of_nothing_but_right_answers_have_a_length():
    found = difference([1.0] * 30, [1.0] * 30, answers=5)
    assert found.value == 0.0
    assert found.low < -0.05
    assert found.high > 0.05


def test_a_difference_of_differences_contains_the_truth_as_often_as_it_says():
    rng, covered, runs = np.random.default_rng(4), 0, 500
    for _ in range(runs):
        shared = rng.random(150)
        a, b = (shared < 0.9).astype(float), (shared < 0.8).astype(float)
        x, y = a * (rng.random(150) < 0.8), b * (rng.random(150) < 0.9)
        found = difference_of_differences((a, x), (b, y))
        covered += found.low <= 0.9 * 0.2 - 0.8 * 0.1 <= found.high
    assert 0.93 <= covered / runs <= 0.995


@pytest.mark.parametrize("counts", [(5, 3, 1, 2), (20, 9, 0, 1), (4, 2, 2, 2), (9, 0, 0, 1)])
def test_both_tests_are_mcnemars_with_one_answer_each(counts):
    x, y = (np.array(each, bool) for each in pairs(*counts))
    _, first, second, _ = counts
    expected = binomtest(first, first + second).pvalue if first + second else 1.0
    assert exchange_test(x, y[:, None]) == pytest.approx(expected)
    assert sign_flip_test(x.astype(int) - y) == pytest.approx(expected)


def test_the_sign_flip_test_counts_all_signs():
    for differences in ([3, -1, 2, 0, 5], [1, 1, 1, -1], [4, -4], [7]):
        sizes, seen = np.abs(differences), abs(sum(differences))
        sums = [abs(np.dot(s, sizes)) for s in itertools.product([1, -1], repeat=len(sizes))]
        expected = np.mean([each >= seen for each in sums])
        assert sign_flip_test(differences) == pytest.approx(expected)


def test_the_exchange_test_counts_all_choices_of_the_clean_version():
    rng = np.random.default_rng(5)
    for _ in range(5):
        answers = rng.random((5, 4)) < rng.random((5, 1))
        totals = answers.sum(axis=1)
        statistics, seen = [], answers[:, 0].sum() * 4 - totals.sum()
        for choice in itertools.product(range(4), repeat=5):
            right = sum(answers[i, j] for i, j in enumerate(choice))
            statistics.append(abs(4 * right - totals.sum()) >= abs(seen))
        found = exchange_test(answers[:, 0], answers[:, 1:])
        assert found == pytest.approx(np.mean(statistics))


def test_p_values_without_a_difference_are_small_as_seldom_as_they_should():
    rng, ours = np.random.default_rng(6), []
    for _ in range(400):
        answers = rng.random((60, 6)) < rng.beta(4.0, 1.0, (60, 1))
        ours.append(exchange_test(answers[:, 0], answers[:, 1:]))
    assert np.mean(np.array(ours) < 0.05) < 0.075


def test_values_and_differences_are_checked():
    with pytest.raises(ValueError, match=r"values in \[0, 1\]"):
        mean([0.5, 1.5])
    with pytest.raises(ValueError, match="one text at least"):
        mean([])
    with pytest.raises(ValueError, match="whole numbers"):
        sign_flip_test([0.5, 1.0])
