"""The Fishr penalty: how far gradient variances of domains lie from their mean."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from robust_nlp.fishr.average import MovingAverage
from robust_nlp.fishr.batch import DomainBatch, Reduce, domain_batch, one_process
from robust_nlp.fishr.moments import gradient_variances, half_variances
from robust_nlp.fishr.residuals import TaskLoss, softmax_loss

Reduction = Literal["mean", "sum"]
Estimator = Literal["plain", "cross_split"]


def fishr_penalty(
    features: Tensor,
    logits: Tensor,
    labels: Tensor,
    domains: Tensor,
    *,
    n_domains: int | None = None,
    bias: bool = True,
    loss: TaskLoss = softmax_loss,
    reduction: Reduction = "mean",
    centred: bool = True,
    unbiased: bool = False,
    estimator: Estimator = "plain",
    relative: bool = False,
    min_rows: int = 2,
    average: MovingAverage | None = None,
    names: Sequence[str] | None = None,
    reduce: Reduce = one_process,
) -> Tensor:
    """Return the Fishr penalty of a batch, from the head's input and its logits alone.

    With v_e the element-wise variance of the gradients that the rows of domain e give the head's
    parameters, and their mean v over the E domains with enough rows, it is

        1/E * sum over e of mean over parameters of (v_e - v)²,

    and 0 for fewer than two such domains. It is differentiable in features and logits.

    A weight for the sum over parameters is 1 / (number of parameters) times that for the mean. The
    authors' code for Colored MNIST sums over parameters and over its two domains, which is twice
    the value for "sum" here.

    Args:
        features: Input of the last linear layer, after dropout; shape `(rows, hidden)`.
        logits: Its output; shape `(rows, classes)`.
        labels: Class indices; shape `(rows,)`; -100 leaves a row out.
        domains: Indices of domains; shape `(rows,)`; -1 leaves a row out.
        n_domains: Domains in all; `None` takes the largest index in this batch.
        bias: Whether the layer has a bias, whose gradients then count as well.
        loss: Returns losses and residuals of logits and labels; see `residuals_of` and `any_loss`.
        reduction: "mean" or "sum" over parameters.
        centred: `False` for mean squares of gradients in place of variances.
        unbiased: Divide variances by n - 1 in place of n; see `gradient_variances`.
        estimator: "plain", which has the variances' sampling noise in its expected value, or
            "cross_split", which multiplies deviations of two halves of each domain that share no
            row: its expected value is that of infinitely many rows, and it can be negative. It
            uses unbiased variances.
        relative: Divide by the squared norm of v (sum over parameters), for a number that does not
            depend on the scale of loss and features, nor on `reduction`.
        min_rows: Rows that a domain needs, or each half of it for "cross_split".
        average: Moving average that the variances go through; it is updated.
        names: Names of the domains in the moving average; `None` for their indices.
        reduce: Sums over processes.

    Raises:
        ValueError: If shapes, indices or options are not as described.

    Source: Rame, Dancette and Cord, Fishr (ICML 2022); "mean" as in DomainBed.
    Departs: "cross_split" and `relative` are ours. A domain with a single row, whose variance the
        authors' code takes for 0, does not take part unless `min_rows=1`.
    """
    if n_domains is None:
        n_domains = len(names) if names is not None else max(int(domains.max()) + 1, 1)
    if names is not None and len(names) != n_domains:
        raise ValueError(f"expected the names of {n_domains} domains; got {len(names)}")
    return batch_penalty(
        domain_batch(features, logits, labels, domains, loss=loss, bias=bias),
        [str(domain) for domain in range(n_domains)] if names is None else names,
        reduction=reduction,
        centred=centred,
        unbiased=unbiased,
        estimator=estimator,
        relative=relative,
        min_rows=min_rows,
        average=average,
        reduce=reduce,
    )


def batch_penalty(
    batch: DomainBatch,
    names: Sequence[str],
    *,
    reduction: Reduction = "mean",
    centred: bool = True,
    unbiased: bool = False,
    estimator: Estimator = "plain",
    relative: bool = False,
    min_rows: int = 2,
    average: MovingAverage | None = None,
    reduce: Reduce = one_process,
) -> Tensor:
    """Return the Fishr penalty of a batch; see `fishr_penalty`."""
    if reduction not in ("mean", "sum"):
        raise ValueError(f'reduction must be "mean" or "sum"; got {reduction!r}')
    if estimator == "plain":
        found = gradient_variances(
            batch,
            len(names),
            reduce=reduce,
            centred=centred,
            unbiased=unbiased,
            min_rows=min_rows,
        )
        domains, halves = found.domains, found.values[:, None]
    elif estimator == "cross_split":
        pair = half_variances(batch, len(names), reduce=reduce, centred=centred, min_rows=min_rows)
        domains, halves = pair[0].domains, torch.stack([half.values for half in pair], dim=1)
    else:
        raise ValueError(f'estimator must be "plain" or "cross_split"; got {estimator!r}')
    if average is not None:
        halves = average.update([names[domain] for domain in domains.tolist()], halves)
    if len(domains) < 2:
        return zero_with_graph(batch)
    return spread(halves[:, 0], halves[:, -1], reduction=reduction, relative=relative)


def spread(
    first: Tensor, second: Tensor, *, reduction: Reduction = "mean", relative: bool = False
) -> Tensor:
    """Return how far domains lie apart: the mean product of two deviations from the mean domain.

    Args:
        first: Values of each domain; shape `(domains, parameters)`.
        second: The same, or other estimates of the same values.
        reduction: Mean or sum over parameters.
        relative: Divide by the product of the mean domains, summed over parameters; 0 if that is
            0. With `first` for `second` and values of one sign the result is in
            `[0, domains - 1]`.
    """
    if relative:  # first to a size whose square is a float32
        size = torch.stack([first, second]).detach().abs().max()
        size = torch.where(size > 0.0, size, torch.ones_like(size))
        first, second = first / size, second / size
    of_first, of_second = first.mean(dim=0), second.mean(dim=0)
    products = ((first - of_first) * (second - of_second)).mean(dim=0)
    if relative:
        norm = (of_first * of_second).sum()
        return products.sum() / torch.where(norm > 0.0, norm, torch.ones_like(norm))
    return products.mean() if reduction == "mean" else products.sum()


def zero_with_graph(batch: DomainBatch) -> Tensor:
    """Return 0, with gradients of 0 for all rows."""
    return 0.0 * (batch.features.sum() + batch.logits.sum())
