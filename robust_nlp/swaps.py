"""Allowed swaps: which words may stand in for which, whatever their capitals and commas."""

from __future__ import annotations

import gzip
import hashlib
import importlib
import json
import unicodedata
import zlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cache, cached_property, lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from robust_nlp.errors import DataError, MissingExtraError
from robust_nlp.home import search_ours

#: Allowed swaps as a recipe writes them: a file, "wordnet", or word -> list of words.
SwapSetting = str | dict[str, list[str]]

#: How a lower-case word may be capitalised; of two that give the same, the first holds.
_CASES: dict[str, Callable[[str], str]] = {
    "lower": lambda word: word,
    "capitalised": lambda word: word[:1].upper() + word[1:],
    "upper": str.upper,
}


class Spelling(NamedTuple):
    """How a unit of a text writes a word: the marks around it and its capitals.

    Attributes:
        before: Punctuation and symbols in front of the word.
        case: "lower", "capitalised" or "upper".
        after: Punctuation and symbols behind the word.
    """

    before: str
    case: str
    after: str

    def write(self, word: str) -> str:
        """Write a lower-case word in this way."""
        return f"{self.before}{_CASES[self.case](word)}{self.after}"

    def fits(self, word: str) -> bool:
        """Tell whether the written word reads back as this word, spelled in this way."""
        return _reads_back(word, self.case)


def read(unit: str) -> tuple[str, Spelling] | None:
    """Take a unit of a text apart into a lower-case word and its spelling.

    Returns:
        Word and spelling, with `spelling.write(word) == unit`; `None` for a unit without a letter
        or digit, or with capitals elsewhere, such as "iPhone".
    """
    start, end = 0, len(unit)
    while start < end and _is_mark(unit[start]):
        start += 1
    while start < end and _is_mark(unit[end - 1]):
        end -= 1
    inside = unit[start:end]
    word = inside.lower()
    for case, write in _CASES.items():
        if inside and write(word) == inside:
            return word, Spelling(unit[:start], case, unit[end:])
    return None


class AllowedSwaps:
    """Which words may stand in for which.

    Words are compared in lower case and without the punctuation and symbols around them; a swap
    keeps both as they are: "Good," becomes "Great,". Units with capitals elsewhere ("iPhone") have
    no swaps, nor has a unit a swap that would not read back in the same way: whatever an attacker
    writes is spelled like the clean unit, so that noise on both has the same outcomes.

    Args:
        swaps: For each word the words that may replace it, the nearest first.
        limit: Allowed swaps of a word at most, the nearest; `None` for no limit.
        symmetric: Whether to let w replace v wherever v may replace w. This comes after `limit`,
            and so may give a word more swaps.

    Raises:
        ValueError: If an entry is no word: words hold no white space, and begin and end neither
            with punctuation nor with a symbol.
    """

    def __init__(
        self,
        swaps: Mapping[str, Iterable[str]],
        *,
        limit: int | None = None,
        symmetric: bool = False,
    ) -> None:
        if limit is not None and limit < 1:
            raise ValueError(f"limit is a number of swaps per word, at least 1; got {limit!r}")
        given: dict[str, dict[str, None]] = {}
        for word, others in swaps.items():
            if isinstance(others, str) or not isinstance(others, Iterable):
                raise ValueError(f"the swaps of {word!r} must be a list of words; got {others!r}")
            given.setdefault(checked_word(word), {}).update(
                dict.fromkeys(map(checked_word, others))
            )
        lists = {
            word: [other for other in given[word] if other != word][:limit]
            for word in sorted(given)
        }
        # In the graph of swaps, a word's own swaps are nearer than words whose swap it is.
        linked = {word: dict.fromkeys(others) for word, others in lists.items()}
        ranked = ((i, word, v) for word, vs in lists.items() for i, v in enumerate(vs))
        for _, word, other in sorted(ranked):
            linked.setdefault(other, {}).setdefault(word)
        self._linked = {word: tuple(others) for word, others in linked.items() if others}
        self._lists = (
            self._linked if symmetric else {word: tuple(vs) for word, vs in lists.items() if vs}
        )

    @classmethod
    def from_file(
        cls, path: str | Path, *, limit: int | None = None, symmetric: bool = False
    ) -> AllowedSwaps:
        """Read a neighbour file: one JSON object, word -> list of words, the nearest first.

        A file whose name ends in ".gz" is unpacked. This is the form in which the counter-fitted
        neighbours of Jia et al. (2019) are released.

        Args:
            path: The file.
            limit: See `AllowedSwaps`.
            symmetric: See `AllowedSwaps`.

        Raises:
            DataError: If there is no such file, or it holds something else.
        """
        content = read_json(path, "allowed swaps", 'a file, "wordnet", or word -> list of words')
        try:
            return cls(content, limit=limit, symmetric=symmetric)
        except ValueError as error:
            raise DataError(f"{path}: {error}") from error

    @classmethod
    def from_wordnet(cls, *, limit: int | None = None, symmetric: bool = False) -> AllowedSwaps:
        """Let words that share a sense of WordNet replace each other.

        The words of the most frequent sense come first. Single words in their base form only;
        parts of speech are mixed, since a unit of a text does not tell its own. Takes a while.

        Args:
            limit: See `AllowedSwaps`.
            symmetric: See `AllowedSwaps`; without a limit, the relation is symmetric.

        Raises:
            MissingExtraError: If NLTK is not installed.
            DataError: If NLTK does not find WordNet.
        """
        return cls(_wordnet(), limit=limit, symmetric=symmetric)

    def __len__(self) -> int:
        """How many words have an allowed swap."""
        return len(self._lists)

    @property
    def words(self) -> tuple[str, ...]:
        """All words that have or are a swap, in lower case, sorted."""
        return tuple(sorted(self._linked))

    @cached_property
    def fingerprint(self) -> str:
        """A key of the content, equal on all machines."""
        content = json.dumps(self._lists, sort_keys=True)
        return hashlib.blake2b(content.encode(), digest_size=16).hexdigest()

    def of(self, unit: str) -> tuple[str, ...]:
        """Return the allowed replacements of a unit of a text, the nearest first."""
        found = read(unit)
        if found is None:
            return ()
        word, spelling = found
        return tuple(spelling.write(v) for v in self._lists.get(word, ()) if spelling.fits(v))

    def around(self, word: str) -> Iterator[tuple[str, int]]:
        """Walk through the component of a lower-case word in the graph of swaps.

        Two words are linked if one may replace the other.

        Returns:
            Words with their distance in links, the nearest first, from `(word, 0)` on.
        """
        hops = {word: 0}
        queue = deque([word])
        while queue:
            at = queue.popleft()
            yield at, hops[at]
            for other in self._linked.get(at, ()):
                if other not in hops:
                    hops[other] = hops[at] + 1
                    queue.append(other)


def load_swaps(
    setting: SwapSetting, *, limit: int | None = None, symmetric: bool = False
) -> AllowedSwaps:
    """Return the allowed swaps that a setting names.

    Files and WordNet are read once in the life of a process.

    Args:
        setting: The path of a neighbour file, "wordnet", or word -> list of words.
        limit: See `AllowedSwaps`.
        symmetric: See `AllowedSwaps`.
    """
    if isinstance(setting, str):
        return _load_named(setting, limit, symmetric)
    return AllowedSwaps(setting, limit=limit, symmetric=symmetric)


def read_json(path: str | Path, what: str, expected: str) -> dict[str, Any]:
    """Read one JSON object, from a packed file if the name ends in ".gz".

    Raises:
        DataError: If there is none; the message names `what` was to be read and the `expected`
            settings.
    """
    path = Path(path)
    if not path.is_file():
        raise DataError(f"{what}: there is no file {str(path)!r}; expected {expected}")
    try:
        data = path.read_bytes()
        content = json.loads(gzip.decompress(data) if path.suffix == ".gz" else data)
    except (OSError, EOFError, ValueError, zlib.error) as error:
        raise DataError(f"{what}: {path} is not JSON (packed by gzip: .gz): {error}") from error
    if not isinstance(content, dict):
        raise DataError(f"{what}: {path} must hold one JSON object; got {type(content).__name__}")
    return content


@lru_cache(maxsize=8)
def _load_named(name: str, limit: int | None, symmetric: bool) -> AllowedSwaps:
    if name == "wordnet":
        return AllowedSwaps.from_wordnet(limit=limit, symmetric=symmetric)
    return AllowedSwaps.from_file(name, limit=limit, symmetric=symmetric)


def _wordnet() -> dict[str, list[str]]:
    try:
        corpus = importlib.import_module("nltk.corpus").wordnet
        search_ours()
    except ImportError as error:
        raise MissingExtraError("Swaps from WordNet need NLTK.", "wordnet") from error
    try:
        words = {word for word in map(str.lower, corpus.all_lemma_names()) if _is_lemma(word)}
        return {word: _sense_mates(corpus.synsets(word), word) for word in sorted(words)}
    except (LookupError, OSError) as error:
        raise DataError(
            "NLTK does not find WordNet. Get it with: robust-nlp resources install wordnet, or set "
            "NLTK_DATA to a folder that holds corpora/wordnet"
        ) from error


def _sense_mates(senses: Iterable[Any], word: str) -> list[str]:
    """Return the words that share a sense with a word, those of its most frequent sense first."""
    found = [{lemma.name().lower(): lemma for lemma in sense.lemmas()} for sense in senses]
    own = [lemmas for lemmas in found if word in lemmas]  # NLTK adds senses of a base form
    if len(own) > 1:
        own.sort(key=lambda lemmas: -lemmas[word].count())
    return [name for lemmas in own for name in lemmas if _is_lemma(name)]


def _is_lemma(name: str) -> bool:
    """Tell single words from phrases, which WordNet writes with underscores."""
    return "_" not in name and _is_word(name)


def checked_word(word: Any) -> str:
    """Return a word of allowed swaps in lower case."""
    lower = word.lower() if isinstance(word, str) else ""
    if not _is_word(lower):
        raise ValueError(
            f"allowed swaps are between single words that begin and end with a letter or digit; "
            f"got {word!r}. Leave it out (in YAML, put yes, no, on and off in quotes)."
        )
    return lower


def _is_word(lower: str) -> bool:
    """Tell whether a text may contain this lower-case word as a unit without marks around it."""
    return lower.split() == [lower] and _reads_back(lower, "lower")


@cache
def _reads_back(word: str, case: str) -> bool:
    return read(_CASES[case](word)) == (word, Spelling("", case, ""))


def _is_mark(character: str) -> bool:
    """Tell punctuation and symbols from letters, digits and the signs that belong to letters."""
    return unicodedata.category(character)[0] in "PS"
