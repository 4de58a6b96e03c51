"""Gradients that are computed ahead of the backward pass of a training step."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from robust_nlp.errors import ModelError


def gradients(
    loss: torch.Tensor, of: Sequence[torch.Tensor], scale: float = 1.0
) -> list[torch.Tensor | None]:
    """Return the gradients of a loss and free its graph; no `grad` of a tensor changes.

    Args:
        loss: The loss, a scalar.
        of: The tensors; one that the loss does not depend on has `None` for its gradient.
        scale: Factor on the loss that is taken off the gradients again.

    Raises:
        ModelError: Under reentrant gradient checkpointing.
    """
    try:
        found = torch.autograd.grad(loss * scale, list(of), allow_unused=True)
    except RuntimeError as error:
        if "use_reentrant" not in str(error):
            raise
        raise ModelError(
            'adversarial training cannot work with reentrant checkpointing; set "use_reentrant" to '
            "False in gradient_checkpointing_kwargs (activation_checkpointing_kwargs in later "
            "releases of transformers) of the training arguments"
        ) from error
    return [None if gradient is None else gradient / scale for gradient in found]


def with_gradients(
    value: torch.Tensor, of: Sequence[torch.Tensor], known: Sequence[torch.Tensor | None]
) -> torch.Tensor:
    """Return a value that has known gradients in a backward pass.

    Args:
        value: A scalar.
        of: Tensors that the gradients belong to.
        known: The gradients, in this order.
    """
    result: torch.Tensor = _Known.apply(value, known, *of)  # type: ignore[no-untyped-call]
    return result


class _Known(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, value: Any, known: Any, *_: Any) -> Any:
        ctx.known = known
        return value.clone()

    @staticmethod
    def backward(ctx: Any, *outer: Any) -> Any:
        return None, None, *(None if g is None else (g * outer[0]).to(g.dtype) for g in ctx.known)
