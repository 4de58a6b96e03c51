"""The radius of length-adaptive deletion, against exhaustive search over all mixes of moves."""

import itertools
import math

import numpy as np
import pytest
from mutants import rate_of
from oracles import ATTACKERS, PROBABILITIES, largest_radius, strata_margin

from robust_nlp.mechanisms import AdaptiveDeletion, EditBudget, deletion_radius
from robust_nlp.mechanisms.base import ROUNDING

ALL = frozenset({"insert", "delete", "substitute"})
INSERT, DELETE = frozenset({"insert"}), frozenset({"delete"})
NAMES = {attacker: "+".join(sorted(attacker)) for attacker in ATTACKERS}


def exhaustive_radius(mechanism, p_a, p_b, n, attacker, limit):
    rate = rate_of(mechanism)

    def margin(a, b, c):
        return strata_margin(n, (a, b, c), (rate(n), rate(n + a - b)), p_a, p_b)

    return largest_radius(margin, n, attacker, limit)


@pytest.mark.parametrize("attacker", ATTACKERS, ids=NAMES.get)
@pytest.mark.parametrize(
    ("keeps", "edges", "p_min", "n"),
    [
        ((13,), (), 0.0, 60),
        ((13,), (), 0.9, 30),
        ((5,), (), 0.0, 35),
        ((2, 10), (28,), 0.0, 27),
        ((2, 10), (28,), 0.0, 28),
        ((2, 10), (28,), 0.0, 30),
        ((2, 10, 2), (29, 30), 0.0, 27),
        ((2, 10, 2), (29, 30), 0.0, 31),
        ((10, 2, 10), (29, 30), 0.0, 29),
        ((4, 6, 3, 8), (18, 20, 23), 0.0, 21),
    ],
)
def test_adaptive_radius_equals_exhaustive_search(keeps, edges, p_min, n, attacker):
    mechanism = AdaptiveDeletion(keeps=keeps, edges=edges, p_min=p_min)
    for p_a, p_b in ((0.999, 0.001), (0.95, 0.05), (0.8, 0.2), (0.6, 0.2), (0.5, 0.3)):
        radius = mechanism.radius(p_a, p_b, n_units=n, attacker=attacker)
        limit = min(radius + 1, 12, n if "insert" not in attacker else 12)
        exact = exhaustive_radius(mechanism, p_a, p_b, n, attacker, limit)
        assert min(radius, limit) == exact, (p_a, p_b)


def test_adaptive_radius_equals_exhaustive_search_for_random_settings():
    rng = np.random.default_rng(7)
    tried = 0
    for _ in range(150):
        n = int(rng.integers(1, 36))
        edges = tuple(sorted({int(e) for e in rng.integers(max(1, n - 3), n + 5, size=3)}))
        keeps = tuple(float(n * share) for share in rng.uniform(0.02, 0.99, len(edges) + 1))
        mechanism = AdaptiveDeletion(
            keeps=keeps,
            edges=edges,
            p_min=float(rng.choice([0.001, 0.05, 0.3])),
            p_max=float(rng.choice([1.0, 0.99, 0.95])),
        )
        p_a = 1.0 - float(rng.choice([rng.uniform(0.0, 0.5), 10.0 ** -rng.uniform(0.4, 6.0)]))
        p_b = (1.0 - p_a) * float(rng.choice([1.0, rng.random()]))
        attacker = ATTACKERS[int(rng.integers(7))]
        radius = mechanism.radius(p_a, p_b, n_units=n, attacker=attacker)
        limit = min(radius + 1, 10, n if "insert" not in attacker else 10)
        exact = exhaustive_radius(mechanism, p_a, p_b, n, attacker, limit)
        assert min(radius, limit) == exact, (mechanism, n, p_a, p_b, attacker)
        tried += radius > 0
    assert tried > 20


def test_with_a_constant_rate_adaptive_deletion_is_randomized_deletion():
    for p_del, attacker, (p_a, p_b), n in itertools.product(
        (0.5, 0.9), ATTACKERS, PROBABILITIES[1:], (1, 8, 50)
    ):
        adaptive = AdaptiveDeletion(keeps=(1e6,), p_min=p_del)
        radius = adaptive.radius(p_a, p_b, n_units=n, attacker=attacker)
        closed = deletion_radius(p_a, p_b, p_del=p_del, n_units=n, attacker=attacker)
        assert radius >= closed
        if n == 50:
            assert radius == closed


@pytest.mark.parametrize(
    ("n", "p_a", "p_b", "p_del", "sound"),
    [(60, 0.6, 0.4, 0.9, 0), (60, 0.45, 0.35, 0.95, 0), (500, 0.5, 0.3, 0.97, 3)],
)
def test_runner_up_gains_the_mass_outside_the_common_part(n, p_a, p_b, p_del, sound):
    mechanism = AdaptiveDeletion(keeps=(1e6,), p_min=p_del)
    assert mechanism.radius(p_a, p_b, n_units=n, attacker=ALL) == sound


def test_one_deletion_over_a_bin_edge_is_found():
    mechanism = AdaptiveDeletion(keeps=(2, 10), edges=(28,))
    # "A iff at least 6 units are kept" is a base classifier that shows it.
    shares = [
        sum(math.comb(n, k) * rate ** (n - k) * (1.0 - rate) ** k for k in range(6, n + 1))
        for n, rate in ((28, 1 - 10 / 28), (27, 1 - 2 / 27))
    ]
    assert shares == pytest.approx([0.967, 0.013], abs=1e-3)
    assert mechanism.radius(0.95, 0.05, n_units=28, attacker=ALL) == 0
    assert mechanism.radius(0.95, 0.05, n_units=28, attacker=DELETE) == 0


def test_deletions_alone_have_the_radius_of_their_worst_case():
    mechanism = AdaptiveDeletion(keeps=(13,), p_min=0.9)
    assert mechanism.rate(40) == 0.9
    assert mechanism.radius(0.8, 0.2, n_units=40, attacker=DELETE) == 8


def test_a_radius_that_fails_ends_the_search_even_if_a_larger_one_holds():
    mechanism = AdaptiveDeletion(keeps=(2, 10, 2), edges=(29, 30))
    exact = [
        strata_margin(27, (r, 0, 0), (mechanism.rate(27), mechanism.rate(27 + r)), 0.95, 0.05)
        for r in (1, 2, 3)
    ]
    assert [margin > 0.0 for margin in exact] == [True, False, True]
    margins = [
        mechanism.margin(0.95, 0.05, n_units=27, edits=EditBudget(r, 0, 0)) for r in (1, 2, 3)
    ]
    assert margins == pytest.approx(exact, abs=1e-9)
    assert mechanism.radius(0.95, 0.05, n_units=27, attacker=INSERT) == 1


@pytest.mark.parametrize("n", [1_500, 3_000, 5_000])
@pytest.mark.parametrize("rate", [0.5, 0.7, 0.9])
def test_long_texts_do_not_overflow(rate, n):
    mechanism = AdaptiveDeletion(keeps=(1e9,), p_min=rate)
    for p_a, p_b in ((0.999, 0.001), (0.6, 0.3)):
        radius = mechanism.radius(p_a, p_b, n_units=n, attacker=ALL)
        assert radius == deletion_radius(p_a, p_b, p_del=rate, n_units=n, attacker=ALL)


# --- where rates are zero, and where rounding meets huge likelihood ratios -----------------------


def test_inserting_into_a_text_without_noise_may_meet_noise():
    # 14 units are kept as they are; 15 lose 87 % of theirs, and the clean text is hardly ever seen.
    mechanism = AdaptiveDeletion(keeps=(20, 2), edges=(15,))
    assert mechanism.rate(14) == 0.0
    assert mechanism.radius(1.0, 0.0, n_units=14, attacker=INSERT) == 0


def test_a_class_too_rare_for_floats_may_own_every_shorter_text_also_where_rates_adapt():
    # At 16 units the rate is 1/16, at one unit it is 0: "B iff at most one unit is kept".
    mechanism = AdaptiveDeletion(keeps=(15,))
    p_b = (1 / 16) ** 16 + 16 * (15 / 16) * (1 / 16) ** 15
    assert 1.0 - p_b == 1.0
    assert mechanism.radius(1.0 - p_b, p_b, n_units=16, attacker=DELETE) < 15


@pytest.mark.parametrize("attacker", ATTACKERS, ids=NAMES.get)
def test_rounding_of_probabilities_near_one_does_not_certify(attacker):
    rng = np.random.default_rng(3)
    for _ in range(60):
        n = int(rng.integers(2, 17))
        keeps = tuple(float(n * share) for share in rng.choice([0.02, 0.1, 0.5, 0.95], 3))
        mechanism = AdaptiveDeletion(keeps=keeps, edges=(n, n + 2), p_min=0.001, p_max=0.99)
        p_b = 10.0 ** -float(rng.uniform(13.0, 20.0))
        p_a, lost = 1.0 - p_b, 0.9 * ROUNDING  # what the truth may differ by
        radius = mechanism.radius(p_a, p_b, n_units=n, attacker=attacker)
        limit = min(radius, 6)
        exact = exhaustive_radius(mechanism, p_a - lost, p_b + lost, n, attacker, limit)
        assert limit <= exact, (mechanism, n, p_b)
