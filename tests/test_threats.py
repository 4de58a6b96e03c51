import itertools
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

SWAP, REORDER = frozenset({"swap"}), frozenset({"reorder"})
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


def test_swaps_are_the_fewest_exchanges_of_neighbours():
    threat = ThreatModel(attacker=SWAP)
    for clean in texts("abc", 4):
        found, reached = {clean: 0}, [clean]
        for text in reached:  # grows while it is read
            for i in range(len(text) - 1):
                following = (*text[:i], text[i + 1], text[i], *text[i + 2 :])
                if following not in found:
                    found[following] = found[text] + 1
                    reached.append(following)
        for attacked in texts("abc", 4):
            assert threat.distance(clean, attacked) == found.get(attacked, math.inf)


def test_swaps_of_long_texts_are_pairs_in_another_order():
    rng = np.random.default_rng(0)
    order = rng.permutation(300).tolist()
    swaps = sum(one > other for one, other in itertools.combinations(order, 2))
    threat = ThreatModel(attacker=SWAP, unit="token")
    assert threat.distance(range(300), order) == swaps
    assert threat.distance(range(300), range(299, -1, -1)) == 300 * 299 / 2


@pytest.mark.parametrize("attacker", [frozenset(), *ATTACKERS], ids=attacker_name)
def test_reordering_is_not_counted(attacker):
    threat, universe = ThreatModel(attacker=attacker | REORDER), texts("ab", 4)
    for clean in universe:
        found = distances(clean, "ab", 4, attacker)
        for attacked in universe:
            same = set(itertools.permutations(attacked))
            fewest = min(found.get(text, math.inf) for text in same)
            assert threat.distance(clean, attacked) == fewest


@pytest.mark.parametrize(
    "attacker", [*ATTACKERS, SWAP, REORDER, ALL_EDITS | REORDER], ids=attacker_name
)
def test_a_text_has_no_distance_from_itself(attacker):
    for text in ([], ["a"], ["a", "b", "a"]):
        assert ThreatModel(attacker=attacker).distance(text, text) == 0


def test_there_are_seven_attackers_the_strongest_first():
    assert len(ATTACKERS) == 7
    assert set(ATTACKERS) == set(SEARCHED)
    assert ATTACKERS[0] == ALL_EDITS == frozenset(MOVES) - SWAP - REORDER
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


@pytest.mark.parametrize("written", ["", "move", "ins", "insert+", ["insert", "move"]])
def test_a_wrong_attacker_is_refused(written):
    with pytest.raises(ValueError, match="an attacker"):
        parse_attacker(written)


def test_an_attacker_without_moves_is_refused():
    with pytest.raises(ValueError, match=r"at least one of insert, delete, .*got none"):
        parse_attacker([])


def test_swaps_are_not_counted_with_other_moves():
    assert parse_attacker("swap") == SWAP
    with pytest.raises(ValueError, match=r"write reorder, any order at no cost; got insert\+swap"):
        parse_attacker("swap+insert")
    with pytest.raises(ValueError, match="alone"):
        ThreatModel(attacker=SWAP | REORDER)


def test_a_threat_model_refuses_an_unknown_unit():
    with pytest.raises(ValueError, match="unit must be one of word, character, token; got 'byte'"):
        ThreatModel(unit="byte")  # type: ignore[arg-type]


def test_a_threat_model_names_itself():
    threat = ThreatModel(attacker=parse_attacker("delete+insert"), unit="character")
    assert threat.name == "character edits (insert+delete)"
    assert ThreatModel(attacker=SWAP).name == "word edits (swap)"
    assert ThreatModel(attacker=REORDER).name == "word edits (none), words in any order"
    free = ThreatModel(attacker=parse_attacker("reorder+insert+delete"))
    assert free.name == "word edits (insert+delete), words in any order"
