"""What is logged of each domain during training."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from robust_nlp.fishr.batch import DomainBatch, Reduce
from robust_nlp.fishr.moments import membership


def right_answers(logits: Tensor, labels: Tensor) -> Tensor:
    """Tell which rows are classified right.

    Args:
        logits: Shape `(rows, classes)`; a single one is the logit of class 1.
        labels: Class indices; shape `(rows,)`.
    """
    answers = logits.argmax(dim=1) if logits.shape[1] > 1 else (logits[:, 0] > 0.0).long()
    return answers == labels


def domain_table(batch: DomainBatch, n_domains: int, *, reduce: Reduce) -> Tensor:
    """Count the rows of each domain over all processes.

    Args:
        batch: The rows of this process.
        n_domains: Domains in all.
        reduce: Sums over processes; called once.

    Returns:
        Sum of losses, right answers, and rows of each label; shape `(domains + 1, 2 + labels)`, the
        last row for unknown domains and for copies.
    """
    with torch.no_grad():
        classes = max(batch.logits.shape[1], 2)
        groups = batch.groups(n_domains)
        slots = torch.where(batch.counted & (groups < 0), n_domains, groups)
        right = right_answers(batch.logits, batch.labels)
        of_label = membership(batch.labels, classes, batch.losses.dtype)
        rows = torch.stack([batch.losses, right.to(batch.losses), *of_label], dim=1)
        return reduce(membership(slots, n_domains + 1, rows.dtype) @ rows)


class Tally:
    """Sums up what happened since the last log.

    Args:
        names: The names of the domains.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self.names = list(names)
        self._clear()

    def _clear(self) -> None:
        self._table: Tensor | float = 0.0
        self._values: dict[str, float] = {}
        self._batches = 0

    def add(self, table: Tensor, values: dict[str, float]) -> None:
        """Add a `domain_table`, and numbers that are averaged over calls."""
        self._table = self._table + table
        self._batches += 1
        for name, value in values.items():
            self._values[name] = self._values.get(name, 0.0) + value

    def logs(self) -> dict[str, float]:
        """Return the numbers since the last call, as an evaluation calls them; then begin anew.

        They are `<name>_loss` and `<name>_accuracy` of each domain that had rows,
        `worst_domain_loss`, `worst_domain_accuracy`, and the mean of each number added.
        """
        if not self._batches:
            return {}
        logs = {name: value / self._batches for name, value in self._values.items()}
        assert isinstance(self._table, Tensor)
        losses, accuracies = [], []
        for name, (loss, right, *labels) in zip(self.names, self._table[:-1].tolist(), strict=True):
            rows = sum(labels)
            if rows:
                losses.append(loss / rows)
                accuracies.append(right / rows)
                logs[f"{name}_loss"], logs[f"{name}_accuracy"] = losses[-1], accuracies[-1]
        if losses:
            logs["worst_domain_loss"] = max(losses)
            logs["worst_domain_accuracy"] = min(accuracies)
        self._clear()
        return logs
