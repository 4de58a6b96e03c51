"""A linear map, in closed form, that makes allowed swaps small and keeps what a classifier reads.

The rows of an embedding table are about as far from their synonyms as from other words, in nearly
all directions. A fine-tuned classifier reads few of these directions. So a good start for training
under Gaussian noise is the map P of the rows that minimizes

    E (g' (P - I) (e - m))²  +  strength * scale * E |P d|²,

with rows e of mean m, gradients g of the classifier's scores with respect to its input embeddings,
and differences d of allowed swaps, all as they occur in training texts: the first term is the
change of the scores, to first order; the second, the squared distance of swaps. P is then applied
to the table itself. What comes out is a classifier like any other, and certificates, which measure
the distances in its own table, do not depend on how it was made.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from scipy import linalg

from robust_nlp.embedding_noise import embeddings_changed, input_embedding
from robust_nlp.errors import RecipeError
from robust_nlp.mechanisms.base import FloatArray
from robust_nlp.training.gaussian import EmbeddingNoiseCollator
from robust_nlp.units import keyed_rng

#: Training texts that the moments are taken from.
TEXTS = 1_000

#: Texts of a batch.
BATCH = 32

#: Keeps the second moment of swaps invertible: a share of its mean eigenvalue.
RIDGE = 1e-6


@dataclass(frozen=True)
class Moments:
    """Second moments of training texts, all of shape `(columns, columns)`.

    Attributes:
        gradients: Of the gradients of the classifier's scores, less their mean over classes.
        rows: Of the rows of the table, centred.
        swaps: Of the differences between the rows of allowed swaps.
        mean: Mean row; shape `(columns,)`.
    """

    gradients: FloatArray
    rows: FloatArray
    swaps: FloatArray
    mean: FloatArray


def swap_filter(
    gradients: FloatArray, rows: FloatArray, swaps: FloatArray, *, strength: float
) -> FloatArray:
    """Return the map P that trades the scores' fidelity for short swaps; shape of the arguments.

    With S_g, S_e and S_w for the three moments, it minimizes

        tr(S_g (P - I) S_e (P - I)') + strength * scale * tr(P S_w P'),

    where scale is the mean eigenvalue of S_g times the median generalized eigenvalue of S_e over
    S_w, so that a direction of the mean gradient and the median spread shrinks by half at 1.

    Args:
        gradients: Second moment of gradients, positive semidefinite; shape `(columns, columns)`.
        rows: Second moment of rows, positive semidefinite.
        swaps: Second moment of swaps, positive semidefinite and not zero.
        strength: Weight of the swaps, at least 0; 0 returns the identity.

    Source: The stationary point S_g P S_e + c P S_w = S_g S_e, solved in the basis that makes S_w
        the identity and S_e diagonal, with S_g diagonal on the other side.
    """
    size = len(swaps)
    ridge = RIDGE * np.trace(swaps) / size * np.eye(size)
    spread, basis = linalg.eigh(rows, swaps + ridge)
    spread = np.maximum(spread, 0.0)
    energy, left = linalg.eigh(gradients)
    energy = np.maximum(energy, 0.0)
    if strength == 0.0:
        return np.eye(size)
    gain = np.outer(energy, spread)
    scale = strength * energy.mean() * np.median(spread)
    # The columns of inv(basis)' factor S_w, and S_e up to the spread.
    return np.asarray(left @ (gain / (gain + scale) * np.linalg.solve(basis, left).T) @ basis.T)


def shrink_swaps(
    model: Any,
    collator: EmbeddingNoiseCollator,
    examples: Sequence[Mapping[str, Any]],
    *,
    strength: float,
    seed: int = 0,
) -> None:
    """Apply a `swap_filter` to the embedding table of a fine-tuned classifier.

    Special tokens keep their rows.

    Args:
        model: The classifier.
        collator: Makes batches of training texts with their allowed swaps.
        examples: Training texts, as the collator takes them.
        strength: See `swap_filter`.
        seed: Seed of the choice of texts and swaps.

    Raises:
        RecipeError: If the classifier is no better than its most frequent answer, or the texts
            have no allowed swap.
    """
    moments = moments_of(model, collator, examples, seed=seed)
    matrix = swap_filter(moments.gradients, moments.rows, moments.swaps, strength=strength)
    table = input_embedding(model).weight
    with torch.no_grad():
        centred = table.double().cpu().numpy() - moments.mean
        filtered = torch.from_numpy(centred @ matrix.T + moments.mean).to(table)
        kept = sorted(collator.special_ids)
        filtered[kept] = table[kept]
        table.copy_(filtered)


def moments_of(
    model: Any,
    collator: EmbeddingNoiseCollator,
    examples: Sequence[Mapping[str, Any]],
    *,
    seed: int = 0,
) -> Moments:
    """Take the moments of a classifier from training texts; see `shrink_swaps`."""
    embedding = input_embedding(model)
    table, size = embedding.weight, embedding.embedding_dim
    order = keyed_rng(seed, "swap-filter").permutation(len(examples))[:TEXTS]
    gradients, swaps = np.zeros((size, size)), np.zeros((size, size))
    counts = np.zeros(len(table))
    n_tokens = n_right = 0
    weight = 0.0
    labels: list[int] = []
    training = model.training
    model.eval()
    try:
        for start in range(0, len(order), BATCH):
            batch = collator([examples[i] for i in order[start : start + BATCH]])
            ids = batch["input_ids"].to(table.device)
            probe = torch.zeros(*ids.shape, size, device=table.device, requires_grad=True)
            with embeddings_changed(embedding, probe.add):
                inputs = {k: v.to(table.device) for k, v in batch.items() if k in _INPUTS}
                logits = model(**inputs).logits.double()
            labels += batch["labels"].tolist()
            n_right += int((logits.argmax(dim=-1).cpu() == batch["labels"]).sum())
            centred = logits - logits.mean(dim=-1, keepdim=True)
            read = (inputs["attention_mask"].bool() & ~_special(ids, collator)).flatten()
            for scores in centred.unbind(dim=-1):
                (of,) = torch.autograd.grad(scores.sum(), probe, retain_graph=True)
                each = of.reshape(-1, size)[read].double().cpu().numpy()
                gradients += each.T @ each
            counts += np.bincount(ids.flatten()[read].cpu().numpy(), minlength=len(table))
            n_tokens += int(read.sum())
            pairs, weights = batch["swap_ids"], batch["swap_weights"].double().numpy()
            rows = table.detach()[pairs.to(table.device)].double().cpu().numpy()
            different = rows[:, 0] - rows[:, 1]
            swaps += (different * weights[:, None]).T @ different
            weight += float(weights.sum())
    finally:
        model.train(training)
    _check(n_right, labels, weight)
    rows = table.detach().double().cpu().numpy()
    mean = counts @ rows / n_tokens
    centred_rows = rows - mean
    return Moments(
        gradients=gradients / n_tokens,
        rows=(centred_rows * counts[:, None]).T @ centred_rows / n_tokens,
        swaps=swaps / weight,
        mean=mean,
    )


_INPUTS = ("input_ids", "attention_mask", "token_type_ids")


def _special(ids: torch.Tensor, collator: EmbeddingNoiseCollator) -> torch.Tensor:
    return torch.isin(ids, torch.tensor(sorted(collator.special_ids), device=ids.device))


def _check(n_right: int, labels: Sequence[int], weight: float) -> None:
    if weight == 0.0:
        raise RecipeError(
            "train.projection.filter shrinks allowed swaps, but no word of the training texts has "
            "one; look at mechanism.swaps"
        )
    most = int(np.bincount(labels).max())
    if n_right <= most:
        raise RecipeError(
            "train.projection.filter keeps what a fine-tuned classifier reads, and this one reads "
            f"nothing yet: it is right on {n_right} of {len(labels)} training texts, its most "
            f"frequent class has {most}. Fine-tune it first (train.noise=false), and name its "
            "folder as model.base; or leave `filter` out"
        )
