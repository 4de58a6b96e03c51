"""Losses of rows, and their derivatives by the logits: all that Fishr needs to know of a loss."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

#: The label of a row that is left out, as in PyTorch's cross-entropy.
IGNORED = -100

#: Takes logits `(rows, classes)` and labels `(rows,)`; returns losses `(rows,)` and their
#: derivatives by the logits, the residuals, `(rows, classes)`, both differentiable.
TaskLoss = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]


def residuals_of(
    logits: Tensor,
    labels: Tensor,
    *,
    kind: Literal["softmax", "binary"] = "softmax",
    label_smoothing: float = 0.0,
    class_weights: Tensor | Sequence[float] | None = None,
) -> tuple[Tensor, Tensor]:
    """Return the losses of rows and their closed-form derivatives by the logits.

    Args:
        logits: Scores; shape `(rows, classes)`, or `(rows, 1)` for "binary".
        labels: Class indices, or 0 and 1; shape `(rows,)`; -100 gives loss and residual 0.
        kind: "softmax" for cross-entropy, "binary" for that of a sigmoid.
        label_smoothing: Share of a label that is spread over all classes, in `[0, 1)`.
        class_weights: Weight of each class; for "binary", of 0 and of 1. `None` for 1. Losses are
            weighted, and means over them divide by rows, not by the sum of the weights.

    Raises:
        ValueError: If `kind`, `label_smoothing` or the number of weights is not one of these.
    """
    if not 0.0 <= label_smoothing < 1.0:
        raise ValueError(f"label_smoothing must be at least 0 and below 1; got {label_smoothing}")
    if kind not in ("softmax", "binary"):
        raise ValueError(f'kind of loss must be "softmax" or "binary"; got {kind!r}')
    logits = full_precision(logits)
    classes = 2 if kind == "binary" else logits.shape[1]
    if kind == "binary" and logits.shape[1] != 1:
        raise ValueError(
            f'"binary" needs logits of shape (rows, 1); got {tuple(logits.shape)}. For two logits '
            'or more take "softmax"'
        )
    weights = logits.new_ones(classes)
    if class_weights is not None:
        weights = torch.as_tensor(class_weights, dtype=logits.dtype, device=logits.device)
        if weights.shape != (classes,):
            raise ValueError(f"expected {classes} class weights; got {tuple(weights.shape)}")
    # Cross-entropy against targets t, of any sum: loss -t·log p, residual sum(t) p - t.
    known = labels != IGNORED
    onehot = F.one_hot(labels.masked_fill(~known, 0), classes).to(logits.dtype)
    own = (onehot * weights).sum(dim=1, keepdim=True)
    targets = (1.0 - label_smoothing) * own * onehot + label_smoothing / classes * weights
    targets = targets * known[:, None]
    if kind == "binary":
        positive, total = targets[:, 1:], targets.sum(dim=1, keepdim=True)
        losses = total * F.softplus(logits) - positive * logits
        return losses.sum(dim=1), total * logits.sigmoid() - positive
    losses = -(targets * logits.log_softmax(dim=1)).sum(dim=1)
    return losses, targets.sum(dim=1, keepdim=True) * logits.softmax(dim=1) - targets


def softmax_loss(logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Return plain cross-entropy and its residuals; see `residuals_of`."""
    return residuals_of(logits, labels)


def any_loss(loss: Callable[[Tensor, Tensor], Tensor]) -> TaskLoss:
    """Make a `TaskLoss` of any unreduced loss, whose residuals automatic differentiation finds.

    Only the graph from logits to losses is differentiated, never the model.

    Args:
        loss: Takes logits `(rows, classes)` and the labels of rows that are not left out; returns
            losses `(rows,)`, where each depends on its own row alone.

    Raises:
        ValueError: When called, if `loss` returns another shape.
    """

    def with_residuals(logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        logits = full_precision(logits)
        keeps_graph = torch.is_grad_enabled()
        with torch.enable_grad():
            scores = logits if logits.requires_grad else logits.detach().requires_grad_()
            known = (labels != IGNORED).nonzero().squeeze(1)
            found = loss(scores[known], labels[known])
            if found.shape != known.shape:
                raise ValueError(
                    f"the loss must return one number for each of {len(known)} rows; got shape "
                    f"{tuple(found.shape)}. In PyTorch, that is reduction='none'"
                )
            losses = scores.new_zeros(len(scores)).index_add(0, known, found.to(scores.dtype))
            (residuals,) = torch.autograd.grad(losses.sum(), scores, create_graph=True)
        return (losses, residuals) if keeps_graph else (losses.detach(), residuals.detach())

    return with_residuals


def full_precision(values: Tensor) -> Tensor:
    """Return values in float32; float64 stays float64."""
    return values if values.dtype == torch.float64 else values.float()
