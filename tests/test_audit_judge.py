"""The judge of an audit, and the verdict: how often they are wrong, and what they allow."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable

import pytest
from scipy.stats import binom, multinomial

from robust_nlp import CallableClassifier, SmoothedClassifier
from robust_nlp.audit import AuditedText, JudgedText, Judgement, verdict
from robust_nlp.audit.judge import judge
from robust_nlp.audit.records import AuditedBall
from robust_nlp.audit.settings import AuditSettings
from robust_nlp.mechanisms import RandomizedDeletion

Contradicts = Callable[[Judgement, int, float], bool]


def of_votes(selection, counts) -> Judgement:
    return Judgement(exact=None, selection=tuple(selection), counts=tuple(counts))


def as_it_is(judgement: Judgement, certified: int, alpha: float) -> bool:
    return judgement.contradicts(certified, alpha=alpha)


def error_of_two_classes(contradicts: Contradicts, p_rival: float, n: int, alpha: float) -> float:
    """Probability that class 0 is called contradicted, summed over all votes."""
    return math.fsum(
        float(binom.pmf(k, n, p_rival)) * contradicts(of_votes((0, 1), (n - k, k)), 0, alpha)
        for k in range(n + 1)
    )


@pytest.mark.parametrize("n", [30, 200, 1_000])
@pytest.mark.parametrize("alpha", [0.05, 1e-3, 1e-6])
def test_a_tie_is_called_a_contradiction_with_probability_alpha_at_most(n, alpha):
    error = error_of_two_classes(as_it_is, 0.5, n, alpha)
    assert alpha / 20.0 < error <= alpha


def the_share_of_votes(judgement: Judgement, certified: int, alpha: float) -> bool:
    return judgement.counts[1 - certified] > judgement.counts[certified]


def two_standard_errors(judgement: Judgement, certified: int, alpha: float) -> bool:
    own, other = judgement.counts[certified], judgement.counts[1 - certified]
    return other - own > 2.0 * math.sqrt(own + other)


@pytest.mark.parametrize("mutant", [the_share_of_votes, two_standard_errors])
def test_judges_without_a_bound_are_wrong_too_often(mutant):
    assert error_of_two_classes(mutant, 0.5, 200, 1e-3) > 1e-3


def error_of_three_classes(rival_of_selection: bool, shares, n: int, alpha: float) -> float:
    """Probability that class 0 is called contradicted, with the rival chosen in one of two ways.

    Selection votes are independent of the others, and so choose either rival with probability one
    half where both are equally likely.
    """
    error = 0.0
    law = multinomial(n, shares)
    for a in range(n + 1):
        for b in range(n + 1 - a):
            counts = (a, b, n - a - b)
            selections = ((0, 1, 0), (0, 0, 1)) if rival_of_selection else (counts,)
            wrong = [of_votes(each, counts).contradicts(0, alpha=alpha) for each in selections]
            error += float(law.pmf(counts)) * sum(wrong) / len(wrong)
    return error


def test_the_rival_is_chosen_by_other_votes_than_those_that_weigh_it():
    thirds = (1 / 3, 1 / 3, 1 / 3)
    assert error_of_three_classes(True, thirds, 45, 0.05) <= 0.05
    assert error_of_three_classes(False, thirds, 45, 0.05) > 0.05


def test_a_clear_flip_is_called_one():
    assert error_of_two_classes(as_it_is, 0.6, 1_000, 1e-6) > 0.9


def test_a_rival_ahead_of_the_certified_class_need_not_have_half_of_all():
    counts = (200, 450, 350)
    assert of_votes((1, 3, 2), counts).contradicts(0, alpha=1e-6)
    assert not of_votes((1, 3, 2), counts).contradicts(1, alpha=1e-6)


@pytest.mark.parametrize(
    ("exact", "contradicted"),
    [((0.4, 0.6), True), ((0.5, 0.5), False), ((0.5 - 1e-12, 0.5 + 1e-12), False)],
)
def test_exact_probabilities_speak_for_themselves_and_ties_say_nothing(exact, contradicted):
    judgement = Judgement(exact=exact, selection=(0, 0), counts=(0, 0))
    assert judgement.contradicts(0, alpha=1e-9) is contradicted


# --- its votes ------------------------------------------------------------------------------------


def kept_first(texts: list[str]) -> list[list[float]]:
    """Class 1 with probability 1 - p_del: where the first unit is kept."""
    return [[0.5, float("first" in text)] for text in texts]


def smoothed(p_del: float) -> SmoothedClassifier:
    return SmoothedClassifier(
        CallableClassifier(kept_first, ["no", "yes"]), RandomizedDeletion(p_del=p_del)
    )


TEXT = "first " + " ".join("abcdefghijk")


def test_the_judge_is_wrong_about_ties_as_rarely_as_it_says():
    half = smoothed(0.5)
    judged = [
        judge(half, TEXT, 0, votes=100, seed=seed, key="text").contradicts(0, alpha=0.1)
        for seed in range(200)
    ]
    assert sum(judged) <= binom.ppf(0.9999, 200, 0.1)
    assert sum(judged) >= 1


def test_the_judge_casts_fresh_votes_for_every_key():
    votes = {judge(smoothed(0.5), TEXT, 0, votes=100, seed=0, key=key).counts for key in "abcdef"}
    assert len(votes) > 2
    again = [judge(smoothed(0.5), TEXT, 0, votes=100, seed=0, key="a") for _ in range(2)]
    assert again[0] == again[1]


def test_the_judge_stops_early_only_in_favour_of_the_certificate():
    for_class_0 = judge(smoothed(0.9), TEXT, 0, votes=500, seed=0, key="text")
    against = judge(smoothed(0.9), TEXT, 1, votes=500, seed=0, key="text")
    assert sum(for_class_0.counts) == 0
    assert sum(for_class_0.selection) == 50
    assert not for_class_0.contradicts(0, alpha=0.5)
    assert sum(against.counts) == 500
    assert against.contradicts(1, alpha=1e-9)


def test_the_judge_is_exact_where_all_noisy_texts_are_no_more_than_its_votes():
    judgement = judge(smoothed(0.3), "first b c", 0, votes=8, seed=0, key="text")
    assert judgement.exact == pytest.approx((0.3, 0.7))
    assert judge(smoothed(0.3), "first b c d", 0, votes=8, seed=0, key="text").exact is None


def test_a_judge_needs_ten_times_the_votes_of_the_search():
    with pytest.raises(ValueError, match="at least 10 times the votes of the search"):
        AuditSettings(votes=100, judge_votes=999)
    with pytest.raises(ValueError, match=r"alpha is a failure probability.*got 99"):
        AuditSettings(alpha=99)


# --- the verdict ----------------------------------------------------------------------------------

FLIPPED = Judgement(exact=(0.2, 0.8), selection=(0, 0), counts=(0, 0))
HELD = Judgement(exact=(0.8, 0.2), selection=(0, 0), counts=(0, 0))


def row(number: int, judgement: Judgement, *, alpha: float = 0.05, **changes) -> AuditedText:
    judged = JudgedText(attacked="b", units=("b",), distances={"delete": 1.0}, judgement=judgement)
    ball = AuditedBall(
        attacker="delete", radius=1, coverage="ball", exact=False, candidates=2, margin=0.1
    )
    audited = AuditedText(
        example_id=number,
        text_hash=str(number),
        text="a b",
        units=("a", "b"),
        pair=None,
        predicted=0,
        alpha=alpha,
        balls=(ball,),
        judged=(judged,),
        forwards=1,
        seconds=0.0,
    )
    return dataclasses.replace(audited, **changes)


def rows(flipped: int, n: int = 100, **changes) -> list[AuditedText]:
    return [row(i, FLIPPED if i < flipped else HELD, **changes) for i in range(n)]


def test_as_many_contradictions_as_alpha_allows_pass_and_one_more_fails():
    allowed = next(k for k in range(100) if binom.cdf(k, 100, 0.05) >= 0.95)
    at, beyond = verdict(rows(allowed), alpha=1e-3), verdict(rows(allowed + 1), alpha=1e-3)
    assert (at.allowed, at.wrong, at.passed) == (allowed, allowed, True)
    assert (beyond.wrong, beyond.passed) == (allowed + 1, False)


def test_one_contradiction_of_an_exact_certificate_fails():
    mixed = [*rows(0), row(200, FLIPPED, alpha=0.0)]
    assert not verdict(mixed, alpha=1e-3).passed
    assert verdict(mixed, alpha=1e-3).wrong_exact == 1
    assert verdict(rows(0, alpha=0.0), alpha=1e-3).passed
    assert not verdict(rows(1, alpha=0.0), alpha=1e-3).passed


def test_equal_texts_count_once():
    copies = [row(i, FLIPPED, text_hash="same") for i in range(50)]
    found = verdict(copies, alpha=1e-3)
    assert (found.texts, found.wrong, found.judged, found.drawn) == (1, 1, 1, 1)


def test_abstentions_do_not_count():
    silent = row(5, HELD, predicted=None, judged=(), balls=())
    assert verdict([silent, *rows(0, n=3)], alpha=1e-3).texts == 3


def test_alpha_is_shared_by_all_texts_on_which_many_votes_were_cast():
    """A candidate that alone would be a contradiction is none among many."""
    close, even, clear = (
        of_votes(selection, counts)
        for selection, counts in (((1, 2), (450, 550)), ((1, 2), (500, 500)), ((9, 1), (0, 0)))
    )
    for others, each in ((even, 1e-6), (clear, 1e-3), (HELD, 1e-3)):
        found = verdict([row(0, close), *(row(i, others) for i in range(1, 1_000))], alpha=1e-3)
        assert found.alpha_each == pytest.approx(each)
        assert found.wrong == (each == 1e-3)


def test_a_text_outside_the_ball_contradicts_nothing():
    far = JudgedText(attacked="c", units=("c",), distances={"delete": 2.0}, judgement=FLIPPED)
    assert verdict([row(0, HELD, judged=(far,))], alpha=1e-3).wrong == 0
    uncovered = dataclasses.replace(far, distances={})
    assert verdict([row(0, HELD, judged=(uncovered,))], alpha=1e-3).wrong == 0
