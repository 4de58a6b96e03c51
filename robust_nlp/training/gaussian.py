"""Training under noise on the embeddings: its seeds in the batch, its vectors in the forward pass.

Unlike in certification, the model reads the ids themselves: training proves nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

from robust_nlp.base_classifier import split_pair
from robust_nlp.embedding_noise import (
    check_embedding,
    claimed_swaps,
    embeddings_changed,
    gaussian_noise,
    input_embedding,
)
from robust_nlp.mechanisms.gaussian import GaussianEmbedding
from robust_nlp.training.collators import NoisyCollator, _Noisy
from robust_nlp.units import keyed_rng

#: The seed of an example that goes without noise.
CLEAN = -1


class EmbeddingNoiseCollator(NoisyCollator):
    """Turn examples into a padded batch of texts as they are, with a seed of the noise for each.

    The batch has the entry `noise_seeds`, shape `(rows,)`, and on demand allowed swaps of its
    words, one for each word of each row, anew in each epoch: `swap_ids`, pairs of ids that a swap
    exchanges, shape `(pairs, 2)`, and `swap_weights`, by which their squared distances sum to the
    mean over the swaps of a row, shape `(pairs,)`.

    Args:
        tokenizer: Tokenizer of the classifier.
        mechanism: The law of the noise.
        with_swaps: Whether batches hold swaps.
        settings: See `NoisyCollator`.

    Raises:
        RecipeError: See `NoisyCollator`; embeddings have no rates to draw from.
        ModelError: If the tokenizer has no token to pad with.
    """

    def __init__(
        self,
        tokenizer: Any,
        mechanism: GaussianEmbedding,
        *,
        with_swaps: bool = False,
        **settings: Any,
    ) -> None:
        super().__init__(tokenizer, mechanism, **settings)
        self._allowed = mechanism.allowed if with_swaps else None
        self.special_ids = frozenset(tokenizer.all_special_ids)

    def __call__(self, examples: Sequence[Mapping[str, Any]]) -> dict[str, torch.Tensor]:
        rows = [(example, draw) for draw in range(self.draws) for example in examples]
        seeds = [self._noise_seed(example["example_id"], draw) for example, draw in rows]
        batch = {**super().__call__(examples), "noise_seeds": torch.tensor(seeds)}
        if self._allowed is None:
            return batch
        ids, weights = [np.zeros((0, 2), np.int64)], [np.zeros(0, np.float32)]
        for example, draw in rows:
            pairs = self._swapped_ids(example, draw)
            ids += pairs
            weights += [np.full(len(pair), 1.0 / len(pairs), np.float32) for pair in pairs]
        batch["swap_ids"] = torch.from_numpy(np.concatenate(ids))
        batch["swap_weights"] = torch.from_numpy(np.concatenate(weights))
        return batch

    def _noisy(self, text: str, example_id: int, draw: int) -> _Noisy:  # noqa: ARG002
        units = self._encoder.units(text)
        return _Noisy(units, (), np.arange(len(units))[None])

    def _noise_seed(self, example_id: int, draw: int) -> int:
        key = (self.epoch, example_id)
        if keyed_rng(self._seed, "train-rate", *key).random() < self._clean_share:
            return CLEAN
        return int(keyed_rng(self._seed, "train-noise", *key, draw).integers(2**63))

    def _swapped_ids(self, example: Mapping[str, Any], draw: int) -> list[np.ndarray[Any, Any]]:
        """Draw a claimed swap for each word that has one, as pairs of ids."""
        assert self._allowed is not None
        pair = example.get("pair")
        whole = example["text"] if pair is None else (example["text"], pair)
        units = self._encoder.units(split_pair(whole, self._protected)[0])
        rng = keyed_rng(self._seed, "train-swaps", self.epoch, example["example_id"], draw)
        drawn = [
            swaps[rng.integers(len(swaps))]
            for swaps in claimed_swaps(units, self._allowed, self._encoder)
            if swaps
        ]
        return [np.stack([swap.own, swap.other], axis=1).astype(np.int64) for swap in drawn]


class EmbeddingNoise:
    """Put the noise of an `EmbeddingNoiseCollator` into a model, and pull swaps together.

    Args:
        model: The model that is trained.
        sigma: Standard deviation of the noise.
        collapse: Weight of the pull; above 0, batches must hold swaps.

    Raises:
        ModelError: If the model is none for noise on embeddings.
    """

    def __init__(self, model: Any, *, sigma: float, collapse: float = 0.0) -> None:
        check_embedding(model)
        self._embedding = input_embedding(model)
        self._sigma, self._collapse = sigma, collapse
        self._swaps: tuple[torch.Tensor, torch.Tensor] | None = None

    @contextmanager
    def added(self, batch: dict[str, Any]) -> Iterator[dict[str, Any]]:
        """Add noise in one forward pass on what is yielded, the batch without our own entries."""
        rest = dict(batch)
        seeds = rest.pop("noise_seeds").tolist()
        if self._collapse > 0.0:
            self._swaps = rest.pop("swap_ids"), rest.pop("swap_weights")

        def add(vectors: torch.Tensor) -> torch.Tensor:
            size = vectors.shape[1:]
            noise = gaussian_noise([max(seed, 0) for seed in seeds], *size, sigma=self._sigma)
            noise[np.array(seeds) == CLEAN] = 0.0
            return vectors + torch.from_numpy(noise).to(vectors.device)

        with embeddings_changed(self._embedding, add):
            yield rest

    def pull(self, progress: float = 1.0) -> torch.Tensor | float:
        """Return the weighted squared distance of swaps over sigma², summed over the last batch.

        The weight grows linearly over the first half of the training. With all of it from the
        start, all rows fall together before the classifier has learned to read through the noise.

        Over sigma², since that is what swaps cost: a certificate covers squared distances up to
        sigma² (PhiInv(p_A) - PhiInv(p_B))² / 4. Distances relative to the size of the rows would
        fall as well if all rows grew, and would hide that the noise then drowns in them.

        Args:
            progress: Share of the optimizer steps, this one included, in `(0, 1]`.
        """
        if self._swaps is None:
            return 0.0
        ids, weights = self._swaps
        vectors = self._embedding.forward(ids).float()  # past the hook that adds the noise
        squares = (vectors[:, 0] - vectors[:, 1]).square().sum(dim=-1)
        weight = self._collapse * min(1.0, 2.0 * progress)
        return weight / self._sigma**2 * (weights * squares).sum()
