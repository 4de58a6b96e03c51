"""Audits find certificates that were made wrong on purpose, and leave honest ones alone."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
from mutants import insertions_and_deletions_swapped, one_edit_too_many

from robust_nlp import (
    CallableClassifier,
    ExactPlan,
    FixedPlan,
    SmoothedClassifier,
    certificate_from_votes,
)
from robust_nlp.audit import AuditSettings, audit, audit_text, words_by_class
from robust_nlp.audit.wording import difference, evidence, sentences, spoken
from robust_nlp.mechanisms import (
    BagDeletion,
    CombinedNoise,
    RandomizedDeletion,
    RandomMasking,
    Reordering,
    SynonymSmoothing,
)
from robust_nlp.threats import parse_attacker
from robust_nlp.units import keyed_rng

CLEAN = "a b c d"
EVIL = {0: ("evil", "tame"), 1: ("evil", "tame")}
LABELS = ["no", "yes"]
EXACT = AuditSettings(votes=128, judge_votes=2_000, forwards=20_000, candidates=3_000)


def base_of(function) -> CallableClassifier:
    return CallableClassifier(lambda texts: [function(text) for text in texts], LABELS)


def evil(text: str) -> list[float]:
    """The worst base classifier for a text without anything evil: class 1 as soon as it sees any.

    Certificates of unanimous votes are tight for it.
    """
    return [0.5, float("evil" in text)]


def certified(smoothed, texts, *, plan=None, attackers=("insert+delete+substitute",)):
    """One list of certificates a text, against several attackers."""
    plan = plan or ExactPlan()
    return [
        [
            certificate_from_votes(
                record.votes, smoothed.mechanism, alpha=plan.alpha or 0.5, attacker=attacker
            )
            for attacker in attackers
        ]
        for record in smoothed.votes(texts, plan, attacker=attackers[0])
    ]


def with_radius(certificate, radius):
    """The same certificate with a radius of one of the wrong implementations."""

    def called(mechanism):
        return radius(
            mechanism,
            certificate.p_lower,
            certificate.p_runner_up,
            n_units=certificate.n_units,
            attacker=certificate.threat.attacker,
        )

    return lambda mechanism: dataclasses.replace(certificate, radius=called(mechanism))


# --- planted errors -------------------------------------------------------------------------------


@pytest.mark.parametrize("attacker", ["substitute", "insert", "insert+delete+substitute"])
@pytest.mark.parametrize("p_del", [0.6, 0.72])
def test_one_edit_too_many_is_contradicted(attacker, p_del):
    smoothed = SmoothedClassifier(base_of(evil), RandomizedDeletion(p_del=p_del))
    ((honest,),) = certified(smoothed, [CLEAN], attackers=[attacker])
    assert honest.radius == math.floor(math.log(0.5) / math.log(p_del))
    assert audit(smoothed, [CLEAN], [honest], EXACT, words=EVIL).passed
    wrong = with_radius(honest, one_edit_too_many)(smoothed.mechanism)
    found = audit(smoothed, [CLEAN], [wrong], EXACT, words=EVIL)
    assert not found.passed
    first = found.contradictions[0]
    assert first.distance == wrong.radius == first.radius
    assert wrong.covers(CLEAN.split(), first.judged.units)
    assert first.judged.units.count("evil") == wrong.radius
    assert first.bound == pytest.approx(1.0 - p_del**wrong.radius)


def test_one_edit_too_many_is_contradicted_by_drawn_votes():
    """More noisy texts than the judge has votes, and more candidates than can be tried."""
    text = " ".join(f"word{i}" for i in range(14))
    smoothed = SmoothedClassifier(base_of(evil), RandomizedDeletion(p_del=0.75))
    plan = FixedPlan(n_selection=20, n_estimation=2_000, enumerate_when_cheaper=False)
    ((honest,),) = certified(smoothed, [text], plan=plan)
    assert honest.radius == 2  # 0.75 ** 3 < 0.5
    settings = AuditSettings(votes=16, judge_votes=2_000, forwards=6_000)
    assert audit(smoothed, [text], [honest], settings, words=EVIL).wrong == 0
    wrong = dataclasses.replace(honest, radius=4)
    found = audit(smoothed, [text], [wrong], settings, words=EVIL)
    assert found.coverage == {"sample": 1}
    assert found.wrong == 1
    assert found.contradictions[0].bound > 0.5
    assert found.contradictions[0].judged.judgement.exact is None


def test_insertions_and_deletions_swapped_are_contradicted():
    smoothed = SmoothedClassifier(base_of(evil), RandomizedDeletion(p_del=0.6))
    ((honest,),) = certified(smoothed, [CLEAN], attackers=["insert"])
    wrong = with_radius(honest, insertions_and_deletions_swapped)(smoothed.mechanism)
    assert wrong.radius > honest.radius
    settings = dataclasses.replace(EXACT, candidates=100)  # far too many insertions to list
    found = audit(smoothed, [CLEAN], [wrong], settings, words=EVIL)
    assert found.coverage == {"sample": 1}
    assert not found.passed


def test_a_wrong_answer_on_the_clean_text_itself_is_contradicted():
    smoothed = SmoothedClassifier(base_of(evil), RandomizedDeletion(p_del=0.6))
    ((honest,),) = certified(smoothed, [CLEAN])
    wrong = dataclasses.replace(honest, predicted=1, radius=0)
    found = audit(smoothed, [CLEAN], [wrong], EXACT)
    assert [each.distance for each in found.contradictions] == [0.0]


class Leaky:
    """A base classifier to which something of the clean text is told beside the noisy one."""

    def __init__(self, told) -> None:
        self.labels, self._told = LABELS, told
        self._base = base_of(evil)

    def open(self, text, mechanism):
        opened = self._base.open(text, mechanism)
        encode, told = opened.encode, self._told(text)
        opened.encode = lambda rows: [(key, told) for key in encode(rows)]
        return opened

    def classify(self, inputs):
        return np.array([told for _, told in inputs])


def longer_than_clean(text: str) -> int:
    return int(len(text) > len(CLEAN))


def parity(text: str) -> int:
    return (int(keyed_rng(0, text).integers(2)) + int(keyed_rng(0, CLEAN).integers(2))) % 2


@pytest.mark.parametrize("told", [longer_than_clean, parity], ids=["length", "hash"])
@pytest.mark.parametrize(
    ("mechanism", "attacker"),
    [
        (RandomMasking(p_mask=0.75, mask="_"), "substitute"),
        (RandomizedDeletion(p_del=0.75), "insert+delete+substitute"),
    ],
    ids=["masking", "deletion"],
)
def test_what_leaks_past_the_noise_is_contradicted(told, mechanism, attacker):
    smoothed = SmoothedClassifier(Leaky(told), mechanism)
    certificates = certified(smoothed, [CLEAN], attackers=[attacker])
    assert certificates[0][0].radius >= 1
    found = audit(smoothed, [CLEAN], certificates, EXACT, words=EVIL)
    assert not found.passed
    assert all(each.audited.text == CLEAN for each in found.contradictions)


SWAPS = {"good": ["great"], "great": ["good", "bad"], "film": ["movie"], "bad": ["poor"]}


def test_allowed_substitutes_are_tried_and_no_others():
    """A classifier that flips on a word which no allowed swap writes, and one that it may write."""
    mechanism = SynonymSmoothing(swaps=SWAPS, sets="nearest")
    text = "good film"
    for word, contradicted in (("bad", False), ("movie", True)):
        smoothed = SmoothedClassifier(Leaky(lambda t, w=word: int(w in t)), mechanism)
        certificates = certified(smoothed, [text], attackers=["substitute"])
        found = audit(smoothed, [text], certificates, EXACT)
        assert found.coverage == {"ball": 1}
        assert found.passed is not contradicted


def test_orders_are_tried():
    smoothed = SmoothedClassifier(Leaky(lambda text: int(text < "a b c")), Reordering())
    certificates = certified(smoothed, ["b a c"], attackers=["swap"])
    found = audit(smoothed, ["b a c"], certificates, EXACT)
    assert found.wrong == 0  # "a b c" is the first of all orders
    smoothed = SmoothedClassifier(Leaky(lambda text: int(text == "c b a")), Reordering())
    certificates = certified(smoothed, ["a b c"], attackers=["swap"])
    found = audit(smoothed, ["a b c"], certificates, EXACT)
    assert found.contradictions[0].judged.attacked == "c b a"
    assert found.contradictions[0].distance == 3


def test_pairs_are_attacked_on_the_open_side():
    base = CallableClassifier(
        lambda pairs: [evil(second) for _, second in pairs], LABELS, protected="first"
    )
    smoothed = SmoothedClassifier(base, RandomizedDeletion(p_del=0.6))
    pair = ("an evil premise", CLEAN)
    ((honest,),) = certified(smoothed, [pair])
    assert audit(smoothed, [pair], [honest], EXACT, words=EVIL).passed
    wrong = dataclasses.replace(honest, radius=2)
    found = audit(smoothed, [pair], [wrong], EXACT, words=EVIL)
    assert found.contradictions[0].audited.pair == "an evil premise"
    assert "evil" in found.contradictions[0].judged.attacked


# --- honest certificates --------------------------------------------------------------------------

HONEST = {
    "deletion": RandomizedDeletion(p_del=0.7),
    "masking": RandomMasking(p_mask=0.8, mask="_"),
    "bag": BagDeletion(p_del=0.7),
    "combined": CombinedNoise(p_del=0.4, p_mask=0.45, mask="_"),
    "synonyms": SynonymSmoothing(swaps=SWAPS),
    "reordering": Reordering(),
}


@pytest.mark.parametrize("name", HONEST)
def test_honest_certificates_of_random_classifiers_are_not_contradicted(name):
    """Each classifier answers at random, but on most noisy texts alike, so that radii are large."""
    mechanism, checked = HONEST[name], 0
    settings = AuditSettings(votes=32, judge_votes=400, forwards=300, judged=1, candidates=100)
    plan = FixedPlan(n_selection=20, n_estimation=400, alpha=0.01)
    for seed in (1, 3, 5):

        def random(text: str, seed: int = seed) -> list[float]:
            return [0.5 + 0.08 * seed, float(keyed_rng(seed, text).random())]

        smoothed = SmoothedClassifier(base_of(random), mechanism)
        texts = ["good film", "a great and good film", "bad"]
        shown = [name for name in mechanism.shown if parse_attacker(name) <= mechanism.certifies]
        certificates = certified(smoothed, texts, plan=plan, attackers=shown[:2])
        found = audit(smoothed, texts, certificates, settings)
        assert found.wrong_exact == 0
        assert found.passed
        checked += sum(ball[0].radius or 0 for ball in certificates)
    assert checked >= 2


@pytest.mark.parametrize("p_del", [0.51, 0.708, 0.795])
def test_the_worst_classifier_just_inside_its_radius_is_not_contradicted(p_del):
    """Attacked margins of 0.02, 0.003 and 0.005, far below what the judge can see."""
    smoothed = SmoothedClassifier(base_of(evil), RandomizedDeletion(p_del=p_del))
    texts = [CLEAN, "a b c d e f g h"]
    certificates = certified(smoothed, texts, attackers=["substitute", "insert"])
    assert {each.radius for own in certificates for each in own} == {
        math.floor(math.log(0.5) / math.log(p_del))
    }
    settings = AuditSettings(votes=16, judge_votes=200, forwards=1_500, judged=3)
    found = audit(smoothed, texts, certificates, settings, words=EVIL)
    assert found.weighed > 0
    assert found.wrong == 0


# --- the rest -------------------------------------------------------------------------------------


def test_small_balls_without_new_units_are_searched_whole_and_confirmed():
    smoothed = SmoothedClassifier(base_of(evil), RandomizedDeletion(p_del=0.6))
    certificates = certified(smoothed, [CLEAN], attackers=["delete", "substitute"])
    found = audit(smoothed, [CLEAN], certificates, EXACT, words=EVIL)
    assert found.coverage == {"ball": 1, "words": 1}
    assert found.confirmed == 1


def test_the_audit_of_a_text_does_not_depend_on_the_texts_beside_it():
    smoothed = SmoothedClassifier(base_of(evil), RandomizedDeletion(p_del=0.7))
    texts = [f"{CLEAN} e f g {i}" for i in range(3)]
    certificates = certified(smoothed, texts)
    settings = AuditSettings(votes=8, judge_votes=80, forwards=300)
    rows = []
    audit(smoothed, texts, certificates, settings, words=EVIL, on_done=rows.append)
    alone = audit_text(smoothed, texts[2], certificates[2], settings, words=EVIL, example_id=2)
    assert dataclasses.replace(alone, seconds=0.0) == dataclasses.replace(rows[2], seconds=0.0)
    other = dataclasses.replace(settings, seed=1)
    again = audit_text(smoothed, texts[2], certificates[2], other, words=EVIL, example_id=2)
    assert again.judged != alone.judged


def test_abstentions_are_not_audited():
    smoothed = SmoothedClassifier(base_of(evil), RandomizedDeletion(p_del=0.6))
    ((honest,),) = certified(smoothed, [CLEAN])
    silent = dataclasses.replace(honest, predicted=None, radius=None)
    found = audit(smoothed, [CLEAN], [silent], EXACT)
    assert (found.texts, found.candidates, found.passed) == (0, 0, True)


def test_words_come_from_the_texts_of_other_classes():
    smoothed = SmoothedClassifier(base_of(evil), RandomizedDeletion(p_del=0.6))
    words = words_by_class(smoothed, ["all is well", "evil all", "evil is"], [0, 1, 1], size=8)
    assert words[0][0] == "evil"
    assert "not" in words[0]
    assert words[1][0] == "well"


def test_certificates_that_disagree_are_refused():
    smoothed = SmoothedClassifier(base_of(evil), RandomizedDeletion(p_del=0.6))
    ((honest,),) = certified(smoothed, [CLEAN])
    other = dataclasses.replace(honest, predicted=1)
    with pytest.raises(ValueError, match=r"must agree on its class; got \['0', '1'\] for text 0"):
        audit(smoothed, [CLEAN], [[honest, other]], EXACT)
    with pytest.raises(ValueError, match="got certificates for 1 texts and 2 texts"):
        audit(smoothed, [CLEAN, CLEAN], [honest], EXACT)


def test_changes_are_marked_unit_by_unit():
    assert difference(["a", "b", "c"], ["a", "x", "c", "d"], "word") == "a [-b-] {+x+} c {+d+}"
    assert difference(list("abc"), list("ac"), "character") == "a[-b-]c"


def test_findings_and_evidence_are_said_in_words():
    smoothed = SmoothedClassifier(base_of(evil), RandomizedDeletion(p_del=0.6))
    ((honest,),) = certified(smoothed, [CLEAN])
    said = sentences(audit(smoothed, [CLEAN], [honest], EXACT, words=EVIL))
    assert said[0].startswith("No contradiction found in 1 certified text by ")
    assert said[0].endswith(" searched candidates; this is no proof.")
    wrong = audit(smoothed, [CLEAN], [dataclasses.replace(honest, radius=2)], EXACT, words=EVIL)
    said = sentences(wrong)
    assert "1 certificate of 1 certified text is contradicted" in said[0]
    assert "1 of them is exact, and must never be." in said[0]
    assert said[1] == "The audit fails: a certificate is wrong."
    line = spoken(evidence(wrong.contradictions[0], LABELS, "word"), "word")
    assert "certified as “no” against insert+delete+substitute up to radius 2" in line
    assert "at distance 2 (words) the answer is “yes”" in line
    assert "{+evil" in line
    assert parse_attacker(wrong.contradictions[0].attacker) == honest.threat.attacker
