"""Variances of per-example gradients, domain by domain, without any per-example gradient."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from robust_nlp.fishr.batch import DomainBatch, LayerRows, Reduce, one_process


@dataclass(frozen=True, kw_only=True)
class DomainVariances:
    """Element-wise variances of head gradients, for the domains with enough rows.

    Attributes:
        domains: Indices of these domains, rising; shape `(present,)`.
        counts: Their rows, over all processes; shape `(present,)`.
        values: Their variances; shape `(present, parameters)`: for each layer its weight, row by
            row, then its bias.
    """

    domains: Tensor
    counts: Tensor
    values: Tensor


def gradient_variances(
    batch: DomainBatch,
    n_domains: int,
    *,
    reduce: Reduce = one_process,
    centred: bool = True,
    unbiased: bool = False,
    min_rows: int = 2,
) -> DomainVariances:
    """Compute each domain's variance of the gradients that its rows give the head's parameters.

    A row's gradient at a linear layer is `g ⊗ x`, and the mean square of an outer product is a
    matrix product, so nothing of shape `(rows, out, in)` is made, no backward pass is run, and the
    layer's parameters are not needed. The result is differentiable in x and g. It is that of all
    rows in one process, however they are distributed.

    Args:
        batch: The rows of this process.
        n_domains: Domains in all.
        reduce: Sums over processes; called twice.
        centred: `False` for mean squares in place of variances.
        unbiased: Divide by n - 1 in place of n. Biased variances differ between domains of
            different sizes for no other reason. Mean squares are unbiased as they are.
        min_rows: Rows that a domain needs to be in the result; at least 1, or 2 if unbiased.

    Raises:
        ValueError: If `min_rows` is too small, or a domain index too large.

    Source: Rame, Dancette and Cord, Fishr (ICML 2022), the variances v_e.
    Departs: In closed form, of features and residuals shifted by their means, so that float32 is
        enough where means are large compared with deviations.
    """
    least = 2 if unbiased and centred else 1
    if min_rows < least:
        raise ValueError(f"min_rows must be at least {least}; got {min_rows}")
    groups = batch.groups(n_domains)
    return _variances(batch.layers, groups, n_domains, reduce, centred, unbiased, min_rows)


def half_variances(
    batch: DomainBatch,
    n_domains: int,
    *,
    reduce: Reduce = one_process,
    centred: bool = True,
    min_rows: int = 2,
) -> tuple[DomainVariances, DomainVariances]:
    """Compute unbiased variances of two halves of each domain, which share no row.

    Args:
        batch: The rows of this process; its `halves` say which half a row falls in.
        n_domains: Domains in all.
        reduce: Sums over processes; called twice.
        centred: `False` for mean squares in place of variances.
        min_rows: Rows that both halves of a domain need; at least 2.

    Returns:
        The variances of the first and of the second halves, of the same domains.

    Raises:
        ValueError: If `min_rows` is too small, or a domain index too large.
    """
    if min_rows < 2:
        raise ValueError(f"min_rows must be at least 2; got {min_rows}")
    groups = batch.half_groups(n_domains)
    found = _variances(batch.layers, groups, 2 * n_domains, reduce, centred, True, min_rows)
    other_too = torch.isin(found.domains ^ 1, found.domains)

    def half(which: int) -> DomainVariances:
        kept = (other_too & (found.domains % 2 == which)).nonzero().squeeze(1)
        return DomainVariances(
            domains=found.domains[kept] // 2, counts=found.counts[kept], values=found.values[kept]
        )

    return half(0), half(1)


def _variances(
    layers: tuple[LayerRows, ...],
    groups: Tensor,
    n_groups: int,
    reduce: Reduce,
    centred: bool,
    unbiased: bool,
    min_rows: int,
) -> DomainVariances:
    """Compute variances of groups of rows; rows of group -1 are in none."""
    rows = [values for layer in layers for values in (layer.gradients, layer.inputs)]
    with torch.autocast(groups.device.type, enabled=False):
        member = membership(groups, n_groups, rows[0].dtype)
        with torch.no_grad():
            totals = reduce(member @ torch.cat([rows[0].new_ones(len(groups), 1), *rows], dim=1))
            present = (totals[:, 0] >= min_rows).nonzero().squeeze(1)
            counts, totals = totals[present, :1], totals[present, 1:]
            if not len(present):
                size = sum(_parameters(layer) for layer in layers)
                return DomainVariances(
                    domains=present, counts=present, values=rows[0].new_zeros(0, size)
                )
            means = torch.split(totals / counts, [values.shape[1] for values in rows], dim=1)
        own, order = member[present].nonzero(as_tuple=True)  # rows, domain by domain
        pieces: list[Tensor] = []
        for layer, a, b in zip(layers, means[::2], means[1::2], strict=True):
            pieces += _shifted_sums(layer, own, order, a, b)
        moments = torch.split(
            reduce(torch.cat(pieces, dim=1)) / counts, [piece.shape[1] for piece in pieces], dim=1
        )
        variances: list[Tensor] = []
        for i, layer in enumerate(layers):
            first, second = moments[2 * i : 2 * i + 2]
            if centred:
                variances.append(second - first.square())
            else:  # the gradient is X + ab, where X is what has these moments
                a, b = means[2 * i : 2 * i + 2]
                offset = _flat(a[:, :, None] * b[:, None], a, layer.bias)
                variances.append(second + 2.0 * offset * first + offset.square())
        values = torch.cat(variances, dim=1)
        if unbiased and centred:
            values = values * (counts / (counts - 1.0))
    return DomainVariances(domains=present, counts=counts.squeeze(1).long(), values=values)


def _shifted_sums(
    layer: LayerRows, own: Tensor, order: Tensor, a: Tensor, b: Tensor
) -> tuple[Tensor, Tensor]:
    """Return the sums of X and X² over the rows of each group; shapes `(groups, parameters)`.

    X is a row's gradient less a constant. With D = g - a and G = x - b, where a and b are the
    group's means of g and x, the gradient of the weight is

        g ⊗ x = (D + a) ⊗ (G + b) = X + a ⊗ b,    X = DG + aG + Db,

        X² = D²G² + a²G² + b²D² + 2a DG² + 2b D²G + 2ab DG.

    All sums are then of small terms. This holds for any constants a and b, so that a and b need no
    gradient; the sums of D and G are zero, but their gradients are not.

    Args:
        layer: x and g.
        own: Group of each row that is in one, rising; shape `(members,)`.
        order: These rows; shape `(members,)`.
        a: Shape `(groups, out)`.
        b: Shape `(groups, in)`.
    """
    d, g = layer.gradients[order] - a[own], layer.inputs[order] - b[own]
    one = d.new_ones(len(d), 1)
    left, right = torch.cat([one, d, d * d], dim=1), torch.cat([one, g, g * g], dim=1)
    sizes = own.bincount(minlength=len(a)).tolist()
    parts = zip(torch.split(left, sizes), torch.split(right, sizes), strict=True)
    sums = torch.stack([of_left.T @ of_right for of_left, of_right in parts])  # all products in one
    out, inputs = d.shape[1], g.shape[1]
    of_one, of_d, of_d2 = torch.split(sums, [1, out, out], dim=1)
    (_, sum_g, sum_g2), (sum_d, dg, dg2), (sum_d2, d2g, d2g2) = (
        torch.split(part, [1, inputs, inputs], dim=2) for part in (of_one, of_d, of_d2)
    )
    a, b = a[:, :, None], b[:, None]
    first = dg + a * sum_g + b * sum_d
    second = d2g2 + a * a * sum_g2 + b * b * sum_d2 + 2.0 * (a * dg2 + b * d2g + a * b * dg)
    return (
        _flat(first, sum_d.squeeze(2), layer.bias),
        _flat(second, sum_d2.squeeze(2), layer.bias),
    )


def _flat(weight: Tensor, bias: Tensor, has_bias: bool) -> Tensor:
    """Join weights `(groups, out, in)` and biases `(groups, out)` to `(groups, parameters)`."""
    return torch.cat([weight.flatten(1), bias], dim=1) if has_bias else weight.flatten(1)


def _parameters(layer: LayerRows) -> int:
    return layer.gradients.shape[1] * (layer.inputs.shape[1] + layer.bias)


def membership(groups: Tensor, n_groups: int, dtype: torch.dtype) -> Tensor:
    """Return 1 where a row belongs to a group, else 0; shape `(groups, rows)`."""
    return (groups == torch.arange(n_groups, device=groups.device)[:, None]).to(dtype)
