"""From votes to certificates: what is promised holds with the promised probability."""

import dataclasses
import itertools
import math

import pytest
from mutants import law_of
from oracles import deletion_law, distances, masking_law, texts
from test_confidence import binomial, bounds_err, multinomial

from robust_nlp.certification.certificates import (
    Certificate,
    bounds_from_votes,
    certificate_from_votes,
    certified_accuracy,
)
from robust_nlp.certification.confidence import lower_confidence_bound
from robust_nlp.certification.sequential import sequential_lower_bound
from robust_nlp.certification.votes import VoteCounts
from robust_nlp.mechanisms import (
    AdaptiveDeletion,
    ExponentialSubstitution,
    GaussianEmbedding,
    RandomizedDeletion,
    RandomMasking,
    SynonymSmoothing,
)
from robust_nlp.threats import ATTACKERS, ThreatModel, attacker_name, parse_attacker

DELETION = RandomizedDeletion(p_del=0.9)


def fixed_votes(counts, *, selection=None, n_units=20, exact=None, remainder=1.0):
    """Votes of a fixed plan; the first class was chosen unless said otherwise."""
    return VoteCounts(
        n_units=n_units,
        exact=(0.0,) * len(counts) if exact is None else exact,
        remainder=remainder,
        selection=(1,) + (0,) * (len(counts) - 1) if selection is None else selection,
        looks=(tuple(counts),),
        schedule=(sum(counts),),
    )


# --- votes ---------------------------------------------------------------------------------------

VALID = {
    "n_units": 4,
    "exact": (0.2, 0.1),
    "remainder": 0.7,
    "selection": (3, 2),
    "looks": ((8, 2), (15, 5)),
    "schedule": (10, 20, 40),
}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"exact": (0.3,), "selection": (1,)}, "two classes or more; got 1"),
        ({"selection": (3, 2, 1)}, "one entry per class"),
        ({"looks": ((8, 2, 0),)}, "one entry per class"),
        ({"remainder": 0.6}, r"sum to 1; got 0\.9"),
        ({"exact": (0.4, -0.1)}, "probabilities that sum to 1"),
        ({"exact": (0.6, 0.5), "remainder": -0.1}, "probabilities that sum to 1"),
        ({"exact": (math.nan, 0.1)}, "probabilities that sum to 1"),
        ({"looks": ((8, 3), (15, 5))}, r"looks after \[11, 20\] votes do not follow the schedule"),
        ({"schedule": (10,)}, "do not follow the schedule"),
        ({"looks": ((8, 2), (7, 13))}, "votes in total cannot fall"),
        ({"looks": ((11, -1),)}, "votes"),
        ({"selection": (-1, 2)}, "votes"),
    ],
)
def test_votes_that_cannot_have_been_cast_are_refused(changes, message):
    VoteCounts(**VALID)
    with pytest.raises(ValueError, match=message):
        VoteCounts(**(VALID | changes))


def test_votes_count_what_was_drawn():
    votes = VoteCounts(**VALID)
    assert votes.n_classes == 2
    assert votes.votes_drawn == 5 + 20
    assert dataclasses.replace(votes, looks=()).votes_drawn == 5


def test_the_class_is_chosen_before_any_vote_that_bounds_it():
    votes = VoteCounts(**VALID)
    for looks in ((), ((0, 10),), ((0, 10), (0, 20))):
        assert dataclasses.replace(votes, looks=looks).top == votes.top == 0
    assert dataclasses.replace(votes, selection=(1, 4)).top == 1
    # Enumerated noisy texts count by their probability, selection votes share the remainder.
    leaning = dataclasses.replace(votes, exact=(0.05, 0.75), remainder=0.2, selection=(5, 0))
    assert leaning.top == 1
    tied = dataclasses.replace(votes, exact=(0.0, 0.0), remainder=1.0, selection=(2, 2))
    assert tied.top == 0


# --- bounds --------------------------------------------------------------------------------------


def test_two_classes_need_one_bound_at_alpha():
    bounds = bounds_from_votes(fixed_votes((90, 10)), alpha=0.01)
    assert bounds.p_lower == lower_confidence_bound(90, 100, alpha=0.01)
    assert bounds.p_runner_up == 1.0 - bounds.p_lower
    assert (bounds.alpha, bounds.method) == (0.01, "clopper-pearson")


def test_more_classes_share_alpha_between_the_first_and_all_others():
    bounds = bounds_from_votes(fixed_votes((60, 30, 10)), alpha=0.01)
    assert bounds.p_lower == lower_confidence_bound(60, 100, alpha=0.005)
    upper = 1.0 - lower_confidence_bound(70, 100, alpha=0.005)
    assert bounds.p_runner_up == pytest.approx(min(upper, 1.0 - bounds.p_lower))
    assert upper < 1.0 - bounds.p_lower


def test_the_runner_up_never_exceeds_what_the_first_class_leaves():
    bounds = bounds_from_votes(fixed_votes((99, 1, 0)), alpha=0.001)
    assert bounds.p_runner_up <= 1.0 - bounds.p_lower


def test_bounds_after_some_looks_are_sequential():
    votes = VoteCounts(**VALID)
    bounds = bounds_from_votes(votes, alpha=0.05)
    share = sequential_lower_bound((8, 15), schedule=(10, 20, 40), alpha=0.05)
    assert bounds.p_lower == pytest.approx(0.2 + 0.7 * share)
    assert bounds.method == "sequential"


def test_enumerated_texts_need_no_alpha():
    votes = VoteCounts(n_units=3, exact=(0.7, 0.1, 0.2), remainder=0.0, selection=(0, 0, 0))
    bounds = bounds_from_votes(votes, alpha=0.05)
    assert (bounds.p_lower, bounds.p_runner_up) == (0.7, 0.2)
    assert (bounds.alpha, bounds.method) == (0.0, "exact")


def test_noisy_texts_that_nobody_classified_may_all_be_of_the_runner_up():
    votes = VoteCounts(n_units=3, exact=(0.7, 0.1, 0.15), remainder=0.05, selection=(0, 0, 0))
    bounds = bounds_from_votes(votes, alpha=0.05)
    assert bounds.p_lower == 0.7
    assert bounds.p_runner_up == pytest.approx(0.2)
    assert bounds.alpha == 0.0


@pytest.mark.parametrize(
    ("exact", "inside", "votes"),
    [
        ((0.2, 0.1), (0.5, 0.5), 40),
        ((0.0, 0.6), (0.9, 0.1), 40),
        ((0.3, 0.05, 0.0), (0.4, 0.35, 0.25), 20),
        ((0.05, 0.1, 0.1, 0.2), (0.4, 0.3, 0.3, 0.0), 13),
    ],
)
def test_enumerated_and_sampled_parts_together_keep_alpha(exact, inside, votes):
    remainder = 1.0 - math.fsum(exact)
    shares = [mass + remainder * share for mass, share in zip(exact, inside, strict=True)]
    for chosen in range(len(exact)):
        selection = tuple(1_000 * (label == chosen) for label in range(len(exact)))
        error = 0.0
        for counts, probability in multinomial(votes, inside):
            seen = fixed_votes(counts, selection=selection, exact=exact, remainder=remainder)
            if seen.top == chosen:
                error += probability * bounds_err(
                    bounds_from_votes(seen, alpha=0.05), chosen, shares
                )
        assert error <= 0.05


# --- certificates against base classifiers that are known --------------------------------------


def worst_classifier(mechanism, clean, attacked, share):
    """A randomised base classifier of two classes: chance of class 0 by noisy text.

    Class 0 has the clean probability `share`, on the noisy texts that the attack makes rarest.
    """
    laws = law_of(mechanism)(clean), law_of(mechanism)(attacked)
    chance, left = {}, share
    for noisy in sorted(laws[0], key=lambda z: laws[1].get(z, 0.0) / laws[0][z]):
        chance[noisy] = min(1.0, max(0.0, left / laws[0][noisy]))
        left -= laws[0][noisy]
    return chance


class Neighbourhood:
    """All texts around a clean one, with their laws and their distances for every attacker."""

    def __init__(self, mechanism, clean, letters, longest):
        self.clean = clean
        self.moves = {
            attacker: distances(clean, letters, longest, attacker)
            for attacker in ATTACKERS
            if attacker <= mechanism.certifies
        }
        reached = set().union(*self.moves.values())
        self.laws = {text: law_of(mechanism)(text) for text in reached}

    def true_radii(self, chance):
        """Largest radius, by attacker, within which every text keeps the majority class."""
        first = {
            text: math.fsum(p * chance.get(z, 0.0) for z, p in law.items()) > 0.5
            for text, law in self.laws.items()
        }
        changed = {text for text, answer in first.items() if answer != first[self.clean]}
        return {
            attacker: min((moves[text] for text in changed & moves.keys()), default=10**6) - 1
            for attacker, moves in self.moves.items()
        }


@pytest.mark.parametrize(
    ("mechanism", "clean", "attacked"),
    [
        (RandomizedDeletion(p_del=0.9), "abc", "zbc"),
        (RandomizedDeletion(p_del=0.9), "abc", "abczz"),
        (RandomizedDeletion(p_del=0.8), "abcd", "cd"),
        (RandomizedDeletion(p_del=0.8), "aab", "bab"),
        (AdaptiveDeletion(keeps=(0.3, 1.5), edges=(4,), p_min=0.05), "abcd", "abc"),
        (AdaptiveDeletion(keeps=(0.3, 1.5), edges=(4,), p_min=0.05), "abc", "abcz"),
        (RandomMasking(p_mask=0.8), "abcd", "zzcd"),
    ],
)
def test_a_certificate_is_wrong_at_most_with_probability_alpha(mechanism, clean, attacked):
    alpha, n_votes, letters = 0.05, 60, sorted({*clean, "z"})
    clean, attacked = tuple(clean), tuple(attacked)
    around = Neighbourhood(mechanism, clean, letters, max(len(clean), len(attacked)))
    claims = {
        attacker: [
            certificate_from_votes(
                fixed_votes((successes, n_votes - successes), n_units=len(clean)),
                mechanism,
                alpha=alpha,
                attacker=attacker,
            ).radius
            for successes in range(n_votes + 1)
        ]
        for attacker in around.moves
    }
    for share in (0.52, 0.6, 0.7, 0.8, 0.88, 0.95):
        chance = worst_classifier(mechanism, clean, attacked, share)
        law = binomial(n_votes, share)
        for attacker, safe in around.true_radii(chance).items():
            wrong = [r is not None and r > safe for r in claims[attacker]]
            assert law[wrong].sum() <= alpha


def test_point_estimates_would_be_wrong_far_more_often():
    clean, n_votes, share = tuple("abc"), 60, 0.595
    mechanism = RandomizedDeletion(p_del=0.9)
    chance = worst_classifier(mechanism, clean, tuple("zbc"), share)
    safe = Neighbourhood(mechanism, clean, "abcz", 4).true_radii(chance)[ATTACKERS[0]]
    radii = [
        mechanism.radius(k / n_votes, 1.0 - k / n_votes, n_units=3, attacker=ATTACKERS[0])
        for k in range(n_votes + 1)
    ]
    assert safe == 0
    assert binomial(n_votes, share)[[radius > safe for radius in radii]].sum() > 0.4


@pytest.mark.parametrize("attacker", ATTACKERS, ids=attacker_name)
def test_an_exact_certificate_is_true_of_every_deterministic_base_classifier(attacker):
    mechanism, clean = RandomizedDeletion(p_del=0.7), ("a", "b")
    noisy = texts("abz", 3)
    found = distances(clean, "abz", 3, attacker)
    laws = {text: deletion_law(text, 0.7) for text in found}
    certified = 0
    for marked in itertools.product((False, True), repeat=4):
        # The class is 1 on some of the noisy versions of the clean text and on all others.
        ones = {z for z, one in zip(texts("ab", 2), (*marked, 1, 1, 1), strict=True) if one}
        ones |= {z for z in noisy if "z" in z or len(z) == 3} | {("b", "a")}
        mass = math.fsum(p for z, p in laws[clean].items() if z in ones)
        votes = VoteCounts(n_units=2, exact=(1.0 - mass, mass), remainder=0.0, selection=(0, 0))
        certificate = certificate_from_votes(votes, mechanism, alpha=0.01, attacker=attacker)
        if certificate.radius is None:
            continue
        for text, moves in found.items():
            if moves <= certificate.radius:
                attacked = math.fsum(p for z, p in laws[text].items() if z in ones)
                assert (attacked > 0.5) == (certificate.predicted == 1)
                certified += 1
    assert certified >= 16


def test_a_rounded_sum_of_one_does_not_hide_a_rare_class():
    # "Class 1 iff nothing is kept" has the probability 0.05**16 = 1e-21; the rest sums to 1.0. To
    # delete all 16 units changes the answer.
    votes = VoteCounts(n_units=16, exact=(1.0, 0.05**16), remainder=0.0, selection=(0, 0))
    certificate = certificate_from_votes(
        votes, RandomizedDeletion(p_del=0.05), alpha=0.01, attacker="delete"
    )
    assert certificate.radius is None or certificate.radius < 16


# --- the certificate -----------------------------------------------------------------------------


def test_a_certificate_says_what_it_rests_on():
    certificate = certificate_from_votes(fixed_votes((995, 5)), DELETION, alpha=0.001)
    assert certificate.predicted == certificate.top == 0
    assert certificate.radius == DELETION.radius(
        certificate.p_lower, certificate.p_runner_up, n_units=20, attacker=ATTACKERS[0]
    )
    assert certificate.p_lower == lower_confidence_bound(995, 1000, alpha=0.001)
    assert certificate.threat == ThreatModel()
    assert (certificate.n_units, certificate.ceiling, certificate.dead_zone) == (20, 6, False)
    assert (certificate.alpha, certificate.method) == (0.001, "clopper-pearson")
    assert not certificate.abstains


def test_the_same_votes_serve_every_attacker():
    votes = fixed_votes((995, 5))
    radii = {
        attacker: certificate_from_votes(votes, DELETION, alpha=0.001, attacker=attacker).radius
        for attacker in ("insert", "delete", "substitute", "insert+delete+substitute")
    }
    assert radii == {
        "insert": 6,
        "delete": 20,
        "substitute": 6,
        "insert+delete+substitute": 6,
    }


def test_a_certificate_abstains_where_the_votes_leave_a_doubt():
    certificate = certificate_from_votes(fixed_votes((52, 48)), DELETION, alpha=0.001)
    assert certificate.abstains
    assert certificate.predicted is None
    assert certificate.radius is None
    assert certificate.top == 0
    assert not certificate.covers(["a"], ["a"])
    assert str(certificate).startswith("Certificate(abstains (leading class 0); p >= 0.3")


def test_an_exact_tie_is_no_answer():
    votes = VoteCounts(n_units=3, exact=(0.5, 0.5), remainder=0.0, selection=(0, 0))
    assert certificate_from_votes(votes, DELETION, alpha=0.01).abstains


def test_votes_against_the_chosen_class_do_not_change_the_class():
    certificate = certificate_from_votes(fixed_votes((10, 990)), DELETION, alpha=0.001)
    assert certificate.abstains
    assert certificate.top == 0


def test_a_certificate_of_the_dead_zone_says_so():
    certificate = certificate_from_votes(fixed_votes((995, 5), n_units=4), DELETION, alpha=0.001)
    assert certificate.dead_zone
    assert str(certificate).endswith("alpha 0.001, dead zone)")


def test_a_certificate_of_enumerated_texts_is_called_exact():
    votes = VoteCounts(n_units=9, exact=(0.9, 0.1), remainder=0.0, selection=(0, 0))
    certificate = certificate_from_votes(votes, DELETION, alpha=0.001, attacker="insert")
    expected = "Certificate(class 0, radius 5 word edits (insert); p >= 0.9000, exact)"
    assert str(certificate) == expected
    assert certificate.alpha == 0.0


def test_a_certificate_covers_exactly_the_texts_within_its_radius():
    votes = VoteCounts(n_units=3, exact=(0.7, 0.3), remainder=0.0, selection=(0, 0))
    mechanism = RandomizedDeletion(p_del=0.9)
    certificate = certificate_from_votes(votes, mechanism, alpha=0.01, attacker="insert+delete")
    assert certificate.radius == 3
    found = distances(tuple("aba"), "ab", 5, parse_attacker("insert+delete"))
    for text, moves in found.items():
        assert certificate.covers(list("aba"), list(text)) == (moves <= 3)


def test_masking_has_no_certificate_against_insertions():
    with pytest.raises(ValueError, match="RandomMasking certifies against substitute; got the"):
        certificate_from_votes(fixed_votes((99, 1)), RandomMasking(p_mask=0.9), alpha=0.01)


def test_masked_votes_give_a_hamming_radius():
    votes = fixed_votes((4000, 0), n_units=6)
    certificate = certificate_from_votes(
        votes, RandomMasking(p_mask=0.9), alpha=0.05, attacker="substitute"
    )
    assert certificate.radius == 2
    # Changing half of the six masked texts makes a tie: shown by the law itself.
    laws = masking_law(tuple("abcdef"), 1), masking_law(tuple("xyzdef"), 1)
    assert math.fsum(p for z, p in laws[1].items() if z in laws[0]) == pytest.approx(0.5)


# --- certificates of limited substitutes ----------------------------------------------------------

SWAPS = {"swaps": {"good": ["fine"], "bad": ["poor"]}}
SWAPPING = {
    "synonyms": (SynonymSmoothing(**SWAPS, sets="nearest"), [0.9, 0.9]),
    "exponential": (ExponentialSubstitution(**SWAPS, epsilon=1.0), [0.5, 0.5, 0.45, 0.55]),
    "gaussian": (GaussianEmbedding(**SWAPS, sigma=1.0), [0.5]),
}


@pytest.mark.parametrize("name", SWAPPING)
@pytest.mark.parametrize("words", list(itertools.product([False, True], repeat=3)))
def test_certificates_say_whether_they_cover_all_swaps_or_none(name, words):
    """All swaps are covered where the radius of a text of nothing but these words is full."""
    mechanism, entry = SWAPPING[name]
    profile = tuple(tuple(entry) if swapped else () for swapped in words)
    only = tuple(filter(None, profile))
    for right in range(500, 1001, 20):
        votes = fixed_votes((right, 1000 - right), n_units=3)
        votes = dataclasses.replace(votes, profile=profile)
        certificate = certificate_from_votes(votes, mechanism, alpha=0.01, attacker="substitute")
        few = dataclasses.replace(votes, n_units=len(only), profile=only)
        alone = certificate_from_votes(few, mechanism, alpha=0.01, attacker="substitute")
        assert certificate.swappable == len(only)
        assert certificate.vacuous == (not only)
        assert certificate.covers_all_swaps == (bool(only) and alone.radius == len(only))
    assert certificate.covers_all_swaps == any(words)


def test_certificates_about_nothing_say_so():
    mechanism = SynonymSmoothing(**SWAPS)
    votes = dataclasses.replace(fixed_votes((990, 10), n_units=2), profile=((), ()))
    nothing = certificate_from_votes(votes, mechanism, alpha=0.01, attacker="substitute")
    assert nothing.radius == 2
    assert str(nothing).endswith("alpha 0.01, nothing to swap)")
    free = certificate_from_votes(votes, DELETION, alpha=0.01)
    assert (free.swappable, free.vacuous, free.covers_all_swaps) == (None, False, False)
    assert "nothing to swap" not in str(free)


# --- certified accuracy --------------------------------------------------------------------------


def a_certificate(predicted, radius):
    return Certificate(
        predicted=predicted, radius=radius, threat=ThreatModel(), p_lower=0.9, p_runner_up=0.1,
        alpha=0.01, method="clopper-pearson", n_units=9, ceiling=6, dead_zone=False, top=0,
    )  # fmt: skip


def test_certified_accuracy_counts_right_answers_with_that_radius():
    certificates = [
        a_certificate(0, 0),
        a_certificate(0, 3),
        a_certificate(1, 5),
        a_certificate(1, 2),
        a_certificate(None, None),
    ]
    accuracy = certified_accuracy(certificates, [0, 0, 1, 0, 0], radii=range(7))
    assert accuracy == {0: 0.6, 1: 0.4, 2: 0.4, 3: 0.4, 4: 0.2, 5: 0.2, 6: 0.0}


@pytest.mark.parametrize(("certificates", "labels"), [([], []), ([a_certificate(0, 1)], [0, 1])])
def test_certified_accuracy_needs_a_label_for_every_text(certificates, labels):
    with pytest.raises(ValueError, match=r"got \d certificates and \d labels"):
        certified_accuracy(certificates, labels, [0])
