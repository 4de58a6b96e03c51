"""Training objectives for several domains, all functions of the same sums over rows.

Each is called with the rows of this process and returns a loss of which it computes the same value
in all processes. Gradients of the loss, averaged over processes as data-parallel training does, are
those of one process with all rows, however rows and domains are distributed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch

from robust_nlp.fishr.average import AverageForm
from robust_nlp.fishr.batch import DomainBatch, Reduce
from robust_nlp.fishr.invariance import CORAL, IRM, VREx
from robust_nlp.fishr.penalty import Estimator, Reduction, batch_penalty
from robust_nlp.fishr.reweighting import ERM, GroupDRO, ReweightedERM
from robust_nlp.fishr.risks import domain_risks
from robust_nlp.fishr.state import ObjectiveState
from robust_nlp.fishr.value import ObjectiveValue, total


@dataclass(frozen=True, kw_only=True)
class Fishr:
    """The mean loss of all rows, and the Fishr penalty.

    Attributes:
        reduction: See `fishr_penalty`, as for what follows. A weight for "sum" is that for "mean"
            over the number of head parameters.
        centred: Variances, not mean squares.
        unbiased: Divide by n - 1.
        estimator: "plain" or "cross_split".
        relative: Whether the penalty is divided by the squared norm of the mean variance.
        min_rows: Rows of a domain, or of each half, that it needs to take part.
        gamma: Weight of the past in the moving average of variances, in `[0, 1)`; 0 for none. The
            average takes in every step, those where the penalty has weight 0 included.
        average: Form of the moving average; see `MovingAverage`.

    Source: Rame, Dancette and Cord, Fishr (ICML 2022); defaults of DomainBed.
    """

    reduction: Reduction = "mean"
    centred: bool = True
    unbiased: bool = False
    estimator: Estimator = "plain"
    relative: bool = False
    min_rows: int = 2
    gamma: float = 0.95
    average: AverageForm = "reference"

    kind: ClassVar[str] = "fishr"

    @property
    def default_weight(self) -> float:
        """Weight of the penalty where nobody says another, for `reduction="mean"`."""
        return 1.0 if self.relative else 1000.0

    def __post_init__(self) -> None:
        for name, allowed in (
            ("reduction", ("mean", "sum")),
            ("estimator", ("plain", "cross_split")),
            ("average", ("reference", "debiased")),
        ):
            if getattr(self, name) not in allowed:
                raise ValueError(
                    f"{name} must be one of {', '.join(allowed)}; got {getattr(self, name)!r}"
                )
        least = 1 + (self.estimator == "cross_split" or (self.unbiased and self.centred))
        if self.min_rows < least:
            raise ValueError(
                f"min_rows must be at least {least} for these variances; got {self.min_rows}"
            )
        if not 0.0 <= self.gamma < 1.0:
            raise ValueError(f"gamma must be at least 0 and below 1; got {self.gamma}")

    def __call__(
        self,
        batch: DomainBatch,
        names: Sequence[str],
        state: ObjectiveState,
        weight: float,
        reduce: Reduce,
    ) -> ObjectiveValue:
        """Return the loss of a step and update the moving average."""
        risk = domain_risks(batch, len(names), reduce=reduce).pooled
        average = state.average_of(self.gamma, self.average) if self.gamma else None
        with torch.set_grad_enabled(weight > 0.0 and torch.is_grad_enabled()):
            penalty = batch_penalty(
                batch,
                names,
                reduction=self.reduction,
                centred=self.centred,
                unbiased=self.unbiased,
                estimator=self.estimator,
                relative=self.relative,
                min_rows=self.min_rows,
                average=average,
                reduce=reduce,
            )
        return total(risk, penalty, weight)


#: The objectives that a recipe or a configuration may name by `kind`.
AnyObjective = ERM | ReweightedERM | Fishr | IRM | VREx | GroupDRO | CORAL
