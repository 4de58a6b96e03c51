"""Deletion with the order hidden: its law, and no base classifier refutes its radii."""

import itertools
import math
from collections import Counter, defaultdict
from functools import cache

import numpy as np
import pytest
from oracles import (
    ATTACKERS,
    PROBABILITIES,
    deletion_law,
    distances,
    edited,
    is_first_of_its_shape,
    mixes,
    texts,
    violated_claims,
    worst_margins,
)
from scipy.stats import chi2

from robust_nlp.mechanisms.bag import BagDeletion
from robust_nlp.mechanisms.base import NO_RADIUS, REMOVED, ROUNDING
from robust_nlp.mechanisms.deletion import (
    EditBudget,
    RandomizedDeletion,
    deletion_frontier,
    deletion_margin,
)
from robust_nlp.threats import ThreatModel

REORDER = frozenset({"reorder"})
FREE_ORDER = tuple(attacker | REORDER for attacker in (*ATTACKERS, frozenset()))
INSERT, DELETE, SUBSTITUTE = (frozenset({move}) for move in ("insert", "delete", "substitute"))
LOOSENED = [(p_a - ROUNDING, min(p_b, 1.0 - p_a) + ROUNDING) for p_a, p_b in PROBABILITIES]
RATES = (0.5, 0.7, 0.9, 0.97)


def bag_law(text, rate):
    """Each unit is left out with probability `rate`; the others come in any order."""
    law = defaultdict(float)
    for keep in itertools.product((False, True), repeat=len(text)):
        kept = tuple(itertools.compress(text, keep))
        chance = math.prod(1.0 - rate if shown else rate for shown in keep)
        for order in itertools.permutations(kept):
            law[order] += chance / math.factorial(len(kept))
    return dict(law)


@cache
def bag_pairs():
    """Short texts and bags of units, with the fewest counted moves to any order of the bag."""
    pairs = defaultdict(dict)
    for letters, fresh, longest in (("abc", "z", 4), ("ab", "", 5)):
        for clean in filter(is_first_of_its_shape, texts(letters, longest)):
            pairs[clean, tuple(sorted(clean))][REORDER] = 0
            for attacker in ATTACKERS:
                for text, moves in distances(clean, letters + fresh, longest, attacker).items():
                    found = pairs[clean, tuple(sorted(text))]
                    free = attacker | REORDER
                    found[free] = min(moves, found.get(free, moves))
    return tuple((clean, bag, moves) for (clean, bag), moves in pairs.items())


def read(row, text):
    return tuple(text[index] for index in row if index != REMOVED)


# --- the law -------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["abcde", "abab", "a", ""])
@pytest.mark.parametrize("p_del", [0.5, 0.9])
def test_drawn_bags_follow_the_law(p_del, text):
    size = 20_000
    rows = BagDeletion(p_del=p_del).draw(len(text), size, np.random.default_rng(0))
    assert rows.shape == (size, len(text))
    drawn = Counter(read(row, text) for row in rows.tolist())
    law = bag_law(text, p_del)
    assert set(drawn) <= set(law)
    likely = {noisy: chance for noisy, chance in law.items() if chance * size >= 5.0}
    statistic = sum((drawn[z] - size * p) ** 2 / (size * p) for z, p in likely.items())
    assert chi2.sf(statistic, len(likely)) > 1e-3


def test_draws_show_no_order():
    rows = BagDeletion(p_del=0.5).draw(2, 20_000, np.random.default_rng(1))
    both = rows[(rows != REMOVED).all(axis=1)]
    assert np.mean(both[:, 0] == 0) == pytest.approx(0.5, abs=0.03)


@pytest.mark.parametrize("text", ["abcde", "abcab", "a", ""])
def test_enumerated_bags_have_the_law_of_the_strata(text):
    mechanism, n = BagDeletion(p_del=0.7), len(text)
    strata, law = mechanism.strata(n), Counter()
    for kept, probability, outcomes in zip(
        strata.kept, strata.probability, strata.outcomes, strict=True
    ):
        rows = mechanism.enumerate(n, int(kept))
        assert rows.shape == (outcomes, n)
        assert len({tuple(row) for row in rows.tolist()}) == len(rows)
        assert (mechanism.law("x" * n).kept_counts(rows) == kept).all()
        for row in rows.tolist():
            law[read(row, text)] += probability / outcomes
    assert law == pytest.approx(bag_law(text, 0.7), abs=1e-12)


def test_strata_of_very_long_texts_are_a_law():
    strata = BagDeletion(p_del=0.9).strata(5_000)
    assert math.fsum(strata.probability) == pytest.approx(1.0, abs=1e-9)
    assert (strata.outcomes >= 1.0).all()


def test_the_law_is_the_same_for_all_orders_of_a_text():
    for text in texts("abc", 4):
        assert bag_law(text, 0.7) == pytest.approx(bag_law(tuple(sorted(text)), 0.7), abs=1e-15)


# --- soundness -----------------------------------------------------------------------------------


@pytest.mark.parametrize("p_del", RATES)
def test_no_base_classifier_refutes_a_radius_whatever_the_order(p_del):
    checked, wrong = violated_claims(
        BagDeletion(p_del=p_del).radius,
        lambda text: bag_law(text, p_del),
        bag_pairs(),
        attackers=FREE_ORDER,
    )
    assert not wrong
    assert checked > 4_000


def test_the_threat_model_counts_what_the_search_counted():
    for clean, bag, moves in bag_pairs():
        for attacker in FREE_ORDER:
            distance = ThreatModel(attacker=attacker).distance(clean, bag[::-1])
            assert distance == moves.get(attacker, math.inf)


def one_edit_too_many(p_a, p_b, *, n_units, attacker):
    radius = BagDeletion(p_del=0.9).radius(p_a, p_b, n_units=n_units, attacker=attacker)
    return radius + (attacker != REORDER)


def insertions_and_deletions_swapped(p_a, p_b, *, n_units, attacker):
    other = {"insert": "delete", "delete": "insert"}
    swapped = frozenset(other.get(move, move) for move in attacker)
    return BagDeletion(p_del=0.9).radius(p_a, p_b, n_units=n_units, attacker=swapped)


def overlap_counted_once(p_a, p_b, *, n_units, attacker):
    """Wrong: a substitution costs what a deletion does; the runner-up gains nothing."""
    moves = attacker - SUBSTITUTE | DELETE
    return BagDeletion(p_del=0.9).radius(p_a, p_b, n_units=n_units, attacker=moves)


@pytest.mark.parametrize(
    "mutant", [one_edit_too_many, insertions_and_deletions_swapped, overlap_counted_once]
)
def test_a_wrong_radius_is_refuted_by_a_base_classifier(mutant):
    _, wrong = violated_claims(
        mutant, lambda text: bag_law(text, 0.9), bag_pairs(), attackers=FREE_ORDER
    )
    assert wrong


def test_noise_that_leaves_the_order_is_refuted_by_a_base_classifier():
    _, wrong = violated_claims(
        BagDeletion(p_del=0.5).radius,
        lambda text: deletion_law(text, 0.5),
        bag_pairs(),
        attackers=[REORDER],
    )
    assert wrong


# --- tightness -----------------------------------------------------------------------------------


@pytest.mark.parametrize("p_del", [0.2, 0.5, 0.9])
def test_hiding_the_order_leaves_the_margin_as_it_is_for_distinct_units(p_del):
    for n, total in itertools.product(range(6), range(4)):
        clean = tuple("abcdefgh"[:n])
        for mix in mixes(total, n, ATTACKERS[0]):
            if n + mix[0] > 6:
                continue
            exact = worst_margins(
                bag_law(clean, p_del), bag_law(edited(clean, mix), p_del), LOOSENED
            )
            bounds = [
                deletion_margin(p_a, p_b, p_del=p_del, edits=EditBudget(*mix))
                for p_a, p_b in PROBABILITIES
            ]
            assert bounds == pytest.approx(exact, abs=1e-9)


@pytest.mark.parametrize("attacker", ATTACKERS, ids=lambda attacker: "+".join(sorted(attacker)))
def test_radii_are_those_of_randomized_deletion(attacker):
    for p_del, n, (p_a, p_b) in itertools.product(RATES, (0, 4, 80), PROBABILITIES):
        bag, plain = BagDeletion(p_del=p_del), RandomizedDeletion(p_del=p_del)
        radius = plain.radius(p_a, p_b, n_units=n, attacker=attacker)
        for moves in (attacker, attacker | REORDER):
            assert bag.radius(p_a, p_b, n_units=n, attacker=moves) == radius
    assert bag.frontier(0.9, 0.1, n_units=9, attacker=attacker | REORDER) == deletion_frontier(
        0.9, 0.1, p_del=p_del, n_units=9, attacker=attacker
    )


# --- documented values ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("p_del", "p_a", "p_b", "deletions", "insertions"),
    [
        (0.3, 0.99, 0.005, 3, None),
        (0.5, 0.99, 0.005, 6, 0),
        (0.7, 0.99, 0.005, 11, 1),
        (0.9, 0.99, 0.005, 39, None),
        (0.9, 0.9, 0.1, 15, 5),
        (0.7, 0.99993, 0.00007, 24, 1),
        (0.5, 0.99993, 0.00007, 12, None),
        (0.9, 0.99993, 0.00007, 84, None),
    ],
)
def test_closed_forms_have_their_documented_values(p_del, p_a, p_b, deletions, insertions):
    mechanism = BagDeletion(p_del=p_del)
    assert mechanism.radius(p_a, p_b, n_units=256, attacker=DELETE | REORDER) == deletions
    if insertions is not None:
        assert mechanism.radius(p_a, p_b, n_units=256, attacker=INSERT | REORDER) == insertions


@pytest.mark.parametrize(
    ("n_units", "p_del", "p_a", "p_b", "published"),
    [
        (50, 0.3, 0.99, 0.005, 3),
        (50, 0.7, 0.99, 0.005, 1),
        (128, 0.5, 0.999, 0.001, 1),
        (128, 0.5, 0.99993, 0.00007, 3),
        (256, 0.5, 0.99993, 0.00007, 2),
        (256, 0.7, 0.99993, 0.00007, 2),
        (256, 0.3, 0.99993, 0.00007, 2),
        (50, 0.7, 0.9, 0.1, 0),
    ],
)
def test_no_radius_is_below_that_of_the_published_code(n_units, p_del, p_a, p_b, published):
    radius = BagDeletion(p_del=p_del).radius(p_a, p_b, n_units=n_units, attacker=DELETE)
    assert radius >= published


def test_reordering_alone_is_covered_whenever_there_is_an_answer():
    mechanism = BagDeletion(p_del=0.9)
    assert mechanism.radius(0.51, 0.49, n_units=9, attacker=REORDER) == 0
    assert mechanism.radius(0.5, 0.5, n_units=9, attacker=REORDER) == NO_RADIUS
    assert mechanism.radius(0.4, 0.3, n_units=9, attacker=REORDER) == 0


def test_the_dead_zone_is_that_of_deletion():
    bag, plain = BagDeletion(p_del=0.9), RandomizedDeletion(p_del=0.9)
    assert [bag.dead_zone(n) for n in range(20)] == [plain.dead_zone(n) for n in range(20)]


# --- settings ------------------------------------------------------------------------------------


def test_what_cannot_be_meant_is_refused():
    with pytest.raises(ValueError, match=r"0 < p_del < 1, got p_del=1\.5"):
        BagDeletion(p_del=1.5)
    with pytest.raises(ValueError, match=r"certifies against .*reorder; got the attacker swap"):
        BagDeletion(p_del=0.9).radius(0.9, 0.1, n_units=5, attacker=frozenset({"swap"}))


def test_settings_are_plain_values_that_make_the_mechanism_again():
    settings = BagDeletion(p_del=0.9, unit="token").to_dict()
    assert settings.pop("kind") == "bag_deletion"
    assert BagDeletion(**settings) == BagDeletion(p_del=0.9, unit="token")
