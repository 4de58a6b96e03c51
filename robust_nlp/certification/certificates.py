"""What follows from the votes: bounds, and certificates as pure functions of counts."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Literal

from robust_nlp.certification.confidence import lower_confidence_bound
from robust_nlp.certification.sequential import sequential_lower_bound
from robust_nlp.certification.votes import VoteCounts
from robust_nlp.mechanisms.base import NO_RADIUS, TextMechanism
from robust_nlp.threats import ALL_EDITS, Attacker, ThreatModel, parse_attacker

Method = Literal["exact", "clopper-pearson", "sequential"]


@dataclass(frozen=True, kw_only=True)
class Bounds:
    """Bounds on the class probabilities that fail with probability at most alpha.

    Attributes:
        p_lower: Lower bound of the probability of the class `VoteCounts.top`.
        p_runner_up: Upper bound of the probability of every other class.
        alpha: Failure probability; `0.0` if no draw was needed.
        method: "exact", "clopper-pearson" or "sequential".
    """

    p_lower: float
    p_runner_up: float
    alpha: float
    method: Method


@dataclass(frozen=True, kw_only=True)
class Certificate:
    """What is proved about one text.

    With probability at least `1 - alpha` over the draws, every text within `radius` edits of the
    attacker in `threat` has the smoothed answer `predicted`, as the text itself has.

    Attributes:
        predicted: The predicted class, or `None` where the votes leave a doubt (abstention).
        radius: Certified radius in whole edits, inclusive; `None` on abstention.
        threat: Which edits count, and in which unit.
        p_lower: Lower bound of the probability of the leading class.
        p_runner_up: Upper bound of the probability of every other class.
        alpha: Failure probability; `0.0` if all noisy texts that matter were enumerated.
        method: "exact" (enumerated), "clopper-pearson" (a fixed number of votes) or "sequential".
        n_units: Number of units of the text.
        ceiling: The radius that unanimous votes without sampling error would have given.
        dead_zone: Whether all texts of this length have the same answer by necessity: the radius
            is then true and says nothing about the text.
        top: The leading class, also on abstention.
        swappable: How many units have a substitute that is covered, where substitutes are limited
            to allowed ones; `None` where anything may stand in for anything.
        details: By name, what the mechanism proves besides; see `TextMechanism.details`. Empty on
            abstention.
    """

    predicted: int | None
    radius: int | None
    threat: ThreatModel
    p_lower: float
    p_runner_up: float
    alpha: float
    method: Method
    n_units: int
    ceiling: int
    dead_zone: bool
    top: int
    swappable: int | None = None
    details: dict[str, float] = field(default_factory=dict, hash=False)

    @property
    def abstains(self) -> bool:
        """Whether no class is predicted."""
        return self.predicted is None

    @property
    def vacuous(self) -> bool:
        """Whether no unit has a substitute that is covered: a radius is then about nothing."""
        return self.swappable == 0

    @property
    def covers_all_swaps(self) -> bool:
        """Whether the answer stands however many units are replaced, and at least one can be."""
        if self.radius is None or not self.swappable:
            return False
        return self.radius >= self.swappable

    def covers(self, clean: Sequence[str], attacked: Sequence[str]) -> bool:
        """Tell whether an attacked text, as units, lies within the certified radius."""
        return self.radius is not None and self.threat.distance(clean, attacked) <= self.radius

    def __str__(self) -> str:
        if self.predicted is None:
            answer = f"abstains (leading class {self.top})"
        else:
            answer = f"class {self.predicted}, radius {self.radius} {self.threat.name}"
        doubt = "exact" if self.alpha == 0.0 else f"alpha {self.alpha:g}"
        dead = ", dead zone" if self.dead_zone else ""
        empty = ", nothing to swap" if self.vacuous and not self.dead_zone else ""
        return f"Certificate({answer}; p >= {self.p_lower:.4f}, {doubt}{dead}{empty})"


def bounds_from_votes(votes: VoteCounts, *, alpha: float) -> Bounds:
    """Bound the class probabilities from votes.

    With probability at least `1 - alpha`, the class `votes.top` has at least the probability
    `p_lower`, and every other class at most `p_runner_up`. With two classes, one bound at `alpha`
    says both. With more, the leading class and the others have `alpha / 2` each; there is no
    division by the number of classes, because the largest of the upper bounds fails only if the
    bound of the one class that truly is the runner-up fails.

    Args:
        votes: The votes; `votes.top` does not depend on the votes of `looks`.
        alpha: Failure probability, in `(0, 1)`.

    Departs: CERT-ED and AdaptDel choose the two leading classes from the votes that bound them.
    """
    if not votes.looks or votes.remainder == 0.0:
        others = [mass for label, mass in enumerate(votes.exact) if label != votes.top]
        return Bounds(
            p_lower=_probability(votes.exact[votes.top]),
            p_runner_up=_probability(max(others) + votes.remainder),
            alpha=0.0,
            method="exact",
        )
    share = alpha if votes.n_classes == 2 else alpha / 2.0

    def lower(counts: Sequence[int]) -> float:
        if len(votes.schedule) == 1:
            return lower_confidence_bound(counts[0], votes.schedule[0], alpha=share)
        return sequential_lower_bound(counts, schedule=votes.schedule, alpha=share)

    def votes_for(label: int) -> list[int]:
        return [counts[label] for counts in votes.looks]

    def votes_against(label: int) -> list[int]:
        return [sum(counts) - counts[label] for counts in votes.looks]

    p_lower = _probability(votes.exact[votes.top] + votes.remainder * lower(votes_for(votes.top)))
    p_runner_up = 1.0 - p_lower
    if votes.n_classes > 2:
        upper = max(
            mass + votes.remainder * (1.0 - lower(votes_against(label)))
            for label, mass in enumerate(votes.exact)
            if label != votes.top
        )
        p_runner_up = min(p_runner_up, _probability(upper))
    method: Method = "clopper-pearson" if len(votes.schedule) == 1 else "sequential"
    return Bounds(p_lower=p_lower, p_runner_up=p_runner_up, alpha=alpha, method=method)


def certificate_from_votes(
    votes: VoteCounts,
    mechanism: TextMechanism,
    *,
    alpha: float,
    attacker: Iterable[str] | str = ALL_EDITS,
) -> Certificate:
    """Return the certificate that follows from votes, without a model.

    Args:
        votes: The votes of the text's noisy versions.
        mechanism: The mechanism under which they were cast.
        alpha: Failure probability, in `(0, 1)`; the same votes give certificates against all
            attackers with this probability for all of them together.
        attacker: The attacker's moves, from clean to attacked.

    Raises:
        ValueError: If the mechanism has no certificate against the attacker.
    """
    moves = parse_attacker(attacker)
    bounds = bounds_from_votes(votes, alpha=alpha)
    radius = radius_from_bounds(bounds, mechanism, votes, attacker=moves)
    certified = radius != NO_RADIUS
    details = (
        mechanism.details(
            bounds.p_lower, bounds.p_runner_up, n_units=votes.n_units, profile=votes.profile
        )
        if certified
        else {}
    )
    return Certificate(
        predicted=votes.top if certified else None,
        radius=radius if certified else None,
        threat=ThreatModel(attacker=moves, unit=mechanism.unit, substitutes=mechanism.substitutes),
        p_lower=bounds.p_lower,
        p_runner_up=bounds.p_runner_up,
        alpha=bounds.alpha,
        method=bounds.method,
        n_units=votes.n_units,
        ceiling=mechanism.ceiling(votes.n_units, moves, votes.profile),
        dead_zone=mechanism.dead_zone(votes.n_units),
        top=votes.top,
        swappable=mechanism.swappable(votes.profile),
        details=details,
    )


def radius_from_bounds(
    bounds: Bounds, mechanism: TextMechanism, votes: VoteCounts, *, attacker: Attacker
) -> int:
    """Return the radius that bounds give, `NO_RADIUS` if they do not fix the answer."""
    return mechanism.radius(
        bounds.p_lower,
        bounds.p_runner_up,
        n_units=votes.n_units,
        attacker=attacker,
        profile=votes.profile,
    )


def certified_accuracy(
    certificates: Sequence[Certificate], labels: Sequence[int], radii: Iterable[int]
) -> dict[int, float]:
    """Return, per radius, the share of texts that are right and certified at least that far.

    At radius 0 this is the smoothed accuracy with abstentions counted as wrong. Texts of the dead
    zone count like all others; report their share beside it.

    Args:
        certificates: One certificate a text.
        labels: The true classes.
        radii: Radii in whole edits.

    Raises:
        ValueError: If there are no texts, or not as many labels as certificates.
    """
    if len(certificates) != len(labels) or not labels:
        raise ValueError(f"got {len(certificates)} certificates and {len(labels)} labels")
    return {
        radius: sum(
            c.predicted == label and c.radius is not None and c.radius >= radius
            for c, label in zip(certificates, labels, strict=True)
        )
        / len(labels)
        for radius in radii
    }


def _probability(value: float) -> float:
    """Clip what sums of probabilities exceed by rounding."""
    return min(1.0, max(0.0, value))
