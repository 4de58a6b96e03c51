"""The runnable contract: right mechanisms pass, wrong ones are told what is wrong with them."""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pytest
from oracles import ATTACKERS, PROBABILITIES, mixes
from oracles import worst_margins as oracle_margins

from robust_nlp.likelihood import SAME, RatioLevels
from robust_nlp.mechanisms import (
    NO_RADIUS,
    REMOVED,
    AdaptiveDeletion,
    RandomizedDeletion,
    RandomMasking,
    deletion_radius,
)
from robust_nlp.mechanisms.base import Law, Strata
from robust_nlp.mechanisms.combined import CombinedNoise
from robust_nlp.mechanisms.neyman_pearson import MAX_RADIUS, NeymanPearsonMechanism
from robust_nlp.testing import (
    CertificateRefuted,
    ContractBroken,
    check_mechanism,
    worst_margins,
)
from robust_nlp.threats import ALL_EDITS, Attacker

INSERT, DELETE, SUBSTITUTE = (frozenset({move}) for move in ("insert", "delete", "substitute"))

# --- a mechanism in a few lines ------------------------------------------------------------------


class MaskingLaw(Law):
    """Mask every unit on its own, each with a probability of its own."""

    extra_units = ("_",)

    def __init__(self, chances: Sequence[float]) -> None:
        self.n_units, self.profile = len(chances), tuple((p,) for p in chances)
        self._chances = np.array(chances)

    def strata(self) -> Strata:
        return Strata(np.array([self.n_units]), np.ones(1), np.array([2.0**self.n_units]))

    def kept_counts(self, rows):
        return np.full(len(rows), self.n_units)

    def draw(self, size, rng):
        masked = rng.random((size, self.n_units)) < self._chances
        return np.where(masked, self.n_units, np.arange(self.n_units))

    def outcomes(self):
        masked = np.array(list(itertools.product((False, True), repeat=self.n_units)), np.bool_)
        masked = masked.reshape(2**self.n_units, self.n_units)
        chances = np.where(masked, self._chances, 1.0 - self._chances).prod(axis=1)
        return np.where(masked, self.n_units, np.arange(self.n_units)), chances


class UnlistedMaskingLaw(MaskingLaw):
    """Its noisy texts are not equally likely, so that it has no strata to enumerate."""

    def strata(self) -> Strata:
        return Strata(np.array([self.n_units]), np.ones(1), np.array([np.inf]))


@dataclass(frozen=True, kw_only=True)
class MaskingByUnit(NeymanPearsonMechanism):
    """Mask each unit with a probability that depends on how rare it is."""

    common: str = "a"
    p_common: float = 0.95
    p_rare: float = 0.8

    kind: ClassVar[str] = "masking_by_unit"
    certifies: ClassVar[Attacker] = SUBSTITUTE
    description: ClassVar[str] = "Masks each unit."

    def law(self, units):
        return UnlistedMaskingLaw([self.p_mask(unit) for unit in units])

    def p_mask(self, unit):
        return self.p_common if unit == self.common else self.p_rare

    def pairs(self, edits, *, n_units, attacker, profile):
        # The worst substitute is a rare unit, for it is shown more often; so is the worst unit.
        product = SAME
        for (p,) in sorted(profile)[:edits]:
            both = min(p, self.p_rare)
            product = product * RatioLevels.of(
                [both, p - both, 0.0, 1.0 - p], [both, 0.0, 1.0 - both, 0.0]
            )
        return [product]

    def dead_zone(self, n_units):
        return self.p_rare**n_units > 0.5


@dataclass(frozen=True, kw_only=True)
class DeletionByPairs(NeymanPearsonMechanism):
    """Randomized deletion once more, from the laws of one unit."""

    p_del: float
    kind: ClassVar[str] = "deletion_by_pairs"
    certifies: ClassVar[Attacker] = ALL_EDITS
    description: ClassVar[str] = "Deletes units."

    def law(self, units):
        return RandomizedDeletion(p_del=self.p_del).law(units)

    def pairs(self, edits, *, n_units, attacker, profile):
        p = self.p_del
        deletion = RatioLevels.of([p, 1.0 - p], [1.0, 0.0])
        insertion = deletion.swapped()
        substitution = RatioLevels.of([p, 1.0 - p, 0.0], [p, 0.0, 1.0 - p])
        return [
            insertion.power(a) * deletion.power(b) * substitution.power(c)
            for a, b, c in mixes(edits, n_units, attacker)
        ]

    def dead_zone(self, n_units):
        return self.p_del**n_units > 0.5


@pytest.mark.parametrize("attacker", ATTACKERS, ids=lambda a: "+".join(sorted(a)))
def test_pairs_of_one_unit_give_the_radius_of_randomized_deletion(attacker):
    mechanism = DeletionByPairs(p_del=0.9)
    for p_a, p_b in PROBABILITIES:
        radius = mechanism.radius(p_a, p_b, n_units=20, attacker=attacker)
        assert radius == deletion_radius(p_a, p_b, p_del=0.9, n_units=20, attacker=attacker)


def test_a_mechanism_with_pairs_by_text_passes_and_uses_its_profile():
    mechanism = MaskingByUnit()
    assert check_mechanism(mechanism, alphabet=("a", "b", "c")) > 10_000
    radii = [
        mechanism.radius(
            0.99, 0.01, n_units=30, attacker=SUBSTITUTE, profile=mechanism.law(units).profile
        )
        for units in (["b"] * 30, ["a"] * 30)
    ]
    assert radii == sorted(radii)
    assert radii[0] >= 2


def test_the_generic_radius_ends_at_the_length_or_at_the_largest():
    mechanism = MaskingByUnit(p_common=1.0 - 1e-9, p_rare=1.0 - 1e-9)
    profile = ((1.0 - 1e-9,),) * 5
    settings = {"n_units": 5, "attacker": SUBSTITUTE, "profile": profile}
    assert mechanism.radius(0.9, 0.1, **settings) == 5
    assert mechanism.radius(0.5, 0.5, **settings) == NO_RADIUS
    deleting = DeletionByPairs(p_del=1.0 - 1e-9)
    assert deleting.radius(0.9, 0.1, n_units=5, attacker=INSERT) == MAX_RADIUS
    with pytest.raises(ValueError, match="MaskingByUnit certifies against substitute"):
        mechanism.radius(0.9, 0.1, n_units=5, attacker=INSERT)


# --- what passes ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("mechanism", "settings"),
    [
        (RandomizedDeletion(p_del=0.9), {}),
        (RandomizedDeletion(p_del=0.5), {"longest": 4, "alphabet": ("a", "b")}),
        (RandomizedDeletion(p_del=0.05, unit="character"), {"longest": 2}),
        (
            AdaptiveDeletion(keeps=(0.2, 2.0), edges=(3,), p_max=0.97),
            {"alphabet": ("a", "b"), "attackers": (ALL_EDITS, DELETE)},
        ),
        (RandomMasking(p_mask=0.7, mask="_"), {}),
        (RandomMasking(p_mask=0.8, min_kept=0, mask="a"), {}),
        (CombinedNoise(p_del=0.6, p_mask=0.3, mask="_"), {}),
        (
            CombinedNoise(p_del=0.5, p_mask=0.2, p_substitute=0.2, mask="a", vocabulary=("b", "w")),
            {"attackers": (ALL_EDITS, INSERT, DELETE)},
        ),
    ],
    ids=lambda value: getattr(value, "kind", ""),
)
def test_the_mechanisms_of_the_package_keep_the_contract(mechanism, settings):
    assert check_mechanism(mechanism, **settings) > 500


def test_a_mechanism_that_claims_nothing_passes_with_no_claim_checked():
    assert check_mechanism(RandomMasking(p_mask=0.1, mask="_"), longest=2) == 0


def test_another_distance_may_count_the_moves():
    def within_capitals(clean, attacked, attacker):
        same = [x.lower() for x in clean] == [x.lower() for x in attacked]
        return sum(x != y for x, y in zip(clean, attacked, strict=True)) if same else math.inf

    settings = {"alphabet": ("a", "A", "b"), "distance": within_capitals}
    assert check_mechanism(CaseFolding(), **settings) > 500
    with pytest.raises(CertificateRefuted, match=r"\['a'\] to the attacked text \['b'\]"):
        check_mechanism(CaseFolding(), alphabet=("a", "A", "b"))


@dataclass(frozen=True, kw_only=True)
class CaseFolding(RandomMasking):
    """Show letters in lower case only: safe against other capitals, and nothing else."""

    p_mask: float = 0.5
    mask: str = "_"

    def law(self, units):
        return FoldedLaw(units)

    def radius(self, p_lower, p_runner_up, *, n_units, attacker, profile=()):
        return n_units if p_lower > min(p_runner_up, 1.0 - p_lower) + 1e-9 else NO_RADIUS


class FoldedLaw(Law):
    def __init__(self, units):
        self.n_units = len(units)
        self.extra_units = tuple(unit.lower() for unit in units)

    def strata(self):
        return Strata(np.array([self.n_units]), np.ones(1), np.ones(1))

    def kept_counts(self, rows):
        return np.full(len(rows), self.n_units)

    def enumerate(self, kept):
        return np.arange(self.n_units, 2 * self.n_units)[None]

    def draw(self, size, rng):
        return np.repeat(self.enumerate(0), size, axis=0)


# --- wrong radii ---------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Deletion(RandomizedDeletion):
    """Randomized deletion, for mutants to change."""

    p_del: float = 0.8

    def right(self, p_lower, p_runner_up, n_units, attacker):
        return deletion_radius(
            p_lower, p_runner_up, p_del=self.p_del, n_units=n_units, attacker=attacker
        )


class OneEditTooMany(Deletion):
    def radius(self, p_lower, p_runner_up, *, n_units, attacker, profile=()):
        radius = self.right(p_lower, p_runner_up, n_units, attacker)
        return radius + (radius > NO_RADIUS)


class DirectionSwapped(Deletion):
    def radius(self, p_lower, p_runner_up, *, n_units, attacker, profile=()):
        other = {"insert": "delete", "delete": "insert", "substitute": "substitute"}
        swapped = frozenset(other[move] for move in attacker)
        return self.right(p_lower, p_runner_up, n_units, swapped)


class RunnerUpForgotten(Deletion):
    """What the attack adds is not given to the other class."""

    def radius(self, p_lower, p_runner_up, *, n_units, attacker, profile=()):
        if self.right(p_lower, p_runner_up, n_units, attacker) == NO_RADIUS:
            return NO_RADIUS
        runner_up = min(p_runner_up, 1.0 - p_lower)
        safe = [p_lower - 1.0 + self.p_del**k > runner_up + 1e-9 for k in range(n_units + 2)]
        return safe.index(False) - 1 if False in safe else n_units


class TiesCertified(Deletion):
    """The closed form without rounding: it holds where both classes are equally likely."""

    def radius(self, p_lower, p_runner_up, *, n_units, attacker, profile=()):
        margin = p_lower - min(p_runner_up, 1.0 - p_lower)
        if attacker != SUBSTITUTE or margin <= 0.0:
            return self.right(p_lower, p_runner_up, n_units, attacker)
        safe = [2.0 * self.p_del**k - 2.0 + margin >= 0.0 for k in range(n_units + 2)]
        return min(safe.index(False) - 1 if False in safe else n_units, n_units)


class BoundsIgnored(Deletion):
    """Looks at one bound only, where it should look at both."""

    def radius(self, p_lower, p_runner_up, *, n_units, attacker, profile=()):
        return self.right(p_lower, 0.0, n_units, attacker)


@pytest.mark.parametrize(
    "mutant", [OneEditTooMany, DirectionSwapped, RunnerUpForgotten, TiesCertified]
)
def test_a_wrong_radius_is_refuted_by_name(mutant):
    with pytest.raises(CertificateRefuted) as caught:
        check_mechanism(mutant())
    error = caught.value
    law = {
        text: dict(zip(*listed(mutant(), text), strict=True))
        for text in (error.clean, error.attacked)
    }
    exact = oracle_margins(
        law[error.clean], law[error.attacked], [(error.p_lower, error.p_runner_up)]
    )[0]
    assert exact == pytest.approx(error.margin, abs=1e-12)
    assert error.margin <= 1e-13
    assert error.distance <= error.radius
    for said in (str(list(error.clean)), str(list(error.attacked)), f"radius {error.radius} "):
        assert said in str(error)


def listed(mechanism, text):
    """The noisy texts of deletion, and how likely they are."""
    p, law = mechanism.p_del, {}
    for keep in itertools.product((False, True), repeat=len(text)):
        noisy = tuple(itertools.compress(text, keep))
        law[noisy] = law.get(noisy, 0.0) + math.prod(1.0 - p if kept else p for kept in keep)
    return law.keys(), law.values()


def test_a_radius_where_no_class_leads_is_refused():
    with pytest.raises(ContractBroken, match=r"does not lead at p_A=0\.1 and p_B=0\.1"):
        check_mechanism(BoundsIgnored())


class LessForMore(Deletion):
    def radius(self, p_lower, p_runner_up, *, n_units, attacker, profile=()):
        radius = self.right(p_lower, p_runner_up, n_units, attacker)
        return min(radius, 0) if p_lower > 0.95 else radius


class MoreForLess(Deletion):
    def radius(self, p_lower, p_runner_up, *, n_units, attacker, profile=()):
        radius = self.right(p_lower, p_runner_up, n_units, attacker)
        return min(radius, 0) if p_runner_up < 0.05 else radius


class HalfARadius(Deletion):
    def radius(self, p_lower, p_runner_up, *, n_units, attacker, profile=()):
        return -2 if p_lower > 0.95 else NO_RADIUS


@pytest.mark.parametrize(
    ("mutant", "message"),
    [
        (LessForMore, r"the radius falls from p_A=0\.9: got 0 at p_A=0\.99"),
        (MoreForLess, r"the radius rises from p_B=0\.0: got 1 at p_A=0\.4 and p_B=0\.1"),
        (HalfARadius, r"a radius is at least -1; got -2 at p_A=0\.99"),
    ],
)
def test_a_radius_that_is_not_monotone_is_refused(mutant, message):
    with pytest.raises(ContractBroken, match=message):
        check_mechanism(mutant())


# --- wrong laws ----------------------------------------------------------------------------------


class LeakyLaw(Law):
    """Deletion that writes the number of units at the end."""

    def __init__(self, inner):
        self._inner, self.n_units = inner, inner.n_units
        self.extra_units = (f"{inner.n_units} units",)

    def strata(self):
        return self._inner.strata()

    def _signed(self, rows):
        return np.column_stack([rows, np.full(len(rows), self.n_units)])

    def enumerate(self, kept):
        return self._signed(self._inner.enumerate(kept))

    def draw(self, size, rng):
        return self._signed(self._inner.draw(size, rng))


class Leaky(Deletion):
    def law(self, units):
        return LeakyLaw(super().law(units))


def test_a_law_that_leaks_the_length_is_refuted():
    with pytest.raises(CertificateRefuted) as caught:
        check_mechanism(Leaky())
    assert len(caught.value.clean) != len(caught.value.attacked)
    assert caught.value.margin == pytest.approx(-1.0)


class OtherRateDrawn(Deletion):
    def draw(self, n_units, size, rng):
        return RandomizedDeletion(p_del=0.83).draw(n_units, size, rng)


class UnitsSwapped(Deletion):
    def draw(self, n_units, size, rng):
        return super().draw(n_units, size, rng)[:, ::-1]


class OwnRandomness(Deletion):
    def draw(self, n_units, size, rng):
        return super().draw(n_units, size, np.random.default_rng())


class TooFewDrawn(Deletion):
    def draw(self, n_units, size, rng):
        return super().draw(n_units, size - 1, rng)


class AnotherTextDrawn(Deletion):
    def draw(self, n_units, size, rng):
        return np.where(super().draw(n_units, size, rng) == REMOVED, REMOVED, n_units)


class StrataOfAnotherRate(Deletion):
    def strata(self, n_units):
        return RandomizedDeletion(p_del=0.7).strata(n_units)


class StratumMissing(Deletion):
    def strata(self, n_units):
        strata = super().strata(n_units)
        kept = slice(min(n_units, 1), None)
        return Strata(strata.kept[kept], strata.probability[kept], strata.outcomes[kept])


class OutcomeMissing(Deletion):
    def enumerate(self, n_units, kept):
        return super().enumerate(n_units, kept)[: max(1, n_units - 1)]


@pytest.mark.parametrize(
    ("mutant", "message"),
    [
        (OtherRateDrawn, r"draw of \['a'\] does not follow its law: the noisy text .* was drawn"),
        (StrataOfAnotherRate, r"draw of \['a'\] does not follow its law"),
        (UnitsSwapped, r"draw of \['a', 'b'\] does not follow its law: .*\['b', 'a'\] was drawn"),
        (OwnRandomness, r"draw of .* the same with the same generator"),
        (TooFewDrawn, r"draw of \[\] must give as many noisy texts as it is asked for"),
        (AnotherTextDrawn, r"rows of indices into its units and the 0 extra ones"),
        (StratumMissing, r"noisy texts of \['a'\] must be at least 0 and sum to one; they sum to"),
        (OutcomeMissing, r"strata of \['a', 'a'\] are not what enumerate lists"),
    ],
)
def test_a_wrong_law_is_refused(mutant, message):
    with pytest.raises(ContractBroken, match=message):
        check_mechanism(mutant(p_del=0.8))


class WrongLength(Deletion):
    def law(self, units):
        return super().law([*units, "more"])


class MaskingOfUnequalChances(MaskingByUnit):
    """Its strata say that all noisy texts are equally likely, but they are not."""

    def law(self, units):
        law = MaskingLaw([self.p_mask(unit) for unit in units])
        law.enumerate = lambda kept: law.outcomes()[0]
        return law


class WrongStratum(UnlistedMaskingLaw):
    def kept_counts(self, rows):
        return (rows < self.n_units).sum(axis=1)


class MaskingInWrongStrata(MaskingByUnit):
    def law(self, units):
        return WrongStratum([self.p_mask(unit) for unit in units])


@pytest.mark.parametrize(
    ("mechanism", "message"),
    [
        (WrongLength(), r"the law of \[\] has n_units=1"),
        (MaskingOfUnequalChances(), r"strata of \['a'\] are not what enumerate lists"),
        (MaskingInWrongStrata(), r"strata of \['a'\] that keep \[1\] units have probabilities \[1"),
    ],
)
def test_a_law_that_contradicts_itself_is_refused(mechanism, message):
    with pytest.raises(ContractBroken, match=message):
        check_mechanism(mechanism)


def test_a_law_that_cannot_be_listed_is_not_checked():
    class Unlisted(Deletion):
        def enumerate(self, n_units, kept):
            raise NotImplementedError("too many")

    with pytest.raises(NotImplementedError, match="too many"):
        check_mechanism(Unlisted())


# --- the worst base classifier -------------------------------------------------------------------


def test_the_worst_margin_is_that_of_an_independent_oracle():
    rng = np.random.default_rng(0)
    points = np.array([p for p in PROBABILITIES if sum(p) <= 1.0]).T
    for _ in range(50):
        laws = []
        for _ in range(2):
            weights = rng.integers(0, 5, size=6) * rng.random(6)
            weights[0] += 0.1
            laws.append({(str(i),): w / weights.sum() for i, w in enumerate(weights) if w > 0.0})
        margins = worst_margins(*laws, *points)
        assert margins == pytest.approx(oracle_margins(*laws, points.T), abs=1e-12)
