"""Objectives that weigh rows or domains, without a penalty."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch

from robust_nlp.fishr.batch import DomainBatch, Reduce
from robust_nlp.fishr.moments import membership
from robust_nlp.fishr.risks import domain_risks
from robust_nlp.fishr.state import ObjectiveState
from robust_nlp.fishr.value import ObjectiveValue, total


@dataclass(frozen=True, kw_only=True)
class ERM:
    """The mean loss of all rows, whatever their domain."""

    kind: ClassVar[str] = "erm"
    #: Weight of the penalty where nobody says another.
    default_weight: ClassVar[float] = 0.0

    def __call__(
        self,
        batch: DomainBatch,
        names: Sequence[str],
        state: ObjectiveState,  # noqa: ARG002
        weight: float,  # noqa: ARG002
        reduce: Reduce,
    ) -> ObjectiveValue:
        """Return the loss of a step; `state` and `weight` have no effect."""
        risk = domain_risks(batch, len(names), reduce=reduce).pooled
        return total(risk)


@dataclass(frozen=True, kw_only=True)
class ReweightedERM:
    """The mean loss of all rows, with weights that give all labels equal shares.

    The control for methods that are compared on unbalanced labels. A row of a label that N_y of
    the N rows so far had weighs N / (C N_y), where C labels were seen. Counts run over the whole
    training, since a label that is absent from most batches could not be balanced within them.

    Attributes:
        balance: "label", or "label_and_domain" for equal shares of all pairs of label and domain;
            there, rows of unknown domain weigh 1.
    """

    balance: Literal["label", "label_and_domain"] = "label"

    kind: ClassVar[str] = "reweighted_erm"
    default_weight: ClassVar[float] = 0.0

    def __post_init__(self) -> None:
        if self.balance not in ("label", "label_and_domain"):
            raise ValueError(f'balance must be "label" or "label_and_domain"; got {self.balance!r}')

    def __call__(
        self,
        batch: DomainBatch,
        names: Sequence[str],
        state: ObjectiveState,
        weight: float,  # noqa: ARG002
        reduce: Reduce,
    ) -> ObjectiveValue:
        """Return the loss of a step and count its labels; `weight` has no effect."""
        by_domain = self.balance == "label_and_domain"
        keys = list(names) if by_domain else ["every domain"]
        groups = batch.risk_groups(len(names))
        rows = groups if by_domain else torch.where(batch.counted, 0, -1)
        classes = max(batch.logits.shape[1], 2)
        pairs = torch.where(rows < 0, -1, rows * classes + batch.labels)
        member = membership(pairs, len(keys) * classes, batch.losses.dtype)
        new = reduce(member.sum(dim=1)).view(len(keys), classes)
        for key, counts in zip(keys, new.cpu().double(), strict=True):
            state.label_counts[key] = state.label_counts.get(key, 0.0) + counts
        seen = torch.stack([state.label_counts[key] for key in keys]).flatten()
        shares = seen.sum() / (seen > 0.0).sum() / seen.clamp(min=1.0)
        shares = shares.to(batch.losses)
        weights = torch.where(pairs < 0, torch.ones_like(batch.losses), shares[pairs.clamp(min=0)])
        sums = torch.stack([(weights * batch.losses).sum(), batch.counted.sum().to(weights)])
        loss, rows = reduce(sums).unbind()
        return total(loss / rows.detach().clamp(min=1.0))


@dataclass(frozen=True, kw_only=True)
class GroupDRO:
    """A mean loss of domains whose weights grow with their losses.

    Attributes:
        step_size: Growth of a weight's logarithm per unit of loss and step, above 0.

    Source: Sagawa et al., Distributionally Robust Neural Networks (ICLR 2020).
    Departs: A domain that is absent from a batch keeps its share of the weights, which it would
        lose to the others in the authors' code. Losses are those of the rows of all processes.
    """

    step_size: float = 0.01

    kind: ClassVar[str] = "group_dro"
    default_weight: ClassVar[float] = 0.0

    def __post_init__(self) -> None:
        if not 0.0 < self.step_size < float("inf"):
            raise ValueError(f"step_size must be above 0; got {self.step_size}")

    def __call__(
        self,
        batch: DomainBatch,
        names: Sequence[str],
        state: ObjectiveState,
        weight: float,  # noqa: ARG002
        reduce: Reduce,
    ) -> ObjectiveValue:
        """Return the loss of a step and update the weights; `weight` has no effect."""
        risks = domain_risks(batch, len(names), reduce=reduce)
        here = [names[domain] for domain in risks.domains.tolist()]
        losses = risks.values.detach().cpu().double()
        if here and torch.isfinite(losses).all():
            old = losses.new_tensor([state.log_weights.get(name, 0.0) for name in here])
            new = old + self.step_size * losses
            new = new - new.logsumexp(dim=0) + old.logsumexp(dim=0)
            state.log_weights.update(zip(here, new.tolist(), strict=True))
        logs = [state.log_weights.get(name, 0.0) for name in here]
        weights = torch.tensor(logs, dtype=torch.double).softmax(dim=0)
        return total(risks.weighted(weights.to(risks.values)))
