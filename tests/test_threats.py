import math

import numpy as np
import pytest
from oracles import ATTACKERS as SEARCHED
from oracles import distances, texts

from robust_nlp.threats import (
    ALL_EDITS,
    ATTACKERS,
    MOVES,
    ThreatModel,
    attacker_name,
    parse_attacker,
)

NAMES = {attacker: attacker_name(attacker) for attacker in ATTACKERS}


@pytest.mark.parametrize("attacker", ATTACKERS, ids=NAMES.get)
@pytest.mark.parametrize(("letters", "longest"), [("ab", 5), ("abc", 3)])
def test_distance_equals_breadth_first_search(attacker, letters, longest):
    threat = ThreatModel(attacker=attacker)
    universe = texts(letters, longest)
    for clean in universe:
        found = distances(clean, letters, longest, attacker)
        for attacked in universe:
            assert threat.distance(clean, attacked) == found.get(attacked, math.inf)


@pytest.mark.parametrize("attacker", ATTACKERS, ids=NAMES.get)
def test_distance_of_longer_texts_equals_breadth_first_search(attacker):
    rng = np.random.default_rng(4)
    threat = ThreatModel(attacker=attacker)
    for _ in range(3):
        clean = tuple(str(x) for x in rng.choice(["a", "b"], size=rng.integers(5, 9)))
        found = distances(clean, "ab", 8, attacker)
        for attacked in texts("ab", 8):
            assert threat.distance(clean, attacked) == found.get(attacked, math.inf)


@pytest.mark.parametrize("attacker", ATTACKERS, ids=NAMES.get)
def test_distance_compares_whole_words_and_tokens(attacker):
    threat = ThreatModel(attacker=attacker)
    letters, words, tokens = "ab", ("good", "goof"), (3, 30_522)
    for clean in texts(letters, 3):
        for attacked in texts(letters, 3):
            named = [
                [[units[letters.index(x)] for x in text] for text in (clean, attacked)]
                for units in (words, tokens)
            ]
            expected = threat.distance(clean, attacked)
            assert [threat.distance(*pair) for pair in named] == [expected, expected]


def test_distance_counts_moves_from_the_clean_text():
    assert ThreatModel(attacker=frozenset({"insert"})).distance(["a"], ["a", "b"]) == 1
    assert ThreatModel(attacker=frozenset({"delete"})).distance(["a"], ["a", "b"]) == math.inf
    assert ThreatModel(attacker=frozenset({"delete"})).distance(["a", "b"], ["a"]) == 1


@pytest.mark.parametrize("attacker", ATTACKERS, ids=NAMES.get)
def test_a_text_has_no_distance_from_itself(attacker):
    for text in ([], ["a"], ["a", "b", "a"]):
        assert ThreatModel(attacker=attacker).distance(text, text) == 0


def test_there_are_seven_attackers_the_strongest_first():
    assert len(ATTACKERS) == 7
    assert set(ATTACKERS) == set(SEARCHED)
    assert ATTACKERS[0] == ALL_EDITS == frozenset(MOVES)
    for i, stronger in enumerate(ATTACKERS):
        assert not any(stronger < later for later in ATTACKERS[i:])


@pytest.mark.parametrize(
    "written",
    [
        "insert+delete",
        "delete, insert",
        ["delete", "insert"],
        {"insert", "delete"},
        "insert,delete",
    ],
)
def test_an_attacker_may_be_written_in_several_ways(written):
    assert parse_attacker(written) == frozenset({"insert", "delete"})


def test_an_attacker_has_one_name_whatever_the_order():
    assert attacker_name(["substitute", "insert"]) == "insert+substitute"
    assert parse_attacker(attacker_name(ALL_EDITS)) == ALL_EDITS


def test_an_unknown_move_is_named_with_a_suggestion():
    with pytest.raises(ValueError, match=r"got 'insertion'.*insert") as caught:
        parse_attacker("insertion")
    assert "insert, delete, substitute" in str(caught.value)


@pytest.mark.parametrize("written", ["", "swap", "ins", "insert+", ["insert", "swap"]])
def test_a_wrong_attacker_is_refused(written):
    with pytest.raises(ValueError, match="an attacker"):
        parse_attacker(written)


def test_an_attacker_without_moves_is_refused():
    with pytest.raises(ValueError, match="at least one of insert, delete, substitute; got none"):
        parse_attacker([])


def test_a_threat_model_refuses_an_unknown_unit():
    with pytest.raises(ValueError, match="unit must be one of word, character, token; got 'byte'"):
        ThreatModel(unit="byte")  # type: ignore[arg-type]


def test_a_threat_model_names_itself():
    threat = ThreatModel(attacker=parse_attacker("delete+insert"), unit="character")
    assert threat.name == "character edits (insert+delete)"
