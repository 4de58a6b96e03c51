"""Deletion, masking and replacement at once: law, certificates, and what they must not claim."""

import dataclasses
import itertools
import math
from collections import Counter, defaultdict

import numpy as np
import pytest
from oracles import (
    ATTACKERS,
    POSITIVE,
    PROBABILITIES,
    distances,
    edited,
    fresh_pairs,
    mixes,
    short_pairs,
    violated_claims,
    worst_margins,
)
from scipy.stats import chi2

from robust_nlp import CallableClassifier, FixedPlan, SmoothedClassifier
from robust_nlp.errors import DataError
from robust_nlp.mechanisms.base import NO_RADIUS, REMOVED, ROUNDING
from robust_nlp.mechanisms.combined import (
    LONGEST_RUN,
    MAX_RADIUS,
    CombinedNoise,
    deletion_levels,
    insertion_levels,
)
from robust_nlp.mechanisms.deletion import EditBudget, deletion_frontier, deletion_radius
from robust_nlp.settings import build, from_yaml, plain, to_yaml

ALL, INSERT, DELETE, SUBSTITUTE = (
    ATTACKERS[0],
    *(frozenset({move}) for move in ("insert", "delete", "substitute")),
)
NAMES = {attacker: "+".join(sorted(attacker)) for attacker in ATTACKERS}

MECHANISMS = {
    "delete and mask": CombinedNoise(p_del=0.6, p_mask=0.3, mask="_"),
    "mostly mask": CombinedNoise(p_del=0.2, p_mask=0.7, mask="_"),
    "all three": CombinedNoise(
        p_del=0.5, p_mask=0.2, p_substitute=0.25, mask="_", vocabulary=("a", "w")
    ),
    "delete and replace": CombinedNoise(p_del=0.55, p_substitute=0.35, vocabulary=("b",)),
    "mask and replace": CombinedNoise(
        p_mask=0.5, p_substitute=0.4, mask="_", vocabulary=("w", "x")
    ),
    "delete": CombinedNoise(p_del=0.8),
}
WITHOUT_WORDS = [name for name, mechanism in MECHANISMS.items() if not mechanism.p_substitute]

LOOSENED = [(p_a - ROUNDING, min(p_b, 1.0 - p_a) + ROUNDING) for p_a, p_b in PROBABILITIES]


def law_of(mechanism):
    """The law of noisy texts, from the settings and the definition alone."""
    p_del, p_mask, p_word = mechanism.p_del, mechanism.p_mask, mechanism.p_substitute
    words = mechanism.vocabulary

    def law(text):
        noisy = {(): 1.0}
        for unit in text:
            shown = [((), p_del), (("_",), p_mask), ((unit,), 1.0 - p_del - p_mask - p_word)]
            shown += [((word,), p_word / len(words)) for word in words]
            longer = defaultdict(float)
            for (start, chance), (end, p) in itertools.product(noisy.items(), shown):
                if p > 0.0:
                    longer[start + end] += chance * p
            noisy = longer
        return dict(noisy)

    return law


def noisy_text(row, text, mechanism):
    extended = (*text, *mechanism.extra_units)
    return tuple(extended[index] for index in row if index != REMOVED)


# --- law -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["abc", "aa", "w", ""])
@pytest.mark.parametrize("name", MECHANISMS)
def test_listed_noisy_texts_have_the_law_of_the_definition(name, text):
    mechanism, text = MECHANISMS[name], tuple(text)
    rows, chances = mechanism.law(text).outcomes()
    listed = Counter()
    for row, chance in zip(rows, chances, strict=True):
        listed[noisy_text(row, text, mechanism)] += chance
    exact = law_of(mechanism)(text)
    assert {z: p for z, p in listed.items() if p > 0.0} == pytest.approx(exact, abs=1e-12)


@pytest.mark.parametrize("name", MECHANISMS)
def test_drawn_noisy_texts_follow_the_law(name):
    mechanism, text, size = MECHANISMS[name], tuple("abc"), 20_000
    law = mechanism.law(text)
    rows = law.draw(size, np.random.default_rng(0))
    assert rows.shape == (size, 3)
    assert (law.kept_counts(rows) == law.strata().kept[0]).all()
    drawn = Counter(noisy_text(row, text, mechanism) for row in rows)
    exact = law_of(mechanism)(text)
    assert set(drawn) <= set(exact)
    likely = {z: p for z, p in exact.items() if p * size >= 5.0}
    statistic = sum((drawn[z] - size * p) ** 2 / (size * p) for z, p in likely.items())
    assert chi2.sf(statistic, len(likely) - 1) > 1e-3


def test_a_text_with_too_many_noisy_versions_is_not_listed():
    with pytest.raises(ValueError, match=r"20 units has 3\^20 noisy versions.*at most 1000000"):
        MECHANISMS["delete and mask"].law(["a"] * 20).outcomes()


def test_a_vocabulary_may_stand_in_a_file(tmp_path):
    path = tmp_path / "words.txt"
    path.write_text("one\n\n two \nthree\n", encoding="utf-8")
    mechanism = CombinedNoise(p_substitute=0.5, vocabulary=str(path))
    assert mechanism.law(["x"]).extra_units == ("one", "two", "three")
    path = tmp_path / "nothing.txt"
    path.write_text("\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"nothing\.txt of combined noise holds no words"):
        CombinedNoise(p_substitute=0.5, vocabulary=str(path)).law(["x"])
    with pytest.raises(DataError, match=r"one word a line; there is no file .*missing\.txt"):
        CombinedNoise(p_substitute=0.5, vocabulary=str(tmp_path / "missing.txt")).law(["x"])


# --- soundness -----------------------------------------------------------------------------------


def pairs_for(mechanism):
    most = 3 if mechanism.p_substitute else 4
    short = [p for p in short_pairs() if len(p[0]) <= most and len(p[1]) <= most]
    return short + [p for p in fresh_pairs(longest=4, most_edits=3) if len(p[1]) <= most + 2]


@pytest.mark.parametrize("name", MECHANISMS)
def test_no_base_classifier_refutes_the_radius(name):
    mechanism = MECHANISMS[name]
    checked, wrong = violated_claims(mechanism.radius, law_of(mechanism), pairs_for(mechanism))
    assert not wrong
    assert checked > (500 if mechanism.p_del == 0.0 else 5_000)


@pytest.mark.parametrize("name", ["delete and mask", "all three"])
def test_no_base_classifier_refutes_a_safe_mix_of_moves(name):
    mechanism, checked = MECHANISMS[name], 0
    law = law_of(mechanism)
    for text in (tuple("abc"), tuple("aba"), tuple("ab")):
        reached = {text: {(0, 0, 0)}}  # the mixes that reach a text, at most two moves of a kind
        for kind, move in enumerate(("delete", "substitute", "insert")):
            for _ in range(2):
                for start, spent in list(reached.items()):
                    near = distances(start, "abz", 5, frozenset({move}))
                    for other in (t for t, moves in near.items() if moves == 1):
                        more = {tuple(m + (i == kind) for i, m in enumerate(mix)) for mix in spent}
                        reached.setdefault(other, set()).update(m for m in more if max(m) <= 2)
        for p_a, p_b in PROBABILITIES[:6:2]:
            margins = {
                other: worst_margins(law(text), law(other), [(p_a, p_b)])[0] for other in reached
            }
            for deletions, substitutions, insertions in itertools.product(range(3), repeat=3):
                budget = deletions, substitutions, insertions
                if mechanism.safe(
                    p_a,
                    p_b,
                    n_units=len(text),
                    substitutions=substitutions,
                    deletions=deletions,
                    insertions=insertions,
                ):
                    within = [
                        other
                        for other, spent in reached.items()
                        if any(
                            all(m <= b for m, b in zip(mix, budget, strict=True)) for mix in spent
                        )
                    ]
                    assert min(margins[other] for other in within) > POSITIVE
                    checked += len(within)
    assert checked > 1_000


# --- tightness -----------------------------------------------------------------------------------


@pytest.mark.parametrize("n", range(1, 7))
@pytest.mark.parametrize("name", WITHOUT_WORDS)
def test_one_deletion_or_insertion_is_exact_at_the_end_of_a_text_of_distinct_units(name, n):
    mechanism = MECHANISMS[name]
    law, rates = law_of(mechanism), (mechanism.p_del, mechanism.p_hidden)
    longer, shorter = law(tuple("abcdefgh"[:n])), law(tuple("abcdefgh"[: n - 1]))
    for levels, laws in (
        (deletion_levels(*rates, n), (longer, shorter)),
        (insertion_levels(*rates, n - 1), (shorter, longer)),
    ):
        exact = worst_margins(*laws, LOOSENED)
        bounds = [
            (low := levels.low(p_a)) - min(levels.high(p_b), 1.0 - low) for p_a, p_b in LOOSENED
        ]
        assert bounds == pytest.approx(exact, abs=1e-9)


@pytest.mark.parametrize("at", range(5))
def test_the_last_unit_is_the_worst_to_delete(at):
    mechanism = MECHANISMS["mostly mask"]
    law, text = law_of(mechanism), tuple("abcde")
    ends = worst_margins(law(text), law(text[:-1]), PROBABILITIES)
    here = worst_margins(law(text), law(text[:at] + text[at + 1 :]), PROBABILITIES)
    assert (np.array(here) >= np.array(ends) - 1e-12).all()


def test_longer_texts_are_no_easier_to_attack():
    grid = np.linspace(0.0, 1.0, 201)
    levels = [deletion_levels(0.3, 0.9, n) for n in range(1, LONGEST_RUN + 1)]
    for shorter, longer in itertools.pairwise(levels):
        assert (longer.lows(grid) >= shorter.lows(grid) - 1e-9).all()
        assert (longer.highs(grid) <= shorter.highs(grid) + 1e-9).all()
    assert deletion_levels(0.3, 0.9, 10**6) is not levels[0]
    assert deletion_levels(0.3, 0.9, 10**6).low(0.9) == levels[-1].low(0.9)


@pytest.mark.parametrize("name", WITHOUT_WORDS)
def test_substitutions_are_exact_for_fresh_words(name):
    mechanism = MECHANISMS[name]
    law, text = law_of(mechanism), tuple("abcde")
    for p_a, p_b in PROBABILITIES:
        radius = mechanism.radius(p_a, p_b, n_units=5, attacker=SUBSTITUTE)
        margins = [
            worst_margins(law(text), law(edited(text, (0, 0, count))), [(p_a, p_b)])[0]
            for count in range(6)
        ]
        exact = next((count - 1 for count, m in enumerate(margins) if m <= 1e-9), 5)
        assert radius == exact


def least_safe(holds):
    """The probability from which on a two-class margin is safe."""
    low, high = 0.5, 1.0
    for _ in range(30):
        middle = (low + high) / 2.0
        low, high = (low, middle) if holds(middle) else (middle, high)
    return high


@pytest.mark.parametrize(
    ("mix", "loss"),
    [
        ((0, 1, 1), 0.015),
        ((0, 2, 0), 0.01),
        ((0, 2, 1), 0.015),
        ((0, 1, 2), 0.02),
        ((1, 0, 1), 0.03),
        ((2, 0, 0), 0.03),
    ],
    ids=lambda value: str(value),
)
@pytest.mark.parametrize("name", ["delete and mask", "mostly mask"])
def test_few_moves_lose_little_against_the_worst_base_classifier(name, mix, loss):
    mechanism, text = MECHANISMS[name], tuple("abcd")
    insertions, deletions, substitutions = mix
    fresh = tuple(f"fresh{i}" for i in range(substitutions + insertions))
    common = text[substitutions : 4 - deletions]
    attacked = fresh[:substitutions] + common + fresh[substitutions:]
    laws = [law_of(mechanism)(t) for t in (text, attacked)]
    exact = least_safe(lambda p: worst_margins(*laws, [(p, 1.0 - p)])[0] > 0.0)
    bound = least_safe(
        lambda p: mechanism.safe(
            p,
            1.0 - p,
            n_units=4,
            insertions=insertions,
            deletions=deletions,
            substitutions=substitutions,
        )
    )
    assert exact - 1e-8 <= bound <= exact + loss


# --- what it must agree with ---------------------------------------------------------------------


@pytest.mark.parametrize("attacker", ATTACKERS, ids=NAMES.get)
@pytest.mark.parametrize("p_del", [0.5, 0.9, 0.97])
def test_deletion_alone_has_the_certificates_of_randomized_deletion(p_del, attacker):
    mechanism = CombinedNoise(p_del=p_del)
    for n, (p_a, p_b) in itertools.product((0, 1, 4, 30), PROBABILITIES):
        settings = {"n_units": n, "attacker": attacker}
        frontier = mechanism.frontier(p_a, p_b, **settings)
        assert frontier == deletion_frontier(p_a, p_b, p_del=p_del, **settings)
        radius = mechanism.radius(p_a, p_b, **settings)
        closed = deletion_radius(p_a, p_b, p_del=p_del, **settings)
        assert radius >= closed
        if n > closed:  # on shorter texts, the closed form counts impossible substitutions
            assert radius == closed


def test_without_deletion_only_substitutions_are_certified():
    mechanism = CombinedNoise(p_mask=0.5, p_substitute=0.4, vocabulary=("w",))
    for p_a, p_b in PROBABILITIES:
        settings = {"n_units": 9}
        closed = [p_a - min(p_b, 1.0 - p_a) - 2.0 * (1.0 - 0.9**k) > 1e-9 for k in range(10)]
        radius = mechanism.radius(p_a, p_b, attacker=SUBSTITUTE, **settings)
        assert radius == closed.index(False) - 1
        for attacker in (INSERT, DELETE, ALL):
            assert mechanism.radius(p_a, p_b, attacker=attacker, **settings) == min(radius, 0)


@pytest.mark.parametrize("attacker", ATTACKERS, ids=NAMES.get)
@pytest.mark.parametrize("name", ["delete and mask", "all three"])
def test_radius_and_frontier_are_those_of_the_safe_mixes(name, attacker):
    mechanism, n = MECHANISMS[name], 6
    for p_a, p_b in PROBABILITIES[::3]:

        def safe(insertions, deletions, substitutions, p_a=p_a, p_b=p_b):
            return mechanism.safe(
                p_a,
                p_b,
                n_units=n,
                substitutions=substitutions,
                deletions=deletions,
                insertions=insertions,
            )

        radius = mechanism.radius(p_a, p_b, n_units=n, attacker=attacker)
        frontier = mechanism.frontier(p_a, p_b, n_units=n, attacker=attacker)
        assert all(isinstance(budget, EditBudget) for budget in frontier)
        assert all(safe(*budget) for budget in frontier)
        largest = NO_RADIUS
        while largest < 6 and all(safe(*mix) for mix in mixes(largest + 1, n, attacker)):
            largest += 1
        assert radius == largest
        for total in range(5):
            for mix in mixes(total, n, attacker):
                below = any(all(m <= b for m, b in zip(mix, f, strict=True)) for f in frontier)
                assert below == safe(*mix)
        for one, other in itertools.permutations(frontier, 2):
            assert any(m > b for m, b in zip(one, other, strict=True))


def test_knowing_which_units_hide_beside_a_deletion_pays():
    # Bounds that know no more than "the deleted unit is deleted with p_del" certify nothing here.
    mechanism = CombinedNoise(p_del=0.45, p_mask=0.45)
    assert deletion_radius(0.99, 0.01, p_del=0.45, n_units=30, attacker=INSERT) == 0
    assert mechanism.radius(0.99, 0.01, n_units=30, attacker=INSERT) == 2
    assert mechanism.radius(0.99, 0.01, n_units=30, attacker=DELETE) == 5


def test_texts_that_are_nearly_all_hidden_have_a_largest_radius():
    mechanism = CombinedNoise(p_del=1.0 - 1e-9)
    assert mechanism.radius(0.9, 0.1, n_units=5, attacker=SUBSTITUTE) == 5
    assert mechanism.radius(0.9, 0.1, n_units=5, attacker=INSERT) == MAX_RADIUS
    assert mechanism.radius(0.5, 0.5, n_units=5, attacker=INSERT) == NO_RADIUS


# --- mutants -------------------------------------------------------------------------------------


def one_edit_too_many(mechanism, *args, **kwargs):
    return mechanism.radius(*args, **kwargs) + 1


def insertions_and_deletions_swapped(mechanism, *args, attacker, **kwargs):
    other = {"insert": "delete", "delete": "insert", "substitute": "substitute"}
    swapped = frozenset(other[move] for move in attacker)
    return mechanism.radius(*args, attacker=swapped, **kwargs)


def hidden_units_counted_as_deleted(mechanism, *args, **kwargs):
    """Wrong: a mask tells nothing, so masking is as good as deletion. But it shows the length."""
    return deletion_radius(*args, p_del=mechanism.p_hidden, **kwargs)


def words_of_the_vocabulary_not_counted_as_length(mechanism, *args, **kwargs):
    """Wrong: only masks show the length."""
    deleting = CombinedNoise(
        p_del=mechanism.p_del + mechanism.p_substitute, p_mask=mechanism.p_mask
    )
    return deleting.radius(*args, **kwargs)


def every_text_as_good_as_a_long_one(mechanism, *args, n_units, **kwargs):
    radius = mechanism.radius(*args, n_units=n_units + LONGEST_RUN, **kwargs)
    return min(radius, n_units) if "insert" not in kwargs["attacker"] else radius


def substitutions_forgotten(mechanism, *args, attacker, **kwargs):
    return mechanism.radius(*args, attacker=attacker - {"substitute"} or INSERT, **kwargs)


def radius_of_the_weakest_move(mechanism, *args, attacker, **kwargs):
    return max(mechanism.radius(*args, attacker=frozenset({m}), **kwargs) for m in attacker)


MUTANTS = {
    mutant.__name__: (mutant, name)
    for mutant, name in (
        (one_edit_too_many, "delete and mask"),
        (insertions_and_deletions_swapped, "mostly mask"),
        (hidden_units_counted_as_deleted, "mostly mask"),
        (words_of_the_vocabulary_not_counted_as_length, "all three"),
        (every_text_as_good_as_a_long_one, "mostly mask"),
        (substitutions_forgotten, "delete"),
        (radius_of_the_weakest_move, "delete and mask"),
    )
}


@pytest.mark.parametrize("name", MUTANTS)
def test_a_wrong_radius_is_refuted_by_a_base_classifier(name):
    mutant, mechanism = MUTANTS[name][0], MECHANISMS[MUTANTS[name][1]]

    def radius(*args, **kwargs):
        return mutant(mechanism, *args, **kwargs)

    _, wrong = violated_claims(radius, law_of(mechanism), pairs_for(mechanism))
    assert wrong


# --- settings ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, "sum between 0 and 1"),
        ({"p_del": 0.5, "p_mask": 0.5}, "got p_del=0.5, p_mask=0.5, p_substitute=0.0"),
        ({"p_del": -0.1, "p_mask": 0.5}, "at least 0"),
        ({"p_del": math.nan}, "got p_del=nan"),
        ({"p_substitute": 0.5}, "needs a vocabulary: a list of words, or the path"),
    ],
)
def test_settings_outside_their_range_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        CombinedNoise(**settings)


def test_a_mask_is_needed_only_where_units_are_masked():
    with pytest.raises(ValueError, match=r"which mask to write: give mask=\.\.\."):
        CombinedNoise(p_mask=0.5).law(["a"]).extra_units  # noqa: B018
    assert CombinedNoise(p_del=0.5).law(["a"]).extra_units == ()
    assert CombinedNoise(p_del=0.5, mask="_").law(["a"]).extra_units == ()


@pytest.mark.parametrize("name", MECHANISMS)
def test_settings_survive_yaml(name):
    mechanism = MECHANISMS[name]
    again = build(CombinedNoise, from_yaml(to_yaml(plain(mechanism)), "recipe"))
    assert again == mechanism
    assert hash(again) == hash(mechanism)
    assert mechanism.to_dict()["kind"] == "combined"


def test_the_description_names_what_happens_to_a_unit():
    assert MECHANISMS["delete and replace"].description == (
        "Combined noise: every word is, independently, deleted with probability 0.55, replaced by "
        "a random word with probability 0.35; the answer is the class that most of the noisy "
        "texts are given."
    )


@pytest.mark.parametrize("name", MECHANISMS)
def test_the_dead_zone_is_where_one_noisy_text_without_kept_units_has_the_majority(name):
    mechanism = MECHANISMS[name]
    for n in range(7):
        text = tuple(f"unit{i}" for i in range(n))
        law = law_of(mechanism)(text) if n < 7 - 2 * bool(mechanism.p_substitute) else None
        if law is not None:
            blind = max((p for z, p in law.items() if not set(z) & set(text)), default=0.0)
            assert mechanism.dead_zone(n) == (blind > 0.5)


def test_a_smoothed_classifier_certifies_under_combined_noise():
    base = CallableClassifier(
        lambda texts: [[0.5, float("good" in text.split())] for text in texts],
        labels=("bad", "good"),
    )
    smoothed = SmoothedClassifier(base, MECHANISMS["delete and mask"])
    plan = FixedPlan(n_selection=20, n_estimation=500)
    certificate = smoothed.certify(["good " * 30], plan=plan)[0]
    assert certificate.predicted == 1
    assert certificate.radius == 2
    assert not certificate.dead_zone
    assert certificate.ceiling >= certificate.radius


def test_mechanisms_are_kept_apart_by_every_setting():
    mechanism = MECHANISMS["all three"]
    for changed in ({"p_del": 0.4}, {"p_mask": 0.1}, {"vocabulary": ("a",)}, {"unit": "character"}):
        assert dataclasses.replace(mechanism, **changed) != mechanism
