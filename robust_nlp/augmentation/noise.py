"""An augmenter that draws the noise of a mechanism."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from robust_nlp.augmentation.base import Augmenter
from robust_nlp.mechanisms import AnyMechanism, GaussianEmbedding
from robust_nlp.mechanisms.base import FloatArray
from robust_nlp.units import join_units, split_units


@dataclass(frozen=True, kw_only=True)
class Noise(Augmenter):
    """Draw the noise of a mechanism on words or characters.

    Args:
        mechanism: The law of the noise. Tokens need the classifier's tokenizer and Gaussian noise
            its embeddings: both are added while training, by the collators of
            `robust_nlp.training`. Masking must say its mask.

    Raises:
        ValueError: If the mechanism is none for texts alone.
    """

    mechanism: AnyMechanism

    kind: ClassVar[str] = "noise"

    def __post_init__(self) -> None:
        mechanism = self.mechanism
        name = type(mechanism).__name__
        if mechanism.unit == "token" or isinstance(mechanism, GaussianEmbedding):
            raise ValueError(
                f"Noise needs a mechanism on words or characters; got {name} on "
                f"{mechanism.unit}s. Train under it with a NoisyCollator or an "
                "EmbeddingNoiseCollator instead; as an environment, take embedding_noise with a "
                "sigma, or the same mechanism on words"
            )
        if mechanism.needs_mask:
            raise ValueError(
                f"Noise knows no tokenizer: say what stands for a masked unit, such as "
                f'{name}(mask="[MASK]", ...)'
            )

    def rewrite(
        self,
        text: str,
        rng: np.random.Generator,
        importance: FloatArray | None = None,  # noqa: ARG002
    ) -> str:
        units = split_units(text, self.mechanism.unit)
        law = self.mechanism.law(units)
        known = [*units, *law.extra_units]
        row = law.draw(1, rng)[0].tolist()
        return join_units([known[i] for i in row if i >= 0], self.mechanism.unit)
