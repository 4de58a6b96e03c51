"""Objectives with penalties on losses and features: IRM, V-REx and CORAL."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from robust_nlp.fishr.batch import DomainBatch, Reduce
from robust_nlp.fishr.moments import membership
from robust_nlp.fishr.penalty import spread, zero_with_graph
from robust_nlp.fishr.risks import domain_risks
from robust_nlp.fishr.state import ObjectiveState
from robust_nlp.fishr.value import ObjectiveValue, total


@dataclass(frozen=True, kw_only=True)
class IRM:
    """The mean loss of domains, and how much scaling the logits would lower each.

    With the derivatives of a domain's mean loss by a factor of its logits, at 1, of one half of its
    rows and of the other, the penalty is the mean over domains of their product: an unbiased
    estimate of the squared derivative, which can be negative.

    Source: Arjovsky et al., Invariant Risk Minimization (2019), IRMv1; halves as in DomainBed.
    """

    kind: ClassVar[str] = "irm"
    default_weight: ClassVar[float] = 100.0

    def __call__(
        self,
        batch: DomainBatch,
        names: Sequence[str],
        state: ObjectiveState,  # noqa: ARG002
        weight: float,
        reduce: Reduce,
    ) -> ObjectiveValue:
        """Return the loss of a step; `state` has no effect."""
        risks = domain_risks(batch, len(names), reduce=reduce)
        slopes = (batch.residuals * batch.logits).sum(dim=1)
        member = membership(batch.half_groups(len(names)), 2 * len(names), slopes.dtype)
        sums, counts = reduce(torch.stack([member @ slopes, member.sum(dim=1)])).unbind()
        counts = counts.detach().view(-1, 2)
        both = (counts > 0.0).all(dim=1).nonzero().squeeze(1)
        means = sums.view(-1, 2)[both] / counts[both]
        products = means[:, 0] * means[:, 1]
        return total(
            risks.weighted(), products.mean() if len(both) else zero_with_graph(batch), weight
        )


@dataclass(frozen=True, kw_only=True)
class VREx:
    """The mean loss of domains, and the variance of the losses over domains.

    Source: Krueger et al., Out-of-Distribution Generalization via Risk Extrapolation (ICML 2021).
    """

    kind: ClassVar[str] = "vrex"
    default_weight: ClassVar[float] = 10.0

    def __call__(
        self,
        batch: DomainBatch,
        names: Sequence[str],
        state: ObjectiveState,  # noqa: ARG002
        weight: float,
        reduce: Reduce,
    ) -> ObjectiveValue:
        """Return the loss of a step; `state` has no effect."""
        risks = domain_risks(batch, len(names), reduce=reduce)
        if len(risks.domains) < 2:
            return total(risks.weighted(), zero_with_graph(batch), weight)
        values = risks.values[:, None]
        return total(risks.weighted(), spread(values, values), weight)


@dataclass(frozen=True, kw_only=True)
class CORAL:
    """The mean loss of domains, and how far means and covariances of their features lie apart.

    The penalty is the mean over pairs of domains of the mean squared differences of their features'
    means and of their covariances. Its sums are squares of the hidden size for each domain.

    Source: Sun and Saenko, Deep CORAL (ECCV Workshops 2016), as in DomainBed.
    """

    kind: ClassVar[str] = "coral"
    default_weight: ClassVar[float] = 1.0

    def __call__(
        self,
        batch: DomainBatch,
        names: Sequence[str],
        state: ObjectiveState,  # noqa: ARG002
        weight: float,
        reduce: Reduce,
    ) -> ObjectiveValue:
        """Return the loss of a step; `state` has no effect."""
        risks = domain_risks(batch, len(names), reduce=reduce)
        enough = risks.domains[risks.originals >= 2.0]
        with torch.set_grad_enabled(weight > 0.0 and torch.is_grad_enabled()):
            penalty = _feature_distance(batch, len(names), enough, reduce)
        return total(risks.weighted(), penalty, weight)


def _feature_distance(
    batch: DomainBatch, n_domains: int, domains: Tensor, reduce: Reduce
) -> Tensor:
    """Return the CORAL penalty of some domains, which have two rows or more."""
    e = len(domains)
    if e < 2:
        return zero_with_graph(batch)
    features = batch.features
    member = membership(batch.groups(n_domains), n_domains, features.dtype)[domains]
    with torch.no_grad():
        totals = reduce(torch.cat([member.sum(dim=1, keepdim=True), member @ features], dim=1))
        counts, shifts = totals[:, :1], totals[:, 1:] / totals[:, :1]
    own, order = member.nonzero(as_tuple=True)  # rows, domain by domain
    shifted = features[order] - shifts[own]
    rows = torch.split(shifted, own.bincount(minlength=e).tolist())
    sums = torch.stack([torch.cat([each.sum(dim=0)[None], each.T @ each]) for each in rows])
    of_rows, of_products = torch.split(reduce(sums), [1, features.shape[1]], dim=1)
    # Rows are shifted by their mean, so that the square of their mean is 0, as is its gradient.
    covariances = of_products / (counts - 1.0)[:, :, None]
    parts = (shifts + of_rows.squeeze(1) / counts, covariances.flatten(1))
    # Squared differences of all pairs sum to E times the squared deviations from the mean.
    of_means, of_covariances = (spread(part, part) for part in parts)
    return 2.0 * e / (e - 1.0) * (of_means + of_covariances)
