"""Shuffled blocks between random borders: their law, and no base classifier refutes a radius."""

import itertools
import math
from collections import Counter, defaultdict, deque
from functools import cache

import numpy as np
import pytest
from oracles import (
    PROBABILITIES,
    is_first_of_its_shape,
    texts,
    violated_claims,
    worst_margins,
)
from scipy.stats import chi2

from robust_nlp.certification.confidence import lower_confidence_bound
from robust_nlp.mechanisms.base import NO_RADIUS, ROUNDING
from robust_nlp.mechanisms.reordering import Reordering, reordering_loss
from robust_nlp.threats import ThreatModel

SWAP = frozenset({"swap"})
BLOCKS = (2, 3, 4, 5, 6, 8, 12)


def shuffled(text, borders):
    """All units between two borders change places uniformly."""
    ends = [0, *(border for border in borders if 0 < border < len(text)), len(text)]
    parts = [text[start:end] for start, end in itertools.pairwise(ends)]
    orders = itertools.product(*(itertools.permutations(part) for part in parts))
    size = math.prod(math.factorial(len(part)) for part in parts)
    law = defaultdict(float)
    for order in orders:
        law[tuple(itertools.chain(*order))] += 1.0 / size
    return law


def reordering_law(text, block):
    """Borders stand every `block` units behind the first, which comes after 0 to block - 1."""
    if block is None:
        return shuffled(text, ())
    law = defaultdict(float)
    for offset in range(block):
        for noisy, chance in shuffled(text, range(offset, len(text), block)).items():
            law[noisy] += chance / block
    return dict(law)


def fixed_law(text, block):
    """The published noise: borders at multiples of the block length."""
    return dict(shuffled(text, range(0, len(text), block)))


@cache
def orders(clean):
    """Every order of a text, with the fewest swaps of neighbours that give it."""
    found, queue = {clean: 0}, deque([clean])
    while queue:
        text = queue.popleft()
        for i in range(len(text) - 1):
            following = (*text[:i], text[i + 1], text[i], *text[i + 2 :])
            if following not in found:
                found[following] = found[text] + 1
                queue.append(following)
    return found


def swap_pairs(cleans):
    return [
        (clean, text, {SWAP: swaps}) for clean in cleans for text, swaps in orders(clean).items()
    ]


def distinct(longest):
    return [tuple("abcdefgh"[:n]) for n in range(longest + 1)]


def displacement(clean, text):
    """Total number of places by which units moved."""
    return sum(abs(place - text.index(unit)) for place, unit in enumerate(clean))


def exchanges(clean, text):
    """Fewest exchanges of any two units: the length less the number of cycles."""
    left, cycles = set(clean), 0
    while left:
        unit, cycles = next(iter(left)), cycles + 1
        while unit in left:
            left.remove(unit)
            unit = text[clean.index(unit)]
    return len(clean) - cycles


# --- the law -------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["abcde", "aabb", "abcdef", "a", ""])
@pytest.mark.parametrize("block", [None, 2, 3, 4, 9])
def test_drawn_orders_follow_the_law(block, text):
    size = 20_000
    rows = Reordering(block=block).draw(len(text), size, np.random.default_rng(0))
    assert rows.shape == (size, len(text))
    drawn = Counter(tuple(text[i] for i in row) for row in rows.tolist())
    law = reordering_law(tuple(text), block)
    assert set(drawn) <= set(law)
    assert min(law.values()) * size > 4.0
    statistic = sum((drawn[z] - size * p) ** 2 / (size * p) for z, p in law.items())
    assert chi2.sf(statistic, max(1, len(law) - 1)) > 1e-3


@pytest.mark.parametrize("text", ["abcde", "abcab", "abcdef", "ab", "a", ""])
@pytest.mark.parametrize("block", [None, 2, 3, 4, 9])
def test_enumerated_orders_have_the_law(block, text):
    mechanism, n = Reordering(block=block), len(text)
    strata = mechanism.strata(n)
    rows = mechanism.enumerate(n, n)
    assert rows.shape == (strata.outcomes[0], n)
    assert strata.kept.tolist() == [n]
    assert strata.probability.tolist() == [1.0]
    assert (mechanism.law("x" * n).kept_counts(rows) == n).all()
    law = Counter()
    for row in rows.tolist():
        law[tuple(text[i] for i in row)] += 1.0 / len(rows)
    assert law == pytest.approx(reordering_law(tuple(text), block), abs=1e-12)


@pytest.mark.parametrize(
    ("block", "n_units", "outcomes"),
    [(None, 8, 40_320), (4, 8, 4 * 576), (2, 30, 2**16), (64, 5_000, math.inf)],
)
def test_rows_are_counted_before_they_are_listed(block, n_units, outcomes):
    assert Reordering(block=block).strata(n_units).outcomes.tolist() == [outcomes]


# --- soundness -----------------------------------------------------------------------------------


@pytest.mark.parametrize("block", [None, *BLOCKS])
def test_no_base_classifier_refutes_a_radius(block):
    cleans = [text for text in texts("abc", 5) if is_first_of_its_shape(text)]
    checked, wrong = violated_claims(
        Reordering(block=block).radius,
        lambda text: reordering_law(text, block),
        swap_pairs([*cleans, *distinct(5 if block in (8, 12) else 6)]),
        attackers=[SWAP],
    )
    assert not wrong
    assert checked > 1_000


def test_the_search_for_a_refutation_covers_far_more_than_one_swap():
    pairs = [pair for pair in swap_pairs(distinct(5)) if pair[2][SWAP] >= 2]
    checked, _ = violated_claims(
        Reordering(block=12).radius,
        lambda text: reordering_law(text, 12),
        pairs,
        attackers=[SWAP],
    )
    assert checked > 700


def test_the_threat_model_counts_what_the_search_counted():
    threat = ThreatModel(attacker=SWAP)
    for clean, text, moves in swap_pairs(texts("abc", 5)):
        assert threat.distance(clean, text) == moves[SWAP]
    assert threat.distance(["a", "b"], ["a", "c"]) == math.inf


def one_swap_too_many(p_a, p_b, *, n_units, attacker):
    return Reordering(block=4).radius(p_a, p_b, n_units=n_units, attacker=attacker) + 1


def runner_up_gains_nothing(p_a, p_b, *, n_units, attacker):
    margin = p_a - min(p_b, 1.0 - p_a)
    return max(k for k in range(-1, n_units) if margin > max(0.0, k / 4.0))


def published_radius(p_a, p_b, *, n_units, attacker):
    """Half a block times the margin, in total displacement."""
    margin = p_a - min(p_b, 1.0 - p_a)
    return math.floor(2.0 * margin) if margin > 0.0 else NO_RADIUS


@pytest.mark.parametrize(
    ("radius", "law", "distance"),
    [
        (one_swap_too_many, reordering_law, None),
        (runner_up_gains_nothing, reordering_law, None),
        (Reordering(block=4).radius, fixed_law, None),
        (published_radius, fixed_law, displacement),
        (Reordering(block=4).radius, reordering_law, exchanges),
    ],
    ids=[
        "one swap too many",
        "runner-up gains nothing",
        "fixed borders",
        "published radius and fixed borders",
        "exchanges of any two units",
    ],
)
def test_a_wrong_certificate_is_refuted_by_a_base_classifier(radius, law, distance):
    pairs = swap_pairs(distinct(6))
    if distance is not None:
        pairs = [(clean, text, {SWAP: distance(clean, text)}) for clean, text, _ in pairs]
    _, wrong = violated_claims(radius, lambda text: law(text, 4), pairs, attackers=[SWAP])
    assert wrong


def test_random_borders_make_the_published_radius_true():
    pairs = [
        (clean, text, {SWAP: displacement(clean, text)})
        for clean, text, _ in swap_pairs(distinct(6))
    ]
    checked, wrong = violated_claims(
        published_radius, lambda text: reordering_law(text, 4), pairs, attackers=[SWAP]
    )
    assert not wrong
    assert checked > 100
    assert all(
        displacement(clean, text) > swaps
        for clean in distinct(6)
        for text, swaps in orders(clean).items()
        if swaps
    )


# --- tightness -----------------------------------------------------------------------------------


@pytest.mark.parametrize(("n", "block"), [(6, 3), (7, 4), (6, 5), (6, 6), (5, 12)])
def test_one_swap_loses_exactly_what_the_certificate_counts(n, block):
    clean = distinct(n)[n]
    law = reordering_law(clean, block)
    bounds = [(0.75, 0.25), (0.7, 0.3), (0.6, 0.4), (0.55, 0.45), (0.6, 0.3)]
    margins = [
        worst_margins(law, reordering_law(text, block), bounds)
        for text, swaps in orders(clean).items()
        if swaps == 1
    ]
    expected = [p_a - p_b - 2.0 / block for p_a, p_b in bounds]
    assert np.min(margins, axis=0) == pytest.approx(expected, abs=1e-9)


def test_the_loss_of_more_swaps_is_approached_as_texts_grow():
    block, swaps, bounds = 5, 2, [(0.7, 0.3)]
    bound = 0.4 - 2.0 * reordering_loss(9, swaps, block)
    gaps = []
    for n in (5, 7, 9):
        clean = tuple("abcdefghi"[:n])
        moved = (*clean[1 : swaps + 1], clean[0], *clean[swaps + 1 :])
        laws = reordering_law(clean, block), reordering_law(moved, block)
        gaps.append(worst_margins(*laws, bounds)[0] - bound)
    assert gaps[0] > gaps[1] > gaps[2] > 0.0
    assert gaps[2] < 0.05


def test_the_radius_is_the_largest_that_the_loss_allows():
    for block, n, (p_a, p_b) in itertools.product((2, 3, 8, 64), (0, 1, 2, 5, 40), PROBABILITIES):
        radius = Reordering(block=block).radius(p_a, p_b, n_units=n, attacker=SWAP)
        margin = p_a - min(p_b, 1.0 - p_a) - 2.0 * ROUNDING
        every = n * (n - 1) // 2
        safe = [k for k in range(every + 1) if margin > 2.0 * min(k, block, max(n - 1, 0)) / block]
        assert radius == (max(safe) if safe else NO_RADIUS)
    assert reordering_loss(40, 3, 64) == 3 / 64
    assert reordering_loss(3, 9, 64) == 2 / 64
    assert reordering_loss(40, 9, 4) == 1.0
    assert reordering_loss(40, 9, None) == 0.0


# --- documented values ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("block", "votes", "p_runner_up", "published"),
    [
        (32, 99_000, 0.005823950027557871, 15.73064624559867),
        (32, 80_000, 0.1539647463845624, 10.273621196930641),
        (32, 98_000, None, 15.31502088870662),
        (64, 98_000, None, 30.63004177741324),
        (32, 100_000, None, 15.9977895946563),
        (32, 50_100, None, None),
    ],
)
def test_published_radii_are_reached_in_swaps(block, votes, p_runner_up, published):
    p_lower = lower_confidence_bound(votes, 100_000, alpha=0.001)
    p_other = 1.0 - p_lower if p_runner_up is None else p_runner_up
    radius = Reordering(block=block).radius(p_lower, min(p_other, 1.0), n_units=200, attacker=SWAP)
    if published is None:
        assert radius == NO_RADIUS
    else:
        assert block / 2.0 * (p_lower - p_other) == pytest.approx(published, rel=1e-9)
        assert radius == math.floor(published)


def test_a_swap_at_a_fixed_border_flips_what_random_borders_hardly_move():
    n, block = 64, 32  # "is this unit among the first half?", asked of places 31 and 32

    def share(place, offset):
        ends = [0, *(b for b in range(offset, n, block) if b > 0), n]
        start, end = next(e for e in itertools.pairwise(ends) if e[0] <= place < e[1])
        return max(0, min(end, 32) - start) / (end - start)

    assert [share(place, 0) for place in (31, 32)] == [1.0, 0.0]
    random = [sum(share(place, o) for o in range(block)) / block for place in (31, 32)]
    assert 0.0 < random[0] - random[1] <= 1.0 / block


def test_without_borders_every_order_is_covered():
    mechanism = Reordering()
    assert mechanism.radius(0.51, 0.49, n_units=5_000, attacker=SWAP) == 5_000 * 4_999 // 2
    assert mechanism.radius(0.5, 0.5, n_units=5_000, attacker=SWAP) == NO_RADIUS
    assert mechanism.ceiling(1, SWAP) == 0


def test_ceilings_of_short_and_of_very_long_texts():
    assert Reordering(block=64).ceiling(20, SWAP) == 190
    assert Reordering(block=64).ceiling(5_000, SWAP) == 31
    assert Reordering(block=2).ceiling(5_000, SWAP) == 0


def test_only_the_empty_text_is_dead():
    for block in (None, 8):
        assert [n for n in range(9) if Reordering(block=block).dead_zone(n)] == [0]


# --- settings ------------------------------------------------------------------------------------


def test_what_cannot_be_meant_is_refused():
    with pytest.raises(ValueError, match=r"at least 2 units, or block=None .*got block=1"):
        Reordering(block=1)
    for attacker in ({"substitute"}, {"reorder"}, {"swap", "delete"}):
        with pytest.raises(ValueError, match="Reordering certifies against swap; got"):
            Reordering(block=8).radius(0.9, 0.1, n_units=5, attacker=frozenset(attacker))


@pytest.mark.parametrize("block", [None, 8])
def test_settings_are_plain_values_that_make_the_mechanism_again(block):
    settings = Reordering(block=block).to_dict()
    assert settings.pop("kind") == "reordering"
    assert Reordering(**settings) == Reordering(block=block)
