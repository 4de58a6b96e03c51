"""What objectives remember from step to step."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from robust_nlp.errors import RunMismatchError
from robust_nlp.fishr.average import AverageForm, MovingAverage


@dataclass
class ObjectiveState:
    """What an objective remembers, by names of domains, so that domains may come and go.

    Attributes:
        average: Moving average of gradient variances.
        log_weights: Logarithms of domains' weights.
        label_counts: Rows seen of each label; shape `(classes,)`.
    """

    average: MovingAverage | None = None
    log_weights: dict[str, float] = field(default_factory=dict)
    label_counts: dict[str, Tensor] = field(default_factory=dict)

    def average_of(self, gamma: float, form: AverageForm) -> MovingAverage:
        """Return the moving average, a new one in the first step.

        Raises:
            RunMismatchError: If it has other settings.
        """
        if self.average is None:
            self.average = MovingAverage(gamma, form)
        if (self.average.gamma, self.average.form) != (gamma, form):
            raise RunMismatchError(
                f"the moving average was made with gamma={self.average.gamma} and "
                f"form={self.average.form!r}, the objective says gamma={gamma} and form={form!r}. "
                "Resume with the settings of the checkpoint"
            )
        return self.average

    def joined(self, parts: Sequence[ObjectiveState]) -> ObjectiveState:
        """Return what one step of several batches makes of this, which each of them began with.

        A domain's average and weight are the means over the batches that had the domain; labels are
        counted in all batches.

        Args:
            parts: What each batch made of it.
        """
        found = copy.deepcopy(self)
        averages = [part.average for part in parts if part.average is not None]
        if averages:
            found.average = averages[0].joined(self.average, averages)
        for name in dict.fromkeys(name for part in parts for name in part.log_weights):
            old = self.log_weights.get(name)
            new = [part.log_weights[name] for part in parts if name in part.log_weights]
            moved = [value for value in new if value != old]
            found.log_weights[name] = sum(moved) / len(moved) if moved else new[0]
        for name in dict.fromkeys(name for part in parts for name in part.label_counts):
            old_counts = self.label_counts.get(name, 0.0)
            more = [p.label_counts[name] - old_counts for p in parts if name in p.label_counts]
            found.label_counts[name] = torch.stack(more).sum(dim=0) + old_counts
        return found

    def state_dict(self) -> dict[str, Any]:
        """Return everything as numbers, texts and tensors on the CPU."""
        return {
            "average": None if self.average is None else self.average.state_dict(),
            "log_weights": dict(self.log_weights),
            "label_counts": {name: counts.cpu() for name, counts in self.label_counts.items()},
        }

    def load_state_dict(self, saved: dict[str, Any]) -> None:
        """Take over what `state_dict` returned."""
        self.average = None
        if saved["average"] is not None:
            self.average = MovingAverage(saved["average"]["gamma"], saved["average"]["form"])
            self.average.load_state_dict(saved["average"])
        self.log_weights = dict(saved["log_weights"])
        self.label_counts = dict(saved["label_counts"])
