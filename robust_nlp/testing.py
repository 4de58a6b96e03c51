"""The contract of a mechanism, as a check that anybody who writes one can run.

Nothing here knows how a certificate was derived. The laws of the noise on all short texts are
listed, and for each pair of texts within a claimed radius the base classifier that does worst is
found from the two laws alone. If it changes its answer, the claim is wrong; if none does, the claim
is true for these two texts, whatever the base classifier.
"""

from __future__ import annotations

import itertools
import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from functools import partial

import numpy as np
from scipy.stats import binom

from robust_nlp.errors import RobustNLPError
from robust_nlp.mechanisms.base import (
    NO_RADIUS,
    REMOVED,
    FloatArray,
    IntArray,
    Law,
    Profile,
    TextMechanism,
)
from robust_nlp.threats import Attacker, ThreatModel, Unit, attacker_name, parse_attacker

Text = tuple[str, ...]
NoisyLaw = dict[Text, float]

#: Fewest moves of an attacker from a clean to an attacked text, both as units; `inf` if none.
Distance = Callable[[Text, Text, Attacker], float]

#: Probabilities of the predicted class, and bounds of the others, at which radii are compared.
GRID = (0.0, 0.1, 0.25, 0.4, 0.5, 0.6, 0.75, 0.9, 0.99, 1.0)

#: Largest probability of the other classes, as a share of what the predicted class leaves, where
#: the probabilities are sought at which a radius begins.
SHARES = (1.0, 0.0)

#: Margins up to this may be ties; sums of listed probabilities are good to about 1e-15.
TIE = 1e-13

#: Two probabilities of a noisy text that differ by more are different.
TOLERANCE = 1e-9

#: Chance that draws from the right law are called wrong, for one text.
FALSE_ALARM = 1e-9


class ContractBroken(RobustNLPError, AssertionError):
    """A mechanism does not do what every mechanism must."""


class CertificateRefuted(ContractBroken):
    """A base classifier changes its answer within the radius that a mechanism claims.

    Attributes:
        clean: The clean text, as units.
        attacked: The attacked text, as units.
        attacker: The moves of the attacker.
        p_lower: Clean probability of the predicted class.
        p_runner_up: Largest clean probability of the other classes.
        radius: The radius that is claimed.
        distance: Moves from the clean to the attacked text.
        margin: Attacked probability of the predicted class minus that of another, at worst.
    """

    def __init__(
        self,
        *,
        clean: Text,
        attacked: Text,
        attacker: Attacker,
        p_lower: float,
        p_runner_up: float,
        radius: int,
        distance: float,
        margin: float,
    ) -> None:
        self.clean, self.attacked, self.attacker = clean, attacked, attacker
        self.p_lower, self.p_runner_up = p_lower, p_runner_up
        self.radius, self.distance, self.margin = radius, distance, margin
        super().__init__(
            f"the radius {radius} against {attacker_name(attacker)} is too large: from the clean "
            f"text {list(clean)} to the attacked text {list(attacked)} it is {distance:g}, and a "
            f"base classifier with p_A={p_lower!r} and p_B={p_runner_up!r} on the clean text has "
            f"p_A - p_B = {margin:.3g} on the attacked text"
        )


def check_mechanism(
    mechanism: TextMechanism,
    *,
    alphabet: Sequence[str] = ("a", "b", "c"),
    longest: int = 3,
    attackers: Iterable[Attacker] | None = None,
    distance: Distance | None = None,
    n_draws: int = 10_000,
    seed: int = 0,
) -> int:
    """Check that a mechanism draws from its law and that no base classifier refutes its radius.

    Of every text over a small alphabet up to some length:

    - the listed law sums to one and fits its strata, and `draw` follows it, depending on `rng`
      alone (a binomial test of each noisy text);
    - within each claimed radius no other text gets another answer, by the worst of all base
      classifiers, at a grid of probabilities and where each radius begins;
    - the radius never falls when the predicted class becomes more probable or the others less,
      and is `NO_RADIUS` when the predicted class does not lead.

    Args:
        mechanism: A mechanism that removes, replaces, adds or reorders units.
        alphabet: The units of the texts. Take some that the noise may write and some that it never
            writes, and for mechanisms with allowed substitutes some with and some without.
        longest: Units of the longest texts.
        attackers: The attackers to check; `None` takes all that the mechanism certifies against.
        distance: Counts the moves between two texts for mechanisms with an attacker of their own,
            such as one who replaces words by their synonyms only; `None` takes `ThreatModel`.
        n_draws: Draws from the law of each text.
        seed: Seed of the draws.

    Returns:
        How many claims about other texts than the clean one were checked. Zero means that nothing
        is claimed about texts this short.

    Raises:
        CertificateRefuted: If a base classifier refutes a radius.
        ContractBroken: If another clause does not hold.
        NotImplementedError: If the law of a text cannot be listed.
    """
    count = distance or partial(_moves, mechanism.unit)
    texts = [text for n in range(longest + 1) for text in itertools.product(alphabet, repeat=n)]
    laws = {text: mechanism.law(text) for text in texts}
    noisy = {text: _listed(law, text) for text, law in laws.items()}
    for text, law in laws.items():
        _check_draws(law, text, noisy[text], n_draws, seed)
    checked = 0
    for attacker in _attackers(mechanism) if attackers is None else attackers:
        claims: dict[tuple[int, Profile], FloatArray] = {}
        for clean in texts:
            key = len(clean), laws[clean].profile
            distances = [count(clean, attacked, attacker) for attacked in texts]
            if key not in claims:
                farthest = int(max(moves for moves in distances if moves < math.inf))
                claims[key] = _claims(mechanism, attacker, *key, farthest)
            for attacked, moves in zip(texts, distances, strict=True):
                p_lower, p_runner_up, radius = claims[key][:, claims[key][2] >= moves]
                margins = worst_margins(noisy[clean], noisy[attacked], p_lower, p_runner_up)
                if (margins <= TIE).any():
                    worst = int(margins.argmin())
                    raise CertificateRefuted(
                        clean=clean,
                        attacked=attacked,
                        attacker=attacker,
                        p_lower=float(p_lower[worst]),
                        p_runner_up=float(p_runner_up[worst]),
                        radius=int(radius[worst]),
                        distance=moves,
                        margin=float(margins[worst]),
                    )
                checked += len(margins) * (clean != attacked)
    return checked


def worst_margins(
    clean: NoisyLaw, attacked: NoisyLaw, p_lower: FloatArray, p_runner_up: FloatArray
) -> FloatArray:
    """Return by how much the predicted class leads on the attacked text, at worst.

    The worst base classifier gives the predicted class those noisy texts that the attack makes
    rarest, and one other class those that it makes most frequent (Neyman and Pearson).

    Args:
        clean: Probability of each noisy text of the clean text.
        attacked: Probability of each noisy text of the attacked text.
        p_lower: Clean probabilities of the predicted class; shape `(claims,)`.
        p_runner_up: Largest clean probabilities of another class; shape `(claims,)`.
    """
    pairs = [(mass, attacked.get(text, 0.0)) for text, mass in clean.items()]
    pairs.sort(key=lambda masses: masses[1] / masses[0])
    masses = np.array(pairs)
    new = math.fsum(mass for text, mass in attacked.items() if text not in clean)
    rarest = np.concatenate([[[0.0, 0.0]], masses.cumsum(axis=0)]).T
    most_frequent = np.concatenate([[[0.0, new]], masses[::-1]]).cumsum(axis=0).T
    given = np.interp(np.minimum(p_runner_up, 1.0 - p_lower), *most_frequent)
    margins: FloatArray = np.interp(p_lower, *rarest) - given
    return margins


def _moves(unit: Unit, clean: Text, attacked: Text, attacker: Attacker) -> float:
    return ThreatModel(attacker=attacker, unit=unit).distance(clean, attacked)


def _attackers(mechanism: TextMechanism) -> list[Attacker]:
    """Return all attackers with moves that the mechanism certifies against."""
    found = []
    for size in range(1, len(mechanism.certifies) + 1):
        for moves in itertools.combinations(sorted(mechanism.certifies), size):
            try:
                found.append(parse_attacker(moves))
            except ValueError:  # moves that no attacker has together
                continue
    return found


def _claims(
    mechanism: TextMechanism, attacker: Attacker, n_units: int, profile: Profile, farthest: int
) -> FloatArray:
    """Return what is claimed: p_A, p_B and radius; shape `(3, claims)`."""

    def radius(p_lower: float, p_runner_up: float) -> int:
        return mechanism.radius(
            p_lower, p_runner_up, n_units=n_units, attacker=attacker, profile=profile
        )

    where = f"against {attacker_name(attacker)} for {n_units} units"
    table = np.array([[radius(p_lower, p_runner_up) for p_runner_up in GRID] for p_lower in GRID])
    found = []
    for i, j in np.ndindex(table.shape):
        p_lower, p_runner_up, claimed = GRID[i], GRID[j], int(table[i, j])
        at = f"at p_A={p_lower} and p_B={p_runner_up} {where}"
        if claimed < NO_RADIUS:
            raise ContractBroken(f"a radius is at least {NO_RADIUS}; got {claimed} {at}")
        if claimed > NO_RADIUS and p_lower <= min(p_runner_up, 1.0 - p_lower):
            raise ContractBroken(
                f"the predicted class does not lead {at}, where the radius must be {NO_RADIUS}; "
                f"got {claimed}"
            )
        if i and claimed < table[i - 1, j]:
            raise ContractBroken(f"the radius falls from p_A={GRID[i - 1]}: got {claimed} {at}")
        if j and claimed > table[i, j - 1]:
            raise ContractBroken(f"the radius rises from p_B={GRID[j - 1]}: got {claimed} {at}")
        found.append((p_lower, p_runner_up, claimed))
    for share in SHARES:
        claimed, start = NO_RADIUS, 0.0
        while claimed < min(farthest, radius(1.0, 0.0)):
            low, high = start, 1.0
            while low < (middle := (low + high) / 2.0) < high:
                longer = radius(middle, share * (1.0 - middle)) > claimed
                low, high = (low, middle) if longer else (middle, high)
            start, claimed = high, radius(high, share * (1.0 - high))
            found.append((high, share * (1.0 - high), claimed))
    return np.array([claim for claim in found if claim[2] > NO_RADIUS]).reshape(-1, 3).T


def _listed(law: Law, text: Text) -> NoisyLaw:
    """Return the probability of each noisy text, checked against the strata of the law."""
    if law.n_units != len(text):
        raise ContractBroken(f"the law of {list(text)} has n_units={law.n_units}")
    rows, chances = law.outcomes()
    noisy = _added_up(law, text, rows, chances)
    total = math.fsum(chances)
    if not (chances >= 0.0).all() or abs(total - 1.0) > TOLERANCE:
        raise ContractBroken(
            f"the probabilities of the noisy texts of {list(text)} must be at least 0 and sum to "
            f"one; they sum to {total!r}"
        )
    strata = law.strata()
    kept = law.kept_counts(rows)
    by_stratum = [math.fsum(chances[kept == stratum]) for stratum in strata.kept]
    if not np.allclose(by_stratum, strata.probability, rtol=0.0, atol=TOLERANCE):
        raise ContractBroken(
            f"the strata of {list(text)} that keep {strata.kept.tolist()} units have probabilities "
            f"{strata.probability.tolist()}, but their noisy texts sum to {by_stratum}"
        )
    if np.isfinite(strata.outcomes).all():
        tables = [law.enumerate(int(stratum)) for stratum in strata.kept]
        sizes = np.array([len(table) for table in tables])
        equal = _added_up(
            law, text, np.concatenate(tables), np.repeat(strata.probability / sizes, sizes)
        )
        if not np.array_equal(sizes, strata.outcomes) or not _same(noisy, equal):
            raise ContractBroken(
                f"the strata of {list(text)} are not what enumerate lists: {strata.outcomes} "
                f"noisy texts, equally likely; listed are {sizes}"
            )
    return {noisy_text: chance for noisy_text, chance in noisy.items() if chance > 0.0}


def _check_draws(law: Law, text: Text, noisy: NoisyLaw, size: int, seed: int) -> None:
    """Check that draws follow the law that was listed."""
    rows = law.draw(size, np.random.default_rng(seed))
    if len(rows) != size or not np.array_equal(rows, law.draw(size, np.random.default_rng(seed))):
        raise ContractBroken(
            f"draw of {list(text)} must give as many noisy texts as it is asked for, and the same "
            "with the same generator"
        )
    drawn = _added_up(law, text, rows, np.ones(size))
    strata = law.strata()
    counts = [float((law.kept_counts(rows) == kept).sum()) for kept in strata.kept]
    tested = [(noisy_text, drawn.get(noisy_text, 0.0), p) for noisy_text, p in noisy.items()]
    tested += [(noisy_text, n, 0.0) for noisy_text, n in drawn.items() if noisy_text not in noisy]
    tested += [
        ((f"any with {kept} units kept",), n, p)
        for kept, n, p in zip(strata.kept, counts, strata.probability, strict=True)
    ]
    n_drawn, expected = np.array([(n, min(p, 1.0)) for _, n, p in tested]).T
    tail = np.minimum(binom.cdf(n_drawn, size, expected), binom.sf(n_drawn - 1, size, expected))
    if tail.min() < FALSE_ALARM / len(tested):
        what, n, p = tested[int(tail.argmin())]
        raise ContractBroken(
            f"draw of {list(text)} does not follow its law: the noisy text {list(what)} was drawn "
            f"{n:g} times of {size} and has probability {p:.6g}"
        )


def _added_up(law: Law, text: Text, rows: IntArray, masses: FloatArray) -> NoisyLaw:
    """Add up the masses of rows that show the same noisy text."""
    units = (*text, *law.extra_units)
    if rows.ndim != 2 or len(rows) != len(masses) or (rows >= len(units)).any():
        raise ContractBroken(
            f"noisy texts of {list(text)} are rows of indices into its units and the "
            f"{len(law.extra_units)} extra ones; got shape {rows.shape} with indices up to "
            f"{rows.max(initial=REMOVED)}"
        )
    found: NoisyLaw = defaultdict(float)
    for row, mass in zip(rows.tolist(), masses.tolist(), strict=True):
        found[tuple(units[i] for i in row if i >= 0)] += mass
    return dict(found)


def _same(one: NoisyLaw, other: NoisyLaw) -> bool:
    return all(
        abs(one.get(text, 0.0) - other.get(text, 0.0)) <= TOLERANCE for text in {*one, *other}
    )
