"""What an objective returns."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class ObjectiveValue:
    """The value of an objective on the rows of a step.

    Attributes:
        loss: What to minimize.
        penalty: The penalty in it, before its weight, without a gradient; 0 if there is none.
        logs: Numbers to report.
    """

    loss: Tensor
    penalty: Tensor
    logs: dict[str, float] = field(default_factory=dict)


def total(risk: Tensor, penalty: Tensor | None = None, weight: float = 0.0) -> ObjectiveValue:
    """Return the risk plus the weighted penalty, and both as numbers."""
    logs = {"risk": float(risk.detach())}
    if penalty is None:
        return ObjectiveValue(loss=risk, penalty=torch.zeros_like(risk), logs=logs)
    logs["penalty"] = float(penalty.detach())
    loss = risk + weight * penalty if weight > 0.0 else risk
    return ObjectiveValue(loss=loss, penalty=penalty.detach(), logs=logs)
