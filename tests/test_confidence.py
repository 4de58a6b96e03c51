"""Coverage of all bounds from votes, proved by summation over what can happen."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mutants import BOUND_MUTANTS, SEQUENTIAL_MUTANTS, VOTE_MUTANTS
from scipy.stats import beta, binomtest

from robust_nlp.certification.certificates import bounds_from_votes
from robust_nlp.certification.confidence import (
    confident_class,
    lower_confidence_bound,
    upper_confidence_bound,
)
from robust_nlp.certification.plan import SequentialPlan
from robust_nlp.certification.sequential import sequential_lower_bound
from robust_nlp.certification.votes import VoteCounts

#: What sums of probabilities may lose to rounding.
ROUNDING = 1e-10


def binomial(n, p):
    """The probabilities of 0..n successes, from the definition."""
    if p in (0.0, 1.0):
        return np.eye(n + 1)[n if p == 1.0 else 0]
    logs = [
        math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)
        + k * math.log(p) + (n - k) * math.log1p(-p)
        for k in range(n + 1)
    ]  # fmt: skip
    return np.exp(logs)


def multinomial(n, shares):
    """All outcomes of n votes, and their probabilities."""
    outcomes = [
        tuple(np.diff([-1, *bars, n + len(shares) - 1]) - 1)
        for bars in itertools.combinations(range(n + len(shares) - 1), len(shares) - 1)
    ]
    for counts in outcomes:
        ways = math.factorial(n)
        for count in counts:
            ways //= math.factorial(int(count))
        yield (
            tuple(int(c) for c in counts),
            ways * math.prod(p ** int(c) for p, c in zip(shares, counts, strict=True)),
        )


# --- one bound, a fixed number of votes ----------------------------------------------------------


def worst_error(bound, trials, alpha):
    """Largest probability, over all true probabilities, that a lower bound is too large."""
    bounds = np.array([bound(k, trials, alpha=alpha) for k in range(trials + 1)])
    worst = 0.0
    # The probability of an error jumps up where the truth falls below one of the bounds.
    for truth in np.concatenate([bounds - 1e-12, np.linspace(0.001, 0.999, 25)]):
        if 0.0 < truth < 1.0:
            worst = max(worst, float(binomial(trials, truth)[bounds > truth].sum()))
    return worst


@pytest.mark.parametrize("alpha", [0.05, 1e-3])
@pytest.mark.parametrize("trials", [1, 10, 100, 1000])
def test_lower_bound_errs_at_most_with_probability_alpha(trials, alpha):
    error = worst_error(lower_confidence_bound, trials, alpha)
    assert 0.99 * alpha < error <= alpha + ROUNDING


@pytest.mark.parametrize("trials", [1, 10, 100])
@pytest.mark.parametrize("name", BOUND_MUTANTS)
def test_the_coverage_test_catches_wrong_bounds(name, trials):
    assert worst_error(BOUND_MUTANTS[name], trials, 0.05) > 0.055


@pytest.mark.parametrize("trials", [1, 10, 100, 1000])
def test_bounds_equal_those_of_scipy(trials):
    for successes in {0, 1, trials // 3, trials - 1, trials}:
        for alpha in (0.05, 1e-3, 1e-9):
            lower = lower_confidence_bound(successes, trials, alpha=alpha)
            upper = upper_confidence_bound(successes, trials, alpha=alpha)
            interval = binomtest(successes, trials).proportion_ci(1.0 - 2.0 * alpha, "exact")
            assert (lower, upper) == pytest.approx((interval.low, interval.high), abs=1e-7)
            if successes < trials:
                exact = beta.ppf(1.0 - alpha, successes + 1, trials - successes)
                assert upper == pytest.approx(float(exact), abs=1e-9)


def test_unanimous_votes_give_the_root_of_alpha():
    for trials in (1, 94, 612, 10_000):
        lower = lower_confidence_bound(trials, trials, alpha=0.05)
        assert lower == pytest.approx(0.05 ** (1.0 / trials), rel=1e-12)
    assert lower_confidence_bound(0, 100, alpha=0.05) == 0.0
    assert lower_confidence_bound(0, 0, alpha=0.05) == 0.0
    assert upper_confidence_bound(100, 100, alpha=0.05) == 1.0


@given(trials=st.integers(1, 400), data=st.data(), alpha=st.sampled_from([0.05, 1e-3, 1e-12]))
def test_lower_bound_is_monotone_in_successes(trials, data, alpha):
    successes = data.draw(st.integers(0, trials - 1))
    bounds = [lower_confidence_bound(k, trials, alpha=alpha) for k in (successes, successes + 1)]
    assert 0.0 <= bounds[0] < bounds[1] < 1.0
    assert bounds[1] <= (successes + 1) / trials


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((-1, 10, 0.05), r"successes must be in 0\.\.10; got -1"),
        ((11, 10, 0.05), r"successes must be in 0\.\.10; got 11"),
        ((5, 10, 0.0), "alpha is a failure probability"),
        ((5, 10, 1.0), r"such as 0\.001; got 1\.0"),
        ((5, 10, math.nan), "got nan"),
    ],
)
def test_a_bound_refuses_what_is_no_vote_count_or_no_alpha(arguments, message):
    successes, trials, alpha = arguments
    with pytest.raises(ValueError, match=message):
        lower_confidence_bound(successes, trials, alpha=alpha)


# --- one bound, many looks -----------------------------------------------------------------------


def crossings(bound, schedule, alpha, truth):
    """Fewest successes at each look that give a bound above the truth."""
    needed = []
    for look, total in enumerate(schedule):
        low, high = 0, total + 1
        while low < high:
            middle = (low + high) // 2
            counts = [0] * look + [middle]
            above = bound(counts, schedule=schedule, alpha=alpha) > truth
            low, high = (low, middle) if above else (middle + 1, high)
        needed.append(low)
    return needed


def error_of_the_worst_stopping(bound, schedule, alpha, truth):
    """Probability that the bound exceeds the truth at any look: paths are followed one by one."""
    below, error, total = np.ones(1), 0.0, 0
    for needed, look in zip(crossings(bound, schedule, alpha, truth), schedule, strict=True):
        below = np.convolve(below, binomial(look - total, truth))
        error += float(below[needed:].sum())
        below[needed:] = 0.0
        total = look
    return error


SCHEDULES = {
    "one look": (50,),
    "two looks": (20, 60),
    "every vote": tuple(range(1, 41)),
    "plan up to 100": SequentialPlan().schedule(100),
    "plan up to 600": SequentialPlan().schedule(600),
    "uneven": (1, 7, 8, 150, 151, 400),
}


def truths(schedule, alpha):
    """Probabilities just below values of the bound, where errors are most likely, and others."""
    reached = [
        sequential_lower_bound(
            [int(share * total) for total in schedule], schedule=schedule, alpha=alpha
        )
        for share in (0.55, 0.9, 1.0)
    ]
    return [r - 1e-9 for r in reached if r > 1e-3] + [0.03, 0.5, 0.97]


@pytest.mark.parametrize("alpha", [0.05, 1e-3])
@pytest.mark.parametrize("name", SCHEDULES)
def test_sequential_bound_errs_at_most_with_probability_alpha_under_any_stopping(name, alpha):
    schedule = SCHEDULES[name]
    errors = [
        error_of_the_worst_stopping(sequential_lower_bound, schedule, alpha, truth)
        for truth in truths(schedule, alpha)
    ]
    assert max(errors) <= alpha
    assert max(errors) > 0.6 * alpha


@pytest.mark.slow  # follows paths of 2,500 votes
@pytest.mark.parametrize("alpha", [0.05, 1e-3])
def test_sequential_bound_keeps_alpha_in_long_schedules(alpha):
    schedule = SequentialPlan().schedule(2_500)
    for truth in truths(schedule, alpha):
        error = error_of_the_worst_stopping(sequential_lower_bound, schedule, alpha, truth)
        assert error <= alpha


@pytest.mark.parametrize("share", [0.3, 0.6, 0.9])
@pytest.mark.parametrize("name", SEQUENTIAL_MUTANTS)
def test_the_coverage_test_catches_bounds_that_ignore_earlier_looks(name, share):
    schedule = SCHEDULES["plan up to 600"]
    last = schedule[-1]
    truth = lower_confidence_bound(int(share * last), last, alpha=0.05) - 1e-9
    assert error_of_the_worst_stopping(SEQUENTIAL_MUTANTS[name], schedule, 0.05, truth) > 0.052


@pytest.mark.parametrize("name", SCHEDULES)
def test_sequential_bound_is_monotone_in_successes(name):
    schedule = SCHEDULES[name]
    for look, total in enumerate(schedule):
        counts = np.unique(np.linspace(0, total, 60).astype(int))
        bounds = [
            sequential_lower_bound([0] * look + [int(k)], schedule=schedule, alpha=0.05)
            for k in counts
        ]
        assert bounds == sorted(bounds)
        assert 0.0 <= bounds[0] <= bounds[-1] < 1.0


def test_sequential_bound_never_falls_from_look_to_look():
    schedule = SCHEDULES["plan up to 600"]
    rng = np.random.default_rng(2)
    for share in (0.4, 0.8, 0.97):
        votes = np.cumsum(rng.random(schedule[-1]) < share)
        path = [int(votes[total - 1]) for total in schedule]
        bounds = [
            sequential_lower_bound(path[:taken], schedule=schedule, alpha=0.05)
            for taken in range(1, len(schedule) + 1)
        ]
        assert bounds == sorted(bounds)
        assert 0.0 < bounds[-1] < share + 0.05


def test_longer_schedules_agree_on_the_looks_that_they_share():
    short, long = (SequentialPlan().schedule(votes) for votes in (300, 900))
    assert short == long[: len(short)]
    path = [int(0.9 * total) for total in short[:-1]]
    assert sequential_lower_bound(path, schedule=short, alpha=0.05) == sequential_lower_bound(
        path, schedule=long, alpha=0.05
    )


def test_a_single_look_is_the_fixed_bound_rounded_down():
    for count in (0, 3, 25, 44, 50):
        fixed = lower_confidence_bound(count, 50, alpha=0.05)
        bound = sequential_lower_bound([count], schedule=(50,), alpha=0.05)
        assert fixed - 1.0 / 1_000 <= bound <= fixed + 1e-9


def test_no_look_bounds_nothing():
    assert sequential_lower_bound([], schedule=(32, 45), alpha=0.05) == 0.0


@pytest.mark.parametrize(
    ("successes", "schedule", "alpha", "message"),
    [
        ([5], (4,), 0.05, r"successes at look 1 must be in 0\.\.4; got 5"),
        ([1, -1], (4, 8), 0.05, r"successes at look 2 must be in 0\.\.8; got -1"),
        ([1, 2], (4,), 0.05, "2 looks were taken of 1 planned"),
        ([1], (4, 4), 0.05, "a schedule is increasing and positive"),
        ([0], (0, 4), 0.05, "a schedule is increasing and positive"),
        ([1], (4,), 1.5, r"alpha is a failure probability in \(0, 1\)"),
    ],
)
def test_a_sequential_bound_refuses_looks_that_do_not_fit(successes, schedule, alpha, message):
    with pytest.raises(ValueError, match=message):
        sequential_lower_bound(successes, schedule=schedule, alpha=alpha)


# --- the most probable class ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("shares", "votes"),
    [
        ((0.501, 0.499), 60),
        ((0.334, 0.333, 0.333), 40),
        ((0.42, 0.41, 0.17), 40),
        ((0.252, 0.25, 0.25, 0.248), 18),
        ((0.4, 0.395, 0.2, 0.005), 18),
    ],
)
@pytest.mark.parametrize("alpha", [0.05, 1e-2])
def test_a_class_is_named_wrongly_at_most_with_probability_alpha(shares, votes, alpha):
    error = named = 0.0
    for counts, probability in multinomial(votes, shares):
        answer = confident_class(counts, alpha=alpha)
        named += probability * (answer is not None)
        error += probability * (answer not in (None, 0))
    assert error <= alpha
    assert named > 0.0


def test_a_clear_majority_is_named_and_a_tie_is_not():
    assert confident_class((3, 90, 7), alpha=1e-3) == 1
    assert confident_class((50, 50, 0), alpha=0.5) is None
    assert confident_class((0, 0, 0), alpha=0.5) is None
    assert confident_class((6, 0), alpha=0.05) == 0
    assert confident_class((5, 0), alpha=0.05) is None


@pytest.mark.parametrize(
    ("counts", "alpha", "message"),
    [
        ((3,), 0.05, "2 classes or more"),
        ((3, -1), 0.05, "non-negative"),
        ((3, 1), 0.0, "alpha is a failure probability"),
    ],
)
def test_naming_a_class_refuses_what_are_no_votes(counts, alpha, message):
    with pytest.raises(ValueError, match=message):
        confident_class(counts, alpha=alpha)


# --- many classes: both bounds together ----------------------------------------------------------


def bounds_err(bounds, top, shares):
    others = max(share for label, share in enumerate(shares) if label != top)
    return bounds.p_lower > shares[top] or bounds.p_runner_up < others


def joint_error(bounds_from, shares, votes, alpha, chosen):
    """Probability that a bound is wrong, given the class that the selection votes chose."""
    selection = tuple(int(label == chosen) for label in range(len(shares)))
    error = 0.0
    for counts, probability in multinomial(votes, shares):
        seen = VoteCounts(
            n_units=5, exact=(0.0,) * len(shares), remainder=1.0,
            selection=selection, looks=(counts,), schedule=(votes,),
        )  # fmt: skip
        bounds = bounds_from(seen, alpha=alpha)
        # A mutant may choose the class anew; then its bounds are about the class it chose.
        top = chosen
        if bounds_from is VOTE_MUTANTS["class_chosen_from_the_estimation_votes"]:
            top = counts.index(max(counts))
        error += probability * bounds_err(bounds, top, shares)
    return error


NEAR_TIES = {
    "2 classes": ((0.5, 0.5), 40),
    "3 classes": ((0.334, 0.333, 0.333), 25),
    "3 classes, two of them near": ((0.45, 0.44, 0.11), 25),
    "4 classes": ((0.25, 0.25, 0.25, 0.25), 13),
    "5 classes": ((0.2, 0.2, 0.2, 0.2, 0.2), 9),
}


@pytest.mark.parametrize("name", NEAR_TIES)
def test_both_bounds_hold_together_whichever_class_was_chosen(name):
    shares, votes = NEAR_TIES[name]
    for chosen in {0, 1, len(shares) - 1}:
        error = joint_error(bounds_from_votes, shares, votes, 0.05, chosen)
        assert 0.0 < error <= 0.05


@pytest.mark.parametrize("mutant", VOTE_MUTANTS)
def test_the_coverage_test_catches_wrong_bounds_from_votes(mutant):
    errors = [
        joint_error(VOTE_MUTANTS[mutant], shares, votes, 0.05, 0)
        for shares, votes in (
            NEAR_TIES["3 classes"],
            NEAR_TIES["4 classes"],
            ((0.4, 0.05, 0.05, 0.5), 13),
        )
    ]
    assert max(errors) > 0.055


def simulated_errors(bounds_from, shares, *, trials, alpha=0.05):
    """Shares of runs in which the bounds, and the certificate of the answer itself, are wrong."""
    rng = np.random.default_rng(11)
    wrong_bounds = wrong_certificates = 0
    for _ in range(trials):
        votes = VoteCounts(
            n_units=5,
            exact=(0.0,) * len(shares),
            remainder=1.0,
            selection=tuple(rng.multinomial(10, shares).tolist()),
            looks=(tuple(rng.multinomial(60, shares).tolist()),),
            schedule=(60,),
        )
        bounds, top = bounds_from(votes, alpha=alpha), votes.top
        if bounds_from is not bounds_from_votes:
            top = votes.looks[-1].index(max(votes.looks[-1]))
        wrong_bounds += bounds_err(bounds, top, shares)
        best = max(share for label, share in enumerate(shares) if label != top)
        wrong_certificates += bounds.p_lower > bounds.p_runner_up and shares[top] <= best
    return wrong_bounds / trials, wrong_certificates / trials


@pytest.mark.parametrize("classes", [4, 7, 10])
def test_near_ties_of_many_classes_break_the_bounds_at_most_with_probability_alpha(classes):
    shares = (1.0 / classes,) * classes
    bounds, certificates = simulated_errors(bounds_from_votes, shares, trials=1_500)
    assert certificates <= bounds <= 0.05


@pytest.mark.parametrize("classes", [7, 10])
def test_choosing_the_class_from_the_votes_that_bound_it_breaks_the_bounds(classes):
    mutant = VOTE_MUTANTS["class_chosen_from_the_estimation_votes"]
    bounds, _ = simulated_errors(mutant, (1.0 / classes,) * classes, trials=1_500)
    assert bounds > 0.065


@pytest.mark.parametrize("classes", [3, 6])
def test_sequential_bounds_of_all_classes_hold_together_at_every_look(classes):
    shares, schedule = (1.0 / classes,) * classes, (32, 45, 63, 88)
    rng, wrong, trials = np.random.default_rng(5), 0, 600
    for _ in range(trials):
        steps = [rng.multinomial(size, shares) for size in np.diff([0, *schedule])]
        looks = np.cumsum(steps, axis=0)
        wrong += any(
            bounds_err(
                bounds_from_votes(
                    VoteCounts(
                        n_units=5,
                        exact=(0.0,) * classes,
                        remainder=1.0,
                        selection=(1,) + (0,) * (classes - 1),
                        looks=tuple(map(tuple, looks[:taken].tolist())),
                        schedule=schedule,
                    ),
                    alpha=0.05,
                ),
                0,
                shares,
            )
            for taken in range(1, len(schedule) + 1)
        )
    assert wrong / trials <= 0.05
