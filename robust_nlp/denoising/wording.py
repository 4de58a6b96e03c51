"""Words to the ids of a masked language model, and filled-in ids back to words."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from robust_nlp.encoding import ID, Template
from robust_nlp.errors import ModelError
from robust_nlp.inputs import Ids
from robust_nlp.mechanisms.base import IntArray

_ANCHOR = "the"

#: The target of a slot that no single token fills.
NO_TARGET = -100


@dataclass(frozen=True)
class Layout:
    """A text as a masked language model reads it.

    Attributes:
        body: Ids without special tokens, cut to the room of the model; shape `(tokens,)`.
        slots: Positions of the slots in `body`; shape `(slots,)`.
        members: Which of the words each slot is; shape `(slots,)`.
    """

    body: Ids
    slots: IntArray
    members: IntArray


class Wording:
    """Lay out words and slots as ids: one mask token a slot, to be filled by one whole word.

    Every word is tokenized by itself, in one way where the text begins and in another after a
    space, as tokenizers do. What fills a slot is a token that is a whole word in this sense,
    whatever the family of the tokenizer.

    Args:
        tokenizer: Tokenizer of the masked language model.
        max_length: Tokens that the model reads at most, special tokens included.

    Raises:
        ModelError: If the tokenizer has no mask token, no token is a whole word, or there is no
            room for text.
    """

    def __init__(self, tokenizer: Any, max_length: int) -> None:
        if tokenizer.mask_token_id is None:
            raise ModelError(
                "the tokenizer has no mask token, so its model is no masked language model; take "
                "a denoiser of kind seq2seq or causal_lm"
            )
        self.mask_id = int(tokenizer.mask_token_id)
        self._tokenizer = tokenizer
        self.template = Template.read(tokenizer, pair=False)
        self._room = max_length - self.template.size
        self._pieces: dict[str, tuple[list[int], list[int]]] = {}
        (self._anchor,) = self._tokenize([_ANCHOR])
        if self._room < 1:
            raise ModelError(f"max_length={max_length} leaves a denoiser no room for text")

    @property
    def offset(self) -> int:
        """How many special tokens stand before the body."""
        return len(self.template.before) // ID.itemsize

    def learn(self, words: Iterable[str | None]) -> None:
        """Tokenize new words, all at once."""
        new = [w for w in dict.fromkeys(words) if w is not None and w not in self._pieces]
        self._pieces.update(zip(new, self._both_ways(new), strict=True))

    def lay_out(self, words: Sequence[str | None]) -> Layout:
        """Return the ids of a text of words and slots (`None`)."""
        self.learn(words)
        ids: list[int] = []
        slots, members = [], []
        for i, word in enumerate(words):
            if len(ids) >= self._room:
                break
            if word is None:
                slots.append(len(ids))
                members.append(i)
                ids.append(self.mask_id)
            else:
                ids += self._pieces[word][i > 0]
        return Layout(
            np.array(ids[: self._room], ID), np.array(slots, np.int64), np.array(members, np.int64)
        )

    def key(self, body: Ids) -> bytes:
        """Return the whole input; `robust_nlp.inputs.read` takes it apart."""
        return self.template.fill(body.tobytes())

    @cached_property
    def words(self) -> list[str]:
        """The token of each id as it is written in a text."""
        decoded = self._tokenizer.batch_decode(
            [[token] for token in range(len(self._tokenizer))], clean_up_tokenization_spaces=False
        )
        return [str(word).strip() for word in decoded]

    @cached_property
    def whole(self) -> npt.NDArray[np.bool_]:
        """Which tokens are whole words: where a text begins, and later; shape `(2, tokens)`."""
        special = set(self._tokenizer.all_special_ids)
        whole = np.zeros((2, len(self.words)), np.bool_)
        # Special tokens would be read as themselves wherever a text spells them.
        tried = [
            token
            for token, word in enumerate(self.words)
            if token not in special and word and len(word.split()) == 1
        ]
        pieces = self._both_ways([self.words[token] for token in tried])
        for token, ways in zip(tried, pieces, strict=True):
            whole[:, token] = [way == [token] for way in ways]
        if not whole.any(axis=1).all():
            raise ModelError(
                "no token of this tokenizer is a whole word, with which to fill a mask"
            )
        return whole

    def target(self, word: str, *, later: bool) -> int:
        """Return the token that is this word, or `NO_TARGET`."""
        way = int(later)
        pieces = self._pieces[word][way]
        if len(pieces) != 1 or not self.whole[way, pieces[0]]:
            return NO_TARGET
        return pieces[0]

    def _both_ways(self, words: Sequence[str]) -> list[tuple[list[int], list[int]]]:
        n = len(self._anchor)
        found = []
        for first, later in zip(
            self._tokenize(words), self._tokenize([f"{_ANCHOR} {w}" for w in words]), strict=True
        ):
            after = later[n:] if later[:n] == self._anchor else first
            # A text may spell the mask token, which would look like a slot.
            found.append(
                (
                    [i for i in first if i != self.mask_id],
                    [i for i in after if i != self.mask_id],
                )
            )
        return found

    def _tokenize(self, texts: Sequence[str]) -> list[list[int]]:
        if not texts:
            return []
        encoded = self._tokenizer(
            list(texts),
            add_special_tokens=False,
            return_attention_mask=False,
            return_token_type_ids=False,
            verbose=False,
        )
        return [list(ids) for ids in encoded["input_ids"]]
