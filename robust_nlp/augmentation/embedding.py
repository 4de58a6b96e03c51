"""Gaussian noise on the embeddings as an environment: the text stays, its vectors do not."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from robust_nlp.augmentation.base import Augmenter
from robust_nlp.mechanisms.base import FloatArray

#: Columns of a row whose embeddings are noisy: standard deviation, and seed, of the noise.
NOISE_SIGMA, NOISE_SEED = "noise_sigma", "noise_seed"


@dataclass(frozen=True, kw_only=True)
class NoisyEmbeddings(Augmenter):
    """Leave the text as it is, and mark the row for noise on its input embeddings.

    A `FishrTrainer` adds the noise in the forward pass; other trainers do not know the mark.

    Args:
        sigma: Standard deviation of the noise on each number of an embedding, above 0.

    Raises:
        ValueError: If sigma is no such number.
    """

    sigma: float

    kind: ClassVar[str] = "embedding_noise"

    def __post_init__(self) -> None:
        if not 0.0 < self.sigma < float("inf"):
            raise ValueError(f"sigma is a standard deviation above 0; got {self.sigma!r}")

    def rewrite(
        self,
        text: str,
        rng: np.random.Generator,  # noqa: ARG002
        importance: FloatArray | None = None,  # noqa: ARG002
    ) -> str:
        return text

    def marks(self, rng: np.random.Generator) -> dict[str, float | int]:
        """Return the entries of a row whose embeddings are noisy."""
        return {NOISE_SIGMA: self.sigma, NOISE_SEED: int(rng.integers(2**63))}
