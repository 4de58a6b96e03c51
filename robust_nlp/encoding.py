"""From kept units to token ids, without tokenizing every noisy text again.

A word that stands between single spaces has the same tokens in every text, for most tokenizers: one
way at the start of a text and one way after a space. Each distinct word is tokenized once in both
ways, and noisy texts are put together as ids. Whether this gives the ids of the noisy string is
checked for the tokenizer on samples and for each text on three of its noisy versions; where it does
not, the noisy strings are tokenized.
"""

from __future__ import annotations

import itertools
import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from robust_nlp.errors import ModelError
from robust_nlp.mechanisms.base import IntArray
from robust_nlp.threats import Unit
from robust_nlp.units import join_units

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
    """The special tokens of an input, and the token types of its segments.

    An input is `before`, the open text, `after`; or `before`, first text, `middle`, second text,
    `after`. `types` are the token types of these five segments.
    """

    before: bytes
    middle: bytes
    after: bytes
    types: tuple[int, int, int, int, int]

    @property
    def size(self) -> int:
        """How many tokens it adds."""
        return (len(self.before) + len(self.middle) + len(self.after)) // ID.itemsize

    @property
    def typed(self) -> bool:
        """Whether token types say anything, that is, are not all zero."""
        return any(self.types)

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
        cuts = [0, starts[0], first_end, starts[-1] if pair else first_end, cursor, len(full)]
        segments = list(itertools.pairwise(cuts))
        kinds = [types[start] if start < end else 0 for start, end in segments]
        before, middle, after = (
            np.array(full[start:end], ID).tobytes() for start, end in segments[::2]
        )
        a, b, c, d, e = kinds
        return cls(before=before, middle=middle, after=after, types=(a, b, c, d, e))

    def fill(self, first: bytes, second: bytes = b"") -> bytes:
        """Return the ids of an input; where token types matter, then these and one more byte."""
        segments = (self.before, first, self.middle, second, self.after)
        ids = b"".join(segments)
        if not self.typed:
            return ids
        sizes = [len(segment) // ID.itemsize for segment in segments]
        return ids + np.repeat(np.array(self.types, ID), sizes).tobytes() + b"t"


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
        self._unit = unit
        self._prefix = prefix.rstrip()
        self._pieces: dict[str, tuple[bytes, bytes]] = {}
        self._anchor = self._tokenize([_ANCHOR])[0]
        added = getattr(tokenizer, "added_tokens_decoder", {}).values()
        self._added = sorted({str(token) for token in added} - {""})
        self.fast = unit == "token" or (unit == "word" and self._check_tokenizer())
        if unit == "word" and not self.fast:
            logger.info("this tokenizer needs whole strings: noisy texts are tokenized one by one")

    def units(self, text: str) -> list[str]:
        """Split a text into units; tokens are written as their ids."""
        if self._unit == "token":
            ids = np.frombuffer(self._tokenize([text])[0], ID)
            return [str(token) for token in ids.tolist()]
        return text.split() if self._unit == "word" else list(text)

    def open(self, units: Sequence[str], extra_units: Sequence[str]) -> OpenUnits:
        """Prepare to encode noisy versions of one text."""
        return OpenUnits(self, list(units), list(extra_units))

    def string(self, units: Sequence[str]) -> str:
        """Join kept units and the prefix to the text that the classifier reads."""
        text = join_units(units, self._unit)
        return f"{self._prefix} {text}" if self._prefix and text else self._prefix or text

    def bodies_of_strings(self, texts: Sequence[str]) -> list[bytes]:
        """Tokenize noisy strings."""
        return self._tokenize(texts)

    def pieces(
        self, units: Sequence[str], extra_units: Sequence[str]
    ) -> tuple[bytes, list[bytes], list[bytes]] | None:
        """Return the ids of the prefix and of each unit, at the start of a text and later.

        `None` if whole strings must be tokenized.
        """
        if self._unit == "token":
            ids = [int(unit) for unit in units]
            ids += [self._token_id(extra) for extra in extra_units]
            each = [np.array([token], ID).tobytes() for token in ids]
            prefix = self._tokenize([self._prefix])[0] if self._prefix else b""
            return prefix, each, each
        if not self.fast or any(token in unit for unit in set(units) for token in self._added):
            return None
        self._learn([*units, *extra_units])
        known = [self._pieces[unit] for unit in (*units, *extra_units)]
        later = [piece[1] for piece in known]
        if not self._prefix:
            return b"", [piece[0] for piece in known], later
        return self._tokenize([self._prefix])[0], later, later

    def _token_id(self, extra: str) -> int:
        token: int | None = self._tokenizer.convert_tokens_to_ids(extra)
        if token is None:
            raise ModelError(f"the tokenizer has no token {extra!r}, which the mechanism writes")
        return token

    def _learn(self, words: Iterable[str]) -> None:
        new = [word for word in dict.fromkeys(words) if word not in self._pieces]
        first = self._tokenize(new)
        later = self._tokenize([f"{_ANCHOR} {word}" for word in new])
        for word, start, after in zip(new, first, later, strict=True):
            self._pieces[word] = (start, after[len(self._anchor) :])

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


class OpenUnits:
    """Encode noisy versions of one text."""

    def __init__(self, encoder: UnitEncoder, units: list[str], extra_units: list[str]) -> None:
        self._encoder = encoder
        self.units = units
        self._all_units = [*units, *extra_units]
        self._pieces = encoder.pieces(units, extra_units)
        if self._pieces is not None and self._probe_fails():
            self._pieces = None

    @property
    def slow(self) -> bool:
        """Whether noisy strings are tokenized one by one."""
        return self._pieces is None

    def encode(self, rows: IntArray) -> list[bytes]:
        """Return the ids of the bodies of noisy texts; `rows` as in `TextMechanism`."""
        if self._pieces is None:
            return self.encode_strings(rows)
        prefix, first, later = self._pieces
        return [
            prefix + first[kept[0]] + b"".join([later[i] for i in kept[1:]]) if kept else prefix
            for kept in _kept(rows)
        ]

    def encode_strings(self, rows: IntArray) -> list[bytes]:
        """Return the same by tokenizing the noisy strings, each distinct one once."""
        texts = [self.string(kept) for kept in _kept(rows)]
        distinct = list(dict.fromkeys(texts))
        bodies = dict(zip(distinct, self._encoder.bodies_of_strings(distinct), strict=True))
        return [bodies[text] for text in texts]

    def string(self, kept: Sequence[int]) -> str:
        """Return the noisy text that keeps these units."""
        return self._encoder.string([self._all_units[i] for i in kept])

    def _probe_fails(self) -> bool:
        """Compare both ways on the whole text and on its odd and even words."""
        if self._encoder._unit == "token" or not self.units:
            return False
        everything = np.arange(len(self.units))
        odd = np.where(everything % 2 == 1, everything, -1)
        even = np.where(everything % 2 == 0, everything, -1)
        rows = np.stack([everything, odd, even])
        return self.encode(rows) != self.encode_strings(rows)


def _kept(rows: IntArray) -> list[list[int]]:
    """Return the indices that are not removed, row by row."""
    present = rows >= 0
    flat = rows[present].tolist()
    ends = np.cumsum(present.sum(axis=1)).tolist()
    return [flat[start:end] for start, end in zip([0, *ends[:-1]], ends, strict=True)]
