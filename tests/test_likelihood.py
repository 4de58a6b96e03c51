"""Likelihood-ratio levels, against linear programmes, enumerated products and exact fractions."""

import itertools
import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from oracles import PROBABILITIES, worst_margin_by_programming, worst_margins

from robust_nlp.likelihood import MOST_LEVELS, SAME, RatioLevels, envelope, margin

GRID = np.concatenate([np.linspace(0.0, 1.0, 41), [1e-9, 1e-4, 1.0 - 1e-4, 1.0 - 1e-9]])


def laws(size=4, zeros=True):
    """Two laws on a few outcomes as integer weights, so that ties and zeros are common."""
    weights = st.lists(st.integers(0 if zeros else 1, 6), min_size=size, max_size=size)
    return st.tuples(weights.filter(any), weights.filter(any)).map(
        lambda both: tuple(np.array(w) / sum(w) for w in both)
    )


def random_pair(rng, size, spread=1.0):
    """Two laws whose ratios spread over some orders of magnitude."""
    clean = rng.dirichlet(np.ones(size))
    attacked = clean * np.exp(spread * rng.normal(size=size))
    return RatioLevels.of(clean, attacked / attacked.sum())


def as_dicts(clean, attacked):
    return tuple(
        {(str(i),): float(mass) for i, mass in enumerate(law) if mass > 0.0}
        for law in (clean, attacked)
    )


def least_by_brute_force(clean, attacked, p):
    """Least attacked mass over all sets, with at most one outcome taken in part."""
    best = math.inf
    for chosen in itertools.product((False, True), repeat=len(clean)):
        c, a = (
            sum(m for m, take in zip(law, chosen, strict=True) if take) for law in (clean, attacked)
        )
        if c >= p:
            best = min(best, a)
        for extra, taken in enumerate(chosen):
            if not taken and c < p <= c + clean[extra]:
                best = min(best, a + attacked[extra] * (p - c) / clean[extra])
    return best


def assert_at_least_as_far_apart(one, other):
    assert (one.lows(GRID) <= other.lows(GRID)).all()
    assert (one.highs(GRID) >= other.highs(GRID)).all()


# --- one pair ------------------------------------------------------------------------------------


@given(laws())
def test_levels_keep_all_mass_and_are_sorted_by_their_ratio(pair):
    levels = RatioLevels.of(*pair)
    assert math.fsum(levels.clean) == pytest.approx(1.0, abs=1e-14)
    assert math.fsum(levels.attacked) == pytest.approx(1.0, abs=1e-14)
    assert (levels.clean[:-1] > 0.0).all()
    ratios = levels.attacked[:-1] / levels.clean[:-1]
    assert (np.diff(ratios) > 0.0).all()
    exact = {Fraction(*map(Fraction, m)) for m in zip(pair[1], pair[0], strict=True) if m[1] > 0}
    groups = len({round(math.log(r), 9) if r else None for r in exact})
    assert len(levels) == groups + any((pair[0] == 0.0) & (pair[1] > 0.0))


@given(laws(), st.integers(0, 24))
def test_low_is_the_least_attacked_mass_of_all_sets_and_high_its_mirror(pair, numerator):
    levels, p = RatioLevels.of(*pair), numerator / 24
    exact = least_by_brute_force(*(list(map(float, law)) for law in pair), p - 1e-15)
    assert exact - 1e-10 <= levels.low(p) <= exact
    assert levels.high(1.0 - p) == pytest.approx(1.0 - levels.low(p), abs=1e-10)


@given(laws(size=5))
def test_the_margin_is_the_worst_case_of_two_classes(pair):
    levels, (clean, attacked) = RatioLevels.of(*pair), as_dicts(*pair)
    exact = worst_margins(clean, attacked, PROBABILITIES)
    found = np.array([margin(levels, p_a, p_b) for p_a, p_b in PROBABILITIES])
    assert (found <= np.array(exact) + 1e-15).all()
    assert found == pytest.approx(exact, abs=1e-9)


@pytest.mark.parametrize("seed", range(4))
def test_the_margin_is_the_optimum_of_a_linear_programme(seed):
    rng = np.random.default_rng(seed)
    pair = rng.dirichlet(np.ones(6)), rng.dirichlet(np.ones(6)) * (rng.random(6) < 0.8)
    pair = pair[0], pair[1] / pair[1].sum()
    for p_a, p_b in PROBABILITIES[::3]:
        exact = worst_margin_by_programming(*as_dicts(*pair), p_a, p_b)
        assert margin(RatioLevels.of(*pair), p_a, p_b) == pytest.approx(exact, abs=1e-8)


@given(laws(), st.floats(0.0, 1.0), st.floats(0.0, 1.0))
def test_low_and_high_rise_with_the_clean_mass(pair, p, q):
    levels, (small, large) = RatioLevels.of(*pair), sorted((p, q))
    assert 0.0 <= levels.low(small) <= levels.low(large) <= 1.0
    assert 0.0 <= levels.high(small) <= levels.high(large) <= 1.0
    assert levels.low(p) <= levels.high(p)


def test_arrays_give_what_single_values_give():
    levels = random_pair(np.random.default_rng(0), 9)
    assert levels.lows(GRID).tolist() == [levels.low(p) for p in GRID]
    assert levels.highs(GRID).tolist() == [levels.high(p) for p in GRID]


def test_equal_laws_move_nothing():
    assert len(SAME) == len(SAME.power(9)) == 1
    assert SAME.low(0.3) == SAME.high(0.3) == 0.3
    levels = RatioLevels.of([0.2, 0.8], [0.2, 0.8])
    assert len(levels) == 1
    assert 0.3 - 1e-10 < levels.low(0.3) <= 0.3 <= levels.high(0.3) < 0.3 + 1e-10


def test_laws_without_common_outcomes_fix_nothing():
    levels = RatioLevels.of([1.0, 0.0], [0.0, 1.0])
    assert levels.low(1.0) == 0.0
    assert levels.high(0.0) == 1.0


def test_a_rare_outcome_that_the_attack_makes_common_is_not_lost_in_rounding():
    levels = RatioLevels.of([1.0 - 1e-18, 1e-18], [0.5, 0.5])
    assert levels.low(1.0) <= 0.5
    assert levels.high(1e-17) >= 0.5


@given(laws())
def test_swapping_the_laws_is_the_pair_of_the_attack_undone(pair):
    there, back = RatioLevels.of(*pair), RatioLevels.of(*pair[::-1])
    assert there.swapped().lows(GRID) == pytest.approx(back.lows(GRID), abs=1e-11)
    # Undoing the attack on the worst set leads back to it.
    for p in GRID:
        assert back.high(there.low(p)) >= p - 1e-10


@pytest.mark.parametrize(
    ("clean", "attacked", "message"),
    [
        ([0.5, 0.5], [1.0], "a mass for every outcome; got 2 clean and 1"),
        ([0.5, 0.4], [0.5, 0.5], "clean masses must be at least 0 and sum to one; they sum to 0.9"),
        ([0.5, 0.5], [1.5, -0.5], "attacked masses must be at least 0"),
        ([0.5, 0.5], [math.nan, 0.5], "attacked masses must be at least 0"),
        ([], [], "sum to one; they sum to 0"),
    ],
)
def test_what_is_no_pair_of_laws_is_refused(clean, attacked, message):
    with pytest.raises(ValueError, match=message):
        RatioLevels.of(clean, attacked)


def test_masses_that_do_not_quite_sum_to_one_loosen_the_bounds():
    exact = RatioLevels.of([0.5, 0.5], [0.2, 0.8])
    off = RatioLevels.of([0.5, 0.5 - 1e-10], [0.2, 0.8 - 1e-10])
    assert_at_least_as_far_apart(off, exact)


# --- products ------------------------------------------------------------------------------------


@given(laws(size=3), laws(size=3))
def test_a_product_is_the_pair_of_all_combinations(one, other):
    product = RatioLevels.of(*one) * RatioLevels.of(*other)
    combined = RatioLevels.of(*(np.outer(a, b) for a, b in zip(one, other, strict=True)))
    assert product.lows(GRID) == pytest.approx(combined.lows(GRID), abs=1e-10)
    assert_at_least_as_far_apart(product, combined)


@given(laws(size=3), st.integers(0, 5))
def test_a_power_is_the_pair_of_all_tuples(pair, k):
    tuples = [
        [math.prod(masses) for masses in itertools.product(law, repeat=k)] for law in pair
    ]  # fmt: skip
    power, exact = RatioLevels.of(*pair).power(k), RatioLevels.of(*tuples)
    assert power.lows(GRID) == pytest.approx(exact.lows(GRID), abs=1e-7)
    assert power.highs(GRID) == pytest.approx(exact.highs(GRID), abs=1e-7)


def binomial_levels(k, p, q):
    """The k-fold product of the laws (1 - p, p) and (1 - q, q) in exact arithmetic."""
    p, q = Fraction(p), Fraction(q)
    ways = [math.comb(k, i) for i in range(k + 1)]
    return [
        [w * x**i * (1 - x) ** (k - i) for i, w in enumerate(ways)] for x in (p, q)
    ]  # fmt: skip


def exact_low(clean, attacked, p):
    filled, p = Fraction(0), Fraction(p)
    for c, a in sorted(zip(clean, attacked, strict=True), key=lambda m: m[1] / m[0]):
        taken = min(c, p)
        filled, p = filled + a * taken / c, p - taken
    return filled


@pytest.mark.parametrize(("p", "q"), [(0.5, 0.25), (0.125, 0.5), (0.75, 0.5), (0.5, 2**-10)])
def test_high_powers_do_not_claim_more_than_exact_arithmetic(p, q):
    k = 150
    power, exact = RatioLevels.of([1 - p, p], [1 - q, q]).power(k), binomial_levels(k, p, q)
    assert len(power) <= 2 * (k + 1)
    for x in (1e-6, 0.01, 0.3, 0.5, 0.9, 0.99, 1.0 - 1e-6, 1.0):
        loosened = float(exact_low(*exact, max(0.0, x - 2.0 * power.slack)))
        assert loosened - 2.0 * power.slack <= power.low(x) <= float(exact_low(*exact, x))
    assert power.slack < 1e-9


def test_a_negative_power_is_refused():
    with pytest.raises(ValueError, match="k >= 0; got k=-1"):
        SAME.power(-1)


# --- coarsening ----------------------------------------------------------------------------------


@pytest.mark.parametrize("spread", [0.01, 1.0, 20.0, 200.0])
@pytest.mark.parametrize("levels", [2, 3, 10, 60])
def test_coarsening_keeps_the_masses_and_only_moves_the_laws_apart(spread, levels):
    pair = random_pair(np.random.default_rng(levels), 400, spread)
    coarse = pair.coarsened(levels)
    assert len(coarse) <= levels
    assert math.fsum(coarse.clean) == pytest.approx(1.0, abs=1e-12)
    assert math.fsum(coarse.attacked) == pytest.approx(1.0, abs=1e-12)
    assert_at_least_as_far_apart(coarse, pair)


@given(laws(size=7), st.integers(2, 7))
def test_coarsening_moves_the_laws_apart_also_with_ratios_zero_and_infinity(pair, levels):
    fine = RatioLevels.of(*pair)
    coarse = fine.coarsened(levels)
    assert len(coarse) <= levels
    assert (coarse.lows(GRID) <= fine.lows(GRID) + 1e-15).all()
    assert (coarse.highs(GRID) >= fine.highs(GRID) - 1e-15).all()


def test_coarsening_to_fewer_than_two_levels_is_refused():
    with pytest.raises(ValueError, match="at least 2 levels; got 1"):
        SAME.coarsened(1)


def test_coarsening_loses_little():
    pair = random_pair(np.random.default_rng(0), 20_000)
    assert pair.coarsened(100).lows(GRID) == pytest.approx(pair.lows(GRID), abs=2e-3)
    assert pair.coarsened(1_000).lows(GRID) == pytest.approx(pair.lows(GRID), abs=2e-5)


def test_products_of_many_levels_stay_small_and_sound():
    rng = np.random.default_rng(1)
    one, other = random_pair(rng, 120), random_pair(rng, 110)
    product = one * other
    full = RatioLevels.of(
        np.outer(one.clean, other.clean), np.outer(one.attacked, other.attacked)
    )  # fmt: skip
    assert len(full) > 10 * MOST_LEVELS >= 10 * len(product)
    assert_at_least_as_far_apart(product, full)
    assert product.lows(GRID) == pytest.approx(full.lows(GRID), abs=1e-4)


def test_merging_ratios_instead_of_splitting_outcomes_is_caught():
    # Averaging neighbouring levels forgets which one it was: the bound becomes too good.
    pair = random_pair(np.random.default_rng(2), 40)
    groups = np.repeat(np.arange(10), 4)
    averaged = RatioLevels.of(
        np.bincount(groups, pair.clean), np.bincount(groups, pair.attacked)
    )  # fmt: skip
    assert (averaged.lows(GRID) > pair.lows(GRID) + 1e-6).any()
    with pytest.raises(AssertionError):
        assert_at_least_as_far_apart(averaged, pair)


# --- envelopes -----------------------------------------------------------------------------------


@given(st.lists(laws(size=4), min_size=1, max_size=4))
def test_an_envelope_is_at_least_as_far_apart_as_each_pair_and_no_further(pairs):
    all_levels = [RatioLevels.of(*pair) for pair in pairs]
    outer = envelope(all_levels)
    assert math.fsum(outer.clean) == pytest.approx(1.0, abs=1e-12)
    assert math.fsum(outer.attacked) == pytest.approx(1.0, abs=1e-12)
    for levels in all_levels:
        assert_at_least_as_far_apart(outer, levels)
    # The lower convex envelope, by brute force: the least of all chords at each point.
    xs = np.linspace(0.0, 1.0, 25)
    least = np.min([levels.lows(xs) for levels in all_levels], axis=0)
    for i, x in enumerate(xs):
        chords = [
            least[j] + (least[k] - least[j]) * (x - xs[j]) / (xs[k] - xs[j])
            for j in range(i + 1)
            for k in range(i, 25)
            if j < k
        ]
        assert outer.low(x) <= min(chords) + 1e-10
    assert outer.low(1.0) == pytest.approx(least[-1], abs=1e-10)


def test_an_envelope_of_two_pairs_is_the_convex_hull_of_their_curves():
    deletion = RatioLevels.of([0.5, 0.5], [0.0, 1.0])  # low(p) = max(0, 2 p - 1)
    insertion = RatioLevels.of([1.0, 0.0], [0.5, 0.5])  # low(p) = p / 2
    both = envelope([deletion, insertion])
    for p in GRID:  # the straight line from (1/2, 0) to (1, 1/2)
        assert both.low(p) == pytest.approx(max(0.0, p - 0.5), abs=1e-11)


@given(st.lists(laws(size=3), min_size=2, max_size=3), st.integers(1, 3))
def test_a_power_of_an_envelope_bounds_every_mixed_product(pairs, k):
    all_levels = [RatioLevels.of(*pair) for pair in pairs]
    outer = envelope(all_levels).power(k)
    for chosen in itertools.combinations_with_replacement(pairs, k):
        masses = [
            [math.prod(m) for m in itertools.product(*laws_)] for laws_ in zip(*chosen, strict=True)
        ]  # fmt: skip
        assert_at_least_as_far_apart(outer, RatioLevels.of(*masses))


def test_the_worst_pair_at_one_probability_is_no_envelope():
    # A mutant: the pair that is worst at p = 0.9 is not at least as far apart at p = 0.2.
    deletion = RatioLevels.of([0.3, 0.7], [0.0, 1.0])
    insertion = RatioLevels.of([1.0, 0.0], [0.8, 0.2])
    worst = min((deletion, insertion), key=lambda pair: pair.low(0.9))
    other = ({deletion, insertion} - {worst}).pop()
    with pytest.raises(AssertionError):
        assert_at_least_as_far_apart(worst, other)


def test_an_envelope_of_nothing_is_refused():
    with pytest.raises(ValueError, match="at least one pair"):
        envelope([])
