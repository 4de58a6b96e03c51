"""Independent answers to what the certificates claim: enumeration, search, exact arithmetic.

Nothing here calls the package. A base classifier is any function of the noisy text, randomised
ones included; a law is a dict from noisy texts (tuples of letters) to probabilities.
"""

from __future__ import annotations

import itertools
import math
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from fractions import Fraction
from functools import cache

import numpy as np
from scipy.optimize import linprog

Word = tuple[str, ...]
Law = dict[Word, float]
Attack = frozenset[str]

MOVES = ("insert", "delete", "substitute")
ATTACKERS = tuple(
    frozenset(moves) for size in (3, 2, 1) for moves in itertools.combinations(MOVES, size)
)

#: Certified margins must exceed this. The oracles are exact to about 1e-15.
POSITIVE = 1e-13

#: Clean probabilities of the predicted class and upper bounds of every other class.
PROBABILITIES = (
    (1.0, 0.0),
    (0.999, 0.001),
    (0.95, 0.05),
    (0.95, 0.01),
    (0.9, 0.1),
    (0.8, 0.2),
    (0.75, 0.25),
    (0.7, 0.1),
    (0.6, 0.4),
    (0.6, 0.2),
    (0.55, 0.45),
    (0.51, 0.49),
    (0.5, 0.3),
    (0.45, 0.35),
    (0.4, 0.1),
    (0.34, 0.33),
)


# --- laws, by enumeration of the kept positions --------------------------------------------------


def deletion_law(text: Word, rate: float) -> Law:
    """Each position is left out with probability `rate`, independently."""
    law: Law = defaultdict(float)
    for keep in itertools.product((False, True), repeat=len(text)):
        chance = math.prod(1.0 - rate if kept else rate for kept in keep)
        law[tuple(itertools.compress(text, keep))] += chance
    return {noisy: chance for noisy, chance in law.items() if chance > 0.0}


def masking_law(text: Word, kept: int) -> Law:
    """A uniform set of `kept` positions is shown, the others are masked."""
    law: Law = defaultdict(float)
    sets = list(itertools.combinations(range(len(text)), kept))
    for shown in sets:
        law[tuple(x if i in shown else "_" for i, x in enumerate(text))] += 1.0 / len(sets)
    return dict(law)


def adaptive_rate(
    length: int, keeps: Sequence[float], edges: Sequence[int], p_min: float, p_max: float
) -> float:
    """The rate of a text; lengths from `edges[i]` on belong to `keeps[i + 1]`."""
    if length == 0:
        return p_min
    keep = keeps[sum(length >= edge for edge in edges)]
    return max(p_min, p_max - keep / length)


def shown_units(length: int, p_mask: float, min_kept: int) -> int:
    """Units left after `p_mask * length` of them, rounded half up, are masked."""
    masked = math.floor(length * p_mask + 0.5)
    return max(length - masked, min(length, min_kept))


# --- worst base classifier, from the two laws ----------------------------------------------------


def worst_margins(
    clean: Law, attacked: Law, probabilities: Iterable[tuple[float, float]]
) -> list[float]:
    """Least attacked p_A − p_B over all base classifiers with clean p_A ≥ and p_B ≤ as given.

    Neyman and Pearson: A holds the noisy texts that lose most under the attack, B those that gain
    most. The two do not compete, since p_A + p_B ≤ 1 (see `worst_margin_by_programming`).
    """
    both = [(attacked.get(noisy, 0.0), chance) for noisy, chance in clean.items()]
    both.sort(key=lambda masses: masses[0] / masses[1])
    after, before = np.cumsum([(0.0, 0.0), *both], axis=0).T
    before = np.minimum(before, 1.0)
    before[-1] = 1.0  # sums of probabilities are one, whatever rounding says
    fresh = math.fsum(chance for noisy, chance in attacked.items() if noisy not in clean)
    p_a, p_b = np.array(list(probabilities)).T
    lost = np.interp(p_a, before, after)
    left = np.interp(1.0 - np.minimum(p_b, 1.0 - p_a), before, after)
    return list(lost - (after[-1] - left) - fresh)


def worst_margin_by_programming(clean: Law, attacked: Law, p_a: float, p_b: float) -> float:
    """The same as `worst_margins`, as a linear programme over both classes at once."""
    noisy = sorted(set(clean) | set(attacked))
    before = np.array([clean.get(z, 0.0) for z in noisy])
    after = np.array([attacked.get(z, 0.0) for z in noisy])
    none = np.zeros(len(noisy))
    shared = np.hstack([np.eye(len(noisy))] * 2)
    solution = linprog(
        np.concatenate([after, -after]),
        A_ub=np.vstack([np.concatenate([-before, none]), np.concatenate([none, before]), shared]),
        b_ub=np.concatenate([[-p_a, p_b], np.ones(len(noisy))]),
        bounds=(0.0, 1.0),
    )
    assert solution.success, solution.message
    return float(solution.fun)


def worst_share(clean: Law, attacked: Law, p_a: float) -> float:
    """Least attacked probability of a class with clean probability `p_a`."""
    return (1.0 + worst_margins(clean, attacked, [(p_a, 1.0 - p_a)])[0]) / 2.0


def strata_margin(
    n: int, edits: tuple[int, int, int], rates: tuple[float, float], p_a: float, p_b: float
) -> float:
    """Worst margin for a text of distinct units and fresh edits, in rational arithmetic.

    Args:
        n: Units of the clean text.
        edits: Insertions, deletions and substitutions.
        rates: Deletion rates of the clean and of the attacked text.
        p_a: Clean probability of the predicted class.
        p_b: Largest clean probability of another class.
    """
    a, b, c = edits
    n_attacked, common = n + a - b, n - b - c
    p, s = Fraction(rates[0]), Fraction(rates[1])
    a_clean = Fraction(p_a)
    b_clean = min(Fraction(p_b), 1 - a_clean)
    # Groups of noisy texts with one ratio: inside the common part by length, and outside.
    groups = [(1 - p ** (n - common), Fraction(0)), (Fraction(0), 1 - s ** (n_attacked - common))]
    for kept in range(common + 1):
        ways = math.comb(common, kept)
        groups.append(
            (
                ways * p ** (n - kept) * (1 - p) ** kept,
                ways * s ** (n_attacked - kept) * (1 - s) ** kept,
            )
        )
    only_attacked = sum((after for before, after in groups if before == 0), Fraction(0))
    groups = sorted((g for g in groups if g[0] > 0), key=lambda group: group[1] / group[0])
    return float(_filled(groups, a_clean) - _filled(groups[::-1], b_clean) - only_attacked)


def _filled(groups: Iterable[tuple[Fraction, Fraction]], mass: Fraction) -> Fraction:
    """Attacked mass of the first groups that hold the clean mass, the last one in part."""
    filled = Fraction(0)
    for before, after in groups:
        taken = min(mass, before)
        filled += after * taken / before
        mass -= taken
        if mass == 0:
            break
    return filled


# --- attackers -----------------------------------------------------------------------------------


def neighbours(text: Word, alphabet: Sequence[str], attacker: Attack) -> Iterator[Word]:
    """All texts that one move of the attacker reaches."""
    for i in range(len(text) + 1):
        if "insert" in attacker:
            yield from ((*text[:i], x, *text[i:]) for x in alphabet)
        if i < len(text) and "delete" in attacker:
            yield text[:i] + text[i + 1 :]
        if i < len(text) and "substitute" in attacker:
            yield from ((*text[:i], x, *text[i + 1 :]) for x in alphabet)


def distances(
    clean: Word, alphabet: Sequence[str], longest: int, attacker: Attack
) -> dict[Word, int]:
    """Fewest moves to every text that can be reached, by breadth-first search."""
    found = {clean: 0}
    queue = deque([clean])
    while queue:
        text = queue.popleft()
        for following in neighbours(text, alphabet, attacker):
            if following not in found and len(following) <= longest:
                found[following] = found[text] + 1
                queue.append(following)
    return found


def mixes(total: int, n: int, attacker: Attack) -> list[tuple[int, int, int]]:
    """All (insertions, deletions, substitutions) with this sum that fit a text of n units."""
    return [
        (a, b, total - a - b)
        for a in range(total + 1 if "insert" in attacker else 1)
        for b in range(total - a + 1 if "delete" in attacker else 1)
        if (a + b == total or "substitute" in attacker) and total - a <= n
    ]


def edited(text: Word, edits: tuple[int, int, int]) -> Word:
    """Apply a mix of moves: fresh units are inserted in front and substituted at the end."""
    a, b, c = edits
    rest = text[b:]
    fresh = tuple(f"fresh{i}" for i in range(a + c))
    return fresh[:a] + rest[: len(rest) - c] + fresh[a:]


def largest_radius(
    margin: Callable[[int, int, int], float], n: int, attacker: Attack, limit: int
) -> int:
    """Largest radius up to a limit at which all mixes with at most that total have a margin."""
    for radius in range(limit + 1):
        if any(margin(*mix) <= POSITIVE for mix in mixes(radius, n, attacker)):
            return radius - 1
    return limit


# --- texts ---------------------------------------------------------------------------------------


def texts(letters: str, longest: int) -> list[Word]:
    """All texts over some letters up to a length, the empty one included."""
    return [text for n in range(longest + 1) for text in itertools.product(letters, repeat=n)]


def is_first_of_its_shape(text: Word) -> bool:
    """Whether letters first appear in alphabetical order: others differ by renaming only."""
    new = [x for i, x in enumerate(text) if x not in text[:i]]
    return new == sorted(new) and new == list("abcdefgh"[: len(new)])


@cache
def short_pairs() -> tuple[tuple[Word, Word, dict[Attack, int]], ...]:
    """Clean and attacked texts up to 4 letters of 3 (one of them fresh) and 5 of 2, with distances.

    Clean texts that differ by renaming the letters are listed once.
    """
    pairs: dict[tuple[Word, Word], dict[Attack, int]] = defaultdict(dict)
    for letters, fresh, longest in (("abc", "z", 4), ("ab", "", 5)):
        for clean in filter(is_first_of_its_shape, texts(letters, longest)):
            for attacker in ATTACKERS:
                for text, moves in distances(clean, letters + fresh, longest, attacker).items():
                    pairs[clean, text][attacker] = moves
    return tuple((clean, text, moves) for (clean, text), moves in pairs.items())


@cache
def fresh_pairs(longest: int = 6, most_edits: int = 4) -> tuple:
    """Texts of distinct letters and every mix of fresh edits: here the bounds are tight."""
    pairs = []
    for n in range(longest + 1):
        clean = tuple("abcdefgh"[:n])
        for total in range(most_edits + 1):
            for mix in mixes(total, n, ATTACKERS[0]):
                text = edited(clean, mix)
                moves = {
                    attacker: total for attacker in ATTACKERS if mix in mixes(total, n, attacker)
                }
                pairs.append((clean, text, moves))
    return tuple(pairs)


# --- claims --------------------------------------------------------------------------------------


def violated_claims(
    radius: Callable[..., int],
    law: Callable[[Word], Law],
    pairs: Iterable[tuple[Word, Word, dict[Attack, int]]],
    *,
    attackers: Iterable[Attack] = ATTACKERS,
    probabilities: Sequence[tuple[float, float]] = PROBABILITIES,
) -> tuple[int, list[str]]:
    """Check "within the radius, no base classifier changes the answer" on pairs of texts.

    Returns:
        The number of claims that were checked, and those that some base classifier refutes.
    """
    laws: dict[Word, Law] = {}
    radii: dict[tuple[int, Attack], list[int]] = {}
    checked, wrong = 0, []
    attackers = tuple(attackers)
    for clean, attacked, moves in pairs:
        claims = set()
        for attacker in attackers:
            key = len(clean), attacker
            if key not in radii:
                radii[key] = [
                    radius(p_a, p_b, n_units=len(clean), attacker=attacker)
                    for p_a, p_b in probabilities
                ]
            if attacker in moves:
                claims |= {(i, attacker) for i, r in enumerate(radii[key]) if moves[attacker] <= r}
        if not claims:
            continue
        for text in (clean, attacked):
            if text not in laws:
                laws[text] = law(text)
        margins = worst_margins(laws[clean], laws[attacked], probabilities)
        checked += len(claims)
        wrong += [
            f"{clean} -> {attacked} by {'+'.join(sorted(attacker))} at {probabilities[i]}: "
            f"margin {margins[i]:.3g}"
            for i, attacker in claims
            if margins[i] <= POSITIVE
        ]
    return checked, wrong
