"""No base classifier whatever may refute a certificate: exhaustive search for one that does."""

import itertools
import math

import numpy as np
import pytest
from mutants import RADIUS_MUTANTS, law_of
from oracles import (
    ATTACKERS,
    POSITIVE,
    PROBABILITIES,
    adaptive_rate,
    deletion_law,
    edited,
    fresh_pairs,
    largest_radius,
    masking_law,
    mixes,
    short_pairs,
    shown_units,
    strata_margin,
    violated_claims,
    worst_margin_by_programming,
    worst_margins,
    worst_share,
)

from robust_nlp.mechanisms import (
    AdaptiveDeletion,
    EditBudget,
    RandomizedDeletion,
    RandomMasking,
    deletion_frontier,
    deletion_margin,
    deletion_radius,
    deletion_threshold_radius,
    masking_radius,
)
from robust_nlp.mechanisms.base import ROUNDING

ALL = frozenset({"insert", "delete", "substitute"})
INSERT, DELETE, SUBSTITUTE = (frozenset({move}) for move in ("insert", "delete", "substitute"))

#: The package distrusts probabilities by this much, on the safe side; its margins are exact for
#: what is left.
LOOSENED = [(p_a - ROUNDING, min(p_b, 1.0 - p_a) + ROUNDING) for p_a, p_b in PROBABILITIES]
NAMES = {attacker: "+".join(sorted(attacker)) for attacker in ATTACKERS}

FIXED = [RandomizedDeletion(p_del=p) for p in (0.2, 0.5, 0.7, 0.9, 0.97, 0.99)]

#: Scaled down so that the rate jumps up and down between the lengths of the texts below.
ADAPTIVE = {
    "rising slowly": AdaptiveDeletion(keeps=(0.8,)),
    "rising to 0.97": AdaptiveDeletion(keeps=(0.5,), p_max=0.97),
    "floor 0.5": AdaptiveDeletion(keeps=(0.3,), p_min=0.5, p_max=0.95),
    "floor 0.9": AdaptiveDeletion(keeps=(1.0,), p_min=0.9),
    "falls at 3": AdaptiveDeletion(keeps=(0.2, 2.0), edges=(3,), p_max=0.97),
    "rises at 3": AdaptiveDeletion(keeps=(2.5, 0.2), edges=(3,), p_min=0.05, p_max=0.97),
    "falls at 3 only": AdaptiveDeletion(keeps=(0.2, 2.0, 0.2), edges=(3, 4), p_max=0.97),
    "falls at 4 only": AdaptiveDeletion(keeps=(0.1, 2.0, 0.1), edges=(4, 5), p_max=0.98),
    "up and down": AdaptiveDeletion(keeps=(0.6, 0.2, 1.2, 0.2), edges=(2, 3, 5), p_max=0.97),
    "no noise below 3": AdaptiveDeletion(keeps=(3.0, 0.3), edges=(3,), p_max=0.97),
    "no noise from 3": AdaptiveDeletion(keeps=(0.2, 9.0), edges=(3,), p_max=0.97),
    "no noise at all": AdaptiveDeletion(keeps=(20.0,)),
}

MASKING = [
    RandomMasking(p_mask=p, min_kept=kept)
    for p, kept in ((0.3, 1), (0.5, 0), (0.7, 1), (0.8, 1), (0.9, 0), (0.9, 2))
]


def fixed_name(mechanism):
    return f"deletion {mechanism.p_del}"


def masking_name(mechanism):
    return f"masking {mechanism.p_mask} min {mechanism.min_kept}"


# --- the oracles agree with each other -----------------------------------------------------------


@pytest.mark.parametrize("rates", [(0.7, 0.7), (0.9, 0.4), (0.3, 0.95), (0.0, 0.5), (0.5, 0.0)])
def test_filling_by_likelihood_ratio_is_the_exact_worst_case(rates):
    pairs = [
        ("ab", "aab"), ("abc", "ab"), ("aab", "ba"), ("abab", "baba"), ("abcd", "abxd"), ("", "ab"),
    ]  # fmt: skip
    for clean, attacked in pairs:
        laws = deletion_law(tuple(clean), rates[0]), deletion_law(tuple(attacked), rates[1])
        greedy = worst_margins(*laws, PROBABILITIES)
        exact = [worst_margin_by_programming(*laws, p_a, p_b) for p_a, p_b in PROBABILITIES]
        assert greedy == pytest.approx(exact, abs=1e-9)


def test_filling_by_likelihood_ratio_is_the_exact_worst_case_of_masking():
    for clean, attacked in (("abcd", "abxd"), ("aabb", "abab"), ("aaa", "aab")):
        laws = masking_law(tuple(clean), 2), masking_law(tuple(attacked), 2)
        greedy = worst_margins(*laws, PROBABILITIES)
        exact = [worst_margin_by_programming(*laws, p_a, p_b) for p_a, p_b in PROBABILITIES]
        assert greedy == pytest.approx(exact, abs=1e-9)


@pytest.mark.parametrize("rates", [(0.9, 0.9), (0.95, 0.5), (0.4, 0.9), (0.0, 0.8), (0.8, 0.0)])
def test_groups_by_length_are_exact_for_distinct_units(rates):
    for n, total in itertools.product(range(6), range(4)):
        clean = tuple("abcdefgh"[:n])
        for mix in mixes(total, n, ALL):
            laws = deletion_law(clean, rates[0]), deletion_law(edited(clean, mix), rates[1])
            grouped = [strata_margin(n, mix, rates, p_a, p_b) for p_a, p_b in PROBABILITIES]
            assert grouped == pytest.approx(worst_margins(*laws, PROBABILITIES), abs=1e-9)


# --- soundness -----------------------------------------------------------------------------------


@pytest.mark.parametrize("mechanism", FIXED, ids=fixed_name)
def test_no_base_classifier_refutes_randomized_deletion(mechanism):
    checked, wrong = violated_claims(
        mechanism.radius, law_of(mechanism), short_pairs() + fresh_pairs()
    )
    assert not wrong
    assert checked > 5_000


@pytest.mark.parametrize("name", ADAPTIVE)
def test_no_base_classifier_refutes_adaptive_deletion(name):
    mechanism = ADAPTIVE[name]
    checked, wrong = violated_claims(
        mechanism.radius, law_of(mechanism), short_pairs() + fresh_pairs()
    )
    assert not wrong
    assert checked > 5_000


@pytest.mark.parametrize("mechanism", MASKING, ids=masking_name)
def test_no_base_classifier_refutes_random_masking(mechanism):
    checked, wrong = violated_claims(
        mechanism.radius,
        law_of(mechanism),
        short_pairs() + fresh_pairs(),
        attackers=[SUBSTITUTE],
    )
    assert not wrong
    assert checked > 700


def test_the_search_for_a_refutation_covers_far_more_than_radius_zero():
    mechanism = FIXED[3]
    pairs = [pair for pair in short_pairs() + fresh_pairs() if min(pair[2].values()) >= 2]
    checked, _ = violated_claims(mechanism.radius, law_of(mechanism), pairs)
    assert checked > 100_000


@pytest.mark.slow  # laws of 2**11 noisy texts
@pytest.mark.parametrize(
    "mechanism", [FIXED[3], ADAPTIVE["up and down"]], ids=["fixed", "adaptive"]
)
def test_no_base_classifier_refutes_certificates_of_longer_texts(mechanism):
    rng = np.random.default_rng(1)
    pairs = []
    for _ in range(60):
        clean = tuple(rng.choice(list("abcd"), size=rng.integers(6, 9)))
        attacked, moves = clean, dict.fromkeys(ATTACKERS, 0)
        for total in range(1, 4):
            move = str(rng.choice(["insert", "delete", "substitute"]))
            at = int(rng.integers(len(attacked)))
            letter = () if move == "delete" else (str(rng.choice(list("abcdz"))),)
            attacked = attacked[:at] + letter + attacked[at + (move != "insert") :]
            moves = {attacker: total for attacker in moves if move in attacker}
            pairs.append((clean, attacked, moves))
    checked, wrong = violated_claims(mechanism.radius, law_of(mechanism), pairs)
    assert not wrong
    assert checked > 200


@pytest.mark.parametrize("name", RADIUS_MUTANTS)
def test_a_wrong_radius_is_refuted_by_a_base_classifier(name):
    mutant = RADIUS_MUTANTS[name]
    pairs = fresh_pairs(longest=5, most_edits=4)

    def radius(p_a, p_b, *, n_units, attacker):
        return mutant.radius(mutant.mechanism, p_a, p_b, n_units=n_units, attacker=attacker)

    _, wrong = violated_claims(radius, law_of(mutant.mechanism), pairs, attackers=mutant.attackers)
    assert wrong


# --- tightness -----------------------------------------------------------------------------------


@pytest.mark.parametrize("attacker", ATTACKERS, ids=NAMES.get)
@pytest.mark.parametrize("p_del", [0.5, 0.7, 0.8, 0.9])
def test_one_edit_more_than_the_radius_is_refuted_for_fresh_edits(p_del, attacker):
    clean, refuted = tuple("abcdefg"), 0
    for p_a, p_b in PROBABILITIES:
        radius = deletion_radius(p_a, p_b, p_del=p_del, n_units=7, attacker=attacker)
        margins = [
            worst_margins(
                deletion_law(clean, p_del), deletion_law(edited(clean, mix), p_del), [(p_a, p_b)]
            )[0]
            for mix in mixes(radius + 1, 7, attacker)
            if radius < 5
        ]
        if margins:
            assert min(margins) <= 1e-12
            refuted += 1
    assert refuted >= 6


@pytest.mark.parametrize("p_del", [0.2, 0.5, 0.9])
def test_the_margin_of_randomized_deletion_is_exact_for_distinct_units(p_del):
    for n, total in itertools.product(range(7), range(4)):
        clean = tuple("abcdefgh"[:n])
        for mix in mixes(total, n, ALL):
            exact = worst_margins(
                deletion_law(clean, p_del), deletion_law(edited(clean, mix), p_del), LOOSENED
            )
            bounds = [
                deletion_margin(p_a, p_b, p_del=p_del, edits=EditBudget(*mix))
                for p_a, p_b in PROBABILITIES
            ]
            assert bounds == pytest.approx(exact, abs=1e-9)


@pytest.mark.parametrize("name", ADAPTIVE)
def test_the_margin_of_adaptive_deletion_is_exact_for_distinct_units(name):
    mechanism = ADAPTIVE[name]
    law = law_of(mechanism)
    for n, total in itertools.product(range(7), range(4)):
        clean = tuple("abcdefgh"[:n])
        for mix in mixes(total, n, ALL):
            exact = worst_margins(law(clean), law(edited(clean, mix)), LOOSENED)
            bounds = [
                mechanism.margin(p_a, p_b, n_units=n, edits=EditBudget(*mix))
                for p_a, p_b in PROBABILITIES
            ]
            assert bounds == pytest.approx(exact, abs=1e-9), (n, mix)


def test_the_masking_radius_is_the_largest_that_holds_for_distinct_units():
    for n, kept in itertools.product(range(1, 8), range(8)):
        if kept > n:
            continue
        clean = tuple("abcdefgh"[:n])
        laws = [masking_law(edited(clean, (0, 0, r)), kept) for r in range(n + 1)]
        margins = np.array([worst_margins(laws[0], law, PROBABILITIES) for law in laws])
        for (p_a, p_b), column in zip(PROBABILITIES, margins.T, strict=True):
            exact = next((r - 1 for r, m in enumerate(column) if m <= 1e-11), n)
            assert masking_radius(p_a, p_b, n_units=n, kept=kept) == exact


# --- closed forms against all mixes of moves -----------------------------------------------------


def pair_bounds(p_del, mix, p_a, p_b):
    """Attacked bounds of two classes from the common part alone (deletion.md, L and U)."""
    a, b, c = mix
    low = p_del ** (a - b) * max(0.0, p_a - 1.0 + p_del ** (b + c))
    high = p_del ** (a - b) * p_b + 1.0 - p_del ** (a + c)
    return low, high


@pytest.mark.parametrize("attacker", ATTACKERS, ids=NAMES.get)
@pytest.mark.parametrize(
    ("p_del", "n"), [(0.5, 30), (0.8, 12), (0.9, 100), (0.97, 25), (0.97, 300)]
)
def test_closed_form_is_the_worst_over_all_mixes(p_del, n, attacker):
    for p_a, p_b in PROBABILITIES:

        def margin(*mix, p_a=p_a, p_b=p_b):
            low, high = pair_bounds(p_del, mix, p_a, min(p_b, 1.0 - p_a))
            return low - high

        radius = deletion_radius(p_a, p_b, p_del=p_del, n_units=n, attacker=attacker)
        limit = min(radius + 2, n if "insert" not in attacker else radius + 2, 40)
        exact = largest_radius(margin, n, attacker, limit)
        assert min(radius, limit) <= exact
        if n >= 100:  # on shorter texts, substitutions run out before the closed form counts them
            assert min(radius, limit) == exact


@pytest.mark.parametrize("attacker", ATTACKERS, ids=NAMES.get)
@pytest.mark.parametrize("threshold", [0.05, 0.2, 0.5, 0.8])
def test_threshold_radius_is_the_worst_over_all_mixes(threshold, attacker):
    for p_del, p_a in itertools.product(
        (0.5, 0.9, 0.95), (0.1, 0.21, 0.3, 0.45, 0.6, 0.81, 0.9, 0.99, 0.999)
    ):

        def above(*mix, p_del=p_del, p_a=p_a):
            return pair_bounds(p_del, mix, p_a, 0.0)[0] - threshold

        radius = deletion_threshold_radius(
            p_a, p_del=p_del, n_units=150, threshold=threshold, attacker=attacker
        )
        limit = min(radius + 1, 150, 45)
        assert min(radius, limit) == largest_radius(above, 150, attacker, limit), (p_del, p_a)


@pytest.mark.parametrize("attacker", ATTACKERS, ids=NAMES.get)
def test_no_base_classifier_pushes_a_class_below_its_threshold(attacker):
    checked = 0
    for p_del, threshold, p_a in itertools.product(
        (0.5, 0.9), (0.1, 0.2, 0.5, 0.7), (0.15, 0.3, 0.45, 0.6, 0.8, 0.95)
    ):
        clean = tuple("abcdef")
        radius = deletion_threshold_radius(
            p_a, p_del=p_del, n_units=6, threshold=threshold, attacker=attacker
        )
        for total in range(min(radius, 4) + 1):
            for mix in mixes(total, 6, attacker):
                laws = deletion_law(clean, p_del), deletion_law(edited(clean, mix), p_del)
                assert worst_share(*laws, p_a) > threshold, (p_del, threshold, p_a, mix)
                checked += 1
    assert checked > 40


@pytest.mark.parametrize("attacker", ATTACKERS, ids=NAMES.get)
def test_frontier_lists_exactly_the_safe_mixes(attacker):
    for (p_a, p_b), p_del, n in itertools.product(PROBABILITIES[::3], (0.5, 0.8, 0.9), (0, 3, 9)):
        frontier = deletion_frontier(p_a, p_b, p_del=p_del, n_units=n, attacker=attacker)
        assert all(isinstance(budget, EditBudget) for budget in frontier)
        limits = [12 if move in attacker else 0 for move in ("insert", "delete", "substitute")]
        for mix in itertools.product(*(range(limit + 1) for limit in limits)):
            if mix[1] + mix[2] > n:
                assert not any(all(m <= b for m, b in zip(mix, f, strict=True)) for f in frontier)
                continue
            low, high = pair_bounds(p_del, mix, p_a, min(p_b, 1.0 - p_a))
            listed = any(all(m <= b for m, b in zip(mix, f, strict=True)) for f in frontier)
            assert listed == (low - high > 1e-12), (p_a, p_b, p_del, n, mix)
        for one, other in itertools.permutations(frontier, 2):
            assert any(m > b for m, b in zip(one, other, strict=True))


@pytest.mark.parametrize("p_del", [0.5, 0.7, 0.9, 0.99])
def test_frontier_of_a_very_long_text_is_finite(p_del):
    frontier = RandomizedDeletion(p_del=p_del).frontier(
        0.9, 0.1, n_units=20_000, attacker=frozenset({"insert", "delete"})
    )
    deletions = math.ceil(math.log(0.2) / math.log(p_del)) - 1
    assert max(budget.deletions for budget in frontier) == deletions


def test_a_class_too_rare_for_floats_may_own_every_shorter_text():
    # At rate 0.05, "B iff nothing is kept" has probability 1e-21: the other class sums to 1.0.
    # All deletions together leave the empty text, which is B with certainty.
    p_a = 1.0 - 0.05**16
    assert p_a == 1.0
    assert deletion_radius(p_a, 0.05**16, p_del=0.05, n_units=16, attacker=DELETE) < 16


def test_all_oracles_share_one_idea_of_the_settings():
    assert adaptive_rate(28, (2, 10), (28,), 0.0, 1.0) == pytest.approx(1 - 10 / 28)
    assert adaptive_rate(27, (2, 10), (28,), 0.0, 1.0) == pytest.approx(1 - 2 / 27)
    assert [shown_units(n, 0.9, 1) for n in (1, 2, 5, 6, 15)] == [1, 1, 1, 1, 1]
    assert shown_units(25, 0.9, 1) == 2
    assert shown_units(3, 0.9, 2) == 2
    assert POSITIVE < ROUNDING < 1e-9
