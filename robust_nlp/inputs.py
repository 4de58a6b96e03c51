"""Inputs of a classifier from the bodies of noisy texts, without its model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from robust_nlp.base_classifier import Side
from robust_nlp.encoding import ID, Template

Ids = npt.NDArray[np.int32]


class InputBuilder:
    """Truncate noisy texts, and put special tokens and protected partners around them.

    It holds no model, so that worker processes of a data loader can take it along.

    Args:
        tokenizer: A Hugging Face tokenizer.
        max_length: Tokens in an input at most, special tokens included.
        protected: Which text of a pair neither noise nor attacker touches.
    """

    def __init__(self, tokenizer: Any, *, max_length: int, protected: Side = "second") -> None:
        self._tokenizer = tokenizer
        self._max_length = max_length
        self._protected = protected
        self._templates: dict[bool, Template] = {}

    @property
    def room(self) -> int:
        """How many tokens of a single text fit in an input."""
        return self._max_length - self._template(pair=False).size

    def build(self, bodies: Sequence[bytes], partner: str | None) -> list[bytes]:
        """Return the inputs of noisy versions of one text; `read` takes them apart.

        Args:
            bodies: Ids of the noisy texts, as bytes; see `UnitEncoder`.
            partner: The protected text of a pair, which keeps at most half of the room.
        """
        template = self._template(pair=partner is not None)
        room, other = self._max_length - template.size, b""
        if partner is not None:
            ids = self._tokenizer(partner, add_special_tokens=False, verbose=False)["input_ids"]
            other = np.array(ids[: room // 2], ID).tobytes()
            room -= len(other) // ID.itemsize
        left = self._tokenizer.truncation_side == "left"
        cut = slice(-room * ID.itemsize, None) if left else slice(None, room * ID.itemsize)
        if partner is not None and self._protected == "first":
            return [template.fill(other, body[cut]) or self._nothing() for body in bodies]
        return [template.fill(body[cut], other) or self._nothing() for body in bodies]

    def _template(self, *, pair: bool) -> Template:
        if pair not in self._templates:
            self._templates[pair] = Template.read(self._tokenizer, pair=pair)
        return self._templates[pair]

    def _nothing(self) -> bytes:
        """One token that stands for an empty input, where the tokenizer adds no special tokens."""
        tokenizer = self._tokenizer
        known = (tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id, 0)
        return np.array([next(i for i in known if i is not None)], ID).tobytes()


def read(inputs: Sequence[bytes]) -> tuple[Ids, Ids | None]:
    """Take inputs of equal length apart into ids and, where they carry any, token types.

    Returns:
        Ids, and token types or `None`; shapes `(inputs, tokens)`.
    """
    typed = len(inputs[0]) % ID.itemsize > 0
    whole = b"".join(key[:-1] for key in inputs) if typed else b"".join(inputs)
    ids = np.frombuffer(whole, ID).reshape(len(inputs), -1)
    if not typed:
        return ids, None
    half = ids.shape[1] // 2
    return ids[:, :half], ids[:, half:]
