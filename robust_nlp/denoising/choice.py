"""Choose tokens by their scores, and say which choices rounding could change."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch

from robust_nlp.errors import ModelError
from robust_nlp.mechanisms.base import IntArray
from robust_nlp.units import keyed_rng

#: Places of the noise at which the noise of a choice may begin.
PLACES = 1 << 20


class Chosen(NamedTuple):
    """Chosen tokens, on the CPU.

    Attributes:
        tokens: The tokens; shape `(rows,)`.
        confidence: Their log-probabilities; shape `(rows,)`.
        slack: By how much a choice wins beyond what rounding may change; not positive where
            another batch might choose otherwise; shape `(rows,)`.
        tolerance: What rounding may change; shape `(rows,)`.
    """

    tokens: torch.Tensor
    confidence: torch.Tensor
    slack: torch.Tensor
    tolerance: torch.Tensor

    def split(self, sizes: list[int]) -> list[Chosen]:
        """Return the choices part by part."""
        parts = zip(*(torch.split(values, sizes) for values in self), strict=True)
        return [Chosen(*part) for part in parts]


class TokenNoise:
    """Gumbel noise for choices among tokens: with it, the best score is a sample.

    With scores s, a temperature t and standard Gumbel noise g, the largest `s + t g` is at a token
    with probability proportional to `exp(s / t)`. The noise of a choice is a stretch of one long
    fixed stream, from a place that a hash of seed and noisy text gives.

    Args:
        temperature: At least 0; 0 chooses the best token.
        seed: Seed of the stream and of the places.
        n_tokens: How many tokens a choice is among, at most.
    """

    def __init__(self, *, temperature: float, seed: int, n_tokens: int) -> None:
        self.temperature, self._seed = temperature, seed
        self._stream: torch.Tensor | None = None
        self._size = PLACES + n_tokens

    def places(self, noisy: str, fill: int, size: int) -> IntArray:
        """Return where the noise begins of the choices for one repaired version of a text."""
        if self.temperature == 0.0:
            return np.zeros(size, np.int64)
        return keyed_rng(self._seed, "fill", noisy, fill).integers(0, PLACES, size)

    def added_to(self, scores: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
        """Return scores with noise; shapes `(rows, tokens)`, `(rows,)`."""
        if self.temperature == 0.0:
            return scores
        if self._stream is None:
            drawn = keyed_rng(self._seed, "gumbel").gumbel(size=self._size)
            self._stream = torch.from_numpy(drawn)
        self._stream = self._stream.to(scores.device, scores.dtype)
        noise = self._stream.unfold(0, scores.shape[1], 1)[places.to(scores.device)]
        return scores + self.temperature * noise


def choose(
    logits: torch.Tensor,
    allowed: torch.Tensor,
    noise: TokenNoise,
    places: torch.Tensor,
    *,
    tolerance: float,
    ranked: bool = True,
) -> Chosen:
    """Choose an allowed token for each row.

    Args:
        logits: Scores; shape `(rows, tokens)`.
        allowed: Which tokens may be chosen; shape `(rows, tokens)`.
        noise: What is added to the scores.
        places: Where the noise of each row begins; shape `(rows,)`.
        tolerance: What rounding may change, relative to one plus the largest score.
        ranked: Whether confidence is needed; else it is 0.

    Raises:
        ModelError: If a score is not a number.
    """
    least, largest = torch.aminmax(logits, dim=1)
    size = torch.maximum(largest, -least)
    if not torch.isfinite(size).all():
        raise ModelError(
            "the denoiser gave scores that are not finite numbers (NaN or infinite). Check its "
            "weights, or use float32."
        )
    doubt = tolerance * (1.0 + size)
    scores = logits.masked_fill(~allowed, -torch.inf)
    top = noise.added_to(scores, places).topk(2, dim=1)
    best = top.indices[:, :1]
    confidence = torch.zeros_like(doubt)
    if ranked:
        confidence = (scores.gather(1, best) - scores.logsumexp(1, keepdim=True))[:, 0]
    slack = top.values[:, 0] - top.values[:, 1] - doubt
    return Chosen(best[:, 0].cpu(), confidence.cpu(), slack.cpu(), doubt.cpu())
