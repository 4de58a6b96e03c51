"""Synonym smoothing: sets, law, and a certificate that no base classifier refutes."""

import bisect
import itertools
import math
import operator
from collections import Counter

import numpy as np
import pytest
from oracles import PROBABILITIES, worst_margin_by_programming
from word_noise import (
    CLAIMS,
    STRONG_SWAPS,
    SUBSTITUTE,
    Answers,
    assert_answers_hold,
    noisy_law,
    radius_of,
)

from robust_nlp.base_classifier import CallableClassifier
from robust_nlp.certification.plan import ExactPlan
from robust_nlp.errors import DataError, RecipeError
from robust_nlp.likelihood import RatioLevels, envelope, margin
from robust_nlp.mechanisms.synonyms import SynonymSmoothing, needed_margins, shares
from robust_nlp.settings import build, from_yaml, plain, to_yaml
from robust_nlp.smoothing import SmoothedClassifier

#: Words of one letter; "z" is alone.
DICTIONARIES = {
    "pairs": {"a": ["b"], "b": ["a"], "c": ["d"], "d": ["c"], "z": []},
    "chain": {"a": ["b"], "b": ["a", "c"], "c": ["b", "d"], "d": ["c", "e"], "e": ["d"]},
    "star": {"a": ["b", "c", "d"], "b": ["a"], "c": ["a"], "d": ["a"]},
    "one way": {"a": ["b", "c"], "b": ["d"], "c": ["d"], "d": ["e"]},
    "uneven": {"a": ["b", "c", "d"], "b": ["a"], "c": ["a", "e", "f"], "e": ["g"]},
    "apart": {"a": ["e"], "b": ["c"], "c": ["b", "d"]},
}
MECHANISMS = {
    f"{name}, {sets} {size}": SynonymSmoothing(swaps=swaps, sets=sets, max_size=size)
    for name, swaps in DICTIONARIES.items()
    for sets, size in (("component", 3), ("component", 9), ("nearest", 9), ("nearest", 2))
}


@pytest.fixture(scope="module")
def answers():
    found = {}

    def get(name):
        if name not in found:
            found[name] = Answers(MECHANISMS[name])
        return found[name]

    return get


# --- soundness and tightness ---------------------------------------------------------------------


@pytest.mark.parametrize("name", MECHANISMS)
def test_no_base_classifier_refutes_a_radius_and_none_could_be_larger(name, answers):
    mechanism, known = MECHANISMS[name], answers(name)
    positive = 0
    for text, claim in itertools.product(known.texts, range(len(CLAIMS))):
        radius = radius_of(mechanism, text, claim)
        assert radius == known.exact_radius(text, claim), (text, CLAIMS[claim])
        positive += radius > 0
    assert positive > 100


def test_needed_margins_are_exact_for_sets_of_one_size():
    profile = ((0.9, 0.9), (), (0.8, 0.8), (0.95, 0.95), ())
    kept = [0.8, 0.8 * 0.9, 0.8 * 0.9 * 0.95]
    expected = [2.0 * (1.0 - product) for product in kept]
    assert needed_margins(profile) == pytest.approx(expected, abs=1e-12)


def test_needed_margins_bound_the_worst_choice_of_words_and_swaps():
    rng = np.random.default_rng(5)
    for _ in range(60):
        options = [
            [tuple(rng.integers(3, 9, 2) / 8.0) for _ in range(rng.integers(1, 4))]
            for _ in range(5)
        ]
        profile = tuple(tuple(itertools.chain(*word)) for word in options)
        needed = needed_margins(profile)
        assert list(needed) == sorted(needed)
        for k in range(1, 6):
            worst = max(
                1.0
                - math.prod(a for a, _ in chosen) * (2.0 - 1.0 / math.prod(b for _, b in chosen))
                for words in itertools.combinations(options, k)
                for chosen in itertools.product(*words)
            )
            assert min(worst, 1.0) - 1e-12 <= needed[k - 1] <= min(worst + 2e-3, 1.0) + 1e-12


def test_needed_margins_are_those_of_neyman_and_pearson():
    for clean, attacked in (("abcd", "cdefgh"), ("abcdef", "ab"), ("ab", "abcd"), ("abc", "def")):
        a, b = shares(clean, attacked)
        words = sorted({*clean, *attacked})
        pair = RatioLevels.of(
            [(word in clean) / len(clean) for word in words],
            [(word in attacked) / len(attacked) for word in words],
        )
        for p_a, p_b in PROBABILITIES:
            for k in (1, 2, 3):
                stands = p_a - min(p_b, 1.0 - p_a) > needed_margins(((a, b),) * k)[-1] + 1e-9
                assert stands == (margin(pair.power(k), p_a, p_b) > 1e-9)
        laws = [{(word,): 1.0 / len(words) for word in words} for words in (clean, attacked)]
        one = worst_margin_by_programming(*laws, 0.9, 0.05)
        assert (one > 1e-9) == (needed_margins(((a, b),))[0] + 1e-9 < 0.85)


def test_needed_margins_are_no_larger_than_by_total_variation_or_by_an_envelope():
    profile = ((0.5, 1.0, 1.0, 0.5), (0.75, 1.0), (0.8, 0.9))
    needed = needed_margins(profile)
    overlaps = sorted(min(word) for word in profile)
    for k in range(1, 4):
        assert needed[k - 1] <= 2.0 * (1.0 - math.prod(overlaps[:k])) + 1e-12

    def pair(a, b):
        return RatioLevels.of([1.0 - a, a, 0.0], [0.0, b, 1.0 - b])

    worst = envelope(pair(*word[i : i + 2]) for word in profile for i in range(0, len(word), 2))
    for k, p_a in itertools.product(range(1, 4), np.linspace(0.5, 1.0, 51)[:-1]):
        if margin(worst.power(k), p_a, 1.0 - p_a) > 1e-9:
            assert 2.0 * p_a - 1.0 > needed[k - 1]


# --- wrong certificates --------------------------------------------------------------------------


def _searched(needed, p_a, p_b, n_units):
    radius = bisect.bisect_left(needed, p_a - min(p_b, 1.0 - p_a) - 1e-9)
    return n_units if radius == len(needed) else radius


def _pairs(profile):
    """One swap a word, the one with the least in common."""
    return sorted(
        min(zip(word[::2], word[1::2], strict=True), key=lambda ab: ab[0] * (2.0 - 1.0 / ab[1]))
        for word in profile
        if word and min(word) > 0.0
    )


def _needed(pairs):
    products = itertools.accumulate(pairs, lambda x, y: (x[0] * y[0], x[1] * y[1]))
    return [1.0 - a * (2.0 - 1.0 / b) for a, b in products]


def size_of_the_clean_set_alone(p_a, p_b, *, n_units, attacker, profile):
    return _searched(_needed([(a, a) for a, _ in _pairs(profile)]), p_a, p_b, n_units)


def size_of_the_other_set_alone(p_a, p_b, *, n_units, attacker, profile):
    return _searched(_needed([(b, b) for _, b in _pairs(profile)]), p_a, p_b, n_units)


def clean_and_attacked_exchanged(p_a, p_b, *, n_units, attacker, profile):
    return _searched(_needed([(b, a) for a, b in _pairs(profile)]), p_a, p_b, n_units)


def largest_overlaps_first(p_a, p_b, *, n_units, attacker, profile):
    return _searched(_needed(_pairs(profile)[::-1]), p_a, p_b, n_units)


def mean_overlap_of_the_swaps(p_a, p_b, *, n_units, attacker, profile):
    pairs = sorted((np.mean(word[::2]), np.mean(word[1::2])) for word in profile if word)
    return _searched(_needed(pairs), p_a, p_b, n_units)


def total_variation_counted_once(p_a, p_b, *, n_units, attacker, profile):
    needed = [(1.0 - min(a, b)) for a, b in _pairs(profile)]
    return _searched(list(itertools.accumulate(needed)), p_a, p_b, n_units)


def one_swap_too_many(p_a, p_b, *, n_units, attacker, profile):
    mechanism = SynonymSmoothing(swaps={})
    given = {"n_units": n_units, "attacker": attacker, "profile": profile}
    return min(mechanism.radius(p_a, p_b, **given) + 1, n_units)


def first_swap_only(p_a, p_b, *, n_units, attacker, profile):
    first = tuple(word[:2] for word in profile)
    return _searched(needed_margins(first), p_a, p_b, n_units)


@pytest.mark.parametrize(
    "mutant",
    [
        size_of_the_clean_set_alone,
        size_of_the_other_set_alone,
        clean_and_attacked_exchanged,
        largest_overlaps_first,
        mean_overlap_of_the_swaps,
        total_variation_counted_once,
        one_swap_too_many,
        first_swap_only,
    ],
)
def test_wrong_certificates_are_refuted(mutant, answers):
    for name, mechanism in MECHANISMS.items():
        known = answers(name)
        for text, claim in itertools.product(known.texts, range(len(CLAIMS))):
            if any(word and min(word) == 0.0 for word in mechanism.law(text).profile):
                continue
            radius = radius_of(mechanism, text, claim, mutant)
            if radius > known.exact_radius(text, claim):
                return
    pytest.fail(f"{mutant.__name__} was not refuted")


# --- the law -------------------------------------------------------------------------------------


def test_small_components_share_a_set_and_swaps_inside_are_harmless():
    mechanism = SynonymSmoothing(swaps=DICTIONARIES["chain"], max_size=5)
    for word in "abcde":
        assert set(mechanism.perturbation_set(word)) == set("abcde")
        assert mechanism.perturbation_set(word)[0] == word
    law = mechanism.law(list("abcdez"))
    assert law.profile == ((1.0, 1.0),) * 5 + ((),)
    given = {"n_units": 6, "attacker": SUBSTITUTE, "profile": law.profile}
    assert mechanism.radius(0.51, 0.49, **given) == 6
    assert mechanism.radius(0.5, 0.5, **given) == -1


def test_large_components_fall_back_to_the_nearest_words():
    mechanism = SynonymSmoothing(swaps=DICTIONARIES["chain"], max_size=3)
    assert mechanism.perturbation_set("a") == ("a", "b", "c")
    assert mechanism.perturbation_set("c") == ("c", "b", "d")
    assert mechanism.law(["a", "c"]).profile == ((1.0, 1.0), (2 / 3, 2 / 3))


def test_nearest_sets_hold_the_swaps_of_the_word_alone():
    mechanism = SynonymSmoothing(swaps=DICTIONARIES["uneven"], sets="nearest", max_size=3)
    assert mechanism.perturbation_set("a") == ("a", "b", "c")
    assert mechanism.perturbation_set("d") == ("d",)
    assert mechanism.law(["a"]).profile == ((0.0, 0.0),)  # d is a swap of a, and has no noise
    wide = SynonymSmoothing(swaps=DICTIONARIES["uneven"], sets="nearest", max_size=9)
    assert wide.law(["a"]).profile == ((0.25, 1.0, 0.5, 0.5),)  # d and c; b has all of itself in a


def test_swaps_that_can_do_no_more_than_another_are_left_out():
    mechanism = SynonymSmoothing(swaps={"a": ["b", "c", "d"], "b": ["a", "x"], "c": ["a"]},
                                 sets="nearest")  # fmt: skip
    # a: abcd; b: bax has 2/4 and 2/3; c: ca has 2/4 and 2/2; d alone has 1/4 and 1/1.
    assert mechanism.law(["a"]).profile == ((0.25, 1.0, 0.5, 2 / 3),)


def test_decorated_words_are_drawn_from_decorated_sets():
    mechanism = SynonymSmoothing(swaps={"good": ["great", "fine"], "film": ["movie"]})
    law = mechanism.law(["Good,", "FILM", "iPhone", "Good,", "--"])
    assert law.extra_units == ("Great,", "Fine,", "MOVIE")
    assert law.strata().outcomes.tolist() == [18.0]
    assert set(noisy_law(mechanism, ("Good,", "FILM"))) == set(
        itertools.product(("Good,", "Great,", "Fine,"), ("FILM", "MOVIE"))
    )
    assert noisy_law(mechanism, ("Good,",)) == noisy_law(mechanism, ("Fine,",))


@pytest.mark.parametrize("text", ["abc", "zaz", "ea", "z", ""])
def test_drawn_noisy_texts_follow_the_law(text):
    mechanism, size = MECHANISMS["uneven, component 3"], 20_000
    law = mechanism.law(list(text))
    rows = law.draw(size, np.random.default_rng(3))
    assert rows.shape == (size, len(text))
    written = (*text, *law.extra_units)
    drawn = Counter(tuple(written[i] for i in row) for row in rows.tolist())
    expected = noisy_law(mechanism, tuple(text))
    assert set(drawn) == set(expected)
    for noisy, chance in expected.items():
        assert abs(drawn[noisy] - size * chance) < 5.0 * math.sqrt(size * chance) + 1.0
    assert (law.kept_counts(rows) == len(text)).all()


def test_a_text_without_words_is_certified():
    mechanism = MECHANISMS["chain, component 3"]
    assert mechanism.law([]).enumerate(0).shape == (1, 0)
    assert mechanism.radius(0.9, 0.1, n_units=0, attacker=SUBSTITUTE) == 0
    assert mechanism.dead_zone(0)
    assert not mechanism.dead_zone(1)


# --- use -----------------------------------------------------------------------------------------


def test_certified_texts_keep_their_answer_under_every_attack():
    assert_answers_hold(SynonymSmoothing(swaps=STRONG_SWAPS, max_size=3))


def test_settings_survive_a_recipe():
    mechanism = SynonymSmoothing(swaps={"No": ["not"], "1": ["one"]}, sets="nearest", max_size=7)
    values = from_yaml(to_yaml(plain(mechanism)), "recipe")
    assert build(SynonymSmoothing, values) == mechanism
    assert values == mechanism.to_dict()
    assert hash(build(SynonymSmoothing, values)) == hash(mechanism)
    named = SynonymSmoothing(swaps="synonyms.json", limit=3, symmetric=True)
    assert build(SynonymSmoothing, from_yaml(to_yaml(plain(named)), "recipe")) == named


def test_settings_do_not_change_with_the_users_dictionary():
    given = {"a": ["b"]}
    mechanism = SynonymSmoothing(swaps=given)
    given["a"].append("c")
    assert mechanism.allowed.of("a") == ("b",)
    assert mechanism.to_dict()["swaps"] == {"a": ["b"]}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"unit": "token"}, "needs unit='word'; got unit='token'"),
        ({"sets": "far"}, "component or nearest; got 'far'"),
        ({"max_size": 0}, "max_size is a number of words, at least 1; got 0"),
        ({"limit": 0}, "at least 1; got 0"),
        ({"swaps": {"ice cream": ["b"]}}, "between single words"),
    ],
)
def test_wrong_settings_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        SynonymSmoothing(**{"swaps": {"a": ["b"]}, **settings})


def test_a_yaml_word_that_is_no_text_is_refused():
    with pytest.raises(RecipeError, match="swaps"):
        build(SynonymSmoothing, from_yaml("{kind: synonym_smoothing, swaps: {no: [x]}}", "recipe"))


def test_files_are_read_when_they_are_needed():
    mechanism = SynonymSmoothing(swaps="nowhere.json")
    with pytest.raises(DataError, match=r"no file 'nowhere\.json'"):
        mechanism.law(["a"])


def test_the_certificate_needs_the_profile_and_an_attacker_that_swaps():
    mechanism = MECHANISMS["chain, component 3"]
    with pytest.raises(ValueError, match="got 0 entries for 3 units"):
        mechanism.radius(0.9, 0.1, n_units=3, attacker=SUBSTITUTE)
    with pytest.raises(ValueError, match="certifies against substitute"):
        mechanism.radius(0.9, 0.1, n_units=0, attacker=frozenset({"delete"}))


# --- published values ----------------------------------------------------------------------------


def test_overlaps_of_safer_where_sets_have_one_size():
    # calculate_tv_table of Structure-free-certified-NLP: the least share over the synonyms.
    neighbours = {"x": "y", "y": "xz", "z": "y", "u": "v", "v": "u"}
    sets = {"x": "xya", "y": "yxz", "z": "zyb", "u": "uv", "v": "uv"}
    published = {"x": 2 / 3, "y": 2 / 3, "z": 2 / 3, "u": 1.0, "v": 1.0}
    for word, others in neighbours.items():
        found = min(shares(sets[word], sets[other]) for other in others)
        assert found == pytest.approx((published[word],) * 2)


@pytest.mark.parametrize(
    ("overlaps", "published"),
    [
        ((0.8, 0.95), [0.8, 0.95, 1.0, 1.0]),
        ((0.5, 0.62, 0.8, 0.95), [0.5, 0.62, 0.8, 0.95, 1.0, 1.0, 1.0]),
        ((), [1.0, 1.0]),
        ((0.8, 0.8, 0.5), [0.5, 0.8, 0.8]),
    ],
)
def test_all_words_swapped_need_the_margin_of_safer(overlaps, published):
    # get_tv of the same repository; its rule is p_A - 1 + product > 1/2 for two classes.
    profile = tuple((overlap, overlap) for overlap in overlaps)
    needed = [2.0 * (1.0 - product) for product in itertools.accumulate(published, operator.mul)]
    swapped = len(overlaps)
    assert needed_margins(profile) == pytest.approx(np.minimum(needed, 1.0)[:swapped], abs=1e-12)


def test_a_certificate_covers_allowed_substitutes_only():
    mechanism = SynonymSmoothing(swaps={"good": ["great"], "great": ["good"]})
    base = CallableClassifier(lambda texts: [[0.0, 1.0] for _ in texts], ["bad", "good"])
    (certificate,) = SmoothedClassifier(base, mechanism).certify(["a good film"], ExactPlan())
    assert certificate.radius == 3
    assert certificate.covers(["a", "good", "film"], ["a", "great", "film"])
    assert not certificate.covers(["a", "good", "film"], ["a", "bad", "film"])
    assert not certificate.covers(["a", "good", "film"], ["a", "good", "film", "again"])
    assert certificate.threat.name == "word edits (substitute), by allowed substitutes only"
