"""An objective over the steps of a training: what it remembers, what is logged and warned of."""

from __future__ import annotations

import copy
import dataclasses

import torch
import torch.distributed as dist
from torch import Tensor

from robust_nlp.fishr.accumulation import Rows
from robust_nlp.fishr.batch import domain_batch
from robust_nlp.fishr.distributed import halves_over_processes, sum_over_processes
from robust_nlp.fishr.domains import DomainNames
from robust_nlp.fishr.invariance import IRM
from robust_nlp.fishr.objectives import AnyObjective, Fishr
from robust_nlp.fishr.residuals import TaskLoss
from robust_nlp.fishr.state import ObjectiveState
from robust_nlp.fishr.tally import Tally, domain_table
from robust_nlp.fishr.watch import Watch


class DomainLoss:
    """The loss of an objective, step after step, of the rows of all processes.

    What the objective remembers is updated once a step. In a step with several calls, each begins
    with what was remembered before the step, and what all of them make of it is joined.

    Args:
        objective: The objective.
        domains: The names of the domains; those learned by the first call take part.
        task_loss: Loss of rows.

    Attributes:
        state: What the objective remembers.
        n_rows: Rows with a label in the last call, over all processes; at least 1.
    """

    def __init__(self, objective: AnyObjective, domains: DomainNames, task_loss: TaskLoss) -> None:
        self._objective, self._domains, self._task_loss = objective, domains, task_loss
        self._splits_domains = (
            objective.estimator == "cross_split"
            if isinstance(objective, Fishr)
            else isinstance(objective, IRM)
        )
        self.state = ObjectiveState()
        self.n_rows = torch.tensor(1.0)
        self._before: ObjectiveState | None = None
        self._parts: list[ObjectiveState] = []
        self._tally: Tally | None = None
        self._watch = Watch(objective) if isinstance(objective, Fishr) else None

    def begin_step(self, *, calls: int) -> None:
        """Say that another optimizer step begins, and of how many calls."""
        self._before, self._parts = (copy.deepcopy(self.state) if calls > 1 else None), []

    def __call__(self, rows: Rows, *, weight: float) -> Tensor:
        """Return the loss of rows; its gradients, averaged over processes, are those of all rows.

        Args:
            rows: The rows of this process.
            weight: Weight of the penalty.
        """
        if self._tally is None:
            self._tally = Tally(self._domains.names)
        if self._before is not None:
            self.state = copy.deepcopy(self._before)
        names = self._tally.names
        batch = domain_batch(
            rows.features,
            rows.logits,
            rows.labels,
            rows.domains,
            loss=self._task_loss,
            bias=rows.bias,
            inner=rows.inner,
            copies=rows.copies,
        )
        if self._splits_domains and dist.is_available() and dist.is_initialized():
            halves = halves_over_processes(batch.groups(len(names)), rows.sizes)
            batch = dataclasses.replace(batch, halves=halves)
        value = self._objective(batch, names, self.state, weight, sum_over_processes)
        table = domain_table(batch, len(names), reduce=sum_over_processes)
        self.n_rows = table[:, 2:].sum().clamp(min=1.0)
        if self._before is not None:
            self._parts.append(self.state)
            self.state = self._before.joined(self._parts)
        self._tally.add(table, {"penalty_weight": weight, **value.logs})
        if self._watch is not None and weight > 0.0:
            self._watch.look(batch, names, reduce=sum_over_processes)
        return value.loss

    def finish(self) -> None:
        """Say that training has ended, so that short ones are warned of, too."""
        if self._watch is not None:
            self._watch.finish()

    def logs(self) -> dict[str, float]:
        """Return what is logged since the last call; see `Tally.logs`."""
        return {} if self._tally is None else self._tally.logs()
