"""Decode noisy embeddings to tokens, so that noise on embeddings can be repaired as text."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from robust_nlp.base_classifier import OpenText
from robust_nlp.denoising.base import MASK, NoisyInput
from robust_nlp.embedding_noise import gaussian_noise, input_embedding, on_grid, placeholder_id
from robust_nlp.huggingface import TOLERANCE, HuggingFaceClassifier
from robust_nlp.inputs import read
from robust_nlp.mechanisms.base import IntArray

#: Noisy vectors that are decoded at once.
VECTORS = 512


class EmbeddingDecoder:
    """Find the most probable token behind each noisy vector, whatever stands beside it.

    A vector is compared with every row of the embedding table. With all tokens equally probable
    beforehand, the probability of a token given the vector z is proportional to
    `exp(-|z - row|^2 / (2 sigma^2))`. A vector that leaves the best token less probable than
    `min_confidence` is written as a masked word, for the denoiser to fill from its context.

    Args:
        classifier: The classifier whose embeddings are noised.
        sigma: Standard deviation of the noise.
        min_confidence: In `[0, 1]`; with 0 every vector is decoded.

    Raises:
        ValueError: If `min_confidence` is no probability.
    """

    def __init__(
        self, classifier: HuggingFaceClassifier, *, sigma: float, min_confidence: float = 0.5
    ) -> None:
        if not 0.0 <= min_confidence <= 1.0:
            raise ValueError(f"min_confidence is a probability in [0, 1]; got {min_confidence!r}")
        self._classifier, self._sigma = classifier, sigma
        self._min_confidence = min_confidence
        with torch.no_grad():
            embedding = input_embedding(classifier.model)
            every = torch.arange(len(embedding.weight), device=embedding.weight.device)
            self._table = on_grid(embedding(every), sigma)
            self._halves = self._table.square().sum(dim=1) / 2.0
        special = [i for i in classifier.tokenizer.all_special_ids if i < len(every)]
        self._halves[special] = torch.inf

    def decode(self, vectors: torch.Tensor) -> list[str]:
        """Return the id of each vector, written as a number, or `MASK`; shape `(n, dimension)`."""
        ids, sure = self._decode(vectors)
        for i in np.flatnonzero(~sure):
            ids[i] = self._decode(vectors[i : i + 1])[0][0]
        return [MASK if token < 0 else str(token) for token in ids.tolist()]

    @torch.no_grad()
    def _decode(
        self, vectors: torch.Tensor
    ) -> tuple[IntArray, np.ndarray[Any, np.dtype[np.bool_]]]:
        """Return ids, -1 for masks, and whether rounding could not have changed them."""
        ids, sure = [], []
        for part in torch.split(vectors.to(self._table), VECTORS):
            scores = part @ self._table.T - self._halves
            tolerance = TOLERANCE[torch.float32] * (1.0 + scores.amax(dim=1).abs())
            top = scores.topk(2, dim=1)
            gap = top.values[:, 0] - top.values[:, 1]
            # The log-probability of the best token; -log 2 means that two share the vector.
            spread = (scores - top.values[:, :1]).div(self._sigma**2).logsumexp(dim=1)
            doubt = spread + np.log(max(self._min_confidence, 1e-300))
            kept = doubt <= 0.0
            ids.append(torch.where(kept, top.indices[:, 0], -1))
            close = torch.where(kept, gap, torch.inf).minimum(doubt.abs() * self._sigma**2)
            sure.append(close > tolerance)
        return torch.cat(ids).cpu().numpy(), torch.cat(sure).cpu().numpy()


class OpenDecoded:
    """One text, of which noisy embeddings are written as noisy texts.

    Noise and law are those of the classifier's own open text: only the vectors that it would read
    are decoded, and nothing else of the text is seen.

    Args:
        opened: What the classifier opened; its keys are of `robust_nlp.embedding_noise`.
        decoder: Decodes noisy vectors.
        write: Writes ids as a text.
        classifier: The classifier.
    """

    def __init__(
        self,
        opened: OpenText,
        decoder: EmbeddingDecoder,
        write: Callable[[list[str]], str],
        classifier: HuggingFaceClassifier,
    ) -> None:
        self.law = opened.law
        self._opened, self._decoder, self._write = opened, decoder, write
        self._classifier = classifier

    def encode(self, rows: IntArray) -> list[NoisyInput]:
        keys: list[Any] = list(self._opened.encode(rows))
        if not keys:
            return []
        config, embedding = self._classifier.model.config, input_embedding(self._classifier.model)
        places = read([keys[0].shown])[0][0] == placeholder_id(config)
        ids = torch.from_numpy(read([keys[0].ids])[0][0][places].astype(np.int64))
        with torch.no_grad():
            clean = on_grid(embedding(ids.to(embedding.weight.device)), keys[0].sigma)
        seeds = [key.seed for key in keys]
        n = len(clean)
        rows_at_once = max(1, VECTORS // max(n, 1))
        found = []
        for start in range(0, len(seeds), rows_at_once):
            some = seeds[start : start + rows_at_once]
            noise = torch.from_numpy(gaussian_noise(some, *clean.shape, sigma=keys[0].sigma))
            decoded = self._decoder.decode((clean + noise.to(clean.device)).flatten(0, 1))
            found += [self._write(decoded[i * n : (i + 1) * n]) for i in range(len(some))]
        return [NoisyInput(text, None) for text in found]
