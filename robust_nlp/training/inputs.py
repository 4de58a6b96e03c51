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

    Inputs are those of `HuggingFaceClassifier` with the same settings. It holds no model, so that
    worker processes of a data loader can take it along.

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

    def build(self, body: bytes, partner: str | None) -> tuple[Ids, Ids | None]:
        """Return the ids of one input, and its token types if the tokenizer has any.

        Args:
            body: Ids of the noisy text, as bytes; see `UnitEncoder`.
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
        texts = (other, body[cut]) if self._protected == "first" else (body[cut], other)
        key = template.fill(*(texts if partner is not None else (body[cut],)))
        filled = np.frombuffer(key or self._nothing(), ID)
        if not template.typed:
            return filled, None
        return filled[: len(filled) // 2], filled[len(filled) // 2 :]

    def _template(self, *, pair: bool) -> Template:
        if pair not in self._templates:
            self._templates[pair] = Template.read(self._tokenizer, pair=pair)
        return self._templates[pair]

    def _nothing(self) -> bytes:
        tokenizer = self._tokenizer
        known: Sequence[int | None] = (
            tokenizer.bos_token_id,
            tokenizer.eos_token_id,
            tokenizer.pad_token_id,
            0,
        )
        return np.array([next(i for i in known if i is not None)], ID).tobytes()
