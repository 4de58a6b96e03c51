"""Wrong certificates and wrong statistics, kept on purpose: the tests must catch every one.

Each is an error that a released implementation made, or that is easy to make. Radii have the
signature of `TextMechanism.radius` with the mechanism in front.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import NormalDist

from oracles import (
    ATTACKERS,
    Attack,
    Law,
    Word,
    adaptive_rate,
    deletion_law,
    masking_law,
    mixes,
    shown_units,
    strata_margin,
)

from robust_nlp.certification.certificates import Bounds, bounds_from_votes
from robust_nlp.certification.confidence import lower_confidence_bound
from robust_nlp.certification.votes import VoteCounts
from robust_nlp.mechanisms import AdaptiveDeletion, RandomizedDeletion, RandomMasking

Radius = Callable[..., int]

FIXED = RandomizedDeletion(p_del=0.9)
FALLING = AdaptiveDeletion(keeps=(0.2, 2.0), edges=(3,), p_max=0.97)  # rate 0.87, then 0.30
NARROW = AdaptiveDeletion(keeps=(0.1, 2.0, 0.1), edges=(4, 5), p_max=0.98)
MASKING = RandomMasking(p_mask=0.8)


def law_of(mechanism: object) -> Callable[[Word], Law]:
    """Return the law of noisy texts, from the settings of a mechanism and the definitions."""
    match mechanism:
        case RandomizedDeletion(p_del=p_del):
            return lambda text: deletion_law(text, p_del)
        case AdaptiveDeletion():
            return lambda text: deletion_law(text, rate_of(mechanism)(len(text)))
        case RandomMasking(p_mask=p_mask, min_kept=min_kept):
            return lambda text: masking_law(text, shown_units(len(text), p_mask, min_kept))
    raise TypeError(mechanism)


def rate_of(mechanism: object) -> Callable[[int], float]:
    """Return the deletion rate by length, from the settings of a mechanism."""
    match mechanism:
        case RandomizedDeletion(p_del=p_del):
            return lambda length: p_del
        case AdaptiveDeletion(keeps=keeps, edges=edges, p_min=p_min, p_max=p_max):
            return lambda length: adaptive_rate(length, keeps, edges, p_min, p_max)
    raise TypeError(mechanism)


# --- radii ---------------------------------------------------------------------------------------


def one_edit_too_many(mechanism, p_a, p_b, *, n_units, attacker):
    return mechanism.radius(p_a, p_b, n_units=n_units, attacker=attacker) + 1


def insertions_and_deletions_swapped(mechanism, p_a, p_b, *, n_units, attacker):
    other = {"insert": "delete", "delete": "insert", "substitute": "substitute"}
    swapped = frozenset(other[move] for move in attacker)
    return mechanism.radius(p_a, p_b, n_units=n_units, attacker=swapped)


def runner_up_without_the_mass_outside(mechanism, p_a, p_b, *, n_units, attacker):
    def margin(a: int, b: int, c: int) -> float:
        rates = mechanism.rate(n_units), mechanism.rate(n_units + a - b)
        low = (1.0 + strata_margin(n_units, (a, b, c), rates, p_a, 1.0 - p_a)) / 2.0
        high = low - strata_margin(n_units, (a, b, c), rates, p_a, p_b)
        return low - min(high - (1.0 - rates[1] ** (a + c)), 0.5)

    return _searched(margin, n_units, attacker)


def ties_certified(mechanism, p_a, p_b, *, n_units, attacker):
    if "substitute" not in attacker or p_a <= p_b:
        return -1
    boundary = 1.0 - (p_a - min(p_b, 1.0 - p_a)) / 2.0
    return math.floor(math.log(boundary) / math.log(mechanism.p_del) + 1e-9)


def radius_of_the_weakest_move(mechanism, p_a, p_b, *, n_units, attacker):
    radii = [
        mechanism.radius(p_a, p_b, n_units=n_units, attacker=frozenset({move})) for move in attacker
    ]
    return max(radii)


def rate_of_the_clean_text_for_all_lengths(mechanism, p_a, p_b, *, n_units, attacker):
    fixed = RandomizedDeletion(p_del=max(1e-6, mechanism.rate(n_units)))
    return fixed.radius(p_a, p_b, n_units=n_units, attacker=attacker)


def pure_deletions_skipped(mechanism, p_a, p_b, *, n_units, attacker):
    def margin(a: int, b: int, c: int) -> float:
        if b and not a and not c:
            return 1.0
        return _exact_margin(mechanism, p_a, p_b, n_units, (a, b, c))

    return _searched(margin, n_units, attacker)


def bisected_although_margins_rise_again(mechanism, p_a, p_b, *, n_units, attacker):
    def safe(radius: int) -> bool:
        return all(
            _exact_margin(mechanism, p_a, p_b, n_units, mix) > 1e-10
            for mix in mixes(radius, n_units, attacker)
        )

    low, high = -1, 6
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if safe(middle) else (low, middle)
    return low


def first_failing_radius(mechanism, p_a, p_b, *, n_units, attacker):
    return _masking_radius(mechanism.kept(n_units), p_a, p_b, n_units) + 1


def masks_rounded_up(mechanism, p_a, p_b, *, n_units, attacker):
    kept = n_units - math.ceil(n_units * mechanism.p_mask)
    return _masking_radius(kept, p_a, p_b, n_units)


def least_kept_units_forgotten(mechanism, p_a, p_b, *, n_units, attacker):
    kept = shown_units(n_units, mechanism.p_mask, 0)
    return _masking_radius(kept, p_a, p_b, n_units)


def loss_scaled_by_the_observed_share(mechanism, p_a, p_b, *, n_units, attacker):
    return _masking_radius(mechanism.kept(n_units), p_a, p_b, n_units, scale=p_a)


def _exact_margin(mechanism, p_a, p_b, n: int, mix: tuple[int, int, int]) -> float:
    rates = mechanism.rate(n), mechanism.rate(n + mix[0] - mix[1])
    return strata_margin(n, mix, rates, p_a, p_b)


def _searched(margin: Callable[..., float], n: int, attacker: Attack) -> int:
    """Search as it should be, with a wrong margin."""
    radius = -1
    while radius < 8 and all(margin(*mix) > 1e-10 for mix in mixes(radius + 1, n, attacker)):
        radius += 1
    return radius


def _masking_radius(kept: int, p_a: float, p_b: float, n: int, scale: float = 1.0) -> int:
    def safe(radius: int) -> bool:
        loss = 1.0 - math.comb(n - radius, kept) / math.comb(n, kept)
        return p_a - min(p_b, 1.0 - p_a) - 2.0 * scale * loss > 1e-12

    return next((r - 1 for r in range(n + 1) if not safe(r)), n)


@dataclass(frozen=True)
class RadiusMutant:
    """A wrong radius, and the mechanism and attackers that show it."""

    radius: Radius
    mechanism: object
    attackers: tuple[Attack, ...] = ATTACKERS


_SUBSTITUTE = (frozenset({"substitute"}),)

RADIUS_MUTANTS = {
    f"{mutant.radius.__name__}-{mutant.mechanism.kind}": mutant
    for mutant in (
        RadiusMutant(one_edit_too_many, FIXED),
        RadiusMutant(one_edit_too_many, FALLING),
        RadiusMutant(one_edit_too_many, MASKING, _SUBSTITUTE),
        RadiusMutant(insertions_and_deletions_swapped, FIXED),
        RadiusMutant(insertions_and_deletions_swapped, FALLING),
        RadiusMutant(runner_up_without_the_mass_outside, FIXED),
        RadiusMutant(runner_up_without_the_mass_outside, FALLING),
        RadiusMutant(ties_certified, FIXED),
        RadiusMutant(radius_of_the_weakest_move, FIXED),
        RadiusMutant(rate_of_the_clean_text_for_all_lengths, FALLING),
        RadiusMutant(pure_deletions_skipped, FALLING),
        RadiusMutant(bisected_although_margins_rise_again, NARROW, (frozenset({"insert"}),)),
        RadiusMutant(first_failing_radius, MASKING, _SUBSTITUTE),
        RadiusMutant(masks_rounded_up, MASKING, _SUBSTITUTE),
        RadiusMutant(
            least_kept_units_forgotten, RandomMasking(p_mask=0.9, min_kept=2), _SUBSTITUTE
        ),
        RadiusMutant(loss_scaled_by_the_observed_share, RandomMasking(p_mask=0.7), _SUBSTITUTE),
    )
}


# --- statistics ----------------------------------------------------------------------------------


def point_estimate(successes: int, trials: int, *, alpha: float) -> float:
    return successes / trials


def wald(successes: int, trials: int, *, alpha: float) -> float:
    share = successes / trials
    return share - NormalDist().inv_cdf(1.0 - alpha) * math.sqrt(share * (1.0 - share) / trials)


def wilson(successes: int, trials: int, *, alpha: float) -> float:
    z, share = NormalDist().inv_cdf(1.0 - alpha), successes / trials
    centre = share + z * z / (2.0 * trials)
    width = z * math.sqrt(share * (1.0 - share) / trials + z * z / (4.0 * trials * trials))
    return (centre - width) / (1.0 + z * z / trials)


#: Wrong lower confidence bounds, with the signature of `lower_confidence_bound`.
BOUND_MUTANTS = {bound.__name__: bound for bound in (point_estimate, wald, wilson)}


def same_bound_at_every_look(
    successes: Sequence[int], *, schedule: Sequence[int], alpha: float
) -> float:
    """Wrong: looks again and again with a bound that is good for one look."""
    return max(
        lower_confidence_bound(count, total, alpha=alpha)
        for count, total in zip(successes, schedule, strict=False)
    )


def whole_alpha_at_the_last_look(
    successes: Sequence[int], *, schedule: Sequence[int], alpha: float
) -> float:
    """Wrong: spends half of alpha on the looks before, and all of it again at the end."""
    spent = [alpha / (2.0 * len(schedule))] * (len(schedule) - 1) + [alpha]
    return max(
        lower_confidence_bound(count, total, alpha=share)
        for count, total, share in zip(successes, schedule, spent, strict=False)
    )


SEQUENTIAL_MUTANTS = {
    bound.__name__: bound for bound in (same_bound_at_every_look, whole_alpha_at_the_last_look)
}


def class_chosen_from_the_estimation_votes(votes: VoteCounts, *, alpha: float) -> Bounds:
    return bounds_from_votes(dataclasses.replace(votes, selection=votes.looks[-1]), alpha=alpha)


def whole_alpha_for_each_of_two_bounds(votes: VoteCounts, *, alpha: float) -> Bounds:
    return bounds_from_votes(votes, alpha=min(2.0 * alpha, 0.99))


def runner_up_by_index(votes: VoteCounts, *, alpha: float) -> Bounds:
    """Wrong: bounds one other class, the second of the selection votes, instead of all."""
    other = next(label for label in range(votes.n_classes) if label != votes.top)
    against = sum(votes.looks[-1]) - votes.looks[-1][other]
    bounds = bounds_from_votes(votes, alpha=alpha)
    upper = 1.0 - lower_confidence_bound(against, sum(votes.looks[-1]), alpha=alpha / 2.0)
    return dataclasses.replace(bounds, p_runner_up=min(upper, 1.0 - bounds.p_lower))


def shares_of_the_votes(votes: VoteCounts, *, alpha: float) -> Bounds:
    counts, total = votes.looks[-1], sum(votes.looks[-1])
    others = [count for label, count in enumerate(counts) if label != votes.top]
    return dataclasses.replace(
        bounds_from_votes(votes, alpha=alpha),
        p_lower=counts[votes.top] / total,
        p_runner_up=max(others) / total,
    )


#: Wrong bounds from votes, with the signature of `bounds_from_votes`.
VOTE_MUTANTS = {
    bounds.__name__: bounds
    for bounds in (
        class_chosen_from_the_estimation_votes,
        whole_alpha_for_each_of_two_bounds,
        runner_up_by_index,
        shares_of_the_votes,
    )
}
