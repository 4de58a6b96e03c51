"""A perturbation of the input embeddings of a batch: where it sits, how it starts and climbs.

The model reads the ids and the attention mask as ever, and the perturbation is added to what its
input embedding gives. A model that is called with embeddings in place of ids would guess positions
and padding: a decoder that classifies at the last token takes padding for it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from accelerate.utils import is_compiled_module

from robust_nlp.embedding_noise import embeddings_changed
from robust_nlp.errors import ModelError
from robust_nlp.units import keyed_rng


class Perturbation:
    """Numbers in free choice, and the change of a batch's embeddings that they make.

    There is a number for each dimension of each open token of a text, or, with groups, of each
    group of texts; then all open tokens of a group's texts move alike. Norms of the numbers are
    norms of the change of a whole text, in its unit.

    Args:
        open_: Which tokens may move; shape `(rows, tokens)`.
        dimension: Dimension of the embeddings.
        units: Length of the unit of each row, or of each group's rows; shape `(rows,)`.
        groups: Group of each row, from 0; shape `(rows,)`. `None` lets each row move on its own.
    """

    def __init__(
        self,
        open_: torch.Tensor,
        dimension: int,
        units: torch.Tensor,
        groups: torch.Tensor | None = None,
    ) -> None:
        self._open, self._groups = open_, groups
        sizes = open_.sum(dim=1)
        scale = units if groups is None else units / sizes.clamp(min=1).sqrt()
        self._scale = (scale[:, None] * open_)[..., None]
        #: Where numbers are free; shape `(rows, tokens)` or `(groups, 1)`.
        self._free = open_
        if groups is not None:
            self._free = torch.ones(int(groups.max()) + 1, 1, dtype=torch.bool)
        self._shape = (*self._free.shape, dimension)

    def zeros(self) -> torch.Tensor:
        """Return the numbers of no change, one for each that is free."""
        return torch.zeros(self._shape, device=self._open.device)

    def start(
        self, keys: Sequence[str], seed: int, step: int, *, size: float, normal: bool = False
    ) -> torch.Tensor:
        """Return random numbers that depend on the seed, the step and the keys alone.

        Args:
            keys: One for each row, or for each group.
            seed: Seed of the run.
            step: Optimizer step.
            size: Numbers are uniform within this over the square root of their count in the row,
                so that this bounds their L2 norm.
            normal: Draw them from a normal law of this standard deviation instead.
        """
        numbers = np.zeros(self._shape, np.float32)
        dimension = self._shape[-1]
        for row, key, where in zip(numbers, keys, self._free.cpu().numpy(), strict=True):
            rng = keyed_rng(seed, "adversarial-start", step, key)
            shape = (int(where.sum()), dimension)
            if normal:
                row[where] = size * rng.standard_normal(shape, np.float32)
            else:
                within = size / math.sqrt(max(shape[0], 1) * dimension)
                row[where] = within * (2.0 * rng.random(shape, np.float32) - 1.0)
        return torch.from_numpy(numbers).to(self._open.device)

    def change(self, numbers: torch.Tensor) -> torch.Tensor:
        """Return what is added to the embeddings; shape `(rows, tokens, dimension)`."""
        return (numbers if self._groups is None else numbers[self._groups]) * self._scale


def climb(
    numbers: torch.Tensor, gradient: torch.Tensor, step_size: float, max_norm: float
) -> torch.Tensor:
    """Move along the gradient by an L2 norm, and back onto the ball of `max_norm` if that is > 0.

    Norms are those of rows (the first axis). A row without a finite gradient stays.
    """
    gradient = _finite(gradient)
    norms = _norms(gradient)
    moved = numbers + step_size * gradient / torch.where(norms > 0.0, norms, 1.0)
    if max_norm > 0.0:
        moved = moved * (max_norm / _norms(moved).clamp(min=max_norm))
    return moved.detach()


def climb_max_norm(
    numbers: torch.Tensor, gradient: torch.Tensor, step_size: float, max_norm: float, eps: float
) -> torch.Tensor:
    """Do as `climb` does with the largest absolute number of a row as its norm, plus `eps`."""
    gradient = _finite(gradient)
    moved = numbers + step_size * gradient / (gradient.abs().amax(dim=(1, 2), keepdim=True) + eps)
    return (moved.clamp(-max_norm, max_norm) if max_norm > 0.0 else moved).detach()


def _norms(numbers: torch.Tensor) -> torch.Tensor:
    norms: torch.Tensor = torch.linalg.vector_norm(numbers, dim=(1, 2), keepdim=True)
    return norms


def _finite(gradient: torch.Tensor) -> torch.Tensor:
    rows = gradient.flatten(1).isfinite().all(dim=1)
    return torch.where(rows[:, None, None], gradient, 0.0)


def open_tokens(inputs: Mapping[str, Any], closed_ids: Sequence[int] = ()) -> torch.Tensor:
    """Return which tokens may move: all that are attended to but some; shape `(rows, tokens)`.

    Args:
        inputs: A batch with `input_ids` and, unless there is no padding, `attention_mask`.
        closed_ids: Ids of tokens that never move.
    """
    ids: torch.Tensor = inputs["input_ids"]
    mask = inputs.get("attention_mask")
    open_ = torch.ones_like(ids, dtype=torch.bool) if mask is None else mask.bool()
    if closed_ids:
        open_ = open_ & ~torch.isin(ids, torch.tensor(closed_ids, device=ids.device))
    return open_


def bare(model: Any) -> Any:
    """Return the model inside `DistributedDataParallel` and `torch.compile`, autocast included.

    A forward pass of the model inside leaves alone what the wrapper counts and exchanges; its
    gradients are reduced with those of the clean pass, when that goes backward.

    Raises:
        ModelError: If the model is split into replicas, or lacks an input embedding.
    """
    if isinstance(model, torch.nn.DataParallel):
        raise ModelError(
            "adversarial training needs one process per GPU; this one splits its batches over "
            "several (DataParallel). Start it with torchrun or accelerate launch"
        )
    while True:
        if isinstance(model, torch.nn.parallel.DistributedDataParallel):
            model = model.module
        elif is_compiled_module(model):
            model = model._orig_mod
        else:
            return model


def embedding_of(model: Any) -> torch.nn.Module:
    """Return the module that turns ids into vectors.

    Raises:
        ModelError: If the model does not say which it is.
    """
    try:
        embedding = model.get_input_embeddings()
    except (AttributeError, NotImplementedError):
        embedding = None
    if not isinstance(embedding, torch.nn.Module):
        raise ModelError(
            "adversarial training needs a model whose get_input_embeddings() is a module; that of "
            f"{type(model).__name__} is {type(embedding).__name__}"
        )
    return embedding


@contextmanager
def perturbed(model: Any, change: torch.Tensor) -> Iterator[None]:
    """Add a change to the input embeddings in one forward pass.

    Args:
        model: The model, without wrappers.
        change: What is added; shape `(rows, tokens, dimension)`.

    Raises:
        ModelError: If the pass does not use the embedding once, or uses it in another shape.
    """

    # The shape is checked after addition, which must not broadcast.
    def add(vectors: torch.Tensor) -> torch.Tensor:
        same = vectors.shape == change.shape
        return vectors + change.to(vectors.dtype) if same else change

    embedding: Any = embedding_of(model)
    with embeddings_changed(embedding, add):
        yield


@contextmanager
def order_checked(model: Any, ids: torch.Tensor) -> Iterator[None]:
    """Check in a forward pass that the model embeds the ids as they stand in the batch.

    A model that turns its batches over would, in a batch of as many rows as tokens, take a change
    of one text for a change of others.

    Raises:
        ModelError: If it does not.
    """
    seen: list[torch.Tensor] = []
    hook = embedding_of(model).register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    try:
        yield
    finally:
        hook.remove()
    if any(given.shape != ids.shape or not torch.equal(given, ids) for given in seen):
        raise ModelError(
            f"{type(model).__name__} rearranges texts before it embeds them, which a perturbation "
            "of embeddings cannot follow"
        )
