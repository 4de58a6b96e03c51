"""The engine asks for few model calls and gives the same votes however work is arranged."""

from __future__ import annotations

import itertools
import zlib

import numpy as np
import pytest
from tiny import tiny_model, wordpiece

from robust_nlp import (
    AdaptiveDeletion,
    CallableClassifier,
    ExactPlan,
    FixedPlan,
    HuggingFaceClassifier,
    RandomizedDeletion,
    RandomMasking,
    SequentialPlan,
    certificate_from_votes,
)
from robust_nlp.certification.engine import cast_votes, enumerated_strata
from robust_nlp.errors import ModelError
from robust_nlp.threats import ALL_EDITS

TEXTS = [
    "the film is a good film and the cast was brilliant",
    "a bad story",
    "",
    "good",
    "bad plot and poor cast , the story is not good at all , it was awful and tedious from a to b",
    "the film is a good film and the cast was brilliant",
    " ".join(["good", "bad", "film", "cast", "plot"] * 12),
]
PLANS = {
    "fixed": FixedPlan(alpha=0.05, n_selection=20, n_estimation=300),
    "sequential": SequentialPlan(alpha=0.05, n_selection=20, max_votes=500),
    "drawn only": SequentialPlan(alpha=0.05, max_votes=300, enumerate_when_cheaper=False),
}
MECHANISMS = [
    RandomizedDeletion(p_del=0.8),
    AdaptiveDeletion(keeps=(4.0,)),
    RandomMasking(p_mask=0.7, mask="_"),
]


def opinion(texts: list[str]) -> list[list[float]]:
    """A classifier that reads words and, a little, everything else."""
    return [
        [text.count("bad") + 0.4 + zlib.crc32(text.encode()) % 100 / 251, text.count("good") + 0.6]
        for text in texts
    ]


def counted(batch_size: int = 256) -> tuple[CallableClassifier, list[str]]:
    seen: list[str] = []

    def function(texts: list[str]) -> list[list[float]]:
        seen.extend(texts)
        return opinion(texts)

    return CallableClassifier(function, ["bad", "good"], batch_size=batch_size), seen


def votes(base, texts, plan, mechanism=MECHANISMS[0], seed=0):
    records = cast_votes(base, mechanism, texts, plan, seed=seed, attacker=mechanism.certifies)
    return [(record.votes, record.votes_asked) for record in records]


@pytest.mark.parametrize("plan", PLANS.values(), ids=PLANS)
@pytest.mark.parametrize("mechanism", MECHANISMS, ids=lambda m: m.kind)
def test_votes_do_not_depend_on_batches_order_or_company(plan, mechanism):
    together = votes(counted()[0], TEXTS, plan, mechanism)
    assert votes(counted(batch_size=3)[0], TEXTS, plan, mechanism) == together
    assert votes(counted()[0], TEXTS[::-1], plan, mechanism)[::-1] == together
    alone = [votes(counted()[0], [text], plan, mechanism)[0] for text in TEXTS]
    assert alone == together


@pytest.mark.parametrize("plan", PLANS.values(), ids=PLANS)
def test_votes_of_a_model_do_not_depend_on_batches(plan):
    tokenizer = wordpiece()
    model = tiny_model("Bert", tokenizer)
    counts = [
        votes(HuggingFaceClassifier(model, tokenizer, batch_tokens=size), TEXTS, plan)
        for size in (1, 64, 4096)
    ]
    assert counts[0] == counts[1] == counts[2]


def test_votes_depend_on_the_seed():
    plan = PLANS["drawn only"]
    assert votes(counted()[0], TEXTS, plan, seed=0) != votes(counted()[0], TEXTS, plan, seed=1)


def test_equal_noisy_texts_are_classified_once_and_counted_as_often_as_drawn():
    base, seen = counted()
    records = cast_votes(
        base, MECHANISMS[0], TEXTS, PLANS["drawn only"], seed=0, attacker=ALL_EDITS
    )
    assert len(seen) == len(set(seen)) == sum(record.votes_classified for record in records)
    assert sum(record.votes_asked for record in records) > 2 * len(seen)
    for record in records:
        assert record.votes_asked == record.votes.votes_drawn


@pytest.mark.parametrize("mechanism", MECHANISMS, ids=lambda m: m.kind)
def test_short_texts_are_enumerated_and_have_no_failure_probability(mechanism):
    base, _ = counted()
    (record,) = cast_votes(
        base, mechanism, TEXTS[:1], ExactPlan(), seed=0, attacker=mechanism.certifies
    )
    words = TEXTS[0].split()
    expected = np.zeros(2)
    for keep in itertools.product([False, True], repeat=len(words)):
        k = sum(keep)
        if isinstance(mechanism, RandomMasking):
            weight = float(k == mechanism.kept(len(words))) / len(
                list(itertools.combinations(words, mechanism.kept(len(words))))
            )
            noisy = " ".join(w if kept else "_" for w, kept in zip(words, keep, strict=True))
        else:
            rate = mechanism.rate(len(words))
            weight = rate ** (len(words) - k) * (1 - rate) ** k
            noisy = " ".join(w for w, kept in zip(words, keep, strict=True) if kept)
        expected[int(np.argmax(opinion([noisy])[0]))] += weight
    np.testing.assert_allclose(record.votes.exact, expected, atol=1e-12)
    assert record.votes.remainder == 0.0
    certificate = certificate_from_votes(
        record.votes, mechanism, alpha=0.05, attacker=mechanism.certifies
    )
    assert certificate.alpha == 0.0
    assert certificate.method == "exact"


def test_enumerated_and_sampled_parts_estimate_the_same_probability():
    text = " ".join(TEXTS[4].split()[:14])
    mechanism = RandomizedDeletion(p_del=0.7)
    exact = votes(counted()[0], [text], ExactPlan(), mechanism)[0][0].exact
    plan = SequentialPlan(alpha=0.05, max_votes=20_000, futility=0.0)
    mixed = votes(counted()[0], [text], plan, mechanism)[0][0]
    assert 0.0 < mixed.remainder < 1.0
    share = np.array(mixed.looks[-1]) / sum(mixed.looks[-1])
    np.testing.assert_allclose(np.array(mixed.exact) + mixed.remainder * share, exact, atol=0.03)


def test_bounds_of_the_engine_cover_the_truth():
    text = " ".join(TEXTS[4].split()[:13])
    mechanism = RandomizedDeletion(p_del=0.6)
    truth = votes(counted()[0], [text], ExactPlan(), mechanism)[0][0].exact
    plan = SequentialPlan(alpha=0.2, n_selection=10, max_votes=200)
    base, _ = counted()
    wrong = 0
    for seed in range(200):
        counts = votes(base, [text], plan, mechanism, seed)[0][0]
        bounds = certificate_from_votes(counts, mechanism, alpha=0.2)
        wrong += bounds.p_lower > truth[counts.top] + 1e-9
    # At most a fifth may fail; 59 or more of 200 would happen once in a thousand times.
    assert wrong < 59


def test_sequential_plans_stop_early_and_reach_nearly_the_radius_of_fixed_ones():
    texts = [f"good film number {i} with a good cast and a good plot in all ways" for i in range(9)]
    fixed = FixedPlan(alpha=0.05, n_estimation=4000, enumerate_when_cheaper=False)
    sequential = SequentialPlan(alpha=0.05, max_votes=4000)
    radii, asked = [], []
    for plan in (fixed, sequential):
        records = cast_votes(counted()[0], MECHANISMS[0], texts, plan, seed=0, attacker=ALL_EDITS)
        asked.append(sum(record.votes_asked for record in records))
        radii.append(
            [certificate_from_votes(r.votes, MECHANISMS[0], alpha=0.05).radius for r in records]
        )
    assert asked[1] < asked[0] / 5
    assert radii[1] == radii[0]


def test_a_sequential_plan_stops_at_the_radius_that_was_asked_for():
    text = [" ".join(["good"] * 30)]
    many = votes(counted()[0], text, SequentialPlan(alpha=0.05))[0][1]
    few = votes(counted()[0], text, SequentialPlan(alpha=0.05, max_radius=0))[0][1]
    assert few < many


def test_an_exact_plan_refuses_texts_with_too_many_noisy_versions():
    with pytest.raises(ValueError, match=r"a text of 20 units has 1.049e\+06 noisy versions"):
        votes(counted()[0], ["word " * 20], ExactPlan())


def test_enumeration_is_chosen_by_length_and_plan_alone():
    mechanism = RandomizedDeletion(p_del=0.9)
    for n, all_of_them in ((0, True), (4, True), (60, False)):
        assert enumerated_strata(mechanism.strata(n), n, SequentialPlan()).all() == all_of_them
    assert enumerated_strata(mechanism.strata(60), 60, SequentialPlan())[0]
    assert not enumerated_strata(mechanism.strata(60), 60, FixedPlan()).any()


def test_long_texts_are_voted_on():
    text = " ".join(f"w{i}" for i in range(5000))
    ((counts, asked),) = votes(
        counted()[0], [text], SequentialPlan(max_votes=200), AdaptiveDeletion(keeps=(13.0,))
    )
    assert asked > 0
    assert counts.n_units == 5000


def test_records_are_handed_out_as_texts_are_finished():
    seen = []
    base, _ = counted()
    records = cast_votes(
        base,
        MECHANISMS[0],
        TEXTS,
        PLANS["sequential"],
        seed=0,
        attacker=ALL_EDITS,
        on_done=lambda position, record: seen.append((position, record)),
    )
    assert sorted(position for position, _ in seen) == list(range(len(TEXTS)))
    assert all(records[position] == record for position, record in seen)


def test_memory_of_classified_texts_is_bounded(monkeypatch):
    free = votes(counted()[0], TEXTS, PLANS["sequential"])
    monkeypatch.setattr("robust_nlp.certification.engine.CACHE_ENTRIES", 5)
    assert votes(counted()[0], TEXTS, PLANS["sequential"]) == free


def test_an_attacker_without_a_certificate_is_refused_before_any_vote():
    base, seen = counted()
    with pytest.raises(ValueError, match="RandomMasking certifies against substitute"):
        cast_votes(
            base, MECHANISMS[2], TEXTS, PLANS["fixed"], seed=0, attacker=frozenset({"insert"})
        )
    assert not seen


@pytest.mark.parametrize(
    ("scores", "message"),
    [
        ([[1.0, 2.0, 3.0]], r"shape \(1, 2\).*got shape \(1, 3\)"),
        ([[float("nan"), 1.0]], "not finite numbers"),
    ],
)
def test_a_function_with_bad_scores_is_an_error(scores, message):
    base = CallableClassifier(lambda texts: scores * len(texts), ["a", "b"])
    with pytest.raises(ModelError, match=message):
        votes(base, [""], PLANS["fixed"])


def test_pairs_of_a_function_keep_the_protected_side():
    seen: list[tuple[str, str]] = []

    def function(pairs):
        seen.extend(pairs)
        return [[0.0, 1.0] for _ in pairs]

    base = CallableClassifier(function, ["a", "b"], protected="first")
    votes(base, [("keep me whole", "one two three")], PLANS["fixed"])
    assert {first for first, _ in seen} == {"keep me whole"}
    assert {"", "one", "one two three"} <= {second for _, second in seen}
