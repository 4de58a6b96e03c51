"""Mean losses of domains, over all processes."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from robust_nlp.fishr.batch import DomainBatch, Reduce
from robust_nlp.fishr.moments import membership


@dataclass(frozen=True, kw_only=True)
class DomainRisks:
    """Mean losses of the domains in a batch, and what is known of its other rows.

    Attributes:
        domains: Indices of these domains, rising; shape `(present,)`.
        counts: Their rows; shape `(present,)`.
        originals: Those of them that are no copies; shape `(present,)`.
        values: Their mean losses; shape `(present,)`.
        pooled: Mean loss of all rows.
        unknown: Sum of the losses of rows of unknown domain.
        rows: Rows in all.
    """

    domains: Tensor
    counts: Tensor
    originals: Tensor
    values: Tensor
    pooled: Tensor
    unknown: Tensor
    rows: Tensor

    def weighted(self, weights: Tensor | None = None) -> Tensor:
        """Return the weighted mean of the domains' losses.

        Rows of unknown domain count as in the pooled mean, the others share the rest.

        Args:
            weights: At least 0; shape `(present,)`; `None` for equal weights.
        """
        if weights is None:
            weights = torch.ones_like(self.values)
        if not len(weights):
            return self.pooled
        mean = (weights * self.values).sum() / weights.sum()
        return (self.counts.sum() * mean + self.unknown) / self.rows


def domain_risks(batch: DomainBatch, n_domains: int, *, reduce: Reduce) -> DomainRisks:
    """Compute the mean loss of each domain over all processes.

    Args:
        batch: The rows of this process.
        n_domains: Domains in all.
        reduce: Sums over processes; called once.

    Raises:
        ValueError: If a domain index is too large.
    """
    groups, counted = batch.risk_groups(n_domains), batch.counted
    unknown = counted & (groups < 0)
    slots = torch.where(unknown, n_domains, groups)
    member = membership(slots, n_domains + 1, batch.losses.dtype)
    # A product, not a sum by mask: losses of rows without a slot are 0, and sums keep their order.
    own = torch.ones_like(batch.losses)
    if batch.copies is not None:
        own = own.masked_fill(batch.copies, 0.0)
    columns = torch.stack([member @ batch.losses, member.sum(dim=1), member @ own])
    sums, counts, originals = reduce(columns).unbind()
    counts = counts.detach()
    rows = counts.sum().clamp(min=1.0)
    present = counts[:-1].nonzero().squeeze(1)
    return DomainRisks(
        domains=present,
        counts=counts[present],
        originals=originals.detach()[present],
        values=sums[present] / counts[present],
        pooled=sums.sum() / rows,
        unknown=sums[-1],
        rows=rows,
    )
