"""The rows of one training step, as every objective sees them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from robust_nlp.fishr.residuals import IGNORED, TaskLoss, full_precision, softmax_loss

#: Sums a tensor over all processes. Its gradient is that of the sum over this process's rows times
#: the number of processes, since data-parallel training averages gradients afterwards.
Reduce = Callable[[Tensor], Tensor]

#: The domain of a row whose domain nobody knows: in the loss, in no statistic of domains.
UNKNOWN = -1


def one_process(sums: Tensor) -> Tensor:
    """Sum over a single process: return the tensor as it is."""
    return sums


@dataclass(frozen=True, kw_only=True)
class LinearCall:
    """A linear layer, applied once to each row.

    Attributes:
        inputs: Shape `(rows, in)`.
        outputs: Shape `(rows, out)`, on the way to the logits.
        bias: Whether the layer has a bias.
    """

    inputs: Tensor
    outputs: Tensor
    bias: bool


@dataclass(frozen=True, kw_only=True)
class LayerRows:
    """What per-example gradients of a linear layer are made of: weight `g ⊗ x`, bias `g`.

    Attributes:
        inputs: x; shape `(rows, in)`.
        gradients: g, of each row's own loss at the layer's output; shape `(rows, out)`.
        bias: Whether the layer has a bias.
    """

    inputs: Tensor
    gradients: Tensor
    bias: bool


@dataclass(frozen=True, kw_only=True)
class DomainBatch:
    """Rows of one step, with their gradients: what every objective is a function of.

    Attributes:
        features: Input of the last linear layer, after dropout; shape `(rows, hidden)`, float32 or
            float64.
        logits: Scores; shape `(rows, classes)`.
        labels: Class indices; shape `(rows,)`; -100 for rows to leave out of everything.
        domains: Indices of domain names; shape `(rows,)`; -1 for rows of unknown domain, which are
            in the loss and in no statistic of domains.
        copies: Rows that are copies of others: they count in the mean losses of their domains, and
            in no variance; shape `(rows,)`. `None` if there are none.
        losses: Loss of each row, 0 where it is left out; shape `(rows,)`.
        residuals: Derivative of each row's loss by its logits, itself differentiable; shape
            `(rows, classes)`.
        bias: Whether the last layer has a bias.
        halves: Half, 0 or 1, that a row falls in where a domain is split in two; shape `(rows,)`.
            `None` lets the rows of a domain alternate, within each process.
        inner: The head's linear layers before the last, for the whole-head option.
    """

    features: Tensor
    logits: Tensor
    labels: Tensor
    domains: Tensor
    losses: Tensor
    residuals: Tensor
    bias: bool
    halves: Tensor | None = None
    inner: tuple[LayerRows, ...] = ()
    copies: Tensor | None = None

    @property
    def counted(self) -> Tensor:
        """Rows that are in the loss; shape `(rows,)`."""
        return self.labels != IGNORED

    @property
    def layers(self) -> tuple[LayerRows, ...]:
        """The linear layers whose gradients are compared, the last one at the end."""
        last = LayerRows(inputs=self.features, gradients=self.residuals, bias=self.bias)
        return (*self.inner, last)

    def groups(self, n_domains: int) -> Tensor:
        """Return the domain of each row, -1 where it is in no variance; shape `(rows,)`.

        Raises:
            ValueError: If a domain index is too large.
        """
        groups = self.risk_groups(n_domains)
        return groups if self.copies is None else groups.masked_fill(self.copies, UNKNOWN)

    def risk_groups(self, n_domains: int) -> Tensor:
        """Return the domain of each row, copies included, -1 where it is in none; shape `(rows,)`.

        Raises:
            ValueError: If a domain index is too large.
        """
        known = self.domains[self.counted]
        if len(known) and not UNKNOWN <= int(known.min()) <= int(known.max()) < n_domains:
            raise ValueError(
                f"domains must be indices of {n_domains} domains, or -1 where unknown; got "
                f"{int(known.min())} to {int(known.max())}"
            )
        return torch.where(self.counted, self.domains, UNKNOWN)

    def half_groups(self, n_domains: int) -> Tensor:
        """Return `2 * domain + half` of each row, -1 where it is in no statistic."""
        groups = self.groups(n_domains)
        halves = alternate(groups) if self.halves is None else self.halves
        return torch.where(groups == UNKNOWN, UNKNOWN, 2 * groups + halves)


def domain_batch(
    features: Tensor,
    logits: Tensor,
    labels: Tensor,
    domains: Tensor,
    *,
    loss: TaskLoss = softmax_loss,
    bias: bool = True,
    halves: Tensor | None = None,
    inner: Sequence[LinearCall] = (),
    copies: Tensor | None = None,
) -> DomainBatch:
    """Compute losses and residuals of a step's rows in float32; float64 stays float64.

    Args:
        features: Input of the last linear layer; shape `(rows, hidden)`.
        logits: Its output; shape `(rows, classes)`.
        labels: Class indices; shape `(rows,)`; -100 for rows to leave out.
        domains: Indices of domains; shape `(rows,)`; -1 for unknown.
        loss: Returns losses and residuals of logits and labels.
        bias: Whether the last layer has a bias.
        halves: See `DomainBatch`.
        inner: Calls of the head's linear layers before the last, for the whole-head option.
        copies: See `DomainBatch`.

    Raises:
        ValueError: If shapes do not fit together.
    """
    rows = len(features)
    shapes = [tuple(x.shape) for x in (features, logits, labels, domains)]
    if (
        features.ndim != 2
        or logits.ndim != 2
        or {len(logits), *labels.shape, *domains.shape} != {rows}
    ):
        raise ValueError(
            "expected features (rows, hidden), logits (rows, classes), labels (rows,) and domains "
            f"(rows,); got shapes {', '.join(map(str, shapes))}"
        )
    with torch.autocast(features.device.type, enabled=False):
        scores = full_precision(logits)
        losses, residuals = loss(scores, labels)
        gradients: Sequence[Tensor | None] = ()
        if inner:  # from the losses to the head's own layers: nothing below them is visited
            outputs = [call.outputs for call in inner]
            gradients = torch.autograd.grad(
                losses.sum(), outputs, create_graph=True, allow_unused=True
            )
    return DomainBatch(
        features=full_precision(features),
        logits=scores,
        labels=labels,
        domains=domains,
        losses=losses,
        residuals=residuals,
        bias=bias,
        halves=halves,
        copies=copies,
        inner=tuple(
            LayerRows(
                inputs=full_precision(call.inputs),
                gradients=full_precision(gradient),
                bias=call.bias,
            )
            for call, gradient in zip(inner, gradients, strict=True)
            if gradient is not None
        ),
    )


def alternate(groups: Tensor) -> Tensor:
    """Return the parity of each row's place among the rows of its group; shape `(rows,)`.

    To split a batch in the same way however it lies on processes, count over the whole batch, and
    pass each process its part as `halves`.

    Args:
        groups: Group of each row; shape `(rows,)`.
    """
    order = torch.argsort(groups, stable=True)
    ordered = groups[order]
    starts = torch.searchsorted(ordered, ordered)
    places = torch.arange(len(groups), device=groups.device) - starts
    return torch.empty_like(groups).scatter_(0, order, places % 2)
