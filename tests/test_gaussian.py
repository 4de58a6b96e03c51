"""Gaussian noise on embeddings: radii against the exact worst case, in vectors and in words."""

import dataclasses
import itertools
import math
from functools import partial
from statistics import NormalDist

import numpy as np
import pytest
from oracles import PROBABILITIES, worst_margins
from scipy.stats import norm

from robust_nlp.advisor import advise, cautions
from robust_nlp.certification.certificates import certificate_from_votes
from robust_nlp.certification.plan import ExactPlan, FixedPlan, SequentialPlan
from robust_nlp.certification.votes import VoteCounts
from robust_nlp.embedding_noise import grid_step
from robust_nlp.mechanisms.base import NO_RADIUS, ROUNDING
from robust_nlp.mechanisms.gaussian import (
    GaussianEmbedding,
    GaussianLaw,
    gaussian_radius,
    log10_texts,
    swap_costs,
)
from robust_nlp.settings import build, from_yaml, plain, to_yaml

SUBSTITUTE = frozenset({"substitute"})

#: Words as points of the plane, and their swaps; "z" has none.
TABLE = {
    "a": (0.0, 0.0),
    "b": (0.3, 0.4),
    "c": (-0.6, 0.9),
    "d": (1.5, -0.2),
    "e": (1.5, -0.2),
    "f": (3.0, 2.0),
    "z": (-1.0, -1.0),
}
SWAPS = {"a": ["b", "c"], "b": ["a", "f"], "c": ["d"], "d": ["e"], "e": ["d", "a"], "f": ["c"]}
SIGMA = 0.6
MECHANISM = GaussianEmbedding(sigma=SIGMA, swaps=SWAPS)
TEXTS = [*itertools.product("abcz", repeat=2), *itertools.product("abdfz", repeat=3)]
CLAIMS = [*PROBABILITIES, (0.9999, 0.0001), (0.99999, 0.0), (0.97, 0.03)]


def distance(word: str, other: str) -> float:
    return math.dist(TABLE[word], TABLE[other])


def profile_of(text) -> tuple[tuple[float, ...], ...]:
    return tuple(tuple(sorted(distance(w, v) for v in SWAPS.get(w, ()))) for w in text)


def worst_margin(p_a: float, p_b: float, shift: float) -> float:
    """Least attacked p_A − p_B of all classifiers of normal noise: two half spaces do worst."""
    phi = NormalDist()

    def moved(p: float, by: float) -> float:
        return p if p in (0.0, 1.0) else phi.cdf(phi.inv_cdf(p) + by)

    return moved(p_a, -shift) - moved(min(p_b, 1.0 - p_a), shift)


def attacked_texts(text):
    """All texts in reach, with the number of swapped words and the L2 distance."""
    for other in itertools.product(*[(w, *SWAPS.get(w, ())) for w in text]):
        moves = sum(w != v for w, v in zip(text, other, strict=True))
        yield other, moves, math.hypot(*map(distance, text, other))


def radius_of(text, p_a, p_b, mechanism=MECHANISM, profile=None) -> int:
    profile = profile_of(text) if profile is None else profile
    return mechanism.radius(p_a, p_b, n_units=len(text), attacker=SUBSTITUTE, profile=profile)


def refuted(radius, sigma: float = SIGMA) -> list:
    """Claims that a half space refutes, under noise of this sigma on the table."""
    found = []
    for text in TEXTS:
        attacks = list(attacked_texts(text))
        for p_a, p_b in CLAIMS:
            claimed = radius(text, p_a, p_b)
            found += [
                (text, attacked, p_a, p_b)
                for attacked, moves, far in attacks
                if moves <= claimed and worst_margin(p_a, p_b, far / sigma) <= 0.0
            ]
    return found


# --- the L2 radius -------------------------------------------------------------------------------


@pytest.mark.parametrize("steps", [1, 300, 1000, 2000])
def test_half_spaces_are_the_worst_classifiers_of_the_noise_that_is_drawn(steps):
    """By Neyman and Pearson on the law of one coordinate, on its grid."""
    step = grid_step(SIGMA)
    cells = np.arange(-12_000, 12_001)
    mass = np.diff(norm.cdf((np.arange(-12_000, 12_002) - 0.5) * step / SIGMA))
    clean = {(int(i),): float(m) for i, m in zip(cells, mass, strict=True) if m > 0}
    attacked = {(i + steps,): m for (i,), m in clean.items()}
    margins = worst_margins(clean, attacked, PROBABILITIES[1:])
    exact = [worst_margin(p_a, p_b, steps * step / SIGMA) for p_a, p_b in PROBABILITIES[1:]]
    assert margins == pytest.approx(exact, abs=1e-3)
    assert all(m >= e - 1e-9 for m, e in zip(margins, exact, strict=True))


@pytest.mark.parametrize("claim", CLAIMS)
@pytest.mark.parametrize("sigma", [0.05, 1.0, 30.0])
def test_the_answer_stands_inside_the_radius_and_not_outside(claim, sigma):
    p_a, p_b = claim
    radius = gaussian_radius(p_a, p_b, sigma=sigma)
    if radius == NO_RADIUS:
        assert p_a <= min(p_b, 1.0 - p_a) + 2.1 * ROUNDING
        return
    loose = min(p_a, 1.0 - 1e-5), max(p_b, 1e-5)
    near = gaussian_radius(*loose, sigma=sigma)
    assert near <= radius
    assert worst_margin(*loose, 0.99999 * near / sigma) > 0.0
    assert worst_margin(*loose, 1.0001 * near / sigma) < 0.0


@pytest.mark.parametrize(
    ("counts", "sigma", "expected"),
    [
        ((99850, 150), 1.0, 2.891344985578261),
        ((1000, 0, 0, 0), 0.1, 0.24632626147808115),
        ((100000, 0), 1.0, 3.8114565633899145),
        ((1000, 0), 0.2, 0.4926525229561623),
        ((1000, 0), 0.5, 1.2316313073904057),
    ],
)
def test_radii_are_those_of_the_reference_code(counts, sigma, expected):
    from robust_nlp.certification.confidence import lower_confidence_bound

    p_lower = lower_confidence_bound(counts[0], sum(counts), alpha=0.001)
    radius = gaussian_radius(p_lower, 1.0 - p_lower, sigma=sigma)
    assert radius == pytest.approx(expected, rel=1e-5)
    assert radius < expected


def test_two_bounds_give_a_larger_radius_than_one():
    one, two = gaussian_radius(0.6, 0.4, sigma=1.0), gaussian_radius(0.6, 0.1, sigma=1.0)
    assert one == pytest.approx(norm.ppf(0.6))
    assert two == pytest.approx((norm.ppf(0.6) - norm.ppf(0.1)) / 2)
    assert gaussian_radius(0.4, 0.1, sigma=1.0) > 0.0  # without a majority


def test_a_tie_has_no_radius():
    assert gaussian_radius(0.5, 0.5, sigma=1.0) == NO_RADIUS
    assert gaussian_radius(0.3, 0.3, sigma=1.0) == NO_RADIUS
    assert gaussian_radius(0.0, 0.0, sigma=1.0) == NO_RADIUS


# --- the radius in words -------------------------------------------------------------------------


def test_no_classifier_refutes_a_radius_in_words_and_none_could_be_larger():
    positive = 0
    for sigma in (0.3, 0.6, 0.9, 1.3, 2.0):
        radius_at = partial(radius_of, mechanism=dataclasses.replace(MECHANISM, sigma=sigma))
        assert refuted(radius_at, sigma) == []
        for text, (p_a, p_b) in itertools.product(TEXTS, CLAIMS):
            radius = radius_at(text, p_a, p_b)
            if radius == len(text) or max(p_a, 1 - p_b) > 0.999999:
                continue
            margins = [
                worst_margin(p_a, p_b, far / sigma)
                for _, moves, far in attacked_texts(text)
                if moves == radius + 1
            ]
            assert min(margins) <= 0.0, (text, p_a, p_b)
            positive += radius > 0
    assert positive > 200


def test_the_whole_text_is_certified_where_all_its_swaps_are():
    reach = gaussian_radius(0.99, 0.01, sigma=SIGMA)
    text = ("a", "z", "d", "z")
    assert math.hypot(distance("a", "c"), distance("d", "e")) < reach
    assert radius_of(text, 0.99, 0.01) == 4
    assert radius_of(("z", "z"), 0.51, 0.49) == 2


def test_the_golden_radii_in_words():
    assert swap_costs(((1.5,), (1.2,)))[0] > 1.0
    costs = swap_costs(((1.0,),) * 20)
    assert sum(cost < 4.0**2 for cost in costs) == 15  # 16 is a tie, which is not certified
    assert sum(cost < 4.0001**2 for cost in costs) == 16


def test_costs_are_those_of_the_farthest_swaps_rounded_up():
    profile = ((0.1, 0.7), (), (0.2,), (0.5, 0.6, 0.65))
    squares = np.cumsum([0.7**2, 0.65**2, 0.2**2])
    costs = swap_costs(profile)
    assert costs == pytest.approx(squares, rel=1e-11)
    assert all(cost > square for cost, square in zip(costs, squares, strict=True))


def one_swap_too_many(text, p_a, p_b):
    return radius_of(text, p_a, p_b) + 1


def sigma_of_the_certificate_is_another_than_that_of_the_sampler(text, p_a, p_b):
    return radius_of(text, p_a, p_b, dataclasses.replace(MECHANISM, sigma=2.0 * SIGMA))


def nearest_swaps_instead_of_the_farthest(text, p_a, p_b):
    nearest = tuple(distances[:1] for distances in profile_of(text))
    return radius_of(text, p_a, p_b, profile=nearest)


def distances_after_layer_norm(text, p_a, p_b):
    """Wrong where the noise sits on the raw table: layer norm may bring all words together."""

    def normed(word):
        point = np.array([*TABLE[word], 8.0])  # a third dimension that all words share
        return (point - point.mean()) / point.std()

    profile = tuple(
        tuple(sorted(float(np.linalg.norm(normed(w) - normed(v))) for v in SWAPS.get(w, ())))
        for w in text
    )
    return radius_of(text, p_a, p_b, profile=profile)


def the_largest_distance_instead_of_the_sum(text, p_a, p_b):
    reach = gaussian_radius(p_a, p_b, sigma=SIGMA)
    far = [max(distances, default=0.0) for distances in profile_of(text)]
    return len(text) if max(far) < reach else 0


def the_closest_words_first(text, p_a, p_b):
    reach = gaussian_radius(p_a, p_b, sigma=SIGMA)
    far = sorted(max(distances) for distances in profile_of(text) if distances)
    return sum(total < reach**2 for total in np.cumsum(np.square(far)))


def both_sides_of_the_margin(text, p_a, p_b):
    """Wrong: forgets to halve the difference of the two quantiles."""
    reach = 2.0 * gaussian_radius(p_a, p_b, sigma=SIGMA)
    return sum(cost < reach**2 for cost in swap_costs(profile_of(text)))


MUTANTS = [
    one_swap_too_many,
    sigma_of_the_certificate_is_another_than_that_of_the_sampler,
    nearest_swaps_instead_of_the_farthest,
    distances_after_layer_norm,
    the_largest_distance_instead_of_the_sum,
    the_closest_words_first,
    both_sides_of_the_margin,
]


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.__name__)
def test_a_wrong_radius_is_refuted_by_a_half_space(mutant):
    assert refuted(mutant)


# --- how many texts ------------------------------------------------------------------------------


def test_the_number_of_texts_is_that_of_the_enumeration_rounded_down():
    rng = np.random.default_rng(2)
    ratios = []
    for _ in range(150):
        profile = tuple(
            tuple(sorted(rng.choice([0.0, 0.2, *rng.uniform(0.1, 2.0, 3)], rng.integers(0, 4))))
            for _ in range(rng.integers(1, 6))
        )
        radius = float(rng.uniform(0.1, 3.0))
        exact = sum(
            math.fsum(d * d for d in chosen) < radius**2
            for chosen in itertools.product(*[(0.0, *distances) for distances in profile])
        )
        counted = 10 ** log10_texts(profile, radius)
        assert counted <= exact
        ratios.append(counted / exact)
    assert np.mean(ratios) > 0.99
    assert min(ratios) > 0.8


def test_a_text_at_the_radius_is_not_counted():
    assert log10_texts(((0.5, 0.5), ()), 0.5) == 0.0
    assert log10_texts(((0.5, 0.5), ()), 0.51) == pytest.approx(math.log10(3))


def test_the_number_of_texts_does_not_overflow():
    assert log10_texts(((0.01,) * 50,) * 300, 1e3) == pytest.approx(300 * math.log10(51))
    assert log10_texts(((5.0,) * 50,) * 300, 1.0) == 0.0


# --- certificates --------------------------------------------------------------------------------


def votes(for_: int, against: int, profile) -> VoteCounts:
    total = for_ + against
    return VoteCounts(
        n_units=len(profile),
        exact=(0.0, 0.0),
        remainder=1.0,
        selection=(10, 0),
        looks=((for_, against),),
        schedule=(total,),
        profile=profile,
    )


def test_certificates_say_the_radius_in_words_in_vectors_and_in_texts():
    profile = ((0.3, 0.4), (), (0.1,))
    certificate = certificate_from_votes(
        votes(990, 10, profile), MECHANISM, alpha=0.001, attacker="substitute"
    )
    reach = gaussian_radius(certificate.p_lower, certificate.p_runner_up, sigma=SIGMA)
    assert reach == pytest.approx(SIGMA * norm.ppf(0.976036), abs=1e-4)
    assert certificate.radius == 3
    assert certificate.details == {
        "l2_radius": reach,
        "log10_texts": pytest.approx(math.log10(6)),
    }
    assert hash(certificate) is not None


def test_abstentions_and_other_mechanisms_have_no_details():
    from robust_nlp import RandomizedDeletion

    abstained = certificate_from_votes(
        votes(50, 50, ((1.0,),)), MECHANISM, alpha=0.001, attacker="substitute"
    )
    deleted = certificate_from_votes(
        votes(99, 1, ()), RandomizedDeletion(p_del=0.5), alpha=0.01, attacker="delete"
    )
    assert abstained.abstains
    assert abstained.details == deleted.details == {}


def test_attackers_and_profiles_are_checked():
    with pytest.raises(ValueError, match="certifies against substitute"):
        MECHANISM.radius(1.0, 0.0, n_units=1, attacker=frozenset({"delete"}), profile=((),))
    with pytest.raises(ValueError, match="depends on the words of the text"):
        MECHANISM.radius(1.0, 0.0, n_units=2, attacker=SUBSTITUTE)


def test_without_a_table_nothing_but_words_without_swaps_is_certified():
    law = MECHANISM.law(["z", "a", "z"])
    assert law.profile == ((), (math.inf, math.inf), ())
    for p_a in (0.9, 1.0):
        claim = {"n_units": 3, "attacker": SUBSTITUTE, "profile": law.profile}
        assert MECHANISM.radius(p_a, 0.0, **claim) == 0
    assert radius_of(("z",), 0.9, 0.1) == 1
    assert MECHANISM.details(0.9, 0.1, n_units=3, profile=law.profile)["log10_texts"] == 0.0


def test_advice_before_distances_are_known_rules_nothing_out():
    advice = advise([["z", "a", "z"]], MECHANISM, [SUBSTITUTE], SequentialPlan())
    assert advice.ceilings == {"substitute": 3}
    assert advice.no_radius == 0.0
    assert not cautions(advice)
    assert MECHANISM.ceiling(3, SUBSTITUTE, ((9.0,), (), ())) == 0


# --- law and settings ----------------------------------------------------------------------------


def test_draws_are_seeds_that_depend_on_the_generator_alone():
    law = GaussianLaw(((), (0.5,)))
    rows = law.draw(1000, np.random.default_rng(3))
    assert rows.shape == (1000, 1)
    assert rows.dtype == np.int64
    assert len(np.unique(rows)) == 1000
    assert (rows >= 0).all()
    assert np.array_equal(rows, law.draw(1000, np.random.default_rng(3)))
    assert law.kept_counts(rows).tolist() == [2] * 1000


def test_noise_on_embeddings_is_never_enumerated():
    from robust_nlp.certification.engine import enumerated_strata

    strata = GaussianLaw(((),) * 3).strata()
    for plan in (SequentialPlan(), FixedPlan(n_selection=10, n_estimation=100)):
        assert not enumerated_strata(strata, 3, plan).any()
    with pytest.raises(ValueError, match="use a sequential or a fixed plan"):
        enumerated_strata(strata, 3, ExactPlan())


def test_settings_survive_yaml():
    values = plain(MECHANISM)
    assert values["kind"] == "gaussian_embedding"
    assert build(GaussianEmbedding, from_yaml(to_yaml(values), "here")) == MECHANISM
    assert MECHANISM.to_dict() == values
    assert hash(MECHANISM) is not None


@pytest.mark.parametrize("sigma", [0.0, -1.0, math.inf, math.nan])
def test_sigma_is_a_positive_number(sigma):
    with pytest.raises(ValueError, match="needs sigma > 0"):
        GaussianEmbedding(sigma=sigma, swaps={})


def test_units_are_words():
    with pytest.raises(ValueError, match="needs unit='word'"):
        GaussianEmbedding(sigma=1.0, swaps={}, unit="token")
    assert MECHANISM.dead_zone(0)
    assert not MECHANISM.dead_zone(1)
