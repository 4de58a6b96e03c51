"""Exponential substitution: metric, law, and certificates that no base classifier refutes."""

import gzip
import itertools
import json
import math
from collections import Counter

import numpy as np
import pytest
from oracles import POSITIVE, worst_margins
from word_noise import (
    CLAIMS,
    LOOSENED,
    STRONG_SWAPS,
    SUBSTITUTE,
    Answers,
    assert_answers_hold,
    noisy_law,
    radius_of,
    short_texts,
)

from robust_nlp.errors import DataError
from robust_nlp.likelihood import RatioLevels, envelope, margin
from robust_nlp.mechanisms import kernels
from robust_nlp.mechanisms.kernels import ExponentialSubstitution, GivenDistances, worst_pairs
from robust_nlp.settings import build, from_yaml, plain, to_yaml

CHAIN = {"a": ["b"], "b": ["a", "c"], "c": ["b", "d"], "d": ["c"]}

#: Two groups of words; "z" is alone.
PLANE = {
    "a": {"b": 1.0, "c": 1.5, "d": 2.0},
    "b": {"c": 0.5, "d": 1.5},
    "c": {"d": 1.0},
    "e": {"f": 3.0},
}
MECHANISMS = {
    "chain": ExponentialSubstitution(swaps=CHAIN, epsilon=1.0),
    "chain, much noise": ExponentialSubstitution(swaps=CHAIN, epsilon=0.1),
    "one way": ExponentialSubstitution(
        swaps={"a": ["b", "c"], "b": ["d"], "c": ["d"], "e": ["f"]}, epsilon=0.5
    ),
    "pairs": ExponentialSubstitution(swaps={"a": ["b"], "b": ["a"], "c": ["d"]}, epsilon=0.7),
    "two swaps": ExponentialSubstitution(
        swaps={"a": ["c", "d"], "b": ["a"], "e": ["f"]}, epsilon=0.4, distances=PLANE
    ),
    "outside the table": ExponentialSubstitution(
        swaps={"a": ["b", "e"], "d": ["z"], "f": ["e"], "z": ["y"]}, epsilon=0.4, distances=PLANE
    ),
}


@pytest.fixture(scope="module")
def answers():
    return {name: Answers(mechanism, longest=3) for name, mechanism in MECHANISMS.items()}


# --- soundness and tightness ---------------------------------------------------------------------


@pytest.mark.parametrize("name", MECHANISMS)
def test_no_base_classifier_refutes_a_radius_and_few_could_be_larger(name, answers):
    mechanism, known = MECHANISMS[name], answers[name]
    positive, short = 0, 0
    for text, claim in itertools.product(known.texts, range(len(CLAIMS))):
        radius, exact = radius_of(mechanism, text, claim), known.exact_radius(text, claim)
        assert radius <= exact, (text, CLAIMS[claim])
        positive += radius > 0
        short += radius < exact
    assert positive > 50
    # Exact where all swaps are alike; else some pairs of laws stand for several.
    assert short <= (0.0 if name == "pairs" else 0.15 * positive)


def test_products_are_exact_where_words_are_alike():
    # Every word of "aad" has one swap, and these pairs of laws are mirror images.
    mechanism = MECHANISMS["chain"]
    pairs = worst_pairs(mechanism.law(["a", "a", "d"]).profile)
    laws = [noisy_law(mechanism, text) for text in (("a", "a", "d"), ("b", "b", "c"))]
    for (p_a, p_b), exact in zip(CLAIMS, worst_margins(*laws, CLAIMS), strict=True):
        assert margin(pairs[2], p_a, p_b) == pytest.approx(exact, abs=1e-9)


def test_worst_pairs_are_at_least_as_far_apart_as_any_choice():
    rng = np.random.default_rng(2)
    for _ in range(12):
        words = [RatioLevels.of(*rng.dirichlet(np.ones(4), 2)) for _ in range(4)]
        profile = tuple(tuple(np.concatenate([w.clean, w.attacked])) for w in words)
        for k, worst in enumerate(worst_pairs(profile), start=1):
            for chosen in itertools.combinations(words, k):
                pair = math.prod(chosen[1:], start=chosen[0])
                for p in np.linspace(0.0, 1.0, 21):
                    assert worst.low(p) <= pair.low(p) + 1e-9
                    assert worst.high(p) >= pair.high(p) - 1e-9


def metric_claims(mechanism, claims):
    """All pairs of short texts of candidates, with the sum of distances and the exact margins."""
    laws = {text: noisy_law(mechanism, text) for text in short_texts(mechanism, 2)}
    laws |= {text[::-1]: noisy_law(mechanism, text[::-1]) for text in laws}
    for text, other in itertools.product(laws, repeat=2):
        if len(text) != len(other) or not text:
            continue
        total = 0.0
        for x, y in zip(text, other, strict=True):
            candidates, distances = mechanism.metric.row(x)
            total += dict(zip(candidates, distances, strict=True)).get(y, math.inf)
        if total < math.inf:
            yield total, worst_margins(laws[text], laws[other], claims)


@pytest.mark.parametrize("name", ["chain", "one way", "two swaps", "pairs"])
def test_no_base_classifier_refutes_a_metric_radius(name):
    mechanism = MECHANISMS[name]
    radii = [mechanism.metric_radius(*claim) for claim in CLAIMS]
    checked = 0
    for total, margins in metric_claims(mechanism, LOOSENED):
        for radius, left in zip(radii, margins, strict=True):
            if total < radius:
                checked += total > 0.0
                assert left > POSITIVE
    assert checked > 50


def test_no_larger_metric_radius_follows_from_the_ratio_alone():
    mechanism = ExponentialSubstitution(swaps={}, epsilon=0.8)
    for claim, (p_a, p_b) in zip(CLAIMS, LOOSENED, strict=True):
        radius = mechanism.metric_radius(*claim)
        for total, stands in ((radius * 0.999, True), (radius * 1.001 + 1e-9, False)):
            t = math.exp(0.8 * total)
            pair = RatioLevels.of([t / (1 + t), 1 / (1 + t)], [1 / (1 + t), t / (1 + t)])
            if radius > 0.0 or not stands:
                assert (margin(pair, p_a, p_b) > 0.0) == stands, (p_a, p_b)


# --- wrong certificates --------------------------------------------------------------------------


def staircase_law(neighbours, epsilon):
    """Text-CRS as released: the word itself or a word of its own list, in one direction."""

    def law(text):
        found = {(): 1.0}
        for word in text:
            choices = (word, *neighbours.get(word, ()))
            weights = np.exp(-epsilon * np.arange(len(choices)))
            found = {
                (*noisy, choice): chance * weight / weights.sum()
                for noisy, chance in found.items()
                for choice, weight in zip(choices, weights, strict=True)
            }
        return found

    return law


def test_the_staircase_of_text_crs_is_refuted():
    # The lists of "good" and of its first neighbour "fine" share only "fine".
    neighbours = {
        "good": ["fine", *(f"g{i}" for i in range(49))],
        "fine": [f"f{i}" for i in range(49)],
    }
    law = staircase_law(neighbours, 0.1)
    p_a = 1.0 - math.exp(-1.6387) / 2.0
    claimed = ExponentialSubstitution(swaps={}, epsilon=0.1).metric_radius(p_a, 1.0 - p_a)
    assert claimed == pytest.approx(16.387)  # as published for the staircase
    assert worst_margins(law(("good",)), law(("fine",)), [(p_a, 1.0 - p_a)])[0] < 0.0
    # The same swaps with distances counted in swaps: few words, at most two swaps away.
    sound = ExponentialSubstitution(swaps=neighbours, epsilon=0.1)
    laws = [noisy_law(sound, (word,)) for word in ("good", "fine")]
    assert worst_margins(*laws, [(p_a, 1.0 - p_a)])[0] > 0.0
    profile = sound.law(["good"]).profile
    radius = sound.radius(p_a, 1.0 - p_a, n_units=1, attacker=SUBSTITUTE, profile=profile)
    assert radius == 1


def own_list_as_candidates(mechanism, text):
    """Wrong: ratios on the candidates of the clean word only, whatever the other can become."""
    found = []
    for unit in text:
        clean = noisy_law(mechanism, (unit,))
        pairs = []
        for other in mechanism.allowed.of(unit):
            attacked = noisy_law(mechanism, (other,))
            near = [z for z in clean if z[0] in (unit, *mechanism.allowed.of(unit))]
            masses = np.array([[law.get(z, 0.0) for z in near] for law in (clean, attacked)])
            pairs.append(RatioLevels.of(*(masses / masses.sum(axis=1, keepdims=True))))
        if pairs:
            worst = envelope(pairs)
            found.append(tuple(np.concatenate([worst.clean, worst.attacked]).tolist()))
        else:
            found.append(())
    return tuple(found)


def _with_profile(change):
    def radius(mechanism, text, claim):
        p_a, p_b = CLAIMS[claim]
        given = {"n_units": len(text), "attacker": SUBSTITUTE, "profile": change(mechanism, text)}
        return mechanism.radius(p_a, p_b, **given)

    return radius


def one_swap_too_many(mechanism, text, claim):
    return min(radius_of(mechanism, text, claim) + 1, len(text))


def half_of_epsilon(mechanism, text, claim):
    """Wrong: forgets that the sum of the weights changes too."""
    radius = mechanism.metric_radius(*CLAIMS[claim]) * 2.0
    return min(math.ceil(radius) - 1, len(text))


def least_word_first(mechanism, text, claim):
    """Wrong: the attacker swaps the words that matter least."""
    profile = [word for word in mechanism.law(list(text)).profile if word]
    pairs = [RatioLevels.of(*np.array(word).reshape(2, -1)) for word in profile]
    pairs.sort(key=lambda pair: np.abs(pair.clean - pair.attacked).sum())
    products = itertools.accumulate(pairs, lambda x, y: x * y)
    p_a, p_b = LOOSENED[claim]
    radius = sum(margin(pair, p_a, p_b) > 0.0 for pair in products)
    return len(text) if radius == len(pairs) else radius


def clean_and_attacked_exchanged(mechanism, text):
    return tuple(
        word[len(word) // 2 :] + word[: len(word) // 2]
        for word in mechanism.law(list(text)).profile
    )


def two_words_as_one(mechanism, text):
    """Wrong: a word that stands twice is taken for one."""
    profile = mechanism.law(list(text)).profile
    return tuple(
        word if text.index(unit) == i else ()
        for i, (unit, word) in enumerate(zip(text, profile, strict=True))
    )


@pytest.mark.parametrize(
    "mutant",
    [
        one_swap_too_many,
        half_of_epsilon,
        least_word_first,
        _with_profile(own_list_as_candidates),
        _with_profile(clean_and_attacked_exchanged),
        _with_profile(two_words_as_one),
    ],
    ids=["one too many", "half of epsilon", "least word", "own list", "exchanged", "as one"],
)
def test_wrong_certificates_are_refuted(mutant, answers):
    for name, mechanism in MECHANISMS.items():
        known = answers[name]
        for text, claim in itertools.product(known.texts, range(len(CLAIMS))):
            if mutant(mechanism, text, claim) > known.exact_radius(text, claim):
                return
    pytest.fail("not refuted")


# --- the law -------------------------------------------------------------------------------------


def test_chances_fall_with_the_distance():
    law = noisy_law(MECHANISMS["chain"], ("a",))
    weights = {word: math.exp(-0.5 * hops) for hops, word in enumerate("abcd")}
    total = sum(weights.values())
    assert law == pytest.approx({(word,): weight / total for word, weight in weights.items()})


def test_decorated_words_are_drawn_from_decorated_candidates():
    mechanism = ExponentialSubstitution(swaps={"good": ["great"], "1st": ["good"]}, epsilon=1.0)
    assert set(noisy_law(mechanism, ("(good)", "iPhone"))) == {
        ("(good)", "iPhone"), ("(great)", "iPhone"), ("(1st)", "iPhone"),
    }  # fmt: skip
    assert set(noisy_law(mechanism, ("Good",))) == {("Good",), ("Great",)}
    assert set(noisy_law(mechanism, ("Great",))) == {("Good",), ("Great",)}
    for text, other in (("good", "great"), ("Good!", "Great!")):
        laws = [noisy_law(mechanism, (word,)) for word in (text, other)]
        exact = worst_margins(*laws, [(0.9, 0.1)])[0]
        pair = worst_pairs(mechanism.law([text]).profile)[0]
        assert margin(pair, 0.9, 0.1) == pytest.approx(exact, abs=1e-9)


@pytest.mark.parametrize("listed", [4_096, 1])
@pytest.mark.parametrize("text", ["abc", "zaz", "z", ""])
def test_drawn_noisy_texts_follow_the_law(monkeypatch, text, listed):
    mechanism, size = MECHANISMS["two swaps"], 20_000
    expected = noisy_law(mechanism, tuple(text))
    monkeypatch.setattr(kernels, "MOST_LISTED", listed)
    law = mechanism.law(list(text))
    rows = law.draw(size, np.random.default_rng(3))
    assert rows.shape == (size, len(text))
    written = (*text, *law.extra_units)
    drawn = Counter(tuple(written[i] for i in row) for row in rows.tolist())
    assert set(drawn) <= set(expected)
    for noisy, chance in expected.items():
        assert abs(drawn[noisy] - size * chance) < 5.0 * math.sqrt(size * chance) + 1.0
    strata, counts = law.strata(), law.kept_counts(rows)
    for kept, chance in zip(strata.kept, strata.probability, strict=True):
        seen = int((counts == kept).sum())
        assert abs(seen - size * chance) < 5.0 * math.sqrt(size * chance) + 1.0


def test_many_noisy_texts_are_sampled(monkeypatch):
    law = MECHANISMS["chain"].law(["a"] * 7)
    assert law.strata().outcomes.tolist() == [math.inf]
    with pytest.raises(NotImplementedError, match="cannot be enumerated"):
        law.enumerate(7)


def test_certified_texts_keep_their_answer_under_every_attack():
    assert_answers_hold(ExponentialSubstitution(swaps=STRONG_SWAPS, epsilon=0.5))


# --- distances -----------------------------------------------------------------------------------


def test_swaps_are_counted_in_either_direction():
    words, distances = MECHANISMS["one way"].metric.row("a")
    assert dict(zip(words, distances, strict=True)) == {"a": 0, "b": 1, "c": 1, "d": 2}
    assert MECHANISMS["one way"].metric.row("d")[0] == words
    assert MECHANISMS["one way"].metric.row("q")[0] == ("q",)


def test_counted_swaps_are_a_metric():
    rng = np.random.default_rng(0)
    words = [f"w{i}" for i in range(30)]
    swaps = {word: list(rng.choice(words, 2)) for word in words}
    metric = ExponentialSubstitution(swaps=swaps, epsilon=1.0).metric
    table = {word: dict(zip(*metric.row(word), strict=True)) for word in words}
    assert GivenDistances(table).row("w3")[1].tolist() == metric.row("w3")[1].tolist()


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (
            {"a": {"b": 1.0, "c": 3.0}, "b": {"c": 1.5}},
            "'a' and 'c' are at distance 3, and over 'b' at 2.5 only",
        ),
        ({"a": {"b": 1.0}, "b": {"a": 2.0}}, "got 2.0 from 'b' to 'a' and 1.0 back"),
        ({"a": {"b": 1.0}, "b": {"c": 1.0}}, "distance of 'a' from 'c' is missing"),
        ({"a": {"b": -1.0}}, "at least 0"),
        ({"a": {"a": 1.0}}, "0 from a word to itself"),
        ({"a": {"b": math.inf}}, "at least 0"),
        ({"a": {"b": math.nan}}, "at least 0"),
        ({"a": {"b": "near"}}, "is no number: 'near'"),
        ({"a": {"b": True}}, "is no number: True"),
        ({"ice cream": {"b": 1.0}}, "between single words"),
    ],
)
def test_what_is_no_metric_is_refused(table, message):
    with pytest.raises(ValueError, match=message):
        ExponentialSubstitution(swaps={}, epsilon=1.0, distances=table)


@pytest.mark.parametrize("name", ["distances.json", "distances.json.gz"])
def test_distances_are_read_from_a_file(tmp_path, name):
    path = tmp_path / name
    data = json.dumps(PLANE).encode()
    path.write_bytes(gzip.compress(data) if name.endswith("gz") else data)
    given = {"swaps": {"a": ["c", "d"]}, "epsilon": 0.4}
    filed = ExponentialSubstitution(**given, distances=str(path))
    assert filed.law(["a"]).profile == ExponentialSubstitution(
        **given, distances=PLANE
    ).law(["a"]).profile  # fmt: skip
    with pytest.raises(DataError, match="no file 'elsewhere'; expected a file, or word -> word"):
        ExponentialSubstitution(**given, distances="elsewhere").law(["a"])


def test_a_file_of_distances_that_are_no_metric_is_named(tmp_path):
    path = tmp_path / "distances.json"
    path.write_text('{"a": {"b": -1}}')
    mechanism = ExponentialSubstitution(swaps={}, epsilon=0.4, distances=str(path))
    with pytest.raises(DataError, match=r"distances\.json: distances are at least 0"):
        mechanism.law(["a"])


def test_swaps_that_tie_too_many_words_together_are_refused(monkeypatch):
    monkeypatch.setattr(kernels, "MOST_CANDIDATES", 3)
    with pytest.raises(ValueError, match="tie 'a' to more than 3 words"):
        ExponentialSubstitution(swaps=CHAIN, epsilon=1.0).law(["a"])
    with pytest.raises(ValueError, match="tie 4 words together"):
        GivenDistances(PLANE)


# --- settings and published values ---------------------------------------------------------------


def test_settings_survive_a_recipe():
    for mechanism in (
        ExponentialSubstitution(swaps={"No": ["not"]}, epsilon=1, distances={"no": {"not": 2}}),
        ExponentialSubstitution(swaps="wordnet", epsilon=0.5, distances="d.json", limit=2),
    ):
        values = from_yaml(to_yaml(plain(mechanism)), "recipe")
        assert build(ExponentialSubstitution, values) == mechanism
        assert values == mechanism.to_dict()
        assert hash(build(ExponentialSubstitution, values)) == hash(mechanism)


@pytest.mark.parametrize("epsilon", [0.0, -1.0, math.inf, math.nan])
def test_epsilon_must_be_above_zero(epsilon):
    with pytest.raises(ValueError, match="epsilon must be a number above 0"):
        ExponentialSubstitution(swaps={}, epsilon=epsilon)


def test_the_certificate_needs_the_profile():
    with pytest.raises(ValueError, match="got 0 entries for 3 units"):
        MECHANISMS["chain"].radius(0.9, 0.1, n_units=3, attacker=SUBSTITUTE)


@pytest.mark.parametrize(
    ("p_a", "p_b", "size", "published"),
    [
        # Text-CRS, Smooth.scertify: right for an exponential kernel, not for its own staircase.
        (None, 0.005823950027557871, 100, 81.68636826892336),
        (0.001 ** (1 / 100_000), None, 50, 88.87168089071638),
    ],
)
def test_the_formula_of_text_crs_is_that_of_a_metric(p_a, p_b, size, published):
    from robust_nlp.certification.confidence import lower_confidence_bound

    p_a = lower_confidence_bound(99_000, 100_000, alpha=0.001) if p_a is None else p_a
    p_b = 1.0 - p_a if p_b is None else p_b
    mechanism = ExponentialSubstitution(swaps={}, epsilon=5.0 / size)
    assert mechanism.metric_radius(p_a, p_b) == pytest.approx(published, rel=1e-4)
    assert mechanism.metric_radius(0.5, 0.5) == 0.0
