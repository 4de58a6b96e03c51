"""Models from folders, in place of those that recipes of TextAttack download."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

import torch

from robust_nlp.embedded import resolve_base

#: Tokens that the masked language models of TextAttack are asked for at most.
_TOKENS = 512


class SentenceVectors:
    """Sentences as vectors of all-MiniLM-L6-v2: the mean over tokens, of length one.

    Args:
        device: The torch device that the model runs on; vectors come back on it.
    """

    def __init__(self, device: str) -> None:
        from transformers import AutoModel, AutoTokenizer

        folder = resolve_base("embedded:minilm")
        self._tokenizer = AutoTokenizer.from_pretrained(folder)
        self._model = AutoModel.from_pretrained(folder).to(device).eval()

    @torch.no_grad()
    def __call__(self, sentences: Sequence[str]) -> torch.Tensor:
        """Return a vector for each sentence; shape `(sentences, 384)`."""
        inputs = self._tokenizer(
            list(sentences), padding=True, truncation=True, max_length=256, return_tensors="pt"
        ).to(self._model.device)
        states = self._model(**inputs).last_hidden_state
        seen = inputs["attention_mask"][..., None].to(states.dtype)
        means = (states * seen).sum(dim=1) / seen.sum(dim=1)
        return torch.nn.functional.normalize(means, dim=-1)


@cache
def sentence_vectors(device: str = "cpu") -> SentenceVectors:
    return SentenceVectors(device)


@lru_cache(maxsize=2)
def masked_lm(folder: str) -> tuple[Any, Any]:
    from transformers import AutoModelForMaskedLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    return AutoModelForMaskedLM.from_pretrained(folder).eval(), tokenizer


def shorten(part: Any, tokenizer: Any) -> None:
    """Pad texts to the longest of a batch, and cut them to what the model has positions for.

    Departs: TextAttack pads to 512 tokens.
    """
    model = part._language_model
    places = getattr(model.config, "max_position_embeddings", _TOKENS)
    if model.config.model_type == "roberta":  # which counts from behind its padding token
        places -= model.config.pad_token_id + 1
    part.max_length = min(_TOKENS, tokenizer.model_max_length, places)

    def encode(text: Any) -> Any:
        inputs = tokenizer(
            text, max_length=part.max_length, truncation=True, padding=True, return_tensors="pt"
        )
        return inputs.to(model.device)

    part._encode_text = encode


@lru_cache(maxsize=2)
def digest(folder: Path) -> str:
    found = hashlib.blake2b(digest_size=16)
    for path in sorted(path for path in folder.iterdir() if path.is_file()):
        found.update(path.name.encode())
        with path.open("rb") as file:
            while chunk := file.read(1 << 20):
                found.update(chunk)
    return found.hexdigest()
