"""Noise laws, their strata, and the documented values and errors of the mechanisms."""

import itertools
import math
from collections import Counter

import numpy as np
import pytest
from mutants import law_of
from scipy.stats import chi2

from robust_nlp.mechanisms import (
    NO_RADIUS,
    REMOVED,
    AdaptiveDeletion,
    EditBudget,
    RandomizedDeletion,
    RandomMasking,
    dead_zone_length,
    deletion_margin,
    deletion_radius,
    deletion_threshold_radius,
    masking_radius,
)
from robust_nlp.threats import ALL_EDITS, ATTACKERS, attacker_name

INSERT, DELETE, SUBSTITUTE = (frozenset({move}) for move in ("insert", "delete", "substitute"))

MECHANISMS = {
    "deletion 0.5": RandomizedDeletion(p_del=0.5),
    "deletion 0.9": RandomizedDeletion(p_del=0.9),
    "adaptive": AdaptiveDeletion(keeps=(2,)),
    "adaptive with bins": AdaptiveDeletion(keeps=(0.5, 3), edges=(4,), p_min=0.05),
    "masking 0.5": RandomMasking(p_mask=0.5, mask="_"),
    "masking 0.9": RandomMasking(p_mask=0.9, min_kept=0, mask="_"),
}


def noisy_text(row, text):
    """Read a row of indices as the documentation says: units, extra units, nothing."""
    extended = (*text, "_")
    return tuple(extended[index] for index in row if index != REMOVED)


# --- laws ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["abcde", "abab", "a", ""])
@pytest.mark.parametrize("name", MECHANISMS)
def test_drawn_noisy_texts_follow_the_law(name, text):
    mechanism, size = MECHANISMS[name], 20_000
    rows = mechanism.draw(len(text), size, np.random.default_rng(0))
    assert rows.shape == (size, len(text))
    drawn = Counter(noisy_text(row, tuple(text)) for row in rows)
    law = law_of(mechanism)(tuple(text))
    assert set(drawn) <= set(law)
    likely = {noisy: chance for noisy, chance in law.items() if chance * size >= 5.0}
    statistic = sum((drawn[z] - size * p) ** 2 / (size * p) for z, p in likely.items())
    rest = 1.0 - math.fsum(likely.values())
    if rest * size >= 5.0:
        unlikely = sum(count for noisy, count in drawn.items() if noisy not in likely)
        statistic += (unlikely - size * rest) ** 2 / (size * rest)
    assert chi2.sf(statistic, max(1, len(likely) - 1)) > 1e-3


def test_the_law_test_can_tell_a_slightly_wrong_rate():
    rows = RandomizedDeletion(p_del=0.52).draw(5, 20_000, np.random.default_rng(0))
    drawn = Counter(noisy_text(row, tuple("abcde")) for row in rows)
    law = law_of(RandomizedDeletion(p_del=0.5))(tuple("abcde"))
    statistic = sum((drawn[z] - 20_000 * p) ** 2 / (20_000 * p) for z, p in law.items())
    assert chi2.sf(statistic, 31) < 1e-6


@pytest.mark.parametrize("name", MECHANISMS)
def test_draws_depend_on_the_generator_alone(name):
    draws = [MECHANISMS[name].draw(9, 50, np.random.default_rng(3)) for _ in range(2)]
    assert np.array_equal(*draws)
    other = MECHANISMS[name].draw(9, 50, np.random.default_rng(4))
    assert not np.array_equal(draws[0], other)


@pytest.mark.parametrize("text", ["abcdef", "abcab", "a", ""])
@pytest.mark.parametrize("name", MECHANISMS)
def test_enumerated_noisy_texts_have_the_law_of_the_strata(name, text):
    mechanism, n = MECHANISMS[name], len(text)
    strata = mechanism.strata(n)
    law, rows_seen = Counter(), []
    for kept, probability, outcomes in zip(
        strata.kept, strata.probability, strata.outcomes, strict=True
    ):
        rows = mechanism.enumerate(n, int(kept))
        assert rows.shape == (outcomes, n)
        assert (mechanism.law("x" * n).kept_counts(rows) == kept).all()
        rows_seen += [tuple(row) for row in rows.tolist()]
        for row in rows:
            law[noisy_text(row, tuple(text))] += probability / outcomes
    assert len(set(rows_seen)) == len(rows_seen)
    exact = law_of(mechanism)(tuple(text))
    assert {z: p for z, p in law.items() if p > 0.0} == pytest.approx(exact, abs=1e-12)


@pytest.mark.parametrize("n_units", [0, 1, 2, 7, 60, 1_200])
@pytest.mark.parametrize("name", MECHANISMS)
def test_strata_are_a_law(name, n_units):
    strata = MECHANISMS[name].strata(n_units)
    assert math.fsum(strata.probability) == pytest.approx(1.0, abs=1e-12)
    assert (strata.probability >= 0.0).all()
    assert (np.diff(strata.kept) > 0).all()
    assert strata.kept.min() >= 0
    assert strata.kept.max() <= n_units
    assert (strata.outcomes >= 1.0).all()


@pytest.mark.parametrize("p_mask", [0.1, 0.3, 0.5, 0.7, 0.9, 0.95])
@pytest.mark.parametrize("min_kept", [0, 1, 2])
def test_masking_keeps_the_units_that_its_certificate_counts(p_mask, min_kept):
    mechanism = RandomMasking(p_mask=p_mask, min_kept=min_kept)
    for n in range(120):
        rows = mechanism.draw(n, 2, np.random.default_rng(n))
        kept = int(mechanism.law("x" * n).kept_counts(rows)[0])
        assert (mechanism.law("x" * n).kept_counts(rows) == kept).all()
        assert kept == mechanism.kept(n) == mechanism.strata(n).kept[0]
        assert min(min_kept, n) <= kept <= n
        assert abs(n - kept - p_mask * n) <= max(0.5, min_kept) + 1e-9
        radius = mechanism.radius(0.9, 0.1, n_units=n, attacker=SUBSTITUTE)
        assert radius == masking_radius(0.9, 0.1, n_units=n, kept=kept)


def test_the_rate_adapts_to_the_length():
    mechanism = AdaptiveDeletion(keeps=(2, 10), edges=(28,), p_min=0.1, p_max=0.97)
    for n, rate in {
        0: 0.1,
        1: 0.1,
        2: 0.1,
        10: 0.77,
        27: 0.97 - 2 / 27,
        28: 0.97 - 10 / 28,
    }.items():
        assert mechanism.rate(n) == pytest.approx(rate)
    assert mechanism.rate(10**7) == pytest.approx(0.97, abs=1e-5)


# --- documented values ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("p_del", "ceiling"),
    [(0.5, 0), (0.7, 1), (0.8, 3), (0.9, 6), (0.95, 13), (0.97, 22), (0.99, 68), (0.995, 138)],
)
def test_no_radius_exceeds_the_ceiling_of_the_rate(p_del, ceiling):
    mechanism = RandomizedDeletion(p_del=p_del)
    for n_units in (200, 5_000):
        assert mechanism.ceiling(n_units, ALL_EDITS) == ceiling
        assert mechanism.ceiling(n_units, INSERT) == ceiling
    assert mechanism.ceiling(5_000, DELETE) > 10 * ceiling
    # Texts this short are most likely mapped to the empty text.
    assert dead_zone_length(p_del) == ceiling
    assert [n for n in range(200) if mechanism.dead_zone(n)] == list(range(ceiling + 1))


def test_an_attacker_that_cannot_insert_is_covered_by_the_length_of_the_text():
    mechanism = RandomizedDeletion(p_del=0.99)
    for attacker in (DELETE, SUBSTITUTE, DELETE | SUBSTITUTE):
        assert mechanism.radius(0.95, 0.05, n_units=4, attacker=attacker) == 4
    assert mechanism.radius(0.95, 0.05, n_units=4, attacker=ALL_EDITS) > 4
    assert RandomMasking(p_mask=0.9, min_kept=0).ceiling(4, SUBSTITUTE) == 4


def test_dead_zones_of_the_other_mechanisms():
    adaptive = AdaptiveDeletion(keeps=(0.5,))
    assert all(adaptive.dead_zone(n) == (adaptive.rate(n) ** n > 0.5) for n in range(40))
    assert adaptive.dead_zone(30)
    assert not AdaptiveDeletion(keeps=(2,)).dead_zone(30)
    masking = RandomMasking(p_mask=0.9, min_kept=0)
    assert [n for n in range(30) if masking.dead_zone(n)] == [0, 1, 2, 3, 4, 5]


def test_all_texts_of_the_dead_zone_have_the_answer_of_the_empty_text():
    mechanism = RandomizedDeletion(p_del=0.9)
    for text in ("abcdef", "aaaaaa", "ab"):
        assert mechanism.dead_zone(len(text))
        assert law_of(mechanism)(tuple(text))[()] > 0.5


def test_a_majority_below_one_half_can_be_certified_against_every_single_other_class():
    # p = 0.9: the two-class rule abstains at 0.49, the top-two rule does not.
    assert deletion_radius(0.49, 0.51, p_del=0.9, n_units=50, attacker=ALL_EDITS) == NO_RADIUS
    assert deletion_radius(0.49, 0.2, p_del=0.9, n_units=50, attacker=ALL_EDITS) == 1


def test_deletion_is_at_least_as_strong_as_masking_at_equal_rate_and_probability():
    for n, p_lower in itertools.product((20, 40), (0.7, 0.9, 0.99, 0.999)):
        masked = RandomMasking(p_mask=0.9).radius(
            p_lower, 1.0 - p_lower, n_units=n, attacker=SUBSTITUTE
        )
        deleted = deletion_radius(p_lower, 1.0 - p_lower, p_del=0.9, n_units=n, attacker=ALL_EDITS)
        assert deleted >= masked


@pytest.mark.parametrize(
    "mechanism",
    [RandomizedDeletion(p_del=0.9), AdaptiveDeletion(keeps=(5,)), RandomMasking(p_mask=0.8)],
    ids=["deletion", "adaptive", "masking"],
)
def test_stronger_attackers_and_weaker_bounds_never_raise_a_radius(mechanism):
    attackers = [a for a in ATTACKERS if a <= mechanism.certifies]
    margins = [(0.999, 0.001), (0.9, 0.1), (0.9, 0.05), (0.7, 0.3), (0.6, 0.2), (0.5, 0.5)]

    def radius(bounds, attacker):
        return mechanism.radius(*bounds, n_units=30, attacker=attacker)

    for weaker, stronger in itertools.product(attackers, repeat=2):
        if weaker <= stronger:
            assert all(radius(m, weaker) >= radius(m, stronger) for m in margins)
    for one, other in itertools.product(margins, repeat=2):
        if one[0] >= other[0] and one[1] <= other[1]:
            assert all(radius(one, a) >= radius(other, a) for a in attackers)
    assert all(radius((0.5, 0.5), attacker) == NO_RADIUS for attacker in attackers)
    assert all(radius((0.4, 0.45), attacker) == NO_RADIUS for attacker in attackers)
    assert all(radius((0.0, 0.0), attacker) == NO_RADIUS for attacker in attackers)


# --- long texts ----------------------------------------------------------------------------------


@pytest.mark.parametrize("settings", [{"keeps": (13,), "p_min": 0.9}, {"keeps": (20,)}])
def test_the_radius_of_a_long_text_is_found_with_few_evaluations(settings, monkeypatch):
    mechanism, evaluated = AdaptiveDeletion(**settings), []
    margins = AdaptiveDeletion._margins

    def counting(self, p_lower, p_runner_up, n, common, attacked):
        evaluated.append(len(common))
        return margins(self, p_lower, p_runner_up, n, common, attacked)

    monkeypatch.setattr(AdaptiveDeletion, "_margins", counting)
    radius = mechanism.radius(0.999, 0.001, n_units=500, attacker=ALL_EDITS)
    assert 15 <= radius <= 40
    # All mixes of up to r moves are about r**3 / 6, and each has hundreds of groups of texts.
    assert sum(evaluated) <= 2 * (radius + 16) ** 2
    assert len(evaluated) <= radius + 2


@pytest.mark.parametrize("attacker", ATTACKERS, ids=attacker_name)
@pytest.mark.parametrize(
    "mechanism",
    [
        RandomizedDeletion(p_del=0.5),
        RandomizedDeletion(p_del=0.99),
        AdaptiveDeletion(keeps=(20,)),
        AdaptiveDeletion(keeps=(13,), p_min=0.9),
        AdaptiveDeletion(keeps=(2500,)),
    ],
    ids=str,
)
def test_radii_of_very_long_texts_are_finite(mechanism, attacker):
    for bounds in ((0.999, 0.001), (0.9, 0.1), (0.5, 0.3)):
        assert 0 <= mechanism.radius(*bounds, n_units=5_000, attacker=attacker) <= 5_000


def test_margins_of_very_long_texts_are_finite():
    for a, b, c in itertools.product((0, 3, 4_000), (0, 3, 2_500), (0, 3, 2_500)):
        edits = EditBudget(a, b, c)
        for mechanism in (
            AdaptiveDeletion(keeps=(20,)),
            AdaptiveDeletion(keeps=(20, 4_000), edges=(5_001,)),
        ):
            assert -1.0 <= mechanism.margin(0.9, 0.1, n_units=5_000, edits=edits) <= 1.0
        for p_del in (0.5, 0.9):
            assert -1.0 <= deletion_margin(0.9, 0.1, p_del=p_del, edits=edits) <= 1.0


def test_masking_of_very_long_texts_is_finite():
    mechanism = RandomMasking(p_mask=0.9)
    assert mechanism.radius(0.999, 0.001, n_units=5_000, attacker=SUBSTITUTE) == 6


# --- errors --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: RandomizedDeletion(p_del=1.5), r"0 < p_del < 1, got p_del=1\.5.*keep 10 %"),
        (lambda: RandomizedDeletion(p_del=0.0), r"0 < p_del < 1, got p_del=0\.0"),
        (lambda: RandomizedDeletion(p_del=math.nan), "got p_del=nan"),
        (lambda: RandomizedDeletion(p_del=0.9, unit="byte"), "character, token; got unit='byte'"),
        (lambda: AdaptiveDeletion(p_min=0.9, p_max=0.9), "0 <= p_min < p_max <= 1; got p_min=0.9"),
        (lambda: AdaptiveDeletion(p_max=1.1), "p_max=1.1"),
        (lambda: AdaptiveDeletion(keeps=()), r"keeps must be above 0; got keeps=\(\)"),
        (lambda: AdaptiveDeletion(keeps=(0,)), "every entry of keeps must be above 0"),
        (lambda: AdaptiveDeletion(keeps=(1, 2)), "entry more than edges; got 2 keeps and 0 edges"),
        (lambda: AdaptiveDeletion(keeps=(1, 2, 3), edges=(9, 9)), r"increase; got \(9, 9\)"),
        (lambda: RandomMasking(p_mask=1.0), r"0 < p_mask < 1, got p_mask=1\.0.*p_mask=0\.7"),
        (lambda: RandomMasking(p_mask=0.5, min_kept=-1), "min_kept must be at least 0; got -1"),
        (lambda: RandomMasking(p_mask=0.5).extra_units, "which mask to write: give mask="),
        (lambda: masking_radius(0.9, 0.1, n_units=3, kept=4), r"kept must be in 0\.\.3; got 4"),
        (
            lambda: deletion_radius(1.2, 0.1, p_del=0.9, n_units=3),
            r"p_lower is a probability in \[0, 1\]; got 1\.2",
        ),
        (
            lambda: deletion_radius(0.9, math.nan, p_del=0.9, n_units=3),
            r"p_runner_up is a probability in \[0, 1\]; got nan",
        ),
        (
            lambda: deletion_threshold_radius(0.9, p_del=0.9, n_units=3, threshold=1.0),
            r"threshold is a probability in \(0, 1\); got 1\.0",
        ),
        (
            lambda: AdaptiveDeletion().margin(0.9, 0.1, n_units=2, edits=EditBudget(0, 1, 2)),
            "does not fit a text of 2 units",
        ),
    ],
)  # fmt: skip
def test_what_cannot_be_meant_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize("name", MECHANISMS)
def test_a_mechanism_refuses_attackers_that_it_cannot_certify_against(name):
    mechanism = MECHANISMS[name]
    with pytest.raises(ValueError, match="got the attacker without moves"):
        mechanism.radius(0.9, 0.1, n_units=5, attacker=frozenset())
    for attacker in ATTACKERS:
        if not attacker <= mechanism.certifies:
            with pytest.raises(ValueError, match="RandomMasking certifies against substitute; got"):
                mechanism.radius(0.9, 0.1, n_units=5, attacker=attacker)


@pytest.mark.parametrize("name", MECHANISMS)
def test_settings_are_plain_values_that_make_the_mechanism_again(name):
    mechanism = MECHANISMS[name]
    settings = mechanism.to_dict()
    assert settings.pop("kind") == mechanism.kind
    assert type(mechanism)(**settings) == mechanism
    assert settings["unit"] == "word"
