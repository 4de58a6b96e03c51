"""Advice: the numbers against counting by hand, and the cautions that follow."""

from __future__ import annotations

import math

import pytest

from robust_nlp.advisor import advise, cautions, text_units
from robust_nlp.certification.plan import ExactPlan, FixedPlan, SequentialPlan
from robust_nlp.mechanisms import AdaptiveDeletion, RandomizedDeletion, RandomMasking
from robust_nlp.threats import ALL_EDITS

DELETE = frozenset({"delete"})
SUBSTITUTE = frozenset({"substitute"})
FIXED = FixedPlan(n_selection=10, n_estimation=90)


def of_lengths(lengths: list[int]) -> list[list[str]]:
    return [["word"] * n for n in lengths]


def test_ceilings_are_those_of_the_median_text():
    advice = advise(
        of_lengths([4, 6, 50]), RandomizedDeletion(p_del=0.9), [ALL_EDITS, DELETE], FIXED
    )
    assert advice.ceilings["insert+delete+substitute"] == math.floor(math.log(0.5) / math.log(0.9))
    assert advice.ceilings["delete"] == 6


def test_the_dead_zone_is_counted_by_text():
    advice = advise(of_lengths([1, 1, 6, 7]), RandomizedDeletion(p_del=0.9), [ALL_EDITS], FIXED)
    assert 0.9**6 > 0.5 > 0.9**7
    assert advice.dead_zone == 0.75


def test_texts_with_few_noisy_versions_are_decided_exactly():
    advice = advise(of_lengths([6, 7]), RandomizedDeletion(p_del=0.5), [ALL_EDITS], FIXED)
    assert 2**6 <= 100 < 2**7
    assert advice.exact == 0.5


def test_kept_units_are_an_expectation():
    advice = advise(of_lengths([10, 30]), RandomizedDeletion(p_del=0.9), [ALL_EDITS], FIXED)
    assert advice.kept_units == pytest.approx(2.0)


def test_tokens_are_those_of_all_votes():
    unit = RandomizedDeletion(p_del=0.9, unit="token")
    advice = advise(of_lengths([100]), unit, [ALL_EDITS], FIXED)
    assert advice.tokens == pytest.approx(100 * (2 + 10))


def test_masks_have_to_be_read_as_well():
    masking = RandomMasking(p_mask=0.9, unit="token")
    advice = advise(of_lengths([100]), masking, [SUBSTITUTE], FIXED)
    assert advice.kept_units == 10
    assert advice.tokens == pytest.approx(100 * (2 + 100))


def test_an_exact_plan_says_what_it_will_refuse():
    advice = advise(
        of_lengths([3, 20]),
        RandomizedDeletion(p_del=0.9),
        [ALL_EDITS],
        ExactPlan(max_outcomes=1000),
    )
    assert (advice.exact, advice.refused) == (0.5, 0.5)
    assert any("too many noisy versions for an exact plan" in line for line in cautions(advice))


def test_adaptive_deletion_is_advised_by_length():
    adaptive = AdaptiveDeletion(keeps=(3.0,))
    advice = advise(of_lengths([4, 40]), adaptive, [ALL_EDITS], SequentialPlan())
    assert advice.kept_units == pytest.approx(3.0)
    assert 0.0 < advice.no_radius < 1.0


def test_sound_noise_gives_no_caution():
    advice = advise(
        of_lengths([20, 30]), RandomizedDeletion(p_del=0.8), [ALL_EDITS], SequentialPlan()
    )
    assert cautions(advice) == []


def test_weak_noise_is_cautioned():
    advice = advise(of_lengths([20]), RandomizedDeletion(p_del=0.4), [ALL_EDITS], FIXED)
    assert [line for line in cautions(advice) if "the noise is too weak" in line]


def test_strong_noise_is_cautioned():
    advice = advise(of_lengths([5]), RandomizedDeletion(p_del=0.95), [ALL_EDITS], FIXED)
    assert [line for line in cautions(advice) if "dead zone" in line]


def test_without_texts_there_is_no_advice():
    with pytest.raises(ValueError, match="got 0 texts and 1 attackers"):
        advise(of_lengths([]), RandomizedDeletion(p_del=0.4), [ALL_EDITS], FIXED)


def test_only_the_open_side_of_a_pair_is_counted():
    pair = ("one two three", "four")
    assert [len(units) for units in text_units([pair], "word")] == [3]
    assert [len(units) for units in text_units([pair], "word", protected="first")] == [1]
    assert [len(units) for units in text_units([pair], "character", protected="first")] == [4]


def test_tokens_are_counted_by_the_tokenizer_only():
    with pytest.raises(ValueError, match="only the base classifier's tokenizer"):
        text_units(["a text"], "token")
