"""What a mechanism can promise on given texts, before any vote is cast."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from robust_nlp.base_classifier import Side, Text, split_pair
from robust_nlp.certification.engine import enumerated_strata
from robust_nlp.certification.plan import ExactPlan, FixedPlan, SamplingPlan
from robust_nlp.mechanisms import Law, TextMechanism
from robust_nlp.threats import Attacker, Unit, attacker_name
from robust_nlp.units import split_units

#: Tokens of an average unit, and special tokens of an input.
TOKENS_PER_UNIT = {"word": 1.3, "character": 0.5, "token": 1.0}
SPECIAL_TOKENS = 2

#: Texts, evenly spread by length, whose ceilings are computed: some mechanisms take their time.
CEILING_TEXTS = 25

#: Shares of texts above which a caution is worth its line.
TELLING_SHARE = 0.1


@dataclass(frozen=True, kw_only=True)
class Advice:
    """What a mechanism and a plan can promise on some texts.

    Attributes:
        texts: Number of texts.
        ceilings: By the attacker's name, the radius that votes of one mind would give the median
            text; half of the texts can never have more. Found on `CEILING_TEXTS` of them.
        no_radius: Share of these that cannot have a radius above 0 against the first attacker.
        no_swaps: Share of these in which no word has an allowed substitute; 0 where anything may
            stand in for anything.
        dead_zone: Share of texts whose answer is the same for all texts of their length.
        exact: Share of texts whose noisy versions the plan classifies one and all, so that their
            certificates have no failure probability.
        refused: Share of texts that have too many noisy versions for an exact plan.
        kept_units: Units kept by a noisy version, averaged over texts.
        tokens: Tokens that the classifier reads per text at most, averaged over texts; sequential
            plans mostly stop much earlier.
    """

    texts: int
    ceilings: dict[str, int]
    no_radius: float
    no_swaps: float
    dead_zone: float
    exact: float
    refused: float
    kept_units: float
    tokens: float


def advise(
    texts: Sequence[Sequence[str]],
    mechanism: TextMechanism,
    attackers: Sequence[Attacker],
    plan: SamplingPlan,
) -> Advice:
    """Say what a mechanism and a plan can promise on texts.

    Args:
        texts: The units of each text; one text at least.
        mechanism: The noise.
        attackers: The attackers in question, the most important first.
        plan: How many votes are cast.

    Raises:
        ValueError: If there are no texts or attackers, or no certificate against one of these.
    """
    if not texts or not attackers:
        raise ValueError(f"got {len(texts)} texts and {len(attackers)} attackers")
    lengths, where, counts = np.unique(
        [len(units) for units in texts], return_index=True, return_counts=True
    )
    share = counts / counts.sum()
    costs = [_cost(mechanism.law(texts[i]), mechanism, plan) for i in where]
    order = np.argsort([len(units) for units in texts], kind="stable")
    ranks = np.rint((np.arange(CEILING_TEXTS) + 0.5) / CEILING_TEXTS * (len(texts) - 1))
    some = [mechanism.law(texts[i]) for i in order[ranks.astype(np.int64)]]
    ceilings = {
        attacker_name(attacker): np.array(
            [mechanism.ceiling(law.n_units, attacker, law.profile) for law in some]
        )
        for attacker in attackers
    }
    return Advice(
        texts=len(texts),
        ceilings={name: int(np.median(radii)) for name, radii in ceilings.items()},
        no_radius=float(np.mean(ceilings[attacker_name(attackers[0])] < 1)),
        no_swaps=float(np.mean([mechanism.swappable(law.profile) == 0 for law in some])),
        dead_zone=float(share @ [mechanism.dead_zone(int(n)) for n in lengths]),
        exact=float(share @ [cost.exact for cost in costs]),
        refused=float(share @ [cost.refused for cost in costs]),
        kept_units=float(share @ [cost.kept for cost in costs]),
        tokens=float(share @ [cost.tokens for cost in costs]),
    )


def cautions(advice: Advice) -> list[str]:
    """Say in words what would disappoint; empty if nothing would."""
    texts, attacker = f"of {advice.texts} texts", next(iter(advice.ceilings))
    lines = []
    if advice.refused > 0.0:
        lines.append(
            f"{advice.refused:.1%} {texts} have too many noisy versions for an exact plan, which "
            "will stop there; use a sequential or a fixed plan"
        )
    if advice.no_radius > TELLING_SHARE:
        lines.append(
            f"{advice.no_radius:.0%} {texts} cannot have a certified radius above 0 against "
            f"{attacker}, however the votes fall: the noise is too weak"
        )
    if advice.no_swaps > TELLING_SHARE:
        lines.append(
            f"{advice.no_swaps:.0%} {texts} have no word with an allowed substitute: their "
            "certificates are about nothing, and are counted apart in reports"
        )
    if advice.dead_zone > TELLING_SHARE:
        lines.append(
            f"{advice.dead_zone:.0%} {texts} are in the dead zone: so short that all texts of "
            "their length have the same smoothed answer. Their certificates are true and say "
            "nothing about the text; the noise is too strong for them"
        )
    return lines


def text_units(
    texts: Iterable[Text], unit: Unit, protected: Side = "second", tokenizer: Any = None
) -> list[list[str]]:
    """Split each text into the units that are open to edits.

    Args:
        texts: Texts, or pairs of texts.
        unit: The unit.
        protected: The side of a pair that does not count.
        tokenizer: Tokenizer of the base classifier; only tokens need one.

    Raises:
        ValueError: If tokens are to be found without a tokenizer.
    """
    bodies = [split_pair(text, protected)[0] for text in texts]
    if unit != "token" or tokenizer is None:
        return [split_units(body, unit) for body in bodies]
    encoded = tokenizer(bodies, add_special_tokens=False, verbose=False)
    return [[str(token) for token in ids] for ids in encoded["input_ids"]]


@dataclass(frozen=True)
class _Cost:
    """What one text costs."""

    kept: float
    exact: bool
    refused: bool
    tokens: float


def _cost(law: Law, mechanism: TextMechanism, plan: SamplingPlan) -> _Cost:
    n_units, strata = law.n_units, law.strata()
    kept = float(strata.kept @ strata.probability)
    read = np.full(len(strata.kept), n_units) if mechanism.keeps_length else strata.kept
    tokens = SPECIAL_TOKENS + TOKENS_PER_UNIT[mechanism.unit] * read
    try:
        chosen = enumerated_strata(strata, n_units, plan)
    except ValueError:
        return _Cost(kept, exact=False, refused=True, tokens=float("inf"))
    left = float(strata.probability[~chosen].sum())
    total = float(strata.outcomes[chosen] @ tokens[chosen])
    if left > 0.0 and not isinstance(plan, ExactPlan):
        most = plan.n_estimation if isinstance(plan, FixedPlan) else plan.max_votes * left
        mean = float(strata.probability[~chosen] @ tokens[~chosen]) / left
        total += (plan.n_selection + most) * mean
    return _Cost(kept, exact=bool(chosen.all()), refused=False, tokens=total)
