"""Allowed swaps: their sources, capitals and punctuation, and the graph that they make."""

import gzip
import importlib.util
import json
import sys
import types

import pytest
from hypothesis import given
from hypothesis import strategies as st

from robust_nlp import swaps as swaps_module
from robust_nlp.errors import DataError, MissingExtraError
from robust_nlp.swaps import AllowedSwaps, load_swaps, read

GOOD = {"good": ["great", "fine"], "great": ["good"], "film": ["movie"]}


# --- what a text may become ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("unit", "swaps"),
    [
        ("good", ("great", "fine")),
        ("Good", ("Great", "Fine")),
        ("GOOD", ("GREAT", "FINE")),
        ("Good,", ("Great,", "Fine,")),
        ('"(good)..."', ('"(great)..."', '"(fine)..."')),
        ("*good*", ("*great*", "*fine*")),
        ("fine", ()),
        ("gOOd", ()),
        ("goods", ()),
        ("good-ish", ()),
        ("...", ()),
        ("", ()),
    ],
)
def test_swaps_keep_capitals_and_marks(unit, swaps):
    assert AllowedSwaps(GOOD).of(unit) == swaps


def test_words_that_would_not_read_back_are_no_swaps():
    swaps = AllowedSwaps({"first": ["1st", "i", "prime"], "eye": ["i"], "strasse": ["straße"]})
    assert swaps.of("first") == ("1st", "i", "prime")
    assert swaps.of("First") == ("I", "Prime")  # "1st" has no capital
    assert swaps.of("FIRST") == ("1ST", "PRIME")  # "I" reads as "i" with one capital
    assert swaps.of("EYE") == ()  # likewise
    assert swaps.of("STRASSE") == ()  # "straße" in capitals is "STRASSE"


def test_a_word_is_no_swap_of_itself_and_case_is_merged():
    swaps = AllowedSwaps({"Good": ["good", "GOOD", "great", "Great"], "good": ["fine"]})
    assert swaps.of("good") == ("great", "fine")


def test_signs_that_belong_to_letters_are_not_cut_off():
    assert AllowedSwaps({"की": ["का"]}).of("«की»") == ("«का»",)
    assert AllowedSwaps({"جيد": ["حسن"]}).of("جيد،") == ("حسن،",)


WORDS = st.text(alphabet="abIİßéǅσςΣकी1'-_$.,", min_size=1, max_size=5)


@given(words=st.lists(WORDS, min_size=2, max_size=6), unit=WORDS)
def test_every_swap_is_spelled_like_the_unit(words, unit):
    words = [word for word in words if word.lower() == word and _is_plain(word)]
    swaps = AllowedSwaps(dict.fromkeys(words, words))
    for text in (unit, *words, *(word.upper() for word in words), *(f"({w}!" for w in words)):
        found = read(text)
        if found is None:
            assert swaps.of(text) == ()
            continue
        word, spelling = found
        assert spelling.write(word) == text
        for other in swaps.of(text):
            assert other != text
            read_back = read(other)
            assert read_back is not None
            assert read_back[1] == spelling
            assert read_back[0] in words
            # Each of the words that are swaps of each other reaches the same units.
            assert {other, *swaps.of(other)} == {text, *swaps.of(text)}


def _is_plain(word):
    return read(word) is not None and read(word)[1] == ("", "lower", "")


# --- options -------------------------------------------------------------------------------------


def test_limit_keeps_the_nearest():
    assert AllowedSwaps(GOOD, limit=1).of("good") == ("great",)
    assert AllowedSwaps({"a": ["a", "b"]}, limit=1).of("a") == ("b",)
    with pytest.raises(ValueError, match="at least 1; got 0"):
        AllowedSwaps(GOOD, limit=0)


def test_symmetric_closes_in_both_directions_and_own_swaps_come_first():
    swaps = AllowedSwaps({"a": ["b", "c"], "d": ["c"], "c": ["e"], "b": ["c"]}, symmetric=True)
    assert swaps.of("c") == ("e", "b", "d", "a")  # own, then by the rank of c in their lists
    for word in swaps.words:
        assert all(word in swaps.of(other) for other in swaps.of(word))


def test_limit_comes_before_symmetry():
    swaps = AllowedSwaps({"a": ["hub"], "b": ["hub", "x"]}, limit=1, symmetric=True)
    assert swaps.of("hub") == ("a", "b")
    assert swaps.of("x") == ()


def test_around_walks_through_the_component_the_nearest_first():
    swaps = AllowedSwaps({"a": ["b", "c"], "d": ["c"], "x": ["y"]})
    assert list(swaps.around("a")) == [("a", 0), ("b", 1), ("c", 1), ("d", 2)]
    assert dict(swaps.around("d")) == {"d": 0, "c": 1, "a": 2, "b": 3}
    assert list(swaps.around("alone")) == [("alone", 0)]


def test_words_and_size():
    swaps = AllowedSwaps({"good": ["great"], "alone": []})
    assert swaps.words == ("good", "great")
    assert len(swaps) == 1


def test_fingerprint_tells_content_and_nothing_else():
    fingerprint = AllowedSwaps(GOOD).fingerprint
    assert fingerprint == AllowedSwaps(dict(reversed(GOOD.items()))).fingerprint
    assert fingerprint == AllowedSwaps({word.upper(): GOOD[word] for word in GOOD}).fingerprint
    assert fingerprint != AllowedSwaps(GOOD, limit=1).fingerprint
    assert fingerprint != AllowedSwaps(GOOD, symmetric=True).fingerprint
    assert fingerprint != AllowedSwaps(GOOD | {"good": ["fine", "great"]}).fingerprint
    assert AllowedSwaps({"a": ["b"]}).fingerprint == "c7e87253a9acc62871b8bff690a78082"


@pytest.mark.parametrize("word", ["ice cream", "", " a", "u.s.", "'em", "$", True, 3, None])
def test_what_is_no_single_word_is_refused(word):
    with pytest.raises(ValueError, match="between single words"):
        AllowedSwaps({"good": [word]})
    with pytest.raises(ValueError, match="between single words"):
        AllowedSwaps({word: ["good"]})


@pytest.mark.parametrize("others", ["great", 1, None])
def test_swaps_of_a_word_must_be_a_list(others):
    with pytest.raises(ValueError, match="swaps of 'good' must be a list of words"):
        AllowedSwaps({"good": others})


# --- sources -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["neighbours.json", "neighbours.json.gz"])
def test_a_neighbour_file_is_read(tmp_path, name):
    path = tmp_path / name
    data = json.dumps(GOOD).encode()
    path.write_bytes(gzip.compress(data) if name.endswith("gz") else data)
    assert AllowedSwaps.from_file(path).fingerprint == AllowedSwaps(GOOD).fingerprint
    loaded = load_swaps(str(path), limit=1, symmetric=True)
    assert loaded.fingerprint == AllowedSwaps(GOOD, limit=1, symmetric=True).fingerprint
    assert load_swaps(str(path), limit=1, symmetric=True) is loaded


def test_a_setting_may_be_a_mapping():
    assert load_swaps(GOOD, limit=1).of("good") == ("great",)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"{", "is not JSON"),
        (b"\xff\xfe", "is not JSON"),
        (b"[1]", "must hold one JSON object; got list"),
        (b'{"good": "great"}', "must be a list of words"),
        (b'{"good": ["ice cream"]}', "between single words"),
    ],
)
def test_a_bad_file_is_named(tmp_path, content, message):
    path = tmp_path / "swaps.json"
    path.write_bytes(content)
    with pytest.raises(DataError, match=message) as error:
        AllowedSwaps.from_file(path)
    assert str(path) in str(error.value)


@pytest.mark.parametrize(
    "content",
    [b"{}", gzip.compress(b'{"a": ["b"]}', mtime=0)[:-12], b"\x1f\x8b\x08"],
    ids=["unpacked", "cut off", "header only"],
)
def test_a_bad_packed_file_is_named(tmp_path, content):
    path = tmp_path / "swaps.json.gz"
    path.write_bytes(content)
    with pytest.raises(DataError, match="is not JSON"):
        load_swaps(str(path))


def test_a_missing_file_says_what_swaps_may_be():
    with pytest.raises(DataError, match="no file 'wordnt'; expected a file, \"wordnet\", or word"):
        load_swaps("wordnt")


class FakeLemma:
    def __init__(self, name, count):
        self.name, self.count = lambda: name, lambda: count


class FakeSense:
    def __init__(self, **counts):
        self.counts = counts

    def lemmas(self):
        return [FakeLemma(name, count) for name, count in self.counts.items()]


class FakeWordNet:
    """What is used of WordNet, on four senses; "saw" also finds the senses of "see"."""

    senses = (
        FakeSense(good=1, well_behaved=0, full=3),
        FakeSense(**{"good": 5, "Great": 2, "o.k.": 0}),
        FakeSense(see=9, understand=1),
        FakeSense(saw=1, proverb=0),
    )

    def all_lemma_names(self):
        return (name for sense in self.senses for name in sense.counts)

    def synsets(self, word):
        found = [sense for sense in self.senses if word in map(str.lower, sense.counts)]
        return found + [self.senses[2]] * (word == "saw")


def fake_nltk(monkeypatch, wordnet):
    corpus = types.ModuleType("nltk.corpus")
    corpus.wordnet = wordnet
    monkeypatch.setitem(sys.modules, "nltk", types.ModuleType("nltk"))
    monkeypatch.setitem(sys.modules, "nltk.corpus", corpus)
    monkeypatch.setattr(swaps_module, "search_ours", lambda: None)


def test_words_that_share_a_sense_of_wordnet_are_swaps(monkeypatch):
    fake_nltk(monkeypatch, FakeWordNet())
    swaps = AllowedSwaps.from_wordnet()
    assert swaps.of("Good") == ("Great", "Full")
    assert swaps.of("full") == ("good",)
    assert swaps.of("great") == ("good",)
    assert swaps.of("saw") == ("proverb",)
    assert swaps.words == ("full", "good", "great", "proverb", "saw", "see", "understand")
    assert AllowedSwaps.from_wordnet(limit=1).of("good") == ("great",)


def test_wordnet_missing_says_how_to_get_it(monkeypatch):
    class NoWordNet:
        def all_lemma_names(self):
            raise LookupError

    fake_nltk(monkeypatch, NoWordNet())
    with pytest.raises(DataError, match="robust-nlp resources install wordnet"):
        AllowedSwaps.from_wordnet()


def test_nltk_missing_says_how_to_install_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "nltk", None)
    monkeypatch.setitem(sys.modules, "nltk.corpus", None)
    with pytest.raises(MissingExtraError, match=r"robust-nlp\[wordnet\]"):
        AllowedSwaps.from_wordnet()


@pytest.mark.skipif(importlib.util.find_spec("nltk") is None, reason="NLTK is not installed")
def test_nltk_without_the_corpus_says_how_to_get_it(monkeypatch, tmp_path):
    import nltk

    monkeypatch.setattr(nltk.data, "path", [str(tmp_path)])
    monkeypatch.setenv("ROBUST_NLP_HOME", str(tmp_path))
    with pytest.raises(DataError, match="resources install wordnet"):
        AllowedSwaps.from_wordnet()
