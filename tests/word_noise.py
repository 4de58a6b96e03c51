"""Noise on words: laws by enumeration of the rows, and the exact radius of short texts."""

import itertools
import math
from collections import defaultdict

import pytest
from oracles import POSITIVE, PROBABILITIES, worst_margins

from robust_nlp.base_classifier import CallableClassifier
from robust_nlp.certification.plan import ExactPlan, SequentialPlan
from robust_nlp.mechanisms.base import ROUNDING
from robust_nlp.smoothing import SmoothedClassifier

SUBSTITUTE = frozenset({"substitute"})

#: Probabilities at which a radius above 0 needs little of the noise, and the usual ones.
CLAIMS = (
    *PROBABILITIES,
    (1.0 - 1e-6, 1e-6),
    (0.98, 0.02),
    (0.92, 0.03),
    (0.85, 0.15),
    (0.85, 0.0),
)
LOOSENED = [(p_a - ROUNDING, min(p_b, 1.0 - p_a) + ROUNDING) for p_a, p_b in CLAIMS]


def noisy_law(mechanism, text):
    """The law of the noise on a text, from the enumerated rows."""
    law = mechanism.law(text)
    written = (*text, *law.extra_units)
    strata, found = law.strata(), defaultdict(float)
    for kept, probability in zip(strata.kept, strata.probability, strict=True):
        rows = law.enumerate(kept)
        assert (law.kept_counts(rows) == kept).all()
        for row in rows:
            found[tuple(written[i] for i in row)] += probability / len(rows)
    assert math.fsum(found.values()) == pytest.approx(1.0, abs=1e-12)
    return dict(found)


def attacked_texts(mechanism, text):
    """All texts that the attacker reaches, with the number of swapped words."""
    for other in itertools.product(*((unit, *mechanism.allowed.of(unit)) for unit in text)):
        yield other, sum(x != y for x, y in zip(text, other, strict=True))


def short_texts(mechanism, longest):
    words = [*mechanism.allowed.words, "z"]
    for n in range(longest + 1):  # the order of words does not matter: laws are products
        yield from itertools.combinations_with_replacement(words, n)


class Answers:
    """The exact margins of every attack on every short text."""

    def __init__(self, mechanism, longest=3):
        self.texts = {}
        laws = {}
        for text in short_texts(mechanism, longest):
            rows = []
            for other, swapped in attacked_texts(mechanism, text):
                for each in (text, other):
                    if each not in laws:
                        laws[each] = noisy_law(mechanism, each)
                rows.append((swapped, worst_margins(laws[text], laws[other], LOOSENED)))
            self.texts[text] = rows

    def exact_radius(self, text, claim):
        """The largest number of swaps below which no base classifier changes the answer."""
        failed = [swapped for swapped, margins in self.texts[text] if margins[claim] <= POSITIVE]
        return min([*failed, len(text) + 1]) - 1


def radius_of(mechanism, text, claim, radius=None):
    p_a, p_b = CLAIMS[claim]
    profile = mechanism.law(text).profile
    radius = radius or mechanism.radius
    return radius(p_a, p_b, n_units=len(text), attacker=SUBSTITUTE, profile=profile)


#: Swaps for `assert_answers_hold`, whose words have scores of all strengths.
STRONG_SWAPS = {"good": ["great", "fine"], "great": ["superb"], "bad": ["poor"], "poor": ["awful"]}


def assert_answers_hold(mechanism) -> None:
    """Certify some texts with `STRONG_SWAPS`, and every text within each radius."""
    scores = {"good": 2.0, "great": 1.0, "superb": 0.4, "fine": -0.7, "bad": -2, "poor": 0.3}

    def score(texts):
        sums = [sum(scores.get(w.lower().strip(",!"), 0.0) for w in t.split()) for t in texts]
        return [[-s, s] for s in sums]

    smoothed = SmoothedClassifier(CallableClassifier(score, ["bad", "good"]), mechanism)
    texts = ["Good, great plot", "good BAD film", "Great! great, good", "fine fine poor"]
    certified = smoothed.certify(texts, ExactPlan())
    assert max(certificate.radius for certificate in certified) > 0
    for text, certificate in zip(texts, certified, strict=True):
        near = [
            " ".join(other)
            for other, swapped in attacked_texts(mechanism, text.split())
            if swapped <= certificate.radius
        ]
        assert {c.predicted for c in smoothed.certify(near, ExactPlan())} == {certificate.predicted}
        sampled = smoothed.certify([text], SequentialPlan(max_votes=2_000))[0]
        assert sampled.radius <= certificate.radius
