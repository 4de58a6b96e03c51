"""From kept units to token ids, without tokenizing every noisy text again.

A word that stands between single spaces has the same tokens in every text, for most tokenizers: one
way at the start of a text and one way after a space. Each distinct word is tokenized once in both
ways, and noisy texts are put together as ids. Whether this gives the ids of the noisy string is
checked for the tokenizer, on its vocabulary and on samples, and for each word between two others.
Where it does not, noisy strings are tokenized. The way never depends on anything but the noisy text
itself: a choice that looked at the clean text would leak it into the votes, and void certificates.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from robust_nlp.errors import ModelError
from robust_nlp.mechanisms.base import IntArray
from robust_nlp.threats import Unit
from robust_nlp.units import join_units, split_units

logger = logging.getLogger(__name__)

#: Ids travel as bytes of this type: compact, hashable, joined at the speed of memory.
ID = np.dtype(np.int32)

_ANCHOR = "the"

_SAMPLES = (
    "a quick test , with spaced punctuation - and don't n't 's it's (brackets) \"quotes\" ...",
    "Ünïcode naïve façade STRASSE straße İstanbul ΣΊΣΥΦΟΣ ﬁne",
    "numbers 1,234.56 3rd 50% $9.99 #tag @user http://x.org/a?b=c e-mail@x.com C++ a/b",
    "中文 文字 日本語の テスト 한국어 हिन्दी العربية עברית ไทย",
    "😀 👍🏽 👨‍👩‍👧 ☕️ ™ ½ \u200b zero\u200bwidth soft\u00adhyphen",
    "x X xx XX _ __ -- --- ! !! ?! ' '' \" ` `` ~ ^ | \\ / <b> </b> [ ] { } &amp;",
    "supercalifragilisticexpialidocious antidisestablishmentarianism " + "long" * 40,
    "repeated repeated repeated words words the the the a a I I",
)


@dataclass(frozen=True, kw_only=True)
class Template:
    """The special tokens of an input, with their token types.

    An input is `before`, the open text, `after`; or `before`, first text, `middle`, second text,
    `after`. Special tokens and their types are ids as bytes.
    """

    before: bytes
    middle: bytes
    after: bytes
    types: tuple[bytes, int, bytes, int, bytes]

    @property
    def size(self) -> int:
        """How many tokens it adds."""
        return (len(self.before) + len(self.middle) + len(self.after)) // ID.itemsize

    @cached_property
    def typed(self) -> bool:
        """Whether token types say anything, that is, are not all zero."""
        return any(any(kind) if isinstance(kind, bytes) else kind for kind in self.types)

    @classmethod
    def read(cls, tokenizer: Any, *, pair: bool) -> Template:
        """Find the template by encoding a word, or a pair of words.

        Raises:
            ModelError: If inputs of the tokenizer are not texts between fixed special tokens.
        """
        words = ("the", "of") if pair else ("the",)
        encoded = tokenizer(*words, return_attention_mask=False)
        full = list(encoded["input_ids"])
        types = list(encoded.get("token_type_ids") or [0] * len(full))
        plain = [list(tokenizer(word, add_special_tokens=False)["input_ids"]) for word in words]
        starts, cursor = [], 0
        for ids in plain:
            found = next(
                (i for i in range(cursor, len(full)) if full[i : i + len(ids)] == ids), None
            )
            if found is None or not ids:
                raise ModelError(
                    f"cannot find the tokens {ids} of {words} in the tokenizer's input {full}: "
                    "its special tokens change the text between them"
                )
            starts.append(found)
            cursor = found + len(ids)
        first_end = starts[0] + len(plain[0])
        second = starts[-1] if pair else first_end
        spans = (slice(starts[0]), slice(first_end, second), slice(cursor, None))
        before, middle, after = (np.array(full[span], ID).tobytes() for span in spans)
        kinds = [np.array(types[span], ID).tobytes() for span in spans]
        return cls(
            before=before,
            middle=middle,
            after=after,
            types=(kinds[0], types[starts[0]], kinds[1], types[starts[-1]], kinds[2]),
        )

    def fill(self, first: bytes, second: bytes = b"") -> bytes:
        """Return the ids of an input; where token types matter, then these and one more byte."""
        ids = b"".join((self.before, first, self.middle, second, self.after))
        if not self.typed:
            return ids
        before, first_type, middle, second_type, after = self.types
        return b"".join(
            (
                ids,
                before,
                ID.type(first_type).tobytes() * (len(first) // ID.itemsize),
                middle,
                ID.type(second_type).tobytes() * (len(second) // ID.itemsize),
                after,
                b"t",
            )
        )


class UnitEncoder:
    """Turn noisy texts, given as kept units, into the ids of their bodies.

    Bodies carry no special tokens and are not truncated.

    Args:
        tokenizer: A Hugging Face tokenizer.
        unit: The unit of the mechanism.
        prefix: Fixed text before every noisy text, joined by a space; "" for none.
    """

    def __init__(self, tokenizer: Any, unit: Unit, prefix: str = "") -> None:
        self._tokenizer = tokenizer
        self.unit = unit
        self._prefix = prefix.rstrip()
        self._pieces: dict[str, tuple[bytes, bytes] | None] = {}
        self._anchor, both = self._tokenize([_ANCHOR, f"{_ANCHOR} {_ANCHOR}"])
        self._later_anchor = both[len(self._anchor) :]
        self.fast = unit == "token" or (
            unit == "word" and not _crosses_spaces(tokenizer) and self._check_tokenizer()
        )
        if unit == "word" and not self.fast:
            logger.info("this tokenizer needs whole strings: noisy texts are tokenized one by one")

    def units(self, text: str) -> list[str]:
        """Split a text into units; tokens are written as their ids."""
        if self.unit == "token":
            ids = np.frombuffer(self._tokenize([text])[0], ID)
            return [str(token) for token in ids.tolist()]
        return split_units(text, self.unit)

    def open(self, units: Sequence[str], extra_units: Sequence[str]) -> OpenUnits:
        """Prepare to encode noisy versions of one text."""
        return OpenUnits(self, list(units), list(extra_units))

    def string(self, units: Sequence[str]) -> str:
        """Join kept units and the prefix to the text that the classifier reads."""
        text = join_units(units, self.unit)
        return f"{self._prefix} {text}" if self._prefix and text else self._prefix or text

    def bodies_of_strings(self, texts: Sequence[str]) -> list[bytes]:
        """Tokenize noisy strings."""
        return self._tokenize(texts)

    def pieces(self, units: Sequence[str], extra_units: Sequence[str]) -> Pieces | None:
        """Return the ids of each unit; `None` if all strings must be tokenized."""
        if self.unit == "token":
            ids = [int(unit) for unit in units]
            ids += [self._token_id(extra) for extra in extra_units]
            each = [np.array([token], ID).tobytes() for token in ids]
            prefix = self._tokenize([self._prefix])[0] if self._prefix else b""
            return Pieces(prefix=prefix, first=each, later=each, unsafe=frozenset())
        if not self.fast:
            return None
        self._learn([*units, *extra_units])
        known = [self._pieces[unit] for unit in (*units, *extra_units)]
        unsafe = frozenset(i for i, piece in enumerate(known) if piece is None)
        first = [b"" if piece is None else piece[0] for piece in known]
        later = [b"" if piece is None else piece[1] for piece in known]
        if not self._prefix:
            return Pieces(prefix=b"", first=first, later=later, unsafe=unsafe)
        prefix = self._tokenize([self._prefix])[0]
        return Pieces(prefix=prefix, first=later, later=later, unsafe=unsafe)

    def _token_id(self, extra: str) -> int:
        token: int | None = self._tokenizer.convert_tokens_to_ids(extra)
        unknown = (None, self._tokenizer.unk_token_id)
        if token in unknown and extra != self._tokenizer.unk_token:
            raise ModelError(f"the tokenizer has no token {extra!r}, which the mechanism writes")
        return int(token)  # type: ignore[arg-type]

    def _learn(self, words: Iterable[str]) -> None:
        """Tokenize new words at the start, between and at the end of two anchors."""
        new = [word for word in dict.fromkeys(words) if word not in self._pieces]
        anchor, later_anchor = self._anchor, self._later_anchor
        for word, first, later, opening, between in zip(
            new,
            self._tokenize(new),
            self._tokenize([f"{_ANCHOR} {word}" for word in new]),
            self._tokenize([f"{word} {_ANCHOR}" for word in new]),
            self._tokenize([f"{_ANCHOR} {word} {_ANCHOR}" for word in new]),
            strict=True,
        ):
            safe = (
                later.startswith(anchor)
                and opening == first + later_anchor
                and between == later + later_anchor
            )
            self._pieces[word] = (first, later[len(anchor) :]) if safe else None

    def _check_tokenizer(self) -> bool:
        """Compare ids put together from words with those of strings, on samples."""
        self.fast = True
        rng = np.random.Generator(np.random.Philox(0))
        for sample in _SAMPLES:
            opened = self.open(sample.split(), ())
            keep = rng.random((8, len(opened.units))) < 0.4
            rows = np.where(keep, np.arange(len(opened.units)), -1)
            if opened.slow or opened.encode(rows) != opened.encode_strings(rows):
                return False
        return True

    def _tokenize(self, texts: Sequence[str]) -> list[bytes]:
        if not texts:
            return []
        encoded = self._tokenizer(
            list(texts),
            add_special_tokens=False,
            return_attention_mask=False,
            return_token_type_ids=False,
            verbose=False,  # texts longer than the model are truncated after the noise
        )
        return [np.array(ids, ID).tobytes() for ids in encoded["input_ids"]]


@dataclass(frozen=True, kw_only=True)
class Pieces:
    """Ids of a prefix and of units at the start of a text and later, as bytes.

    Noisy texts that keep an `unsafe` unit are tokenized as strings.
    """

    prefix: bytes
    first: list[bytes]
    later: list[bytes]
    unsafe: frozenset[int]


class OpenUnits:
    """Encode noisy versions of one text."""

    def __init__(self, encoder: UnitEncoder, units: list[str], extra_units: list[str]) -> None:
        self._encoder = encoder
        self.units = units
        self._all_units = [*units, *extra_units]
        self._pieces = encoder.pieces(units, extra_units)

    @property
    def slow(self) -> bool:
        """Whether every noisy string is tokenized."""
        return self._pieces is None

    def encode(self, rows: IntArray) -> list[bytes]:
        """Return the ids of the bodies of noisy texts; `rows` as in `TextMechanism`."""
        if self._pieces is None:
            return self.encode_strings(rows)
        prefix, first, later = self._pieces.prefix, self._pieces.first, self._pieces.later
        bodies = [
            prefix + first[kept[0]] + b"".join([later[i] for i in kept[1:]]) if kept else prefix
            for kept in _kept(rows)
        ]
        if self._pieces.unsafe:
            strings = np.flatnonzero(np.isin(rows, list(self._pieces.unsafe)).any(axis=1))
            for row, body in zip(strings, self.encode_strings(rows[strings]), strict=True):
                bodies[row] = body
        return bodies

    def encode_strings(self, rows: IntArray) -> list[bytes]:
        """Return the same by tokenizing the noisy strings, each distinct one once."""
        texts = [self._encoder.string([self._all_units[i] for i in kept]) for kept in _kept(rows)]
        distinct = list(dict.fromkeys(texts))
        bodies = dict(zip(distinct, self._encoder.bodies_of_strings(distinct), strict=True))
        return [bodies[text] for text in texts]


def _crosses_spaces(tokenizer: Any) -> bool:
    """Tell whether a token of the vocabulary joins two words."""
    for token in tokenizer.get_vocab():
        for mark in (" ", "\u2581", "\u0120"):  # a space, as it is, for SentencePiece, as a byte
            inside = token.strip(mark)
            if mark in inside and inside not in tokenizer.all_special_tokens:
                return True
    return False


def _kept(rows: IntArray) -> list[list[int]]:
    """Return the indices that are not removed, row by row."""
    present = rows >= 0
    flat = rows[present].tolist()
    ends = np.cumsum(present.sum(axis=1)).tolist()
    return [flat[start:end] for start, end in zip([0, *ends[:-1]], ends, strict=True)]
