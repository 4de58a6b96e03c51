"""The search of an audit: certified balls as they are, and the worst text in them."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from oracles import ATTACKERS, deletion_law

from robust_nlp import CallableClassifier, SmoothedClassifier
from robust_nlp.audit.ball import Ball
from robust_nlp.audit.candidates import telling_units
from robust_nlp.audit.oracle import Oracle
from robust_nlp.audit.search import search
from robust_nlp.mechanisms import RandomizedDeletion
from robust_nlp.threats import ThreatModel, attacker_name, parse_attacker
from robust_nlp.units import keyed_rng

LETTERS = ("a", "b")
ORDERS = [
    frozenset(moves)
    for moves in ({"swap"}, {"reorder"}, {"insert", "reorder"}, {"delete", "substitute", "reorder"})
]


def texts_up_to(length: int) -> list[tuple[str, ...]]:
    return [text for n in range(length + 1) for text in itertools.product(LETTERS, repeat=n)]


def ball_of(clean: str, moves, radius: int, words=LETTERS) -> Ball:
    threat = ThreatModel(attacker=frozenset(moves))
    return Ball(clean=tuple(clean), threat=threat, radius=radius, words=words)


@pytest.mark.parametrize("attacker", [*ATTACKERS, *ORDERS], ids=attacker_name)
@pytest.mark.parametrize(("clean", "radius"), [("aba", 1), ("abab", 2), ("", 2), ("aab", 0)])
def test_a_ball_holds_all_texts_within_the_radius_and_no_other(attacker, clean, radius):
    ball = ball_of(clean, attacker, radius)
    listed = ball.texts(10_000)
    threat = ThreatModel(attacker=attacker)
    within = {
        text
        for text in texts_up_to(len(clean) + radius)
        if threat.distance(tuple(clean), text) <= radius
    }
    assert listed is not None
    assert len(listed) == len(set(listed))
    assert set(listed) == within
    assert ball.texts(len(within)) is not None
    assert ball.texts(len(within) - 1) is None


def test_a_ball_of_allowed_substitutes_changes_each_unit_once():
    allowed = {"a": ["b"], "b": ["c"], "c": []}
    threat = ThreatModel(attacker={"substitute"}, substitutes=lambda unit: allowed[unit])
    ball = Ball(clean=("a", "b", "c"), threat=threat, radius=2, allowed=allowed)
    assert set(ball.texts(100)) == {
        ("a", "b", "c"),
        ("b", "b", "c"),
        ("a", "c", "c"),
        ("b", "c", "c"),
    }


@pytest.mark.parametrize(
    ("moves", "radius", "closed"),
    [
        (["delete"], 3, True),
        (["swap"], 3, True),
        (["delete", "reorder"], 1, True),
        (["substitute"], 1, False),
        (["insert", "delete"], 1, False),
        (["insert"], 0, True),
    ],
)
def test_a_ball_is_closed_where_nothing_new_can_be_written(moves, radius, closed):
    assert ball_of("ab", moves, radius).closed is closed


@given(
    clean=st.text("ab", min_size=1, max_size=6),
    attacker=st.sampled_from([*ATTACKERS, *ORDERS]),
    radius=st.integers(1, 3),
    seed=st.integers(0, 99),
)
def test_random_texts_stay_inside_the_ball(clean, attacker, radius, seed):
    ball = ball_of(clean, attacker, radius, words=("a", "b", "x", "y"))
    rng = np.random.default_rng(seed)
    far = ball.walk(radius + 1, rng)
    assert far in ball
    assert all(units in ball and units != far for units in ball.sample(far, 8, rng))


def test_a_search_leaves_the_edge_of_a_ball_of_insertions():
    ball = ball_of("ab", ["insert"], 1, words=("x", "y"))
    assert set(ball.sample(("a", "x", "b"), 20, np.random.default_rng(0))) == {("a", "b")}


def test_few_moves_are_all_returned():
    ball = ball_of("abab", ["delete"], 1)
    assert len(ball.sample(tuple("abab"), 10, np.random.default_rng(0))) == 4


def test_telling_units_speak_for_the_other_class():
    texts = [["bad", "film"]] * 5 + [["good", "film"]] * 5 + [["great", "film"]]
    classes = [0] * 5 + [1] * 6
    assert telling_units(texts, classes, 0, size=2)[0] == "good"
    assert telling_units(texts, classes, 1, size=3, odd=["!"]) == ("bad", "film", "!")
    assert telling_units(texts[5:], classes[5:], 1, size=1) == ("film",)


# --- scores ---------------------------------------------------------------------------------------


def smoothed_by(function, p_del: float = 0.6) -> SmoothedClassifier:
    base = CallableClassifier(lambda texts: [function(text) for text in texts], ["no", "yes"])
    return SmoothedClassifier(base, RandomizedDeletion(p_del=p_del))


def evil(text: str) -> list[float]:
    """Class 1 if anything of the text is evil, else class 0."""
    return [0.5, float("evil" in text.split())]


def oracle_of(smoothed, votes: int, forwards: int = 10**6) -> Oracle:
    return Oracle(smoothed, 0, votes=votes, seed=1, key="text", forwards=forwards)


def true_margin(text: str, p_del: float) -> float:
    law = deletion_law(tuple(text.split()), p_del)
    return math.fsum(p * (1 if "evil" not in noisy else -1) for noisy, p in law.items())


@pytest.mark.parametrize("text", ["", "one", "evil one evil", "a b evil d e"])
def test_scores_are_exact_where_all_noisy_texts_are_classified(text):
    oracle = oracle_of(smoothed_by(evil), votes=32)
    (score,) = oracle.scores([text])
    assert score.margin == pytest.approx(true_margin(text, 0.6), abs=1e-11)
    assert oracle.exact


def test_candidates_of_a_round_meet_the_same_noise():
    oracle = oracle_of(smoothed_by(evil), votes=20)
    same = ["a b evil d e f", "x b evil y z w", "a b evil d e f more"]  # one unit matters
    first = oracle.scores(same)
    assert not oracle.exact
    assert len({score.margin for score in first}) == 1
    rounds = set()
    for _ in range(10):
        oracle.redraw()
        rounds.add(oracle.scores(same)[0].margin)
    assert len(rounds) > 2


def test_soft_scores_tell_candidates_apart_whose_votes_are_alike():
    def unsure(text: str) -> list[float]:
        return [9.0 - text.count("evil"), 0.0]

    oracle = oracle_of(smoothed_by(unsure), votes=20)
    nice, bad = oracle.scores(["a b c d e f", "a evil c d evil f"])
    assert nice.margin == bad.margin == 1.0
    assert bad < nice


def test_no_more_passes_are_spent_than_given():
    calls = []

    def counted(text: str) -> list[float]:
        calls.append(text)
        return [1.0, 0.0]

    smoothed = smoothed_by(counted)
    oracle = oracle_of(smoothed, votes=20, forwards=50)
    texts = [" ".join(f"{word}{i}" for word in "abcdefg") for i in range(10)]
    scores = oracle.scores(texts)
    assert 2 <= len(scores) < 10
    assert len(set(calls)) == 50 - oracle.left <= 50


# --- the worst text -------------------------------------------------------------------------------


def searched(smoothed, ball: Ball, *, votes: int, forwards: int = 10**6, candidates: int = 3_000):
    return search(
        ball,
        oracle_of(smoothed, votes, forwards),
        lambda units: " ".join(units),
        keyed_rng(0, "candidates"),
        votes=votes,
        candidates=candidates,
        beam=2,
    )


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("moves", ["delete", "insert+delete+substitute", "substitute"])
def test_a_small_ball_gives_up_its_worst_text(seed, moves):
    """Random base classifiers, compared with brute force over all texts of the ball."""

    def random(text: str) -> list[float]:
        return [0.5, float(keyed_rng(seed, text).random())]

    attacker, clean = parse_attacker(moves), tuple("xyz")
    threat = ThreatModel(attacker=attacker)
    ball = Ball(clean=clean, threat=threat, radius=2, words=tuple("xyzu"))
    found = searched(smoothed_by(random), ball, votes=32)
    assert found.exact
    assert found.coverage == ("ball" if moves == "delete" else "words")

    def margin(text: tuple[str, ...]) -> float:
        votes = {noisy: random(" ".join(noisy))[1] <= 0.5 for noisy in deletion_law(text, 0.6)}
        return math.fsum(p if votes[z] else -p for z, p in deletion_law(text, 0.6).items())

    everything = (text for n in range(6) for text in itertools.product("xyzu", repeat=n))
    within = [text for text in everything if threat.distance(clean, text) <= 2]
    worst = min(map(margin, within))
    assert found.candidates == len(within)
    assert found.margin == pytest.approx(worst, abs=1e-11)
    assert margin(found.best[0]) == pytest.approx(worst, abs=1e-11)


@pytest.mark.parametrize("moves", ["substitute", "insert", "insert+delete+substitute"])
def test_a_large_ball_gives_up_its_worst_text_to_a_beam(moves):
    clean = tuple(f"word{i}" for i in range(9))
    words = (*(f"dull{i}" for i in range(15)), "evil", *(f"tame{i}" for i in range(15)))
    ball = Ball(
        clean=clean, threat=ThreatModel(attacker=parse_attacker(moves)), radius=3, words=words
    )
    found = searched(smoothed_by(evil, p_del=0.8), ball, votes=20, forwards=8_000, candidates=1_000)
    assert found.coverage == "sample"
    assert not found.exact
    assert found.best[0].count("evil") == 3
    assert 100 < found.candidates <= 1_000
    assert all(units in ball for units in found.best)
